//! Gateways on Postgres: the main things on one, and two that share a database.
//!
//! `.ci/run test-replicas` provides the server; there, every other test of this binary runs on it too.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{LEGACY_LATEST, Peer, Postgres, TestGateway, plain, success_of};

/// In which time what one gateway was told has to be seen on another.
const SEEN_MAX: Duration = Duration::from_secs(2);

/// A database, unless this run has no server for it; it then says so.
fn database() -> Option<Postgres> {
    let postgres = Postgres::create();
    if postgres.is_none() {
        eprintln!("MPG_TEST_PG_DSN isn't set: nothing was tested; `.ci/run test-replicas` sets it");
    }
    postgres
}

#[tokio::test]
async fn on_postgres_tools_are_listed_called_and_kept_over_a_crash() {
    let Some(postgres) = database() else { return };
    let mut peer = Peer::start().await;
    let mut gateway = TestGateway::start().on(&postgres).with_peer("peer", &peer).with_key().await;
    let listed = gateway.mcp().lists(&["echo"]).await;
    assert_eq!(success_of(&gateway.mcp().call("echo", json!({"message": "x"})).await), "echo: x");
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let (mcp, id) = gateway.mcp_with("revoked", json!({})).await;
    let admin = gateway.admin().await;
    assert_eq!(admin.delete(&format!("keys/{id}")).await.0, StatusCode::NO_CONTENT);
    mcp.answers_with(StatusCode::UNAUTHORIZED).await;
    gateway.kill_9().await;
    peer.crash().await;
    gateway.start_again().await;
    assert_eq!(gateway.mcp().tool_names().await, listed);
    assert_eq!(session.tool_names().await, listed);
    assert_eq!(mcp.modern("tools/list", json!({})).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn two_gateways_on_one_database_see_each_others_changes() {
    let Some(postgres) = database() else { return };
    let peer = Peer::named(["shared".into()]).await;
    let one = TestGateway::start().on(&postgres).with_key().await;
    let two = TestGateway::start().on(&postgres).sharing_admin_of(&one).await;
    let key = one.key().to_owned();
    let mcp = two.mcp_as(&key);
    assert!(mcp.answers_with(StatusCode::OK).await < SEEN_MAX, "the key of the other's bootstrap file");

    let body = json!({"name": "peer", "transport": "streamable-http", "connParams": {"url": peer.url()}});
    let (status, created) = one.admin().await.post("upstreams", &body).await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    one.mcp().lists(&["shared"]).await;
    let synced = Instant::now();
    mcp.lists(&["shared"]).await;
    assert!(synced.elapsed() < SEEN_MAX, "{:?}", synced.elapsed());
    assert_eq!(success_of(&mcp.call("shared", json!({})).await), "shared got {}");

    // A change of the server's list, whichever of them hears of it.
    let mut stream = mcp.initialize(LEGACY_LATEST).await.stream().await;
    peer.change_tools(vec![plain("shared"), plain("new")]).await;
    let changed = Instant::now();
    assert_eq!(stream.expect().await["method"], "notifications/tools/list_changed");
    assert!(changed.elapsed() < SEEN_MAX, "{:?}", changed.elapsed());
    one.mcp().lists(&["new"]).await;

    let (revoked, id) = one.mcp_with("revoked", json!({})).await;
    let other_side = two.mcp_as(revoked.key());
    assert!(other_side.answers_with(StatusCode::OK).await < SEEN_MAX);
    let mut stream = other_side.initialize(LEGACY_LATEST).await.stream().await;
    assert_eq!(two.admin().await.post(&format!("keys/{id}/disable"), &json!({})).await.0, StatusCode::OK);
    assert!(revoked.answers_with(StatusCode::UNAUTHORIZED).await < SEEN_MAX);
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_session_of_one_gateway_is_served_by_the_other_and_its_end_counts_on_both() {
    let Some(postgres) = database() else { return };
    let peer = Peer::start().await;
    let one = TestGateway::start().on(&postgres).with_peer("peer", &peer).with_key().await;
    let two = TestGateway::start().on(&postgres).sharing_admin_of(&one).await;
    one.mcp().lists(&["echo"]).await;
    let other = two.mcp_as(one.key());
    other.lists(&["echo"]).await;
    let session = one.mcp().initialize_with(LEGACY_LATEST, json!({"elicitation": {}})).await;
    let elsewhere = session.shown_by(&other);
    assert_eq!(success_of(&elsewhere.call("echo", json!({"message": "x"})).await), "echo: x");
    // What the session declared is known there as well.
    let mut exchange = elsewhere.request("tools/call", json!({"name": "ask", "arguments": {}})).await;
    let question: Value = exchange.expect().await;
    elsewhere.answer(&question["id"], json!({"action": "accept", "content": {"name": "Ada"}})).await;
    assert!(success_of(&exchange.result().await).contains("Ada"));

    assert_eq!(elsewhere.delete().await, StatusCode::NO_CONTENT);
    let ended = Instant::now();
    let gone = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while session.request("ping", json!({})).await.status() != StatusCode::NOT_FOUND {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(SEEN_MAX, gone).await.expect("the end is seen on the other");
    assert!(ended.elapsed() < SEEN_MAX);
}
