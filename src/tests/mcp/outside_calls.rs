//! What belongs to no call, on the transports that have one channel for everything: log messages and
//! resources that change, among the answers to calls, and to those alone whom they are for.

use serde_json::{Value, json};

use crate::harness::{LEGACY_LATEST, Line, Reference, TRANSPORTS, TestGateway};

const WATCHED: &str = "test://watched-resource";

async fn gateway_before(era: &str) -> (Reference, TestGateway) {
    let reference = Reference::start(&["--era", era]);
    let gateway = TestGateway::start().with_http_upstream("reference", &reference.url()).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    gateway.mcp().has_resource(WATCHED).await;
    (reference, gateway)
}

async fn session(transport: &str, gateway: &TestGateway) -> Line {
    let mut line = Line::open(transport, gateway).await;
    line.initialize(LEGACY_LATEST, json!({})).await;
    line
}

/// The next message that isn't about a list.
async fn next_but_lists(line: &mut Line) -> Value {
    loop {
        let message = line.expect().await;
        if !message["method"].as_str().is_some_and(|method| method.ends_with("/list_changed")) {
            return message;
        }
    }
}

#[tokio::test]
async fn a_log_message_outside_of_calls_reaches_each_session_whose_level_admits_it_once() {
    let (reference, gateway) = gateway_before("legacy").await;
    let (other_key, _) = gateway.mcp_with("other", json!({"upstreamIds": []})).await;
    for transport in TRANSPORTS {
        let mut silent = session(transport, &gateway).await;
        let mut default = session(transport, &gateway).await;
        let mut stranger = Line::open_as(transport, &gateway, other_key.key()).await;
        stranger.initialize(LEGACY_LATEST, json!({})).await;
        assert_eq!(silent.result("logging/setLevel", json!({"level": "error"})).await, json!({}));
        // What one session wants less of, the others still get.
        for level in ["info", "error", "info", "emergency"] {
            reference.log(level).await;
        }
        let said = |level: &str| {
            json!({
                "jsonrpc": "2.0", "method": "notifications/message",
                "params": {"level": level, "logger": "reference-server", "data": format!("said at {level}")},
            })
        };
        for level in ["error", "emergency"] {
            assert_eq!(next_but_lists(&mut silent).await, said(level), "{transport}");
        }
        for level in ["info", "error", "info", "emergency"] {
            assert_eq!(next_but_lists(&mut default).await, said(level), "{transport}");
        }
        // Its key doesn't see the server: by the answer, it would have heard all of it.
        stranger.request("asked", "ping", json!({})).await;
        assert_eq!(next_but_lists(&mut stranger).await["id"], "asked", "{transport}");
    }
}

#[tokio::test]
async fn a_session_that_wants_details_has_them_asked_for() {
    let (reference, gateway) = gateway_before("legacy").await;
    for transport in TRANSPORTS {
        let mut line = session(transport, &gateway).await;
        assert_eq!(line.result("logging/setLevel", json!({"level": "debug"})).await, json!({}));
        // At the latest a call of its own has the server told.
        let call = json!({"name": "echo", "arguments": {"message": "hi"}});
        assert_eq!(line.result("tools/call", call).await["content"][0]["text"], "Echo: hi");
        reference.log("debug").await;
        assert_eq!(next_but_lists(&mut line).await["params"]["data"], "said at debug", "{transport}");
    }
}

#[tokio::test]
async fn a_resource_that_changes_is_told_to_those_who_subscribed() {
    for era in ["legacy", "modern"] {
        let (_reference, gateway) = gateway_before(era).await;
        let mcp = gateway.mcp();
        for transport in TRANSPORTS {
            let mut subscribed = session(transport, &gateway).await;
            let mut other = session(transport, &gateway).await;
            let mut modern = Line::open(transport, &gateway).await;
            let uri = json!({"uri": WATCHED});
            assert_eq!(subscribed.result("resources/subscribe", uri.clone()).await, json!({}));
            let filter = json!({"notifications": {"resourceSubscriptions": [WATCHED]}});
            modern.modern("mine", "subscriptions/listen", filter).await;
            let acknowledged = modern.expect().await;
            assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
            mcp.call("test_update_watched_resource", json!({})).await;
            let told = next_but_lists(&mut subscribed).await;
            assert_eq!(
                (&told["method"], &told["params"]),
                (&json!("notifications/resources/updated"), &uri),
                "{transport}, {era}"
            );
            let told = next_but_lists(&mut modern).await;
            let tagged = json!({"uri": WATCHED, "_meta": {"io.modelcontextprotocol/subscriptionId": "mine"}});
            assert_eq!(told["params"], tagged, "{transport}, {era}");
            // Unsubscribed, it hears no more than the other, who hears of the lists alone.
            assert_eq!(subscribed.result("resources/unsubscribe", uri).await, json!({}));
            mcp.call("test_update_watched_resource", json!({})).await;
            assert_eq!(modern.expect().await["params"], tagged, "{transport}, {era}");
            for line in [&mut subscribed, &mut other] {
                line.request("asked", "ping", json!({})).await;
                assert_eq!(next_but_lists(line).await["id"], "asked", "{transport}, {era}");
            }
        }
    }
}
