//! A key that is revoked at one of three replicas: when its streams end at each, with hints of changes and without.

use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::json;

use crate::harness::{Exchange, LEGACY_LATEST, Mcp, Peer, Postgres, TestGateway};

/// In which time streams end at the replica where their key is revoked.
const HERE_MAX: Duration = Duration::from_secs(1);
/// The same at the others, which a notification of the database tells.
const ELSEWHERE_MAX: Duration = Duration::from_secs(2);
/// The same where no notification comes: the poll of 5 s, and a little.
const BY_THE_POLL_MAX: Duration = Duration::from_secs(6);

/// Three replicas on a database, before a server.
async fn replicas(postgres: &Postgres, peer: &Peer) -> TestGateway {
    let scene = TestGateway::start().on(postgres).in_replicas(3).with_peer("peer", peer).with_key();
    let gateway = scene.await;
    gateway.mcp().lists(&["echo"]).await;
    gateway
}

/// A stream of each era at one replica.
async fn streams_at(gateway: &TestGateway, mcp: &Mcp, replica: usize) -> Vec<Exchange> {
    let mcp = mcp.at_replica(gateway, replica);
    let session = mcp.initialize(LEGACY_LATEST).await.stream().await;
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    let mut listening = mcp.modern("subscriptions/listen", wanted).await;
    listening.expect().await;
    vec![session, listening]
}

/// Makes a key that has streams at each replica, and revokes it at the first: when those of each have ended.
async fn revoked(gateway: &TestGateway, name: &str) -> [Duration; 3] {
    let (mcp, id) = gateway.mcp_with(name, json!({})).await;
    mcp.answers_with(StatusCode::OK).await;
    let mut streams = Vec::new();
    for replica in 0..3 {
        streams.push(streams_at(gateway, &mcp, replica).await);
    }
    let admin = gateway.admin_at(0).await;
    let revoked = Instant::now();
    assert_eq!(admin.post(&format!("keys/{id}/disable"), &json!({})).await.0, StatusCode::OK);
    let ended = join_all(streams.iter_mut().map(async |streams| {
        join_all(streams.iter_mut().map(async |stream| while stream.next().await.is_some() {})).await;
        revoked.elapsed()
    }));
    let ended = ended.await.try_into().expect("three replicas");
    eprintln!("{name}: {ended:?}");
    ended
}

#[tokio::test]
async fn a_revoked_keys_streams_end_at_every_replica() {
    let Some(postgres) = Postgres::create_with_redis() else { return };
    let peer = Peer::start().await;
    let gateway = replicas(&postgres, &peer).await;
    let [here, others @ ..] = revoked(&gateway, "revoked").await;
    assert!(here < HERE_MAX, "{here:?}");
    assert!(others.iter().all(|took| *took < ELSEWHERE_MAX), "{others:?}");
}

#[tokio::test]
async fn a_revoked_keys_streams_end_at_every_replica_that_hears_no_hint() {
    let Some(postgres) = Postgres::create_with_redis() else { return };
    let (postgres, between) = postgres.without_hints().await;
    let peer = Peer::start().await;
    let gateway = replicas(&postgres, &peer).await;
    // The key is seen by the poll as well, so that it is revoked soon after one: nearly a whole interval passes.
    for round in 1..=3 {
        let swallowed = between.swallowed();
        let [here, others @ ..] = revoked(&gateway, &format!("revoked, round {round}")).await;
        assert!(between.swallowed() >= swallowed + 2, "word of it was sent, and kept");
        assert!(here < HERE_MAX, "{here:?}");
        assert!(others.iter().all(|took| *took < BY_THE_POLL_MAX), "{others:?}");
    }
}
