//! A thousand keys on one gateway, one of which asks for all it can get: the others don't notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::{Mcp, Peer, TestGateway};

const KEYS: usize = 1_000;
/// Keys whose calls are timed, and the calls of each in a round.
const TIMED: usize = 25;
const CALLS: usize = 8;
/// Quiet and loud rounds in turn; what is compared are the medians, since the machine has other work, too.
const ROUNDS: usize = 5;
/// Connections of the key at full load.
const FLOOD: usize = 8;
/// What every key may send.
const LIMIT: u32 = 200;

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

/// Calls as fast as it goes, until told to stop: how many passed, and how many were refused.
async fn flood(key: &Mcp, stop: &CancellationToken) -> (usize, usize) {
    let (passed, refused) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let mut floods = JoinSet::new();
    for _ in 0..FLOOD {
        let (key, stop) = (key.apart(), stop.clone());
        let (passed, refused) = (Arc::clone(&passed), Arc::clone(&refused));
        floods.spawn(async move {
            while !stop.is_cancelled() {
                let params = json!({"name": "echo", "arguments": {"message": "x"}});
                match key.modern("tools/call", params).await.status() {
                    StatusCode::OK => passed.fetch_add(1, Ordering::Relaxed),
                    StatusCode::TOO_MANY_REQUESTS => refused.fetch_add(1, Ordering::Relaxed),
                    other => panic!("{other}"),
                };
            }
        });
    }
    floods.join_all().await;
    (passed.load(Ordering::Relaxed), refused.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_at_full_load_slows_no_other_within_a_second() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    let admin = gateway.admin().await;
    let limit = json!({"rateLimit": {"limit": LIMIT, "windowS": 1}});
    let mut keys = Vec::new();
    for n in 0..KEYS {
        let (_, key) = admin.create_key(&format!("key {n}"), limit.clone()).await;
        keys.push(gateway.mcp_as(&key));
    }
    let (loud, others) = keys.split_first().expect("there are keys");
    let timed = &others[..TIMED];
    p99(timed).await; // Connections are made, pages of memory touched.

    let (mut quiet, mut loaded) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.push(p99(timed).await);
        let stop = CancellationToken::new();
        let (loud, stopped) = (loud.clone(), stop.clone());
        let flooding = tokio::spawn(async move { flood(&loud, &stopped).await });
        loaded.push(p99(timed).await);
        stop.cancel();
        let (passed, refused) = flooding.await.expect("no flood panics");
        println!("the loud key: {passed} passed, {refused} refused");
        assert!(passed > 0 && refused > 0, "it wasn't at full load");
    }
    quiet.sort_unstable();
    loaded.sort_unstable();
    let (quiet, loaded) = (quiet[ROUNDS / 2], loaded[ROUNDS / 2]);
    println!("p99 of the others: {quiet:.1?} while it is quiet, {loaded:.1?} while one floods");
    assert!(loaded <= 2 * quiet, "{loaded:?} instead of {quiet:?}");
}
