//! A Postgres that cuts connections, is slow, or is a replica.

use std::time::Duration;

use uuid::Uuid;

use super::harness::{DSN_VARIABLE, KEY, TestDatabase, on_postgres, run_sql};
use super::upstreams::http;
use crate::db::cells;
use crate::error::StoreError;
use crate::{ChangeKind, Database, Store, changes, upstreams};

/// Longer than any hint takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends every connection of the test's store, as a restart or a failover would.
async fn cut_connections(db: &TestDatabase) {
    let Database::Postgres { dsn } = &db.database else { panic!("a Postgres") };
    let config: tokio_postgres::Config = dsn.expose().parse().expect("a DSN");
    let name = config.get_application_name().expect("the harness names it").to_owned();
    let dsn = std::env::var(DSN_VARIABLE).expect("is set");
    let sql =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'");
    run_sql(&dsn, &sql).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_costs_its_transaction_and_nothing_more() {
    on_postgres(async |db: &TestDatabase| {
        let mut tx = db.store.begin().await.expect("begins");
        upstreams::insert(&mut tx, &http(db, "a")).await.expect("inserts");
        cut_connections(db).await;
        let refused = upstreams::insert(&mut tx, &http(db, "b")).await.expect_err("is cut");
        assert!(refused.is_transient(), "{refused:?}");
        drop(tx);
        let mut tx = db.store.begin().await.expect("the pool has found out");
        assert!(upstreams::list(&mut tx).await.expect("reads").is_empty());
        upstreams::insert(&mut tx, &http(db, "a")).await.expect("inserts");
        tx.commit().await.expect("commits");
    })
    .await;
}

/// Whatever is committed while nobody listens is made good by one hint when somebody listens again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_listener_comes_back() {
    on_postgres(async |db: &TestDatabase| {
        let other = db.open_another(KEY).await.expect("opens");
        let mut hints = db.store.changes();
        // Only the listener can have heard of another store's commit: it listens from here on.
        commit(&other).await;
        assert!(hints.wait(PATIENCE).await);
        cut_connections(db).await;
        // Two hints may be left: of the commit above, and of listening again. The third is of a commit.
        for _ in 0..3 {
            commit(&other).await;
            assert!(hints.wait(PATIENCE).await, "listens again");
        }
        other.close().await;
    })
    .await;
}

async fn commit(store: &Store) {
    let mut tx = store.begin().await.expect("begins");
    tx.changed(ChangeKind::Settings, Uuid::nil());
    tx.commit().await.expect("commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_statement_is_ended_by_the_server() {
    on_postgres(async |db: &TestDatabase| {
        let mut tx = db.store.read().await.expect("reads");
        let limit = tx.query_one("none", "SHOW statement_timeout", cells![]).await.expect("reads");
        assert_eq!(limit.get::<String>("statement_timeout").expect("a text"), "5s");
        tx.query("none", "SELECT set_config('statement_timeout', '20', false)", cells![])
            .await
            .expect("sets");
        let refused =
            tx.query("none", "SELECT CAST(pg_sleep(5) AS TEXT)", cells![]).await.expect_err("is slow");
        assert!(refused.is_transient(), "{refused:?}");
    })
    .await;
}

/// After a failover the old primary takes no writes: its connections must not go back to the pool.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_turned_read_only_is_thrown_away() {
    on_postgres(async |db: &TestDatabase| {
        let pid = "SELECT CAST(pg_backend_pid() AS BIGINT) AS pid";
        let mut tx = db.store.begin().await.expect("begins");
        let before: i64 =
            tx.query_one("none", pid, cells![]).await.expect("reads").get("pid").expect("a number");
        tx.query("none", "SELECT set_config('transaction_read_only', 'on', true)", cells![])
            .await
            .expect("sets");
        let refused = upstreams::insert(&mut tx, &http(db, "a")).await.expect_err("takes no writes");
        assert!(refused.is_transient(), "{refused:?}");
        drop(tx);
        let mut tx = db.store.begin().await.expect("begins");
        let after: i64 =
            tx.query_one("none", pid, cells![]).await.expect("reads").get("pid").expect("a number");
        assert_ne!(after, before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pool_is_waited_for_a_second_and_no_longer() {
    on_postgres(async |db: &TestDatabase| {
        let mut held = Vec::new();
        for _ in 0..16 {
            let mut tx = db.store.read().await.expect("reads");
            changes::revision(&mut tx).await.expect("reads");
            held.push(tx);
        }
        let refused = db.store.read().await.map(drop).expect_err("none is free");
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
        held.pop();
        db.store.healthy().await.expect("one is free");
    })
    .await;
}
