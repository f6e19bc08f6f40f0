//! A thousand keys on one gateway, one of which asks for all it can get: the others don't notice.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::{Mcp, Peer, TestGateway};

const KEYS: usize = 1_000;
/// Keys whose calls are timed, and the calls of each in a round: of 800, the 99th percentile is no matter of one or two.
const TIMED: usize = 25;
const CALLS: usize = 32;
/// Quiet and loud rounds in turn; what is compared are the medians, since the machine has other work, too.
const ROUNDS: usize = 5;
/// What every key may send in a second, and what the loud one tries to: twice as much, one call after the other.
const LIMIT: u32 = 150;
const TICK: Duration = Duration::from_millis(3);

/// The 99th percentile of a round of calls, one after the other.
async fn p99(keys: &[Mcp]) -> Duration {
    let mut took = Vec::new();
    for key in keys.iter().cycle().take(TIMED * CALLS) {
        let asked = Instant::now();
        key.call("echo", json!({"message": "x"})).await;
        took.push(asked.elapsed());
    }
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

/// Uses up what a key may send at once, and then asks for more than its limit gives, until told to stop: how many
/// passed since, and how many were refused.
async fn flood(key: Mcp, used_up: oneshot::Sender<()>, stop: CancellationToken) -> (usize, usize) {
    let call = |key: Mcp| async move {
        let params = json!({"name": "echo", "arguments": {"message": "x"}});
        key.modern("tools/call", params).await.status()
    };
    while call(key.clone()).await == StatusCode::OK {}
    used_up.send(()).expect("the test waits");
    let mut calls = JoinSet::new();
    let mut ticks = tokio::time::interval(TICK);
    while !stop.is_cancelled() {
        ticks.tick().await;
        calls.spawn(call(key.clone()));
    }
    let answers = calls.join_all().await;
    let count = |status| answers.iter().filter(|answer| **answer == status).count();
    let (passed, refused) = (count(StatusCode::OK), count(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(passed + refused, answers.len(), "{answers:?}");
    (passed, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_at_full_load_slows_no_other_within_a_second() {
    let peer = Peer::start().await;
    let gateway =
        TestGateway::start().alone("it measures one process").with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    let admin = gateway.admin().await;
    let limit = json!({"rateLimit": {"limit": LIMIT, "windowS": 1}});
    // Connections are kept, also where they would be spread over replicas: making them isn't what is measured.
    let http = reqwest::Client::new();
    let mut keys = Vec::new();
    for n in 0..KEYS {
        let (_, key) = admin.create_key(&format!("key {n}"), limit.clone()).await;
        keys.push(gateway.mcp_as(&key).by(http.clone()));
    }
    let (loud, others) = keys.split_first().expect("there are keys");
    let timed = &others[..TIMED];
    p99(timed).await; // Connections are made, pages of memory touched.

    let (mut quiet, mut loaded) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.push(p99(timed).await);
        let (stop, (used_up, is_used_up)) = (CancellationToken::new(), oneshot::channel());
        let mut flooding = JoinSet::new();
        flooding.spawn(flood(loud.clone(), used_up, stop.clone()));
        is_used_up.await.expect("the flood goes on");
        loaded.push(p99(timed).await);
        stop.cancel();
        let (passed, refused) = flooding.join_next().await.expect("it was begun").expect("no flood panics");
        println!("the loud key: {passed} passed, {refused} refused");
        assert!(passed > 0 && refused > 0, "it wasn't at full load");
    }
    quiet.sort_unstable();
    loaded.sort_unstable();
    let (quiet, loaded) = (quiet[ROUNDS / 2], loaded[ROUNDS / 2]);
    println!("p99 of the others: {quiet:.1?} while it is quiet, {loaded:.1?} while one floods");
    assert!(loaded <= 2 * quiet, "{loaded:?} instead of {quiet:?}");
}
