//! Completion, subscriptions to resources, and what changes outside of calls, in all pairs of eras.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Exchange, LEGACY_LATEST, Mcp, PATIENCE, Reference, Session, TestGateway};

const WATCHED: &str = "test://watched-resource";

/// Between two looks at what is to become something.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const UPDATED: &str = "notifications/resources/updated";

/// A gateway before the reference server in one era.
async fn gateway_before(era: &str) -> (Reference, TestGateway) {
    let reference = Reference::start(&["--era", era]);
    let gateway = TestGateway::start().with_http_upstream("reference", &reference.url()).with_key().await;
    gateway.mcp().lists(&["echo", "test_changing_tool"]).await;
    gateway.mcp().has_template("test://template/{id}/data").await;
    (reference, gateway)
}

/// The next message on a stream that isn't about a list.
async fn next_but_lists(stream: &mut Exchange) -> Value {
    loop {
        let message = stream.expect().await;
        if !message["method"].as_str().is_some_and(|method| method.ends_with("/list_changed")) {
            return message;
        }
    }
}

async fn listen(mcp: &Mcp, notifications: Value) -> (Exchange, Value) {
    let mut stream = mcp.modern("subscriptions/listen", json!({"notifications": notifications})).await;
    let acknowledged = stream.expect().await;
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    (stream, acknowledged["params"]["notifications"].clone())
}

async fn subscribe(session: &Session, uri: &str) {
    let answer = session.request("resources/subscribe", json!({"uri": uri})).await.result().await;
    assert_eq!(answer, json!({}));
}

async fn counters(mcp: &Mcp) -> Value {
    mcp.call("counters", json!({})).await["structuredContent"].clone()
}

#[tokio::test]
async fn a_completion_reaches_the_upstream_in_all_four_pairs_of_eras() {
    for era in ["legacy", "modern"] {
        let (_reference, gateway) = gateway_before(era).await;
        let session = gateway.mcp().initialize(LEGACY_LATEST).await;
        assert_eq!(session.result()["capabilities"]["completions"], json!({}));
        let prompt = json!({"type": "ref/prompt", "name": "test_prompt_with_arguments"});
        let template = json!({"type": "ref/resource", "uri": "test://template/{id}/data"});
        for reference in [prompt, template] {
            let params = json!({
                "ref": reference, "argument": {"name": "arg1", "value": "par"},
                "context": {"arguments": {"arg2": "x"}},
            });
            let expected = json!(["paris", "park", "party"]);
            let legacy = session.request("completion/complete", params.clone()).await.result().await;
            assert_eq!((&legacy["completion"]["values"], &legacy["resultType"]), (&expected, &Value::Null));
            let modern = gateway.mcp().modern("completion/complete", params).await.result().await;
            assert_eq!(
                (&modern["completion"]["values"], &modern["resultType"]),
                (&expected, &json!("complete"))
            );
        }
        for unknown in
            [json!({"type": "ref/prompt", "name": "none"}), json!({"type": "ref/tool", "name": "echo"})]
        {
            let params = json!({"ref": unknown, "argument": {"name": "a", "value": ""}});
            let refused = session.request("completion/complete", params.clone()).await.refusal().await;
            assert_eq!(refused, (200, -32602));
            let refused = gateway.mcp().modern("completion/complete", params).await.refusal().await;
            assert_eq!(refused, (200, -32602));
        }
    }
}

#[tokio::test]
async fn completions_of_two_upstreams_with_one_prompt_reach_each_its_own() {
    let references = [Reference::start(&["--era", "legacy"]), Reference::start(&["--era", "modern"])];
    let gateway = TestGateway::start()
        .with_http_upstream("first", &references[0].url())
        .with_http_upstream("second", &references[1].url())
        .with_key()
        .await;
    let name = "test_prompt_with_arguments";
    // The lists of an upstream come one after the other, resources after prompts.
    gateway
        .mcp()
        .resources_become(|uris| uris.iter().filter(|uri| uri.ends_with(WATCHED)).count() == 2)
        .await;
    let listed = gateway.mcp().modern("prompts/list", json!({})).await.result().await;
    let names: Vec<_> =
        listed["prompts"].as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    let both: Vec<_> = names.iter().filter(|one| one.starts_with(name)).collect();
    assert_eq!(both.len(), 2, "{names:?}");
    for name in both {
        let params =
            json!({"ref": {"type": "ref/prompt", "name": name}, "argument": {"name": "arg1", "value": "12"}});
        let result = gateway.mcp().modern("completion/complete", params).await.result().await;
        assert_eq!(result["completion"]["values"], json!(["123"]), "{name}");
    }
}

