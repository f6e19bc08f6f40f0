//! Two gateways on one Postgres: an endpoint is held by one of them at any time, and never by none for long.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;

use super::{endpoint, reaches};
use crate::harness::{Broker, Peer, Postgres, TestGateway};

/// A lease, and the time that it takes to look, dial and be served.
const TAKEN_OVER_MAX: Duration = Duration::from_secs(19);
/// Where it is given back, nobody waits for its end.
const HANDED_OVER_MAX: Duration = Duration::from_secs(5);

#[tokio::test]
async fn one_endpoint_is_never_held_twice_and_taken_over_from_one_that_died() {
    let Some(postgres) = Postgres::create() else {
        eprintln!("MPG_TEST_PG_DSN isn't set: nothing was tested; `.ci/run test-postgres` sets it");
        return;
    };
    let peer = Peer::start().await;
    let mut one = TestGateway::start().on(&postgres).with_peer("peer", &peer).with_key().await;
    let (mcp, key) = one.mcp_with("robot", json!({})).await;
    mcp.lists(&["echo"]).await;
    let mut broker = Broker::start().await;
    let path = endpoint(&one.admin().await, &broker, &key, json!({})).await;
    let mut robot = broker.robot().await;
    assert_eq!(robot.called("echo", json!({"message": "one"})).await, "echo: one");

    // The other sees how it fares, and may ask for a new connection, which isn't its own.
    let mut two = TestGateway::start().on(&postgres).sharing_admin_of(&one).await;
    let admin = two.admin().await;
    reaches(&admin, &path, |found| found["state"] == "connected").await;
    for _ in 0..3 {
        assert_eq!(admin.post(&format!("{path}/reconnect"), &json!({})).await.0, StatusCode::ACCEPTED);
        assert_eq!(robot.closed().await, Some(1001));
        robot = broker.robot().await;
    }
    assert_eq!(robot.called("echo", json!({"message": "still one"})).await, "echo: still one");

    one.kill_9().await;
    let died = Instant::now();
    robot = broker.robot().await;
    assert!(died.elapsed() < TAKEN_OVER_MAX, "{:?}", died.elapsed());
    assert_eq!(robot.called("echo", json!({"message": "two"})).await, "echo: two");
    reaches(&admin, &path, |found| found["state"] == "connected").await;

    one.start_again().await;
    let ends = Instant::now();
    two.terminate().await;
    assert_eq!(robot.closed().await, Some(1001));
    robot = broker.robot().await;
    assert!(ends.elapsed() < HANDED_OVER_MAX, "{:?}", ends.elapsed());
    assert_eq!(robot.called("echo", json!({"message": "one again"})).await, "echo: one again");
    assert_eq!(broker.most_open(), 1);
}
