//! A database that goes away for a while: calls go on, and what they leave is written later (F10).

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;

use crate::harness::{PATIENCE, Peer, Postgres, TestGateway, success_of};

/// Between two attempts of somebody who waits for the database.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const CALLS: u64 = 20;

#[tokio::test]
async fn calls_go_on_and_are_recorded_when_the_database_is_back() {
    let Some(postgres) = Postgres::create() else { return };
    let (postgres, between) = postgres.through_an_intermediary().await;
    let peer = Peer::start().await;
    let gateway = TestGateway::start().on(&postgres).with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    let admin = gateway.admin().await;
    let key = gateway.mcp_with("revoked", json!({})).await;
    assert_eq!(admin.delete(&format!("keys/{}", key.1)).await.0, StatusCode::NO_CONTENT);

    between.go_away().await;
    for number in 0..CALLS {
        let answer = gateway.mcp().call("echo", json!({"message": number.to_string()})).await;
        assert_eq!(success_of(&answer), format!("echo: {number}"));
    }
    key.0.answers_with(StatusCode::UNAUTHORIZED).await;
    let body = json!({"name": "new", "transport": "streamable-http", "connParams": {"url": peer.url()}});
    let (status, problem) = admin.post("upstreams", &body).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
    assert_eq!(problem["code"], "SERVICE_UNAVAILABLE");

    between.come_back();
    let back = async {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        loop {
            ticks.tick().await;
            let (status, health) = admin.get("health").await;
            let written = health["callRecords"]["written"].as_u64();
            if status == StatusCode::OK && written >= Some(CALLS) && health["callRecords"]["buffered"] == 0 {
                return health;
            }
        }
    };
    let health = tokio::time::timeout(PATIENCE, back).await.expect("the records are written");
    assert_eq!(health["callRecords"], json!({"written": CALLS, "buffered": 0, "lost": 0, "surplus": 0}));
    assert_eq!(admin.post("upstreams", &body).await.0, StatusCode::CREATED);
    gateway.mcp().lists(&["echo"]).await;
}
