//! The audit log of a whole gateway: who was turned away is in it, and it can be checked from outside.

use reqwest::StatusCode;
use serde_json::json;

use crate::harness::{Peer, TestGateway};

#[tokio::test]
async fn who_is_turned_away_is_told_and_the_log_holds() {
    let peer = Peer::start().await;
    let mut gateway = TestGateway::start()
        .alone("what it wrote is read by its own command afterwards")
        .with_peer("peer", &peer)
        .with_key()
        .await;
    let (disabled, id) = gateway.mcp_with("disabled", json!({})).await;
    let admin = gateway.admin().await;
    assert_eq!(admin.post(&format!("keys/{id}/disable"), &json!({})).await.0, StatusCode::OK);
    disabled.answers_with(StatusCode::UNAUTHORIZED).await;
    let stranger = gateway.mcp_as("mpg_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    for _ in 0..20 {
        assert_eq!(stranger.modern("tools/list", json!({})).await.status(), StatusCode::UNAUTHORIZED);
    }
    // The end of the process writes what the minute has so far.
    assert!(gateway.terminate().await.status.success());
    gateway.start_again().await;
    let admin = gateway.admin().await;
    let denied = admin.get("audit?action=access.denied&limit=200").await.1;
    let items = denied["items"].as_array().expect("a list");
    let count = |reason: &str| -> u64 {
        let of = items.iter().filter(|item| item["diff"]["reason"] == reason);
        of.map(|item| item["diff"]["count"].as_u64().expect("a number")).sum()
    };
    assert_eq!(count("unknown_key"), 20, "{denied}");
    assert!(count("key_disabled") >= 1, "{denied}");
    let of_key = items.iter().find(|item| item["diff"]["reason"] == "key_disabled").expect("is told");
    assert_eq!((&of_key["actor"]["id"], &of_key["diff"]["network"]), (&json!(id), &json!("127.0.0.0/24")));
    let verdict = admin.get("audit/verify").await.1;
    assert_eq!(verdict["intact"], true, "{verdict}");
    let (status, _) = admin.get(&format!("audit/verify?anchor=1:{}", "0".repeat(64))).await;
    assert_eq!(status, StatusCode::OK);
}
