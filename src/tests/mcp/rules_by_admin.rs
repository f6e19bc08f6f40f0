//! Rules and switches that an admin writes: in force when they are answered, for lists and calls alike, and
//! still after a restart.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Admin, Mcp, Peer, TestGateway, plain, success_of};

async fn peer() -> Peer {
    Peer::with_tools(["get_a", "get_b", "delete_a"].map(plain).to_vec()).await
}

/// Makes a rule and answers its path.
async fn rule(admin: &Admin, noun: &str, body: Value) -> String {
    let (status, created) = admin.post(&format!("rules/{noun}"), &body).await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    format!("rules/{noun}/{}", created["id"].as_str().expect("an id"))
}

/// What is listed can be called, and these others can't.
async fn assert_sees(mcp: &Mcp, listed: &[&str], hidden: &[&str]) {
    assert_eq!(mcp.tool_names().await, listed);
    for name in listed {
        success_of(&mcp.call(name, json!({})).await);
    }
    for name in hidden {
        let refused = mcp.modern("tools/call", json!({"name": name, "arguments": {}})).await;
        assert_eq!(refused.refusal().await, (200, -32602), "{name}");
    }
}

#[tokio::test]
async fn a_rule_is_in_force_when_it_is_answered_and_after_a_restart() {
    let peer = peer().await;
    let mut gateway = TestGateway::start()
        .alone("on other replicas a change takes a moment")
        .with_peer("peer", &peer)
        .with_key()
        .await;
    gateway.mcp().lists(&["get_a", "get_b", "delete_a"]).await;
    let admin = gateway.admin().await;
    let upstream = json!({"type": "upstream", "id": admin.upstream_id("peer").await});

    let alias = json!({"owner": upstream, "pattern": "get_(.*)", "isRegex": true, "targetName": "read_$1"});
    let alias = rule(&admin, "aliases", alias).await;
    assert_sees(&gateway.mcp(), &["read_a", "read_b", "delete_a"], &["get_a"]).await;
    let deny = json!({"owner": {"type": "all"}, "pattern": "delete_.*", "isRegex": true, "action": "deny"});
    rule(&admin, "filters", deny).await;
    assert_sees(&gateway.mcp(), &["read_a", "read_b"], &["delete_a"]).await;

    // A key's own rules are seen by that key alone.
    let (id, secret) = admin.create_key("other", json!({})).await;
    let owner = json!({"type": "key", "id": id});
    let deny = json!({"owner": owner, "pattern": "read_b", "action": "deny", "matchOn": "exposed"});
    rule(&admin, "filters", deny).await;
    rule(&admin, "aliases", json!({"owner": owner, "pattern": "get_a", "targetName": "mine"})).await;
    let other = gateway.mcp_as(&secret);
    assert_sees(&other, &["mine"], &["read_a", "read_b"]).await;
    assert_sees(&gateway.mcp(), &["read_a", "read_b"], &["mine"]).await;
    let (_, seen) = admin.get(&format!("tools?keyId={id}")).await;
    assert_eq!((&seen["total"], &seen["items"][0]["exposedName"]), (&json!(1), &json!("mine")));

    gateway.terminate().await;
    gateway.start_again().await;
    let admin = gateway.admin().await;
    assert_sees(&gateway.mcp(), &["read_a", "read_b"], &["get_a", "delete_a", "mine"]).await;
    assert_sees(&gateway.mcp_as(&secret), &["mine"], &["read_a", "read_b"]).await;

    // Switched off and taken away they count no more.
    let answer = admin.request(Method::GET, &alias).send().await.expect("an answer");
    let etag = answer.headers()["etag"].to_str().expect("ASCII").to_owned();
    let (status, body) = admin.patch(&alias, &etag, &json!({"enabled": false})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_sees(&gateway.mcp(), &["get_a", "get_b"], &["read_a"]).await;
}

#[tokio::test]
async fn rules_go_with_their_owner() {
    let peer = peer().await;
    let gateway = TestGateway::start()
        .alone("on other replicas a change takes a moment")
        .with_peer("peer", &peer)
        .with_key()
        .await;
    gateway.mcp().lists(&["get_a"]).await;
    let admin = gateway.admin().await;
    let upstream = admin.upstream_id("peer").await;
    let (key, _) = admin.create_key("other", json!({})).await;
    let deny = |owner: Value| json!({"owner": owner, "pattern": "get_a", "action": "deny"});
    let of_upstream = rule(&admin, "filters", deny(json!({"type": "upstream", "id": upstream}))).await;
    let of_key = rule(&admin, "filters", deny(json!({"type": "key", "id": key}))).await;
    let of_all = rule(&admin, "filters", deny(json!({"type": "all"}))).await;
    for path in [format!("upstreams/{upstream}"), format!("keys/{key}")] {
        assert_eq!(admin.delete(&path).await.0, StatusCode::NO_CONTENT);
    }
    for (path, status) in
        [(of_upstream, StatusCode::NOT_FOUND), (of_key, StatusCode::NOT_FOUND), (of_all, StatusCode::OK)]
    {
        assert_eq!(admin.get(&path).await.0, status, "{path}");
    }
}

#[tokio::test]
async fn a_tool_that_is_switched_off_is_gone_for_clients_and_stays_for_the_admin() {
    let peer = peer().await;
    let gateway = TestGateway::start()
        .alone("on other replicas a change takes a moment")
        .with_peer("peer", &peer)
        .with_key()
        .await;
    gateway.mcp().lists(&["get_a", "get_b", "delete_a"]).await;
    let admin = gateway.admin().await;
    let (_, tools) = admin.get("tools?search=get_b").await;
    let tool = &tools["items"][0];
    let path = format!("tools/{}", tool["id"].as_str().expect("an id"));
    let body = json!({"enabled": false});
    let (status, off) = admin.patch(&path, &format!("\"{}\"", tool["version"]), &body).await;
    assert_eq!(status, StatusCode::OK, "{off}");
    assert_sees(&gateway.mcp(), &["get_a", "delete_a"], &["get_b"]).await;
    assert_eq!(admin.get("tools").await.1["total"], 3);
    let (_, explained) = admin.get(&format!("{path}/explain")).await;
    assert_eq!(
        (&explained["visible"], &explained["steps"][0]["step"]),
        (&json!(false), &json!("switchedOff"))
    );

    // And back, at another place.
    let body = json!({"enabled": true, "sortOrder": -1});
    let (status, on) = admin.patch(&path, &format!("\"{}\"", off["version"]), &body).await;
    assert_eq!(status, StatusCode::OK, "{on}");
    assert_sees(&gateway.mcp(), &["get_b", "get_a", "delete_a"], &[]).await;
}

#[tokio::test]
async fn a_new_prefix_is_in_force_when_it_is_answered() {
    let peer = peer().await;
    let gateway = TestGateway::start()
        .alone("on other replicas a change takes a moment")
        .with_peer("peer", &peer)
        .with_key()
        .await;
    gateway.mcp().lists(&["get_a"]).await;
    let admin = gateway.admin().await;
    let path = format!("upstreams/{}", admin.upstream_id("peer").await);
    let answer = admin.request(Method::GET, &path).send().await.expect("an answer");
    let etag = answer.headers()["etag"].to_str().expect("ASCII").to_owned();
    let (status, body) = admin.patch(&path, &etag, &json!({"namePrefix": "p-"})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_sees(&gateway.mcp(), &["p-get_a", "p-get_b", "p-delete_a"], &["get_a"]).await;
}
