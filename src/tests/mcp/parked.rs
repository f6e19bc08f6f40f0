//! Modern clients of legacy servers that ask in the middle of a call: the call is parked until the client
//! comes back with the answers.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{
    Exchange, GATEWAY_ERROR, Line, META, Mcp, Peer, Reference, TestGateway, plain, success_of,
};

const DEGRADED: &str = "io.github.mcp-proxy-gateway/degraded";
const TOOLS: [&str; 6] = ["ask", "sample", "interview", "gated", "wait", "echo"];

async fn gateway() -> (Peer, TestGateway) {
    let peer = Peer::with_tools(TOOLS.into_iter().map(plain).collect()).await;
    let gateway = gateway_before(&peer).await;
    (peer, gateway)
}

async fn gateway_before(peer: &Peer) -> TestGateway {
    let gateway = TestGateway::start().with_peer_in("legacy", "peer", peer).with_key().await;
    gateway.mcp().lists(&["ask"]).await;
    gateway
}

fn able(gateway: &TestGateway) -> Mcp {
    gateway.mcp().declaring(json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}}))
}

/// Calls a tool that asks; the result that says so.
async fn ask(mcp: &Mcp, tool: &str) -> Value {
    let required = mcp.call(tool, json!({})).await;
    assert_eq!(required["resultType"], "input_required", "{required}");
    required
}

fn again(tool: &str, required: &Value, responses: &Value) -> Value {
    json!({
        "name": tool, "arguments": {}, "requestState": required["requestState"], "inputResponses": responses,
    })
}

/// The same call again, with answers.
async fn retry(mcp: &Mcp, tool: &str, required: &Value, responses: Value) -> Exchange {
    mcp.modern("tools/call", again(tool, required, &responses)).await
}

fn with_token(mut params: Value, token: &str) -> Value {
    params["_meta"] = json!({"progressToken": token});
    params
}

fn name_of_user() -> Value {
    json!({"user_name": {"action": "accept", "content": {"name": "Ada"}}})
}

fn sampled() -> Value {
    json!({"role": "assistant", "content": {"type": "text", "text": "Paris"}, "model": "none"})
}

fn keys(required: &Value) -> Vec<&String> {
    required["inputRequests"].as_object().expect("requests").keys().collect()
}

#[tokio::test]
async fn a_modern_client_is_asked_by_a_legacy_server_and_the_call_goes_on_where_it_stood() {
    let (peer, gateway) = gateway().await;
    let mcp = able(&gateway);
    let required = ask(&mcp, "ask").await;
    let question = &required["inputRequests"]["user_name"];
    assert_eq!(question["method"], "elicitation/create", "{required}");
    assert_eq!(question["params"]["message"], "Who are you?");
    assert_eq!(required.get("ttlMs"), None);
    assert!(required["_meta"][format!("{META}serverInfo")].is_object());
    let result = retry(&mcp, "ask", &required, name_of_user()).await.result().await;
    assert_eq!(result["resultType"], "complete");
    assert!(success_of(&result).contains("Ada"), "{result}");
    assert_eq!(peer.counts().calls, 1, "it was one call all along");

    let required = ask(&mcp, "sample").await;
    let result = retry(&mcp, "sample", &required, json!({"sampling": sampled()})).await.result().await;
    assert!(success_of(&result).contains("Paris"), "{result}");
}

#[tokio::test]
async fn questions_go_together_and_what_comes_between_is_told_in_order() {
    let (_peer, gateway) = gateway().await;
    let mcp = able(&gateway);
    let call = with_token(json!({"name": "interview", "arguments": {}}), "first");
    let (before, answer) = mcp.modern("tools/call", call).await.all().await;
    assert_eq!(before.len(), 1, "{before:?}");
    assert_eq!(before[0]["params"]["progressToken"], "first");
    let required = &answer["result"];
    assert_eq!(keys(required), ["sampling", "user_name"], "{required}");
    // One answer is missing: it is asked for again, under the same key and with another state.
    let second = retry(&mcp, "interview", required, name_of_user()).await.result().await;
    assert_eq!(keys(&second), ["sampling"]);
    assert_ne!(second["requestState"], required["requestState"]);
    let responses = json!({"sampling": sampled(), "nobody-asked": {}});
    let params = with_token(again("interview", &second, &responses), "last");
    let (before, answer) = mcp.modern("tools/call", params).await.all().await;
    assert_eq!(before.len(), 1, "{before:?}");
    let progress = &before[0]["params"];
    assert_eq!((&progress["progress"], &progress["progressToken"]), (&json!(2.0), &json!("last")));
    let said = success_of(&answer["result"]);
    assert!(said.contains("Ada") && said.contains("Paris"), "{said}");
}

