//! Three replicas that come and go: what a client notices of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::{LEGACY_LATEST, Mcp, Peer, Postgres, TestGateway, plain, success_of};

/// Calls that begin in a second.
const CALLS_PER_SECOND: u32 = 200;

/// Calls that begin at an even pace until they are told to stop: how many there were, and what went wrong.
async fn load(mcp: Mcp, stop: CancellationToken) -> (usize, Vec<String>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / CALLS_PER_SECOND);
    let (mut calls, mut begun) = (JoinSet::new(), 0);
    while !stop.is_cancelled() {
        ticks.tick().await;
        let (mcp, canary) = (mcp.clone(), format!("call {begun}"));
        begun += 1;
        calls.spawn(async move {
            let params = json!({"name": "echo", "arguments": {"message": canary}});
            let sent = mcp.modern_request(1, "tools/call", params).send().await;
            let answer = match sent {
                Ok(answer) => answer.text().await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(text) if text.contains(&format!("echo: {canary}\"")) => None,
                other => Some(format!("{canary}: {other:?}")),
            }
        });
    }
    let failed = calls.join_all().await.into_iter().flatten().collect();
    (begun, failed)
}

/// How often each call reached the server.
fn made(peer: &Peer) -> BTreeMap<String, usize> {
    let mut made = BTreeMap::new();
    for seen in peer.seen_of("tools/call") {
        let canary = seen.message()["params"]["arguments"]["message"].to_string();
        *made.entry(canary).or_default() += 1;
    }
    made
}

#[tokio::test]
async fn a_rolling_restart_fails_no_call_and_makes_none_twice_f20() {
    let Some(postgres) = Postgres::create_with_redis() else { return };
    let peer = Peer::start().await;
    let scene = TestGateway::start().on(&postgres).in_replicas(3).with_peer("peer", &peer).with_key();
    let mut gateway = scene.with_env("MPG_DRAIN_DELAY", "1s").await;
    gateway.mcp().lists(&["echo"]).await;
    let stop = CancellationToken::new();
    // No connection is kept: each finds a replica of its own.
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("good settings");
    let mut loading = JoinSet::new();
    loading.spawn(load(gateway.mcp().by(http), stop.clone()));
    for replica in 0..3 {
        let end = gateway.replica_mut(replica).terminate().await;
        assert!(end.status.success(), "{end:?}\n{}", gateway.replica(replica).log());
        gateway.start_replica_again(replica).await;
        gateway.mcp().lists(&["echo"]).await;
    }
    stop.cancel();
    let (calls, failed) = loading.join_next().await.expect("it was begun").expect("it doesn't panic");
    assert_eq!(failed, Vec::<String>::new(), "of {calls}");
    let made = made(&peer);
    assert_eq!(made.len(), calls);
    assert!(made.values().all(|times| *times == 1), "none came twice");
    eprintln!("{calls} calls");
}

#[tokio::test]
async fn what_dies_with_a_replica_is_what_it_had_in_flight_f23() {
    const EACH: usize = 10;
    let Some(postgres) = Postgres::create_with_redis() else { return };
    let peer = Peer::start().await;
    let scene = TestGateway::start().on(&postgres).in_replicas(3).with_peer("peer", &peer).with_key();
    let mut gateway = scene.await;
    gateway.mcp().lists(&["wait", "echo"]).await;
    let session = gateway.mcp_at(1).initialize(LEGACY_LATEST).await;
    let mut stream = session.stream().await;
    let good = Arc::new([const { AtomicUsize::new(0) }; 3]);
    let mut calls = JoinSet::new();
    for replica in 0..3 {
        for number in 0..EACH {
            let (mcp, good) = (gateway.mcp_at(replica), Arc::clone(&good));
            calls.spawn(async move {
                let canary = format!("{replica} {number}");
                let params = json!({"name": "wait", "arguments": {"canary": canary}});
                let answer = async { mcp.modern_request(1, "tools/call", params).send().await?.text().await };
                if answer.await.is_ok_and(|text| text.contains(&canary)) {
                    good[replica].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }
    peer.counts_reach(|counts| counts.parked == 3 * EACH).await;
    gateway.replica_mut(1).kill_9().await;
    peer.counts_reach(|counts| counts.cancelled == EACH || counts.parked == 2 * EACH).await;
    peer.release_in_reverse();
    calls.join_all().await;
    let good: Vec<usize> = good.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    assert_eq!(good, [EACH, 0, EACH]);
    // Its sessions go on elsewhere, and so does the balancer.
    assert!(stream.next().await.is_none());
    let session = session.shown_by(&gateway.mcp_at(2));
    assert_eq!(success_of(&session.call("echo", json!({"message": "x"})).await), "echo: x");
    let mut stream = session.stream().await;
    peer.change_tools(vec![plain("echo"), plain("new")]).await;
    assert_eq!(stream.expect().await["method"], "notifications/tools/list_changed");
    let through_the_balancer = gateway.mcp().by(reqwest::Client::new());
    for _ in 0..20 {
        let result = through_the_balancer.apart().call("echo", json!({"message": "y"})).await;
        assert_eq!(success_of(&result), "echo: y");
    }
}

#[tokio::test]
async fn a_list_is_the_same_byte_for_byte_at_every_replica_and_after_a_restart() {
    const METHODS: [&str; 2] = ["tools/list", "prompts/list"];
    let Some(postgres) = Postgres::create_with_redis() else { return };
    let one = Peer::named((0..40).map(|number| format!("a tool {number}"))).await;
    let two = Peer::named((0..40).map(|number| format!("a tool {number}"))).await;
    let scene =
        TestGateway::start().on(&postgres).in_replicas(3).with_peer("one", &one).with_peer("two", &two);
    let mut gateway = scene.with_key().await;
    gateway.mcp().lists_become(|names| names.len() == 80).await;
    let mut first: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for round in ["before", "after"] {
        for replica in 0..3 {
            for method in METHODS {
                let bytes = gateway.mcp_at(replica).modern(method, json!({})).await.bytes().await;
                let first = first.entry(method).or_insert_with(|| bytes.clone());
                assert_eq!(*first, bytes, "{method} at {replica} {round} the restart");
            }
        }
        gateway.terminate().await;
        gateway.start_again().await;
    }
}

#[tokio::test]
async fn a_changed_list_is_fetched_by_few_of_many_replicas() {
    let Some(postgres) = Postgres::create_with_redis() else { return };
    let peer = Peer::named(["echo".into()]).await;
    let scene = TestGateway::start().on(&postgres).in_replicas(3).with_peer("peer", &peer).with_key();
    let gateway = scene.await;
    gateway.mcp().lists(&["echo"]).await;
    // Each has fetched it once when it connected; those that had to wait for their turn do so within seconds.
    let listed = settled(&peer).await;
    peer.change_tools(vec![plain("echo"), plain("new")]).await;
    gateway.mcp().lists(&["new"]).await;
    let fetched = settled(&peer).await - listed;
    assert!(fetched <= 2, "{fetched} times");
    eprintln!("fetched {fetched} times");
}

/// How often the list was fetched, once nobody has done so for a while.
async fn settled(peer: &Peer) -> usize {
    const QUIET: Duration = Duration::from_secs(8);
    loop {
        let listed = peer.counts().listed;
        let more = tokio::time::timeout(QUIET, peer.counts_reach(|counts| counts.listed > listed)).await;
        if more.is_err() {
            return listed;
        }
    }
}
