//! The server goes, comes back, falls silent, or another takes its place (F10, F12).

use std::time::{Duration, Instant};

use tokio_postgres::NoTls;
use uuid::Uuid;

use super::cluster::Cluster;
use super::harness::{KEY, options};
use crate::{ChangeKind, Clock, Database, Store, StoreError, changes};

/// In which time writes must be taken again after a failover.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// Between two attempts of somebody who wants to write.
const RETRY: Duration = Duration::from_millis(100);

pub(super) async fn open(dsn: String) -> Store {
    let database = Database::Postgres { dsn: dsn.as_str().into() };
    Store::open(options(&database, KEY, &Clock::system())).await.expect("opens")
}

fn dsn(clusters: &[&Cluster]) -> String {
    let ports: Vec<_> = clusters.iter().map(|cluster| cluster.port.to_string()).collect();
    let hosts = vec!["127.0.0.1"; clusters.len()].join(",");
    format!(
        "host={hosts} port={} user=postgres dbname=postgres target_session_attrs=read-write",
        ports.join(",")
    )
}

pub(super) async fn write(store: &Store) -> Result<i64, StoreError> {
    let mut tx = store.begin().await?;
    tx.changed(ChangeKind::Settings, Uuid::nil());
    Ok(tx.commit_noted().await?.expect("something was noted"))
}

/// Writes until it is taken; every refusal on the way must be one that may go away by itself.
pub(super) async fn write_until_taken(store: &Store) -> (i64, Duration) {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(RETRY);
    loop {
        ticks.tick().await;
        match write(store).await {
            Ok(revision) => return (revision, began.elapsed()),
            Err(error) => assert!(error.is_transient(), "{error:?}"),
        }
        assert!(began.elapsed() < RECOVERY_MAX, "no write is taken for {RECOVERY_MAX:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_comes_back_is_used_again() {
    let Some(server) = Cluster::primary() else { return };
    let store = open(dsn(&[&server])).await;
    let mut hints = store.changes();
    let before = write(&store).await.expect("is taken");
    // Some idle connections, and one in the middle of a transaction.
    let (one, two) = tokio::join!(store.read(), store.read());
    drop((one.expect("reads"), two.expect("reads")));
    let open = store.begin().await.expect("begins");
    server.stop();
    let refused = write(&store).await.expect_err("nobody is there");
    assert!(refused.is_transient(), "{refused:?}");
    drop(open);
    server.start();
    let (after, took) = write_until_taken(&store).await;
    assert_eq!(after, before + 1, "what was refused was not written");
    assert!(took < Duration::from_secs(5), "{took:?}");
    // The listener is back as well: another store's commit is heard of.
    let other = self::open(dsn(&[&server])).await;
    while !heard_of(&mut hints, &store, write(&other).await.expect("is taken")).await {}
    store.close().await;
    other.close().await;
}

/// Whether a hint came, and what it announced is there.
pub(super) async fn heard_of(hints: &mut crate::Changes, store: &Store, revision: i64) -> bool {
    assert!(hints.wait(RECOVERY_MAX).await, "the listener came back");
    let mut tx = store.read().await.expect("the server is there");
    changes::revision(&mut tx).await.expect("reads") >= revision
}

/// The revision that a server has, a replica too; 0 while it hasn't even heard of revisions.
async fn revision_at(dsn: &str) -> i64 {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.expect("the server answers");
    let read = client.query_one("SELECT value FROM revision WHERE id = 1", &[]);
    tokio::select! {
        row = read => row.map_or(0, |row| row.get(0)),
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}

/// The old primary still takes connections and keeps those it has, but never says a word again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_failover_writes_go_to_the_new_primary() {
    let Some(old) = Cluster::primary() else { return };
    let new = old.replica();
    let store = open(dsn(&[&old, &new])).await;
    let mut hints = store.changes();
    let before = write(&store).await.expect("is taken");
    let held = futures::future::join_all((0..8).map(|_| store.read())).await;
    drop(held);
    // The replica has it, so that nothing that was acknowledged is lost.
    let replica = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", new.port);
    while revision_at(&replica).await < before {}
    old.silence();
    new.promote();
    let (after, took) = write_until_taken(&store).await;
    assert_eq!(after, before + 1, "nothing that was acknowledged is lost");
    assert!(took < RECOVERY_MAX, "{took:?}");
    let other = open(dsn(&[&old, &new])).await;
    while !heard_of(&mut hints, &store, write(&other).await.expect("is taken")).await {}
    store.close().await;
    other.close().await;
}