#[tokio::test]
async fn a_state_is_good_once_for_its_own_request_and_unchanged() {
    let peer = Peer::with_tools(TOOLS.into_iter().map(plain).collect()).await;
    let scene = TestGateway::start().alone("each replica counts what it could not carry over");
    let gateway = scene.with_peer_in("legacy", "peer", &peer).with_key().await;
    gateway.mcp().lists(&["ask"]).await;
    let mcp = able(&gateway);
    let required = ask(&mcp, "ask").await;
    let with = |name: &str, arguments: Value, state: &str| {
        let params = json!({
            "name": name, "arguments": arguments, "requestState": state, "inputResponses": name_of_user(),
        });
        mcp.modern("tools/call", params)
    };
    let state = required["requestState"].as_str().expect("a state");
    assert_eq!(with("sample", json!({}), state).await.refusal().await.1, -32602);
    assert_eq!(with("ask", json!({"other": 1}), state).await.refusal().await.1, -32602);
    let tampered = format!("{}{}", if state.starts_with('A') { "B" } else { "A" }, &state[1..]);
    assert_eq!(with("ask", json!({}), &tampered).await.refusal().await.1, -32602);
    assert_eq!(with("ask", json!({}), "").await.refusal().await.1, -32602);
    let malformed = json!({"user_name": "Ada"});
    assert_eq!(retry(&mcp, "ask", &required, malformed).await.refusal().await.1, -32602);
    let (stranger, _) = gateway.mcp_with("stranger", json!({})).await;
    let of_another_key = again("ask", &required, &name_of_user());
    assert_eq!(stranger.modern("tools/call", of_another_key).await.refusal().await.1, -32602);
    // None of this has used it up.
    let result = with("ask", json!({}), state).await.result().await;
    assert!(success_of(&result).contains("Ada"), "{result}");
    let replayed = with("ask", json!({}), state).await.answer().await;
    assert_eq!(replayed["error"]["code"], -32603, "{replayed}");
    assert_eq!(replayed["error"]["data"]["upstream"], "peer");
    assert_eq!(replayed["error"]["data"][DEGRADED][0]["reason"], "a");
    assert_eq!(peer.counts().calls, 1, "nothing was run again");

    let admin = gateway.admin().await;
    let id = admin.upstream_id("peer").await;
    let (_, upstream) = admin.get(&format!("upstreams/{id}")).await;
    assert_eq!(upstream["degraded"], json!({"a": 1}), "{upstream}");
    assert_eq!(upstream["capabilityMatrix"]["modern"]["elicitation"], json!({"level": "bridged"}));
    assert_eq!(upstream["capabilityMatrix"]["legacy"]["elicitation"], json!({"level": "full"}));
}

#[tokio::test]
async fn of_retries_at_the_same_time_one_goes_on() {
    let (peer, gateway) = gateway().await;
    let mcp = able(&gateway);
    let required = ask(&mcp, "ask").await;
    let retries =
        (0..8).map(|_| async { retry(&mcp, "ask", &required, name_of_user()).await.answer().await });
    let answers = futures::future::join_all(retries).await;
    let (went_on, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer["result"]["resultType"] == "complete");
    assert_eq!(went_on.len(), 1, "{answers:?}");
    for answer in refused {
        // While the call goes on: used. Once it is over, it isn't known any more.
        assert!([-32602, -32603].map(Value::from).contains(&answer["error"]["code"]), "{answer}");
    }
    assert_eq!(peer.counts().calls, 1);
}

#[tokio::test]
async fn a_modern_client_is_asked_only_what_it_declared_with_this_request() {
    let (_peer, gateway) = gateway().await;
    let result = gateway.mcp().call("ask", json!({})).await;
    assert_eq!(success_of(&result), "refused with -32601");
    assert_eq!(result["_meta"].get(GATEWAY_ERROR), None);
    let samples = gateway.mcp().declaring(json!({"sampling": {}}));
    let required = ask(&samples, "interview").await;
    assert_eq!(keys(&required), ["sampling"]);
    let responses = json!({"sampling": sampled()});
    let result = retry(&samples, "interview", &required, responses).await.result().await;
    let said = success_of(&result);
    assert!(said.starts_with("refused with -32601 and ") && said.contains("Paris"), "{said}");
}

#[tokio::test]
async fn what_a_client_answers_ahead_it_is_not_asked() {
    let (peer, gateway) = gateway().await;
    let mcp = able(&gateway);
    let call = |responses| json!({"name": "ask", "arguments": {}, "inputResponses": responses});
    let result = mcp.modern("tools/call", call(name_of_user())).await.result().await;
    assert!(success_of(&result).contains("Ada"), "{result}");
    // What isn't an answer is none.
    let required = mcp.modern("tools/call", call(json!({"user_name": 7}))).await.result().await;
    assert_eq!(keys(&required), ["user_name"]);
    assert_eq!(mcp.modern("tools/call", call(json!([]))).await.refusal().await.1, -32602);
    assert_eq!(peer.counts().calls, 2);
}

