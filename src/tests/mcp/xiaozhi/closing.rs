//! How a connection to a broker ends, whoever ends it, and when there is another.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use sql::model::Timestamp;

use super::{endpoint, reaches};
use crate::harness::{Admin, Broker, TestGateway};

/// In which time the end of a key or of an endpoint is seen on its socket, wherever that is.
const SEEN_MAX: Duration = Duration::from_secs(3);

async fn scene() -> (TestGateway, Admin, Broker, String) {
    let gateway = TestGateway::start().with_key().await;
    let admin = gateway.admin().await;
    let (key, _) = admin.create_key("robot", json!({})).await;
    (gateway, admin, Broker::start().await, key)
}

/// How long from now until an endpoint is dialled next.
fn wait_of(found: &Value) -> Duration {
    let at = |field: &str| found[field].as_str().expect("a time").parse::<Timestamp>().expect("a time");
    at("nextAttemptAt").since(at("since"))
}

#[tokio::test]
async fn a_code_that_passes_is_followed_by_another_attempt_soon() {
    let (_gateway, admin, mut broker, key) = scene().await;
    let path = endpoint(&admin, &broker, &key, json!({})).await;
    for code in [1001, 1009, 1011, 1012, 4004] {
        broker.robot().await.close(code);
    }
    broker.robot().await;
    let found = reaches(&admin, &path, |found| found["state"] == "connected").await;
    assert_eq!(found["fault"], Value::Null);
    assert_eq!(broker.most_open(), 1);
}

#[tokio::test]
async fn a_code_that_trying_soon_makes_worse_waits_long_until_an_admin_says_otherwise() {
    let (gateway, admin, mut broker, key) = scene().await;
    let path = endpoint(&admin, &broker, &key, json!({})).await;
    for (code, fault) in [(1008, "refused"), (1000, "replaced"), (4401, "refused")] {
        broker.robot().await.close(code);
        let found = reaches(&admin, &path, |found| found["closeCode"] == code).await;
        assert_eq!((&found["state"], &found["fault"]), (&json!("unavailable"), &json!(fault)), "{found}");
        assert!(wait_of(&found) >= Duration::from_secs(59), "{found}");
        assert_eq!(admin.post(&format!("{path}/reconnect"), &json!({})).await.0, StatusCode::ACCEPTED);
    }
    broker.robot().await;
    assert!(gateway.log().contains("another connection of the same agent"), "somebody should look");
    assert!(!gateway.log().contains("CANARY"), "what a broker writes is not repeated");
}

#[tokio::test]
async fn a_refused_handshake_says_why_and_an_unreachable_broker_too() {
    let (_gateway, admin, mut broker, key) = scene().await;
    broker.refuse(401);
    let path = endpoint(&admin, &broker, &key, json!({})).await;
    let found = reaches(&admin, &path, |found| found["fault"] == "refused").await;
    assert!(found["lastError"].as_str().expect("words").contains("token"), "{found}");
    assert!(!found.to_string().contains("CANARY"), "{found}");
    broker.refuse(0);
    assert_eq!(admin.post(&format!("{path}/reconnect"), &json!({})).await.0, StatusCode::ACCEPTED);
    broker.robot().await;

    let dead = json!({"name": "nobody", "url": "ws://127.0.0.1:9/?token=a"});
    let path = endpoint(&admin, &broker, &key, dead).await;
    let found = reaches(&admin, &path, |found| found["fault"] == "unreachable").await;
    assert_eq!(found["closeCode"], Value::Null);
}

#[tokio::test]
async fn a_connection_ends_with_its_key_and_comes_back_with_it() {
    let (_gateway, admin, mut broker, key) = scene().await;
    let path = endpoint(&admin, &broker, &key, json!({})).await;
    let mut robot = broker.robot().await;
    assert_eq!(robot.asked(0, "ping", &json!({})).await["id"], 0);
    assert_eq!(admin.post(&format!("keys/{key}/disable"), &json!({})).await.0, StatusCode::OK);
    let disabled = Instant::now();
    assert_eq!(robot.closed().await, Some(1008));
    assert!(disabled.elapsed() < SEEN_MAX, "{:?}", disabled.elapsed());
    let found = reaches(&admin, &path, |found| found["fault"] == "key_invalid").await;
    assert_eq!(found["state"], "unavailable");
    assert_eq!(admin.post(&format!("keys/{key}/enable"), &json!({})).await.0, StatusCode::OK);
    let mut robot = broker.robot().await;
    assert_eq!(robot.asked(0, "ping", &json!({})).await["id"], 0);
    assert_eq!(admin.delete(&format!("keys/{key}")).await.0, StatusCode::NO_CONTENT);
    assert_eq!(robot.closed().await, Some(1008));
}

#[tokio::test]
async fn a_connection_ends_with_its_endpoint() {
    let (_gateway, admin, mut broker, key) = scene().await;
    let path = endpoint(&admin, &broker, &key, json!({})).await;
    let mut robot = broker.robot().await;
    // What it is called is no reason to hang up.
    let (status, _) = admin.patch(&path, "\"1\"", &json!({"name": "hall"})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(robot.asked(0, "ping", &json!({})).await["id"], 0);
    let (status, found) = admin.patch(&path, "\"2\"", &json!({"enabled": false})).await;
    assert_eq!((status, &found["state"]), (StatusCode::OK, &json!("disabled")));
    let disabled = Instant::now();
    assert_eq!(robot.closed().await, Some(1001));
    assert!(disabled.elapsed() < SEEN_MAX, "{:?}", disabled.elapsed());
    assert_eq!(admin.patch(&path, "\"3\"", &json!({"enabled": true})).await.0, StatusCode::OK);
    let mut robot = broker.robot().await;
    assert_eq!(admin.delete(&path).await.0, StatusCode::NO_CONTENT);
    assert_eq!(robot.closed().await, Some(1001));
    assert_eq!(broker.most_open(), 1);
}

#[tokio::test]
async fn a_gateway_that_stops_says_so_and_dials_again_when_it_is_back() {
    let (mut gateway, admin, mut broker, key) = scene().await;
    endpoint(&admin, &broker, &key, json!({})).await;
    let mut robot = broker.robot().await;
    assert_eq!(robot.asked(0, "ping", &json!({})).await["id"], 0);
    let end = gateway.terminate().await;
    assert!(end.status.success(), "{end:?}");
    assert_eq!(robot.closed().await, Some(1001));
    gateway.start_again().await;
    let started = Instant::now();
    broker.robot().await;
    assert!(started.elapsed() < SEEN_MAX, "the lease was given back: {:?}", started.elapsed());
}
