//! `connect` between clients that only start commands and a real gateway.

use std::path::Path;

use serde_json::{Value, json};
use sql::model::PlaintextKey;

use crate::harness::{
    Authority, Connected, GatewayCommand, LEGACY_LATEST, META, MODERN, Peer, Sdk, TestGateway, plain,
    success_of, tool,
};

async fn gateway_before(peer: &Peer) -> TestGateway {
    let gateway = TestGateway::start().with_peer("peer", peer).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    gateway
}

fn start(gateway: &TestGateway) -> Connected {
    Connected::start(gateway, gateway.key(), &[])
}

#[expect(clippy::needless_pass_by_value, reason = "what json! makes is handed over")]
fn request(id: impl Into<Value>, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params})
}

fn initialize() -> Value {
    let client = json!({"name": "raw", "version": "1"});
    let params = json!({"protocolVersion": LEGACY_LATEST, "capabilities": {}, "clientInfo": client});
    request(0, "initialize", params)
}

const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

fn modern(id: impl Into<Value>, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        format!("{META}protocolVersion"): MODERN, format!("{META}clientCapabilities"): {},
        format!("{META}clientInfo"): {"name": "raw", "version": "1"},
    });
    request(id, method, params)
}

#[expect(clippy::needless_pass_by_value, reason = "what json! makes is handed over")]
fn call(name: &str, arguments: Value) -> Value {
    json!({"name": name, "arguments": arguments})
}

#[tokio::test]
async fn the_sdk_lists_calls_and_hears_progress_in_both_eras() {
    let peer = Peer::start().await;
    let gateway = gateway_before(&peer).await;
    for version in [LEGACY_LATEST, MODERN] {
        let mut sdk = Sdk::by_connect(&gateway, version).await;
        assert!(sdk.tool_names().await.contains(&"echo".to_owned()), "{version}");
        assert_eq!(sdk.call("echo", json!({"message": "hello"})).await, "echo: hello", "{version}");
        sdk.call("progress", json!({})).await;
        let heard = sdk.heard();
        let progress: Vec<_> = heard.iter().filter(|what| what.starts_with("progress")).collect();
        assert_eq!(progress.len(), 3, "{version}: {heard:?}");
        sdk.client.cancel().await.unwrap();
    }
}

#[tokio::test]
async fn the_gateways_questions_and_news_reach_a_legacy_client() {
    let peer = Peer::start().await;
    let gateway = gateway_before(&peer).await;
    let mut sdk = Sdk::by_connect(&gateway, LEGACY_LATEST).await;
    sdk.call("ask", json!({})).await;
    assert!(sdk.heard().iter().any(|what| what.starts_with("asked")), "over the call's own stream");
    peer.change_tools(vec![plain("echo"), plain("new")]).await;
    while sdk.heard.recv().await.expect("it still listens") != "tools changed" {}
    // Wherever the next question comes in.
    gateway.mcp().lists(&["new"]).await;
    assert!(sdk.tool_names().await.contains(&"new".to_owned()));
    sdk.client.cancel().await.unwrap();
}

#[tokio::test]
async fn a_call_waits_for_a_gateway_that_restarts_and_one_under_way_fails_by_name() {
    let peer = Peer::start().await;
    let scene =
        TestGateway::start().alone("a balancer takes what is said while nobody is there, and drops it");
    let mut gateway = scene.with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    let mut client = start(&gateway);
    client.say(initialize()).await;
    client.next_answer().await;
    client.say(INITIALIZED).await;
    client.say(request("cut", "tools/call", call("wait", json!({"canary": "x"})))).await;
    client.say(modern("cut too", "tools/call", call("wait", json!({"canary": "x"})))).await;
    peer.counts_reach(|counts| counts.parked == 2).await;
    gateway.kill_9().await;
    for _ in 0..2 {
        let failed = client.next_answer().await;
        assert!(failed["id"].as_str().unwrap().starts_with("cut"), "{failed}");
        assert_eq!(failed["error"]["code"], -32603, "{failed}");
        assert_eq!(failed["error"]["data"], json!({"code": "INTERNAL", "retryable": false}));
        assert!(failed["error"]["message"].as_str().unwrap().contains("broke"), "{failed}");
    }
    // While nobody is there.
    client.say(request("legacy", "tools/list", json!({}))).await;
    client.say(modern("modern", "tools/list", json!({}))).await;
    gateway.start_again().await;
    for _ in 0..2 {
        let answer = client.next_answer().await;
        assert!(answer["result"]["tools"].is_array(), "{answer}");
    }
    assert!(client.close().await.0.success());
}

#[tokio::test]
async fn a_session_that_the_gateway_forgot_is_made_anew() {
    let peer = Peer::start().await;
    let mut gateway = TestGateway::start().on_sqlite().with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    let mut client = start(&gateway);
    client.say(initialize()).await;
    client.say(INITIALIZED).await;
    client.say(request(1, "tools/call", call("echo", json!({"message": "x"})))).await;
    assert_eq!(success_of(&client.answer(1).await.1["result"]), "echo: x");
    gateway.kill_9().await;
    // With another encryption key it can't read a session of before.
    std::fs::remove_dir_all(gateway.data("")).unwrap();
    gateway.start_again().await;
    gateway.mcp().lists(&["echo"]).await;
    client.say(request(2, "tools/call", call("echo", json!({"message": "y"})))).await;
    assert_eq!(success_of(&client.answer(2).await.1["result"]), "echo: y");
    let (status, told) = client.close().await;
    assert!(status.success() && told.contains("forgotten the session"), "{told}");
}