#[tokio::test]
async fn a_page_to_visit_first_is_asked_for_and_the_call_made_again_after_it() {
    let (peer, gateway) = gateway().await;
    let unable = gateway.mcp().modern("tools/call", json!({"name": "gated", "arguments": {}})).await;
    assert_eq!(unable.status(), 400);
    let refused = unable.answer().await;
    assert_eq!(refused["error"]["code"], -32021);
    assert_eq!(refused["error"]["data"]["requiredCapabilities"], json!({"elicitation": {"url": {}}}));

    let (peer, gateway) = {
        drop((peer, gateway));
        self::gateway().await
    };
    let mcp = able(&gateway);
    let required = ask(&mcp, "gated").await;
    let page = &required["inputRequests"]["elicitation-1"];
    let expected = json!({"mode": "url", "message": "Log in", "url": "https://example.com/login"});
    assert_eq!((&page["method"], &page["params"]), (&json!("elicitation/create"), &expected));
    let declined = json!({"elicitation-1": {"action": "decline"}});
    assert_eq!(retry(&mcp, "gated", &required, declined).await.refusal().await.1, -32603);
    assert_eq!(peer.counts().calls, 1, "it was not made again without consent");
    let visited = json!({"elicitation-1": {"action": "accept"}});
    let result = retry(&mcp, "gated", &required, visited).await.result().await;
    assert_eq!(success_of(&result), "let in");
}

#[tokio::test]
async fn a_revoked_key_ends_its_parked_calls_and_the_server_is_told() {
    let (peer, gateway) = gateway().await;
    let (holder, id) = gateway.mcp_with("holder", json!({})).await;
    let holder = holder.declaring(json!({"elicitation": {}}));
    ask(&holder, "ask").await;
    assert_eq!(peer.counts().cancelled, 0);
    let admin = gateway.admin().await;
    assert_eq!(admin.delete(&format!("keys/{id}")).await.0, StatusCode::NO_CONTENT);
    peer.counts_reach(|counts| counts.cancelled == 1).await;
}

#[tokio::test]
async fn prompts_ask_too_and_a_completion_never_does() {
    let reference = Reference::start(&["--era", "legacy"]);
    let gateway = TestGateway::start().with_http_upstream("reference", &reference.url()).with_key().await;
    // The lists of an upstream come one after the other, resources after prompts.
    gateway.mcp().has_resource("test://watched-resource").await;
    let mcp = able(&gateway);
    let name = "test_input_required_result_prompt";
    let required = mcp.modern("prompts/get", json!({"name": name})).await.result().await;
    assert_eq!(keys(&required), ["user_context"], "{required}");
    let params = json!({
        "name": name, "requestState": required["requestState"],
        "inputResponses": {"user_context": {"action": "accept", "content": {"context": "the moon"}}},
    });
    let prompt = mcp.modern("prompts/get", params).await.result().await;
    assert!(
        prompt["messages"][0]["content"]["text"].as_str().expect("words").contains("the moon"),
        "{prompt}"
    );
}

#[tokio::test]
async fn a_call_is_parked_over_a_websocket_as_over_http() {
    let (peer, gateway) = gateway().await;
    let mut line = Line::open("ws", &gateway).await;
    let declared = json!({ (format!("{META}clientCapabilities")): {"elicitation": {}} });
    let first = json!({"name": "ask", "arguments": {}, "_meta": declared});
    line.modern(1, "tools/call", first).await;
    let required = line.answer(1).await.1["result"].clone();
    assert_eq!(keys(&required), ["user_name"], "{required}");
    let mut params = again("ask", &required, &name_of_user());
    params["_meta"] = declared;
    line.modern(2, "tools/call", params).await;
    let result = line.answer(2).await.1["result"].clone();
    assert!(success_of(&result).contains("Ada"), "{result}");
    assert_eq!(peer.counts().calls, 1);
}

#[tokio::test]
async fn a_parked_call_does_not_outlive_its_gateway() {
    let peer = Peer::with_tools(TOOLS.into_iter().map(plain).collect()).await;
    let mut gateway = gateway_before(&peer).await;
    let mcp = able(&gateway);
    let required = ask(&mcp, "ask").await;
    let end = gateway.terminate().await;
    assert!(end.status.success(), "{end:?}");
    gateway.start_again().await;
    let mcp = able(&gateway);
    mcp.lists(&["ask"]).await;
    let late = retry(&mcp, "ask", &required, name_of_user()).await.refusal().await;
    assert_eq!(late.1, -32603);
    assert_eq!(peer.counts().calls, 1, "no silent second run");
}
