//! A client that no longer wants its answer: the upstream is told, in the way of its era (F27, F02).

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{LEGACY_LATEST, PATIENCE, Peer, Reference, TestGateway, script, send, success_of};

async fn gateway_before(era: &str, peer: &Peer) -> TestGateway {
    let gateway = TestGateway::start().with_peer_in(era, "peer", peer).with_key().await;
    gateway.mcp().lists(&["wait"]).await;
    gateway
}

#[tokio::test]
async fn a_legacy_client_cancels_by_notification() {
    for upstream_era in ["legacy", "modern"] {
        let peer = Peer::start().await;
        let gateway = gateway_before(upstream_era, &peer).await;
        let session = gateway.mcp().initialize(LEGACY_LATEST).await;
        let mut calls = JoinSet::new();
        for id in ["kept", "dropped"] {
            let session = session.clone();
            calls.spawn(async move {
                let call = json!({"name": "wait", "arguments": {"canary": id}});
                (id, session.request_as(id, "tools/call", call).await.next().await)
            });
        }
        peer.counts_reach(|counts| counts.parked == 2).await;
        session.notify("notifications/cancelled", json!({"requestId": "dropped", "reason": "test"})).await;
        peer.counts_reach(|counts| counts.cancelled == 1).await;
        assert_eq!(peer.counts().parked, 1, "{upstream_era}: the other call goes on");
        peer.release_in_reverse();
        while let Some(done) = calls.join_next().await {
            let (id, answer) = done.unwrap();
            if id == "dropped" {
                assert_eq!(answer, None, "{upstream_era}: what was cancelled is not answered");
                continue;
            }
            let answer = answer.expect("the other call is answered");
            assert_eq!(answer["id"], id);
            assert_eq!(success_of(&answer["result"]), "kept", "{upstream_era}");
        }
    }
}

#[tokio::test]
async fn a_modern_client_cancels_by_closing_its_connection() {
    for upstream_era in ["legacy", "modern"] {
        let peer = Peer::start().await;
        let gateway = gateway_before(upstream_era, &peer).await;
        let mcp = gateway.mcp().apart();
        let call = mcp.modern_request(1, "tools/call", json!({"name": "wait", "arguments": {}}));
        let mut calls = JoinSet::new();
        calls.spawn(send(call));
        peer.counts_reach(|counts| counts.parked == 1).await;
        calls.abort_all();
        peer.counts_reach(|counts| counts.cancelled == 1 && counts.parked == 0).await;
    }
}

#[tokio::test]
async fn a_modern_client_cancels_by_closing_a_stream_that_has_begun() {
    for upstream_era in ["legacy", "modern"] {
        let peer = Peer::start().await;
        let gateway = gateway_before(upstream_era, &peer).await;
        let params = json!({"name": "wait", "arguments": {}, "_meta": {"progressToken": 1}});
        let mut exchange = gateway.mcp().apart().modern("tools/call", params).await;
        assert_eq!(exchange.expect().await["method"], "notifications/progress");
        drop(exchange);
        peer.counts_reach(|counts| counts.cancelled == 1 && counts.parked == 0).await;
    }
}

#[tokio::test]
async fn a_legacy_client_that_closes_its_connection_has_not_cancelled() {
    let peer = Peer::start().await;
    let gateway = gateway_before("legacy", &peer).await;
    let session = gateway.mcp().apart().initialize(LEGACY_LATEST).await;
    let params = json!({"name": "wait", "arguments": {}, "_meta": {"progressToken": 1}});
    let mut exchange = session.request("tools/call", params).await;
    assert_eq!(exchange.expect().await["method"], "notifications/progress");
    drop(exchange);
    // Another call goes all the way there and back; by then a cancellation would have been there too.
    assert_eq!(success_of(&session.call("echo", json!({"message": "x"})).await), "echo: x");
    let counts = peer.counts();
    assert_eq!((counts.parked, counts.cancelled), (1, 0));
    peer.release_in_reverse();
}

#[tokio::test]
async fn a_cancellation_reaches_an_upstream_over_stdio() {
    let script = script();
    for era in ["legacy", "modern"] {
        let words = Reference::over_stdio(&script, &["--era", era]);
        let gateway = TestGateway::start()
            .alone("each replica has a child of its own")
            .with_stdio_upstream("node", "node", &words)
            .with_key()
            .await;
        gateway.mcp().lists(&["sleep"]).await;
        let session = gateway.mcp().initialize(LEGACY_LATEST).await;
        let sleep = json!({"name": "sleep", "arguments": {"ms": 3_600_000}});
        let mut calls = JoinSet::new();
        let sleeper = session.clone();
        calls.spawn(async move { sleeper.request_as("asleep", "tools/call", sleep).await });
        // Asks until the server has seen what it should; each question is counted by it as well.
        let mut asked = 0;
        let mut is_seen = async |is_seen: fn(&Value, u64) -> bool| {
            let look = async {
                loop {
                    asked += 1;
                    let counters = session.call("counters", json!({})).await["structuredContent"].take();
                    if is_seen(&counters, asked) {
                        return;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, look).await.expect("the server sees it");
        };
        is_seen(|counters, asked| counters["calls"] == asked + 1).await;
        session.notify("notifications/cancelled", json!({"requestId": "asleep"})).await;
        is_seen(|counters, _| counters["cancelled"] == 1).await;
    }
}

#[tokio::test]
async fn to_cancel_what_is_unknown_is_no_error() {
    let gateway = TestGateway::start().with_key().await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    for params in [json!({"requestId": 99}), json!({"requestId": "x"}), json!({})] {
        session.notify("notifications/cancelled", params).await;
    }
}
