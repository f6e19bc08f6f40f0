//! What comes before an answer: progress and log messages, in order, with the caller's own token.

use serde_json::{Value, json};

use crate::harness::{LEGACY_LATEST, META, Mcp, Peer, Reference, Sdk, Session, TestGateway, success_of};

/// A gateway before one server that is met in an era.
async fn gateway_before(era: &str, peer: &Peer) -> TestGateway {
    let gateway = TestGateway::start().with_peer_in(era, "peer", peer).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    gateway
}

/// Calls `progress` in an era of the client; the messages before the answer, and the answer's result.
async fn progress(mcp: &Mcp, client_era: &str, token: Value) -> (Vec<Value>, Value) {
    let params = json!({"name": "progress", "arguments": {}, "_meta": {"progressToken": token}});
    let exchange = match client_era {
        "modern" => mcp.modern("tools/call", params).await,
        _ => mcp.initialize(LEGACY_LATEST).await.request("tools/call", params).await,
    };
    let (before, answer) = exchange.all().await;
    (before, answer["result"].clone())
}

#[tokio::test]
async fn progress_comes_before_the_answer_and_in_order_in_all_four_pairs_of_eras() {
    let peer = Peer::start().await;
    for upstream_era in ["legacy", "modern"] {
        let gateway = gateway_before(upstream_era, &peer).await;
        for client_era in ["legacy", "modern"] {
            // A token may be a string or a number, and comes back as the one it was.
            for token in [json!("a token"), json!(7)] {
                let (before, result) = progress(&gateway.mcp(), client_era, token.clone()).await;
                let pair = format!("{client_era} -> {upstream_era}: {before:?}");
                assert_eq!(success_of(&result), "done", "{pair}");
                let steps: Vec<_> =
                    before.iter().map(|message| message["params"]["progress"].as_f64()).collect();
                assert_eq!(steps, [Some(1.0), Some(2.0), Some(3.0)], "{pair}");
                assert!(before.iter().all(|message| message["method"] == "notifications/progress"), "{pair}");
                assert!(before.iter().all(|message| message["params"]["progressToken"] == token), "{pair}");
            }
        }
    }
}

#[tokio::test]
async fn without_a_token_there_is_no_progress_and_no_stream() {
    let peer = Peer::start().await;
    let gateway = gateway_before("modern", &peer).await;
    let exchange = gateway.mcp().modern("tools/call", json!({"name": "progress", "arguments": {}})).await;
    assert!(!exchange.is_stream());
    assert_eq!(success_of(&exchange.result().await), "done");
}

#[tokio::test]
async fn the_sdk_hears_progress_before_the_answer() {
    let peer = Peer::start().await;
    let gateway = gateway_before("modern", &peer).await;
    for mut sdk in [Sdk::initialize(&gateway, LEGACY_LATEST).await, Sdk::discover(&gateway).await] {
        assert_eq!(sdk.call("progress", json!({})).await, "done");
        assert_eq!(sdk.heard(), ["progress 1", "progress 2", "progress 3"]);
    }
}

/// What the messages before an answer say, if they are log messages.
fn logged(before: &[Value]) -> Vec<&str> {
    let of_log = |message: &&Value| message["method"] == "notifications/message";
    before.iter().filter(of_log).filter_map(|message| message["params"]["data"].as_str()).collect()
}

/// A gateway before a server of the legacy era that logs three times, at `info`, on the stream of the call.
/// (The SDK's server logs on the stream outside of calls, where nothing keeps the order.)
async fn before_a_legacy_logger(logger: &Reference) -> TestGateway {
    let gateway = TestGateway::start()
        .alone("on other replicas a level takes a moment")
        .with_http_upstream("logger", &logger.url())
        .with_key()
        .await;
    gateway.mcp().lists(&["test_tool_with_logging"]).await;
    gateway
}

const THREE: [&str; 3] = ["Tool execution started", "Tool processing data", "Tool execution completed"];

/// What a legacy client hears that called this tool after it set its level.
async fn heard_at(session: &Session, level: &str, tool: &str) -> Vec<Value> {
    let set = session.request("logging/setLevel", json!({"level": level})).await.result().await;
    assert_eq!(set, json!({}));
    session.request("tools/call", json!({"name": tool, "arguments": {}})).await.all().await.0
}

#[tokio::test]
async fn a_legacy_client_gets_the_log_messages_that_its_level_admits() {
    let logger = Reference::start(&["--era", "legacy"]);
    let gateway = before_a_legacy_logger(&logger).await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let other = gateway.mcp().initialize(LEGACY_LATEST).await;
    // The level is the session's own, though both calls go over one session of the upstream.
    assert_eq!(logged(&heard_at(&other, "debug", "test_tool_with_logging").await), THREE);
    assert_eq!(logged(&heard_at(&session, "error", "test_tool_with_logging").await), [""; 0]);
    assert_eq!(logged(&heard_at(&other, "info", "test_tool_with_logging").await), THREE);

    let peer = Peer::start().await;
    let scene = TestGateway::start().alone("on other replicas a level takes a moment");
    let gateway = scene.with_peer_in("modern", "peer", &peer).with_key().await;
    gateway.mcp().lists(&["log"]).await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let other = gateway.mcp().initialize(LEGACY_LATEST).await;
    assert_eq!(logged(&heard_at(&session, "error", "log").await), ["said at error"]);
    assert_eq!(
        logged(&heard_at(&other, "debug", "log").await),
        ["said at debug", "said at info", "said at error"]
    );
}

/// What a modern client hears that called this tool and asked for this level.
async fn heard_by_modern(mcp: &Mcp, level: Option<&str>, tool: &str) -> Vec<Value> {
    let mut params = json!({"name": tool, "arguments": {}, "_meta": {}});
    if let Some(level) = level {
        params["_meta"][format!("{META}logLevel")] = level.into();
    }
    mcp.modern("tools/call", params).await.all().await.0
}

#[tokio::test]
async fn a_modern_client_gets_the_log_messages_that_its_request_asks_for() {
    let logger = Reference::start(&["--era", "legacy"]);
    let gateway = before_a_legacy_logger(&logger).await;
    for (level, expected) in
        [(None, &[][..]), (Some("error"), &[]), (Some("info"), &THREE), (Some("debug"), &THREE)]
    {
        let before = heard_by_modern(&gateway.mcp(), level, "test_tool_with_logging").await;
        assert_eq!(logged(&before), expected, "{level:?} of a legacy server");
    }
    let peer = Peer::start().await;
    let gateway = gateway_before("modern", &peer).await;
    for (level, expected) in [
        (None, &[][..]),
        (Some("error"), &["said at error"]),
        (Some("info"), &["said at info", "said at error"]),
    ] {
        let before = heard_by_modern(&gateway.mcp(), level, "log").await;
        assert_eq!(logged(&before), expected, "{level:?} of a modern server");
    }
}

#[tokio::test]
async fn a_log_level_that_does_not_exist_is_an_invalid_parameter() {
    let gateway = TestGateway::start().with_key().await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let answer = session.request("logging/setLevel", json!({"level": "loud"})).await;
    assert_eq!(answer.refusal().await, (200, -32602));
    let params = json!({"_meta": {format!("{META}logLevel"): "loud"}});
    assert_eq!(gateway.mcp().modern("tools/list", params).await.refusal().await, (400, -32602));
}
