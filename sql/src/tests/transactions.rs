//! Transactions: whole or not at all, and readers beside a writer.

use std::time::Duration;

use futures::FutureExt as _;

use super::harness::{TestDatabase, on_each_database, on_each_shared_database, on_memory};
use super::upstreams::http;
use crate::db::cells;
use crate::error::StoreError;
use crate::model::upstream::Upstream;
use crate::{changes, upstreams};

on_each_database! {
    async fn a_dropped_transaction_leaves_nothing(db) {
        let mut tx = db.store.begin().await.expect("begins");
        upstreams::insert(&mut tx, &http(db, "a")).await.expect("inserts");
        drop(tx);
        let mut tx = db.store.begin().await.expect("the next one begins");
        assert!(upstreams::list(&mut tx).await.expect("reads").is_empty());
        assert_eq!(changes::revision(&mut tx).await.expect("reads"), 0);
    }

    /// A handler whose client went away is dropped at any await: in the middle of a statement too.
    async fn a_transaction_dropped_within_a_statement_leaves_nothing(db) {
        for polled in 1..20 {
            let mut insert = Box::pin(async {
                let mut tx = db.store.begin().await.expect("begins");
                upstreams::insert(&mut tx, &http(db, "a")).await.expect("inserts");
                upstreams::insert(&mut tx, &http(db, "b")).await.expect("inserts");
                std::future::pending::<()>().await;
                tx.commit().await
            });
            for _ in 0..polled {
                assert!((&mut insert).now_or_never().is_none());
                tokio::task::yield_now().await;
            }
            drop(insert);
            let mut tx = db.store.begin().await.expect("the next one begins");
            assert!(upstreams::list(&mut tx).await.expect("reads").is_empty());
        }
    }

    /// What became of a statement that nobody waited for isn't known, so nothing may build on it.
    async fn a_statement_that_was_abandoned_ends_its_transaction(db) {
        let mut tx = db.store.begin().await.expect("begins");
        // Long enough not to be answered before it is abandoned.
        let slow = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 300000)
            SELECT COUNT(*) AS total FROM numbers";
        let mut abandoned = Box::pin(tx.query("none", slow, cells![]));
        assert!((&mut abandoned).now_or_never().is_none());
        drop(abandoned);
        assert!(matches!(upstreams::list(&mut tx).await, Err(StoreError::Aborted)));
        assert!(matches!(tx.commit().await, Err(StoreError::Aborted)));
    }

    async fn a_reader_cannot_write(db) {
        let mut tx = db.store.read().await.expect("reads");
        let refused = upstreams::insert(&mut tx, &http(db, "a")).await;
        assert!(refused.is_err());
        drop(tx);
        let mut tx = db.store.begin().await.expect("begins");
        upstreams::insert(&mut tx, &http(db, "a")).await.expect("a writer can, afterwards");
    }

    async fn many_writers_wait_for_each_other(db) {
        let write = async |number: usize| {
            let mut tx = db.store.begin().await.expect("begins");
            upstreams::insert(&mut tx, &http(db, &format!("u{number}"))).await.expect("inserts");
            tx.commit().await.expect("commits");
        };
        futures::future::join_all((0..60).map(write)).await;
        let mut tx = db.store.read().await.expect("reads");
        assert_eq!(upstreams::list(&mut tx).await.expect("reads").len(), 60);
        assert_eq!(changes::revision(&mut tx).await.expect("reads"), 60);
    }

    async fn a_statement_needs_exactly_its_parameters(db) {
        for cells in [cells![], cells!["1", "2"]] {
            let mut tx = db.store.read().await.expect("reads");
            let refused = tx.query("upstreams", "SELECT id FROM upstreams WHERE id = $1", cells).await;
            assert!(matches!(refused, Err(StoreError::Statement(_))), "{refused:?}");
        }
    }

    /// SQLite would bind `$2` to whichever comes first if it were bound by position.
    async fn parameters_are_bound_by_their_numbers(db) {
        let mut tx = db.store.read().await.expect("reads");
        let sql = "SELECT CAST($2 AS TEXT) AS second, CAST($1 AS TEXT) AS first, CAST($2 AS TEXT) AS again";
        let row = tx.query_one("none", sql, cells!["one", "two"]).await.expect("reads");
        let texts = ["first", "second", "again"].map(|column| row.get::<String>(column).expect("a text"));
        assert_eq!(texts, ["one", "two", "two"]);
        assert!(matches!(row.get::<i64>("first"), Err(StoreError::Corrupt { .. })));
        assert!(matches!(row.get::<i64>("missing"), Err(StoreError::Corrupt { .. })));
    }
}

on_each_shared_database! {
    async fn readers_keep_their_snapshot_beside_a_writer(db) {
        let mut before = db.store.read().await.expect("reads");
        assert!(upstreams::list(&mut before).await.expect("reads").is_empty());

        let mut writer = db.store.begin().await.expect("begins beside the reader");
        upstreams::insert(&mut writer, &http(db, "a")).await.expect("inserts");
        let mut during = db.store.read().await.expect("reads beside the writer");
        assert!(upstreams::list(&mut during).await.expect("reads").is_empty());
        writer.commit().await.expect("commits beside both readers");

        for snapshot in [&mut before, &mut during] {
            assert!(upstreams::list(snapshot).await.expect("reads").is_empty());
            assert_eq!(changes::revision(snapshot).await.expect("reads"), 0);
        }
        let mut after = db.store.read().await.expect("reads");
        assert_eq!(upstreams::list(&mut after).await.expect("reads").len(), 1);
    }

    /// Four readers want three threads: the fourth waits for one, and doesn't stop the writer.
    async fn readers_wait_for_a_turn_and_a_writer_for_none(db) {
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(db.store.read().await.expect("reads"));
        }
        let mut writer = db.store.begin().await.expect("begins");
        upstreams::insert(&mut writer, &http(db, "a")).await.expect("inserts");
        writer.commit().await.expect("commits");
        let next = async {
            let mut tx = db.store.read().await.expect("gets its turn");
            upstreams::list(&mut tx).await.expect("reads").len()
        };
        let free = async {
            tokio::task::yield_now().await;
            held.clear();
        };
        let (read, ()) = tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(next, free) })
            .await
            .expect("nobody waits for ever");
        assert_eq!(read, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_said_and_gone_once_there_is_room() {
    on_memory(async |db: &TestDatabase| {
        let mut tx = db.store.begin().await.expect("begins");
        let pages = tx.query_one("none", "PRAGMA page_count", cells![]).await.expect("reads");
        let pages: i64 = pages.get("page_count").expect("a number");
        tx.query("none", &format!("PRAGMA max_page_count = {pages}"), cells![]).await.expect("sets");
        let large = Upstream { name: "x".repeat(100_000), ..http(db, "a") };
        let refused = upstreams::insert(&mut tx, &large).await.expect_err("has no room");
        assert!(matches!(refused, StoreError::StorageFull(_)), "{refused:?}");
        assert!(refused.is_transient());
        drop(tx);
        let mut tx = db.store.begin().await.expect("begins");
        assert!(upstreams::list(&mut tx).await.expect("reading goes on").is_empty());
        tx.query("none", "PRAGMA max_page_count = 100000", cells![]).await.expect("sets");
        upstreams::insert(&mut tx, &large).await.expect("has room");
        tx.commit().await.expect("commits");
    })
    .await;
}