#[tokio::test]
async fn arguments_are_mirrored_even_for_a_client_that_never_listed_the_tools() {
    let region = json!({"type": "string", "x-mcp-header": "Region"});
    let schema = json!({"type": "object", "properties": {"region": region}});
    let peer = Peer::with_tools(vec![tool("marked", schema)]).await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["marked"]).await;
    for lists_first in [false, true] {
        let mut client = start(&gateway);
        if lists_first {
            client.say(modern("list", "tools/list", json!({}))).await;
            client.answer("list").await;
        }
        client.say(modern(1, "tools/call", call("marked", json!({"region": "eu ü"})))).await;
        let (before, answer) = client.answer(1).await;
        assert_eq!(success_of(&answer["result"]), r#"marked got {"region":"eu ü"}"#, "{answer}");
        assert!(before.is_empty(), "nothing of our own making: {before:?}");
    }
}

#[tokio::test]
async fn to_cancel_reaches_the_upstream_in_both_eras() {
    for is_modern in [false, true] {
        let peer = Peer::start().await;
        let gateway = gateway_before(&peer).await;
        let mut client = start(&gateway);
        let wait = call("wait", json!({"canary": "x"}));
        if is_modern {
            client.say(modern(7, "tools/call", wait)).await;
        } else {
            client.say(initialize()).await;
            client.say(INITIALIZED).await;
            client.say(request(7, "tools/call", wait)).await;
        }
        peer.counts_reach(|counts| counts.parked == 1).await;
        let params = json!({"requestId": 7});
        client.say(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})).await;
        peer.counts_reach(|counts| counts.cancelled == 1 && counts.parked == 0).await;
        assert!(client.close().await.0.success());
    }
}

#[tokio::test]
async fn a_wrong_key_is_told_to_the_client_and_to_the_person() {
    let gateway = TestGateway::start().with_key().await;
    let wrong = PlaintextKey::generate();
    let mut client = Connected::start(&gateway, wrong.expose(), &[]);
    client.say(initialize()).await;
    client.say(modern(1, "tools/list", json!({}))).await;
    for id in [0, 1] {
        let refused = client.answer(id).await.1;
        assert_eq!(refused["error"]["data"]["code"], "UNAUTHORIZED", "{refused}");
        assert!(refused["error"]["message"].as_str().unwrap().contains("MPG_KEY"), "{refused}");
    }
    let (status, told) = client.close().await;
    assert!(status.success() && told.contains("HTTP 401"), "{told}");
    assert!(!told.contains(wrong.expose()), "{told}");
}

#[tokio::test]
async fn the_end_of_the_input_is_the_end_and_what_was_asked_before_is_answered() {
    let peer = Peer::start().await;
    let gateway = gateway_before(&peer).await;
    let mut client = start(&gateway);
    // All at once, as a script does.
    client.say(initialize()).await;
    client.say(INITIALIZED).await;
    client.say("").await;
    client.say("not json").await;
    client.say(request(1, "ping", json!({}))).await;
    assert_eq!(client.hear().await.unwrap()["id"], 0);
    assert_eq!(client.hear().await.unwrap()["error"]["code"], -32700);
    assert_eq!(client.answer(1).await.1["result"], json!({}));
    let (status, told) = client.close().await;
    assert!(status.success() && told.is_empty(), "{told}");
}

#[tokio::test]
async fn it_trusts_whom_the_machine_trusts() {
    let authority = Authority::new();
    let gateway = TestGateway::start().with_tls(&authority).with_key().await;
    let discover = || modern(1, "server/discover", json!({}));
    let root = authority.root();
    let mut client = Connected::start(&gateway, gateway.key(), &[("SSL_CERT_FILE", root.as_path())]);
    client.say(discover()).await;
    assert_eq!(client.answer(1).await.1["result"]["supportedVersions"][0], MODERN);
    let other = Authority::new();
    let stranger: &Path = &other.root();
    let mut client = Connected::start(&gateway, gateway.key(), &[("SSL_CERT_FILE", stranger)]);
    client.say(discover()).await;
    let refused = client.answer(1).await.1["error"]["message"].take();
    assert!(refused.as_str().unwrap().contains("can't be reached"), "{refused}");
}

#[test]
fn it_needs_a_url_and_never_takes_a_key_as_an_argument() {
    let mut command = GatewayCommand::new(["connect"]);
    command.run().assert_failure(78, &["MPG_URL: required, or --url"]);
    let output = GatewayCommand::new(["connect", "--url", "canary"]).run();
    output.assert_failure(78, &["--url: not a URL: relative URL without a base"]);
    let help = GatewayCommand::new(["connect", "--help"]).run();
    assert!(help.assert_success().stdout.contains("mcpServers") && !help.stdout.contains("--key"));
}
