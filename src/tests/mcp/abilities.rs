//! Modern clients of which each can be asked something else, at one legacy server: what its handshake is told.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{LEGACY_LATEST, Mcp, Peer, Reference, TestGateway, plain, script, success_of};

const TOOLS: [&str; 4] = ["considerate", "declared", "ask", "wait"];

/// Two clients of each kind ask at the same time, so many times over.
const ROUNDS: usize = 10;

async fn peer() -> Peer {
    Peer::with_tools(TOOLS.into_iter().map(plain).collect()).await
}

async fn gateway_before(peer: &Peer, isolation: &str) -> TestGateway {
    let upstream = json!({
        "name": "peer", "transport": "streamable-http", "protocol": "legacy", "isolation": isolation,
        "connParams": {"url": peer.url()},
    });
    let gateway =
        TestGateway::start().alone("each replica greets a server").with_upstream(upstream).with_key().await;
    gateway.mcp().lists(&["declared"]).await;
    gateway
}

fn all() -> Value {
    json!({"sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {}})
}

/// What the session declared that serves this client.
async fn declared_for(mcp: &Mcp) -> Value {
    let result = mcp.call("declared", json!({})).await;
    serde_json::from_str(success_of(&result)).expect("it is JSON")
}

/// Calls a tool that asks what it may; what was asked, and what came of it.
async fn consider(mcp: Mcp) -> (BTreeSet<String>, String) {
    let name = json!({"action": "accept", "content": {"name": "Ada"}});
    let capital = json!({"role": "assistant", "content": {"type": "text", "text": "Paris"}, "model": "none"});
    let mut asked = BTreeSet::new();
    let mut params = json!({"name": "considerate", "arguments": {}});
    loop {
        let result = mcp.modern("tools/call", params.clone()).await.result().await;
        let Some(requests) = result["inputRequests"].as_object() else {
            return (asked, success_of(&result).to_owned());
        };
        let answer = |request: &Value| match request["method"].as_str() {
            Some("elicitation/create") => name.clone(),
            _ => capital.clone(),
        };
        asked.extend(requests.values().map(|request| request["method"].as_str().expect("one").to_owned()));
        params["inputResponses"] =
            requests.iter().map(|(key, request)| (key.clone(), answer(request))).collect();
        params["requestState"] = result["requestState"].clone();
    }
}

#[tokio::test]
async fn a_legacy_server_is_told_what_each_modern_client_can_be_asked() {
    for isolation in ["shared", "per-key", "per-session"] {
        let peer = peer().await;
        let gateway = gateway_before(&peer, isolation).await;
        let kinds = [
            json!({"sampling": {}}),
            json!({"elicitation": {"form": {}}}),
            json!({"sampling": {}, "elicitation": {"url": {}}}),
            json!({"roots": {}}),
            all(),
        ];
        for kind in kinds.iter().chain(&kinds) {
            assert_eq!(declared_for(&gateway.mcp().declaring(kind.clone())).await, *kind, "{isolation}");
        }
        // Forms are what an empty object means, and who can be asked nothing is answered call by call.
        let forms = gateway.mcp().declaring(json!({"elicitation": {}}));
        assert_eq!(declared_for(&forms).await, kinds[1], "{isolation}");
        assert_eq!(declared_for(&gateway.mcp()).await, all(), "{isolation}");
        // One for the gateway itself where no client's calls go over it, and one for each kind.
        let own = usize::from(isolation != "shared");
        assert_eq!(peer.counts().initialized, own + kinds.len(), "{isolation}");
    }
}

#[tokio::test]
async fn legacy_clients_are_served_where_all_is_declared() {
    let peer = peer().await;
    let gateway = gateway_before(&peer, "shared").await;
    let session = gateway.mcp().initialize_with(LEGACY_LATEST, json!({"sampling": {}})).await;
    let result = session.call("declared", json!({})).await;
    assert_eq!(serde_json::from_str::<Value>(success_of(&result)).expect("it is JSON"), all());
    assert_eq!(peer.counts().initialized, 1);
}

#[tokio::test]
async fn clients_of_two_kinds_never_see_each_others_questions_t20() {
    let peer = peer().await;
    let gateway = gateway_before(&peer, "shared").await;
    let (other, _) = gateway.mcp_with("other", json!({})).await;
    let mut calls = Vec::new();
    for mcp in [gateway.mcp(), other] {
        for _ in 0..ROUNDS {
            let samples = mcp.declaring(json!({"sampling": {}}));
            let elicits = mcp.declaring(json!({"elicitation": {}}));
            calls.push(async move { tokio::join!(consider(samples), consider(elicits)) });
        }
    }
    for ((sampling, sampled), (elicitation, elicited)) in futures::future::join_all(calls).await {
        assert_eq!(sampling, BTreeSet::from(["sampling/createMessage".to_owned()]));
        assert!(sampled.starts_with("no elicitation and ") && sampled.contains("Paris"), "{sampled}");
        assert_eq!(elicitation, BTreeSet::from(["elicitation/create".to_owned()]));
        assert!(elicited.ends_with(" and no sampling") && elicited.contains("Ada"), "{elicited}");
    }
    assert_eq!(peer.counts().initialized, 3, "one for each kind, whatever the key, beside the one of all");
}

#[tokio::test]
async fn sessions_are_bounded_and_the_one_that_declares_all_serves_the_rest() {
    let peer = peer().await;
    let gateway = TestGateway::start()
        .alone("each replica greets a server")
        .with_peer_in("legacy", "peer", &peer)
        .with_setting("limits", "sessions_per_upstream", 2)
        .with_key()
        .await;
    gateway.mcp().lists(&["declared"]).await;
    let samples = gateway.mcp().declaring(json!({"sampling": {}}));
    let elicits = gateway.mcp().declaring(json!({"elicitation": {}}));
    assert_eq!(declared_for(&samples).await, json!({"sampling": {}}));
    assert_eq!(declared_for(&elicits).await, all());
    assert_eq!(declared_for(&samples).await, json!({"sampling": {}}));
    assert_eq!(peer.counts().initialized, 2);
    // What it isn't told, it is refused.
    let refused = samples.call("ask", json!({})).await;
    assert_eq!(success_of(&refused), "refused with -32601");
}

#[tokio::test]
async fn a_server_over_stdio_stays_one_process() {
    let script = script();
    let args = Reference::over_stdio(&script, &["--era", "legacy"]);
    let gateway = TestGateway::start()
        .alone("each replica greets a server")
        .with_stdio_upstream("stdio", "node", &args)
        .with_key()
        .await;
    gateway.mcp().lists(&["test_simple_text"]).await;
    let children = gateway.children_reach(1).await;
    for kind in [json!({"sampling": {}}), json!({"elicitation": {}}), all()] {
        let result = gateway.mcp().declaring(kind).call("test_simple_text", json!({})).await;
        success_of(&result);
    }
    assert_eq!(gateway.children(), children);
}
