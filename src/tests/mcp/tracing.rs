//! A call's trace reaches the upstream, whichever way the client named it.

use serde_json::json;

use crate::harness::{Peer, TestGateway, send, success_of};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-11111111111111111111111111111111-1111111111111111-00";

#[tokio::test]
async fn a_trace_is_passed_on_in_the_message_and_in_headers() {
    for era in ["legacy", "modern"] {
        let peer = Peer::start().await;
        let mut gateway = TestGateway::start().with_peer_in(era, "peer", &peer).with_key().await;
        let mcp = gateway.mcp();
        mcp.lists(&["echo"]).await;
        let call = |meta: serde_json::Value| {
            let params = json!({"name": "echo", "arguments": {"message": "hello"}, "_meta": meta});
            mcp.modern_request(1, "tools/call", params)
        };
        let in_headers = call(json!({})).header("traceparent", PARENT).header("tracestate", "vendor=1");
        let in_both = call(json!({"traceparent": PARENT})).header("traceparent", OTHER);
        let in_neither = call(json!({})).header("traceparent", "nonsense");
        for request in [in_headers, in_both, in_neither] {
            success_of(&send(request).await.result().await);
        }
        let seen = peer.seen_of("tools/call");
        let said = |index: usize| {
            let seen = &seen[index];
            let header =
                seen.headers.get("traceparent").map(|value| value.to_str().expect("text").to_owned());
            (header, seen.message()["params"]["_meta"]["traceparent"].as_str().map(str::to_owned))
        };
        let parent = || Some(PARENT.to_owned());
        assert_eq!(said(0), (parent(), parent()), "{era}: named in headers");
        assert_eq!(seen[0].headers["tracestate"], "vendor=1", "{era}");
        assert_eq!(seen[0].message()["params"]["_meta"]["tracestate"], "vendor=1", "{era}");
        assert_eq!(said(1), (parent(), parent()), "{era}: the message goes before the headers");
        assert_eq!(said(2), (None, None), "{era}: what is no trace isn't passed on");
        gateway.terminate().await;
        assert!(
            gateway.log().contains("\"trace.id\":\"0af7651916cd43dd8448eb211c80319c\""),
            "{era}: the log names it"
        );
    }
}
