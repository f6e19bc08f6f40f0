//! Upstreams over HTTP+SSE and WebSocket: what the other transports bring, these bring too.

use serde_json::{Value, json};

use crate::harness::{LEGACY_LATEST, Mcp, Reference, TestGateway, success_of};

/// The transports, with what the reference server calls them and the scheme of their address.
const TRANSPORTS: [(&str, &str, &str); 2] = [("sse", "sse", "http"), ("websocket", "ws", "ws")];

fn upstream(transport: &str, url: &str) -> Value {
    json!({"name": "peer", "transport": transport, "connParams": {"url": url}})
}

async fn gateway_before(body: Value) -> TestGateway {
    let gateway = TestGateway::start().with_upstream(body).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    gateway
}

/// How many sessions its clients have made with the reference server.
async fn sessions_of(mcp: &Mcp) -> u64 {
    let result = mcp.call("counters", json!({})).await;
    result["structuredContent"]["sessions"].as_u64().expect("a number")
}

#[tokio::test]
async fn lists_and_calls_pass_for_clients_of_both_eras() {
    for (transport, peer, scheme) in TRANSPORTS {
        for era in ["legacy", "both"] {
            let reference = Reference::over(peer, &["--era", era, "--page-size", "7"]);
            let gateway = gateway_before(upstream(transport, &reference.url_with(scheme))).await;
            let echo = json!({"message": "grüß"});
            let modern = gateway.mcp().call("echo", echo.clone()).await;
            let legacy = gateway.mcp().initialize(LEGACY_LATEST).await.call("echo", echo).await;
            for result in [modern, legacy] {
                assert_eq!(success_of(&result), "Echo: grüß", "{transport}, {era}");
            }
        }
    }
}

#[tokio::test]
async fn progress_comes_before_the_answer_and_in_order() {
    for (transport, peer, scheme) in TRANSPORTS {
        let reference = Reference::over(peer, &["--era", "legacy"]);
        let gateway = gateway_before(upstream(transport, &reference.url_with(scheme))).await;
        let session = gateway.mcp().initialize(LEGACY_LATEST).await;
        let params =
            json!({"name": "test_tool_with_progress", "arguments": {}, "_meta": {"progressToken": "mine"}});
        let (before, answer) = session.request("tools/call", params).await.all().await;
        let steps: Vec<_> = before.iter().map(|message| message["params"]["progress"].as_u64()).collect();
        assert_eq!(steps, [Some(0), Some(50), Some(100)], "{transport}: {before:?}");
        assert!(before.iter().all(|message| message["params"]["progressToken"] == "mine"), "{before:?}");
        success_of(&answer["result"]);
    }
}

#[tokio::test]
async fn a_server_asks_its_caller() {
    for (transport, peer, scheme) in TRANSPORTS {
        let reference = Reference::over(peer, &["--era", "legacy"]);
        let gateway = gateway_before(upstream(transport, &reference.url_with(scheme))).await;
        let session = gateway.mcp().initialize_with(LEGACY_LATEST, json!({"sampling": {}})).await;
        let call = json!({"name": "test_sampling", "arguments": {"prompt": "Capital of France?"}});
        let mut exchange = session.request("tools/call", call).await;
        let question = exchange.expect().await;
        assert_eq!(question["method"], "sampling/createMessage", "{transport}");
        let content = json!({"type": "text", "text": "Paris"});
        session
            .answer(&question["id"], json!({"role": "assistant", "content": content, "model": "none"}))
            .await;
        let result = exchange.result().await;
        assert!(success_of(&result).contains("Paris"), "{transport}: {result}");
    }
}

#[tokio::test]
async fn a_session_is_shared_by_those_whom_the_isolation_names() {
    for (transport, peer, scheme) in TRANSPORTS {
        let reference = Reference::over(peer, &["--era", "legacy"]);
        // The gateway's own session, and: none more; one of the key; those of two sessions and of the key,
        // which stands for the modern client.
        for (isolation, expected) in [("shared", 1), ("per-key", 2), ("per-session", 4)] {
            let reference_url = reference.url_with(scheme);
            let mut body = upstream(transport, &reference_url);
            body["isolation"] = json!(isolation);
            let gateway = gateway_before(body).await;
            let before = sessions_of(&gateway.mcp()).await;
            let mut made = if isolation == "shared" { 1 } else { 2 }; // What was asked with is one of them.
            for _ in 0..2 {
                let session = gateway.mcp().initialize(LEGACY_LATEST).await;
                let result = session.call("echo", json!({"message": "hello"})).await;
                assert_eq!(success_of(&result), "Echo: hello");
            }
            made += sessions_of(&gateway.mcp()).await - before;
            assert_eq!(made, expected, "{transport}, {isolation}");
        }
    }
}
