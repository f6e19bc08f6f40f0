//! Servers that ask the client back in the middle of a call: elicitation and sampling, where the client
//! is of the legacy era and is asked by real requests, and where both sides are modern.

use serde_json::{Value, json};

use crate::harness::{LEGACY_LATEST, Mcp, Peer, Sdk, Session, TestGateway, success_of, text_of};

async fn gateway_before(era: &str, peer: &Peer) -> TestGateway {
    let gateway = TestGateway::start().with_peer_in(era, "peer", peer).with_key().await;
    gateway.mcp().lists(&["ask"]).await;
    gateway
}

/// Calls a tool that asks once; the question, and the result after this answer to it.
async fn answer_once(session: &Session, tool: &str, answer: Value) -> (Value, Value) {
    let mut exchange = session.request("tools/call", json!({"name": tool, "arguments": {}})).await;
    let question = exchange.expect().await;
    session.answer(&question["id"], answer).await;
    (question, exchange.result().await)
}

#[tokio::test]
async fn a_legacy_client_is_asked_for_its_users_words_by_servers_of_both_eras() {
    let peer = Peer::start().await;
    for upstream_era in ["legacy", "modern"] {
        let gateway = gateway_before(upstream_era, &peer).await;
        for version in ["2025-06-18", "2025-11-25"] {
            let session = gateway.mcp().initialize_with(version, json!({"elicitation": {}})).await;
            let answer = json!({"action": "accept", "content": {"name": "Ada"}});
            let (question, result) = answer_once(&session, "ask", answer).await;
            assert_eq!(question["method"], "elicitation/create", "{upstream_era}, {version}");
            assert_eq!(question["params"]["message"], "Who are you?");
            assert_eq!(question["params"]["requestedSchema"]["properties"]["name"]["type"], "string");
            // A client of before 2025-11-25 may refuse a field it doesn't know.
            assert_eq!(question["params"].get("mode").is_some(), version == LEGACY_LATEST);
            let said = success_of(&result);
            assert!(said.starts_with("answered ") && said.contains(r#""name":"Ada""#), "{said}");
        }
    }
}

#[tokio::test]
async fn a_legacy_client_is_asked_to_sample_by_servers_of_both_eras() {
    let peer = Peer::start().await;
    for upstream_era in ["legacy", "modern"] {
        let gateway = gateway_before(upstream_era, &peer).await;
        let session = gateway.mcp().initialize_with(LEGACY_LATEST, json!({"sampling": {}})).await;
        let content = json!({"type": "text", "text": "Paris"});
        let answer = json!({"role": "assistant", "content": content, "model": "none"});
        let (question, result) = answer_once(&session, "sample", answer).await;
        assert_eq!(question["method"], "sampling/createMessage", "{upstream_era}");
        assert_eq!(question["params"]["maxTokens"], 10);
        assert!(success_of(&result).contains("Paris"), "{result}");
    }
}

#[tokio::test]
async fn a_client_that_declared_nothing_is_never_asked() {
    let peer = Peer::start().await;
    for upstream_era in ["legacy", "modern"] {
        let gateway = gateway_before(upstream_era, &peer).await;
        // One can elicit but not sample, and the other way round.
        for (declared, tool) in [("sampling", "ask"), ("elicitation", "sample")] {
            let session = gateway.mcp().initialize_with(LEGACY_LATEST, json!({declared: {}})).await;
            let exchange = session.request("tools/call", json!({"name": tool, "arguments": {}})).await;
            let (before, answer) = exchange.all().await;
            assert_eq!(before, Vec::<Value>::new(), "{upstream_era}, {tool}");
            if upstream_era == "legacy" {
                // The upstream's own request is refused, and it makes of that what it likes.
                assert_eq!(text_of(&answer["result"]), "refused with -32601");
            } else {
                let is_failure = answer["result"]["isError"] == true || answer["error"]["code"].is_i64();
                assert!(is_failure, "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn a_clients_refusal_reaches_the_server() {
    let peer = Peer::start().await;
    let gateway = gateway_before("legacy", &peer).await;
    let session = gateway.mcp().initialize_with(LEGACY_LATEST, json!({"elicitation": {}})).await;
    let mut exchange = session.request("tools/call", json!({"name": "ask", "arguments": {}})).await;
    let question = exchange.expect().await;
    let error = json!({"code": -1, "message": "the user is out"});
    session.send(json!({"jsonrpc": "2.0", "id": question["id"], "error": error}).to_string()).await;
    assert_eq!(text_of(&exchange.result().await), "refused with -1");
}

#[tokio::test]
async fn nobody_but_the_asked_session_can_answer() {
    let peer = Peer::start().await;
    let gateway = gateway_before("legacy", &peer).await;
    let elicits = json!({"elicitation": {}});
    let session = gateway.mcp().initialize_with(LEGACY_LATEST, elicits.clone()).await;
    let other = gateway.mcp().initialize_with(LEGACY_LATEST, elicits).await;
    let mut exchange = session.request("tools/call", json!({"name": "ask", "arguments": {}})).await;
    let question = exchange.expect().await;
    other.answer(&question["id"], json!({"action": "accept", "content": {"name": "Mallory"}})).await;
    session.answer(&question["id"], json!({"action": "decline"})).await;
    let result = exchange.result().await;
    assert!(success_of(&result).contains("decline"), "{result}");
}

#[tokio::test]
async fn questions_of_two_sessions_reach_each_its_own() {
    let peer = Peer::start().await;
    for upstream_era in ["legacy", "modern"] {
        let gateway = gateway_before(upstream_era, &peer).await;
        let elicits = json!({"elicitation": {}});
        let ask = json!({"name": "ask", "arguments": {}});
        let mut open = Vec::new();
        for name in ["Ada", "Grace"] {
            let session = gateway.mcp().initialize_with(LEGACY_LATEST, elicits.clone()).await;
            let mut exchange = session.request_as(1, "tools/call", ask.clone()).await;
            let question = exchange.expect().await;
            open.push((name, session, exchange, question));
        }
        for (name, session, exchange, question) in open {
            let answer = json!({"action": "accept", "content": {"name": name}});
            session.answer(&question["id"], answer).await;
            let result = exchange.result().await;
            assert!(success_of(&result).contains(name), "{upstream_era}: {result}");
        }
    }
}

#[tokio::test]
async fn the_sdk_answers_servers_of_both_eras() {
    let peer = Peer::start().await;
    for upstream_era in ["legacy", "modern"] {
        let gateway = gateway_before(upstream_era, &peer).await;
        let mut sdk = Sdk::initialize(&gateway, LEGACY_LATEST).await;
        assert!(sdk.call("ask", json!({})).await.contains("Ada"), "{upstream_era}");
        assert!(sdk.call("sample", json!({})).await.contains("Paris"), "{upstream_era}");
        let heard = [r#"asked "Who are you?""#, r#"sampled "Capital of France?""#];
        assert_eq!(sdk.heard(), heard, "{upstream_era}");
    }
    let gateway = gateway_before("modern", &peer).await;
    let sdk = Sdk::discover(&gateway).await;
    assert!(sdk.call("ask", json!({})).await.contains("Ada"));
}

#[tokio::test]
async fn what_a_modern_server_needs_and_its_state_pass_through_to_a_modern_client() {
    let peer = Peer::start().await;
    let gateway = gateway_before("modern", &peer).await;
    let mcp: Mcp = gateway.mcp().declaring(json!({"elicitation": {}}));
    let needed = mcp.call("ask", json!({})).await;
    assert_eq!(needed["resultType"], "input_required", "{needed}");
    assert_eq!(needed["inputRequests"]["who"]["method"], "elicitation/create");
    // Byte for byte: a server may have sealed it.
    assert_eq!(needed["requestState"], r#"state of who = "1""#);
    assert_eq!(needed.get("ttlMs"), None);
    let retry = json!({
        "name": "ask", "arguments": {}, "requestState": needed["requestState"],
        "inputResponses": {"who": {"action": "accept", "content": {"name": "Ada"}}},
    });
    let result = mcp.modern("tools/call", retry).await.result().await;
    assert!(success_of(&result).contains("Ada"), "{result}");
}
