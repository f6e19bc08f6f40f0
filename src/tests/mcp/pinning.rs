//! A tool that says something else than when it was agreed to (threat T22): held back on every transport until an
//! admin approves it, or shown, as its upstream says.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Admin, LEGACY_LATEST, Peer, TestGateway, plain, success_of, tool};

/// Between two looks at what a sync is to have found.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

fn upstream(peer: &Peer, on_change: &str) -> Value {
    json!({
        "name": "peer", "transport": "streamable-http", "onToolChange": on_change,
        "connParams": {"url": peer.url()},
    })
}

/// The tool as an admin sees it, once it is to be looked at.
async fn to_be_reviewed(admin: &Admin, name: &str) -> Value {
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    let look = async {
        loop {
            ticks.tick().await;
            let list = admin.get("tools?review=true").await.1;
            let items = list["items"].as_array().expect("a list");
            if let Some(item) = items.iter().find(|item| item["name"] == name) {
                return item.clone();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), look).await.expect("the change is found")
}

#[tokio::test]
async fn a_changed_tool_is_held_back_until_it_is_approved() {
    let peer = Peer::with_tools(vec![plain("stays"), plain("turns")]).await;
    let gateway = TestGateway::start().with_upstream(upstream(&peer, "hold")).with_key().await;
    let mcp = gateway.mcp();
    mcp.lists(&["stays", "turns"]).await;
    let session = mcp.initialize(LEGACY_LATEST).await;
    success_of(&session.call("turns", json!({})).await);

    let other = json!({"type": "object", "properties": {"sidenote": {"type": "string"}}});
    peer.change_tools(vec![plain("stays"), tool("turns", other)]).await;
    mcp.lists_become(|names| names == ["stays"]).await;
    // What isn't listed can't be called, in any era or mode.
    let call = json!({"name": "turns", "arguments": {}});
    assert_eq!(mcp.modern("tools/call", call.clone()).await.refusal().await, (200, -32602));
    assert_eq!(session.request("tools/call", call.clone()).await.refusal().await, (200, -32602));
    let smart = mcp.at("/mcp/smart/http");
    let wrapped = json!({"name": "call_tool", "arguments": call});
    assert_eq!(smart.modern("tools/call", wrapped).await.refusal().await, (200, -32602));
    let full = mcp.at("/mcp/full/http");
    assert_eq!(full.modern("tools/call", call).await.refusal().await, (200, -32602));

    let admin = gateway.admin().await;
    let item = to_be_reviewed(&admin, "turns").await;
    assert_eq!((&item["review"], &item["held"]), (&json!("changed"), &json!(true)), "{item}");
    let path = format!("tools/{}", item["id"].as_str().expect("an id"));
    let detail = admin.get(&path).await.1;
    assert_eq!(detail["review"]["fields"], json!(["inputSchema"]), "{detail}");
    let events = admin.get("audit?action=upstream.definitions-changed").await.1;
    assert_eq!(events["items"][0]["diff"]["definitions"][0]["name"], "turns", "{events}");

    let hash = &detail["review"]["hash"];
    let (status, approved) = admin.post(&format!("{path}/approve"), &json!({"hash": hash})).await;
    assert_eq!((status, &approved["held"]), (StatusCode::OK, &json!(false)), "{approved}");
    mcp.lists(&["stays", "turns"]).await;
    success_of(&mcp.call("turns", json!({})).await);
    assert_eq!(admin.get("audit/verify").await.1["intact"], true);
}

#[tokio::test]
async fn a_tool_that_comes_back_changed_is_held_back_too() {
    let peer = Peer::with_tools(vec![plain("stays"), plain("turns")]).await;
    let gateway = TestGateway::start().with_upstream(upstream(&peer, "hold")).with_key().await;
    let mcp = gateway.mcp();
    mcp.lists(&["stays", "turns"]).await;
    peer.change_tools(vec![plain("stays")]).await;
    mcp.lists_become(|names| names == ["stays"]).await;
    let other = json!({"type": "object", "properties": {"sidenote": {"type": "string"}}});
    peer.change_tools(vec![plain("stays"), tool("turns", other)]).await;
    let item = to_be_reviewed(&gateway.admin().await, "turns").await;
    assert_eq!(item["held"], true);
    assert_eq!(mcp.tool_names().await, ["stays"]);
    // As it was, it is what was agreed to.
    peer.change_tools(vec![plain("stays"), plain("turns")]).await;
    mcp.lists(&["stays", "turns"]).await;
}

#[tokio::test]
async fn a_changed_tool_passes_and_is_shown_where_a_warning_is_enough() {
    let peer = Peer::with_tools(vec![plain("turns")]).await;
    let gateway = TestGateway::start().with_upstream(upstream(&peer, "warn")).with_key().await;
    gateway.mcp().lists(&["turns"]).await;
    let other = json!({"type": "object", "properties": {"sidenote": {"type": "string"}}});
    peer.change_tools(vec![tool("turns", other)]).await;
    let item = to_be_reviewed(&gateway.admin().await, "turns").await;
    assert_eq!((&item["review"], &item["held"]), (&json!("changed"), &json!(false)));
    success_of(&gateway.mcp().call("turns", json!({})).await);
}
