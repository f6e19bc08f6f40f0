//! What a collector of traces is told of calls, and what becomes of it where the collector doesn't take it.

use serde_json::{Value, json};

use crate::harness::{
    Collector, LEGACY_LATEST, Mcp, Peer, Scene, Span, TestGateway, plain, send, success_of,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

const SERVER: u64 = 2;
const CLIENT: u64 = 3;

fn scene(collector: &Collector, peer: &Peer) -> Scene {
    let scene = TestGateway::start().with_peer("peer", peer).with_key();
    scene.with_env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
}

/// Calls a tool in a trace; its result.
async fn call(mcp: &Mcp, name: &str, traceparent: &str) -> Value {
    let params = json!({"name": name, "arguments": {"message": "hello"}});
    let request = mcp.modern_request(7, "tools/call", params).header("traceparent", traceparent);
    send(request.header("tracestate", "vendor=1")).await.result().await
}

fn of_kind(spans: &[Span], kind: u64) -> &Span {
    spans.iter().find(|span| span.kind == kind).unwrap_or_else(|| panic!("{spans:?}"))
}

#[tokio::test]
async fn a_call_is_two_spans_below_that_of_the_client() {
    let (collector, peer) = (Collector::start().await, Peer::start().await);
    let gateway = scene(&collector, &peer)
        .with_env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=one")
        .with_env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        .await;
    let mcp = gateway.mcp();
    mcp.lists(&["echo"]).await;
    success_of(&call(&mcp, "echo", PARENT).await);

    let spans = collector.spans_reach(2).await;
    assert_eq!(spans.len(), 2, "{spans:?}");
    let (server, client) = (of_kind(&spans, SERVER), of_kind(&spans, CLIENT));
    assert_eq!((server.trace_id.as_str(), client.trace_id.as_str()), (TRACE, TRACE));
    assert_eq!((server.parent.as_str(), &client.parent), ("b7ad6b7169203331", &server.id));
    assert_eq!((server.state.as_str(), server.flags, client.flags), ("vendor=1", 0x301, 0x101));
    for span in &spans {
        assert_eq!(span.name, "tools/call echo");
        assert_eq!((span.id.len(), span.status, span.scope.as_str()), (16, 0, "mcp-proxy-gateway"));
        assert_eq!(span.resource["service.name"], "mcp-proxy-gateway");
        assert_eq!(span.resource["deployment.environment"], "test");
        for (key, value) in [
            ("mcp.method.name", "tools/call"),
            ("gen_ai.operation.name", "execute_tool"),
            ("gen_ai.tool.name", "echo"),
            ("network.transport", "tcp"),
            ("mcp_proxy_gateway.upstream.name", "peer"),
        ] {
            assert_eq!(span.attributes.get(key).map(String::as_str), Some(value), "{key} of {span:?}");
        }
        assert!(!span.attributes.contains_key("error.type"), "{span:?}");
    }
    assert_eq!(server.attributes["jsonrpc.request.id"], "7");
    assert_eq!(server.attributes["mcp.protocol.version"], "2026-07-28");
    assert_eq!(server.attributes["network.protocol.name"], "http");
    assert!(
        server.start <= client.start && client.start <= client.end && client.end <= server.end,
        "{spans:?}"
    );
    // The upstream goes on below the client span, by the message and by the headers.
    let seen = peer.seen_of("tools/call").remove(0);
    let told = format!("00-{TRACE}-{}-01", client.id);
    assert_eq!(seen.headers["traceparent"], told);
    assert_eq!(seen.message()["params"]["_meta"]["traceparent"], told);
    assert_eq!(seen.headers["tracestate"], "vendor=1");
    let headers = collector.headers();
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert_eq!(headers["x-tenant"], "one");
    // Nothing of what was said, nor the key.
    let text = format!("{spans:?}");
    assert!(!text.contains("hello") && !text.contains(gateway.key()), "{text}");
}

#[tokio::test]
async fn a_call_that_nobody_traces_begins_a_trace_and_a_failure_is_named() {
    let (collector, mut peer) = (Collector::start().await, Peer::with_tools(vec![plain("fails")]).await);
    let gateway = scene(&collector, &peer).await;
    let mcp = gateway.mcp();
    mcp.lists(&["fails"]).await;
    // Whoever began this one doesn't record it.
    call(&mcp, "fails", UNSAMPLED).await;
    let session = mcp.initialize(LEGACY_LATEST).await;
    session.call("fails", json!({})).await;
    session.call("fails", json!({})).await;
    let spans = collector.spans_reach(4).await;
    let servers: Vec<_> = spans.iter().filter(|span| span.kind == SERVER).collect();
    let [one, two] = servers.as_slice() else { panic!("{spans:?}") };
    assert!(one.trace_id != two.trace_id && one.trace_id.len() == 32, "{spans:?}");
    assert!(spans.iter().all(|span| span.trace_id != TRACE), "{spans:?}");
    assert_eq!((one.parent.as_str(), one.flags), ("", 0x101));
    assert_eq!(one.attributes["mcp.protocol.version"], LEGACY_LATEST);
    assert_eq!(one.attributes["mcp.session.id"], two.attributes["mcp.session.id"]);
    let unsampled = peer.seen_of("tools/call").remove(0);
    assert_eq!(unsampled.headers["traceparent"], UNSAMPLED, "it is passed on as it came");
    peer.crash().await;
    session.call("fails", json!({})).await;
    let spans = collector.spans_reach(5).await;
    let failed = of_kind(&spans[4..], SERVER);
    let error = failed.attributes["error.type"].as_str();
    assert!(failed.status == 2 && ["unavailable", "upstream_error"].contains(&error), "{failed:?}");
}

#[tokio::test]
async fn what_a_collector_does_not_take_now_is_sent_again_and_what_it_refuses_is_not() {
    let (collector, peer) = (Collector::start().await, Peer::start().await);
    let mut gateway = scene(&collector, &peer).alone("the spans of each process go their own way").await;
    let mcp = gateway.mcp();
    mcp.lists(&["echo"]).await;
    collector.answer(400);
    success_of(&call(&mcp, "echo", PARENT).await);
    collector.until(|| collector.requests() == 1).await;
    collector.answer(503);
    success_of(&call(&mcp, "echo", PARENT).await);
    collector.until(|| collector.requests() >= 3).await;
    collector.answer(0);
    assert_eq!(collector.spans_reach(2).await.len(), 2, "those of the second call");
    // What is there when the process ends is sent then.
    success_of(&call(&mcp, "echo", PARENT).await);
    gateway.terminate().await;
    assert_eq!(collector.spans().len(), 4);
}