#[tokio::test]
async fn an_update_reaches_those_who_subscribed_and_nobody_else() {
    for era in ["legacy", "modern"] {
        let (_reference, gateway) = gateway_before(era).await;
        let mcp = gateway.mcp();
        let (subscribed, other) = (mcp.initialize(LEGACY_LATEST).await, mcp.initialize(LEGACY_LATEST).await);
        assert_eq!(subscribed.result()["capabilities"]["resources"]["subscribe"], true);
        let (mut stream, mut silent) = (subscribed.stream().await, other.stream().await);
        subscribe(&subscribed, WATCHED).await;
        let (mut modern, honoured) =
            listen(&mcp, json!({"resourceSubscriptions": [WATCHED, "test://absent"]})).await;
        assert_eq!(honoured, json!({"resourceSubscriptions": [WATCHED]}), "{era}");
        mcp.call("test_update_watched_resource", json!({})).await;
        let told = next_but_lists(&mut stream).await;
        assert_eq!((&told["method"], &told["params"]), (&json!(UPDATED), &json!({"uri": WATCHED})), "{era}");
        let told = modern.expect().await;
        let tag = json!({"io.modelcontextprotocol/subscriptionId": 1});
        assert_eq!(told["params"], json!({"uri": WATCHED, "_meta": tag}), "{era}");
        // The other session hears of the lists alone.
        mcp.call("test_trigger_tool_change", json!({})).await;
        assert_eq!(silent.expect().await["method"], "notifications/tools/list_changed", "{era}");
    }
}

#[tokio::test]
async fn a_legacy_upstream_is_asked_for_the_first_and_left_with_the_last() {
    let reference = Reference::start(&["--era", "legacy"]);
    let scene = TestGateway::start().alone("each replica asks for what its sessions want");
    let gateway = scene.with_http_upstream("reference", &reference.url()).with_key().await;
    gateway.mcp().lists(&["echo", "test_changing_tool"]).await;
    gateway.mcp().has_template("test://template/{id}/data").await;
    let mcp = gateway.mcp();
    let sessions = [mcp.initialize(LEGACY_LATEST).await, mcp.initialize(LEGACY_LATEST).await];
    for session in &sessions {
        subscribe(session, WATCHED).await;
    }
    let (listening, _) = listen(&mcp, json!({"resourceSubscriptions": [WATCHED]})).await;
    let seen = counters(&mcp).await;
    assert_eq!((&seen["subscribes"], &seen["unsubscribes"]), (&json!(1), &json!(0)));
    let answer = sessions[0].request("resources/unsubscribe", json!({"uri": WATCHED})).await.result().await;
    assert_eq!(answer, json!({}));
    drop(listening);
    assert!(sessions[1].delete().await.is_success());
    // What the last one left is said to the upstream without anybody waiting for it.
    let look = async {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        while counters(&mcp).await["unsubscribes"] != 1 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("it is left in time");
}

#[tokio::test]
async fn a_resource_that_is_not_there_is_not_subscribed_to() {
    let (_reference, gateway) = gateway_before("legacy").await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let refused =
        session.request("resources/subscribe", json!({"uri": "test://absent"})).await.refusal().await;
    assert_eq!(refused, (200, -32002));
    assert_eq!(session.request("resources/subscribe", json!({})).await.refusal().await, (200, -32602));
    // The modern era has no such method.
    let refused = gateway.mcp().modern("resources/subscribe", json!({"uri": WATCHED})).await.refusal().await;
    assert_eq!(refused, (404, -32601));
}

#[tokio::test]
async fn a_reconnected_upstream_is_asked_again_and_its_resources_may_have_changed() {
    for era in ["legacy", "modern"] {
        let reference = Reference::start(&["--era", era]);
        let scene = TestGateway::start().alone("the replica that is told to reconnect does so");
        let gateway = scene.with_http_upstream("reference", &reference.url()).with_key().await;
        gateway.mcp().lists(&["echo", "test_changing_tool"]).await;
        gateway.mcp().has_template("test://template/{id}/data").await;
        let session = gateway.mcp().initialize(LEGACY_LATEST).await;
        let mut stream = session.stream().await;
        subscribe(&session, WATCHED).await;
        let admin = gateway.admin().await;
        let id = admin.upstream_id("reference").await;
        admin.post(&format!("upstreams/{id}/reconnect"), &json!({})).await;
        let told = next_but_lists(&mut stream).await;
        assert_eq!((&told["method"], &told["params"]), (&json!(UPDATED), &json!({"uri": WATCHED})), "{era}");
        gateway.mcp().call("test_update_watched_resource", json!({})).await;
        assert_eq!(next_but_lists(&mut stream).await["params"], json!({"uri": WATCHED}), "{era}");
    }
}

#[tokio::test]
async fn changed_prompts_are_announced_to_sessions_and_listeners() {
    for era in ["legacy", "modern"] {
        let (_reference, gateway) = gateway_before(era).await;
        let mcp = gateway.mcp();
        let session = mcp.initialize(LEGACY_LATEST).await;
        let mut stream = session.stream().await;
        let (mut modern, honoured) = listen(&mcp, json!({"promptsListChanged": true})).await;
        assert_eq!(honoured, json!({"promptsListChanged": true}));
        mcp.call("test_trigger_prompt_change", json!({})).await;
        for stream in [&mut stream, &mut modern] {
            assert_eq!(stream.expect().await["method"], "notifications/prompts/list_changed", "{era}");
        }
    }
}
