//! An orderly end with calls in flight (F19), and a disorderly one with `npx` in between.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{LEGACY_LATEST, Peer, TestGateway, success_of, tests_folder};

/// What a gateway may take to end once nothing holds it any more.
const END_MAX: Duration = Duration::from_secs(1);
/// How long a child may outlive a gateway that was killed.
const ORPHAN_MAX: Duration = Duration::from_secs(1);

/// Waits until the gateway knows that it is to end. It accepts connections for its drain delay.
async fn draining(gateway: &TestGateway) {
    let ready = format!("{}/readyz", gateway.url());
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    loop {
        ticks.tick().await;
        let answer = reqwest::get(&ready).await.expect("it still accepts connections");
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            return;
        }
    }
}

#[tokio::test]
async fn asked_to_end_with_calls_in_flight_it_answers_each_f19() {
    let peer = Peer::start().await;
    let scene = TestGateway::start()
        .alone("nobody is left where all are told to end")
        .with_env("MPG_DRAIN_DELAY", "500ms")
        .with_peer("peer", &peer);
    let mut gateway = scene.with_key().await;
    gateway.mcp().lists(&["wait"]).await;
    let mut calls = JoinSet::new();
    for number in 0..50 {
        let canary = format!("call {number}");
        let params =
            json!({"name": "wait", "arguments": {"canary": canary}, "_meta": {"progressToken": number}});
        let mcp = gateway.mcp();
        calls.spawn(async move {
            let exchange = match number % 2 {
                0 => mcp.modern("tools/call", params).await,
                _ => mcp.initialize(LEGACY_LATEST).await.request("tools/call", params).await,
            };
            let (before, answer) = exchange.all().await;
            assert_eq!(before.len(), 1);
            assert_eq!(success_of(&answer["result"]), canary);
        });
    }
    peer.counts_reach(|counts| counts.parked == 50).await;
    gateway.ask_to_end();
    draining(&gateway).await;
    // One that comes while it drains is served as well.
    assert!(gateway.mcp().tool_names().await.contains(&"wait".to_owned()));
    peer.release_in_reverse();
    let released = Instant::now();
    calls.join_all().await;
    let end = gateway.ended().await;
    assert_eq!(end.status.code(), Some(0), "{}", gateway.log());
    assert!(released.elapsed() < Duration::from_secs(5), "{:?}", released.elapsed());
}

#[tokio::test]
async fn a_call_that_outlasts_the_drain_is_answered_with_a_failure_f19() {
    let peer = Peer::start().await;
    let scene = TestGateway::start().with_env("MPG_DRAIN_TIMEOUT", "1s").with_peer("peer", &peer);
    let mut gateway = scene.with_key().await;
    gateway.mcp().lists(&["wait"]).await;
    let mut calls = JoinSet::new();
    let (mcp, session) = (gateway.mcp(), gateway.mcp().initialize(LEGACY_LATEST).await);
    calls.spawn(async move { mcp.call("wait", json!({})).await });
    calls.spawn(async move { session.call("wait", json!({})).await });
    peer.counts_reach(|counts| counts.parked == 2).await;
    let end = gateway.terminate().await;
    assert_eq!(end.status.code(), Some(0), "{}", gateway.log());
    assert!(end.took < Duration::from_secs(1) + END_MAX, "{end:?}");
    for result in calls.join_all().await {
        assert_eq!(result["isError"], true, "{result}");
    }
}

#[tokio::test]
async fn asked_a_second_time_it_ends_at_once_f19() {
    let peer = Peer::start().await;
    let scene = TestGateway::start()
        .alone("nobody is left where all are told to end")
        .with_env("MPG_DRAIN_DELAY", "500ms")
        .with_peer("peer", &peer);
    let mut gateway = scene.with_key().await;
    gateway.mcp().lists(&["wait"]).await;
    let mcp = gateway.mcp();
    let mut calls = JoinSet::new();
    calls.spawn(async move { mcp.modern("tools/call", json!({"name": "wait", "arguments": {}})).await });
    peer.counts_reach(|counts| counts.parked == 1).await;
    gateway.ask_to_end();
    draining(&gateway).await;
    let end = gateway.terminate().await;
    assert!(end.took < END_MAX, "{end:?}\n{}", gateway.log());
}

#[tokio::test]
async fn streams_are_closed_in_the_way_of_their_era_and_do_not_hold_up_the_end() {
    let mut gateway = TestGateway::start().with_key().await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let mut legacy = session.stream().await;
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    let mut modern = gateway.mcp().modern("subscriptions/listen", wanted).await;
    modern.expect().await;
    let end = gateway.terminate().await;
    assert_eq!(end.status.code(), Some(0), "{}", gateway.log());
    assert!(end.took < END_MAX, "{end:?}");
    assert_eq!(legacy.next().await, None);
    let result: Value = modern.expect().await;
    assert_eq!((&result["id"], &result["result"]["resultType"]), (&json!(1), &json!("complete")));
    assert_eq!(modern.next().await, None);
}

#[tokio::test]
async fn killed_it_leaves_nothing_of_what_npx_started_f08() {
    let folder = tests_folder();
    let installed = folder.join("node_modules/.bin/mcp-server-everything");
    assert!(installed.exists(), "{} is missing: run `.ci/run deps`", installed.display());
    let folder = folder.to_str().unwrap();
    let words = ["--prefix", folder, "--no-install", "mcp-server-everything"];
    let mut gateway = TestGateway::start().with_stdio_upstream("everything", "npx", &words).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    let result = gateway.mcp().call("echo", json!({"message": "through npx"})).await;
    assert_eq!(success_of(&result), "Echo: through npx");
    // The supervisor, npx, and the server that npx started.
    let children = gateway.children();
    assert!(children.len() >= 3, "{children:#?}");
    gateway.kill_9().await;
    assert_eq!(gateway.children_left_after(ORPHAN_MAX).await, []);
}
