//! Leases: one holder at a time, by the given clock.

use std::time::Duration;

use futures::future::join_all;
use uuid::Uuid;

use super::harness::{KEY, TestDatabase, on_each_database, on_each_shared_database, on_postgres, options};
use crate::{Clock, Store, leases};

const TTL: Duration = Duration::from_secs(30);

async fn acquire(db: &TestDatabase, holder: u128) -> bool {
    let mut tx = db.store.begin().await.expect("begins");
    let held = leases::acquire(&mut tx, "sync", Uuid::from_u128(holder), TTL).await.expect("is answered");
    tx.commit().await.expect("commits");
    held
}

on_each_database! {
    async fn of_twenty_replicas_one_has_it(db) {
        let held = join_all((1..=20).map(|holder| acquire(db, holder))).await;
        assert_eq!(held.iter().filter(|held| **held).count(), 1);
    }

    async fn it_ends_by_itself_and_can_be_renewed(db) {
        assert!(acquire(db, 1).await);
        db.clock.advance(TTL / 2);
        assert!(acquire(db, 1).await, "renews");
        db.clock.advance(Duration::from_millis(29_999));
        assert!(!acquire(db, 2).await, "has not ended yet");
        db.clock.advance(Duration::from_millis(1));
        assert!(acquire(db, 2).await, "has ended");
        assert!(!acquire(db, 1).await);
    }

    async fn what_is_done_is_known_by_when_it_was_begun(db) {
        let holder = Uuid::from_u128(1);
        let begun = db.clock.now();
        let before = begun.plus(Duration::from_millis(1));
        let mut tx = db.store.begin().await.expect("begins");
        assert!(!leases::is_done_since(&mut tx, "sync", begun).await.expect("is answered"));
        leases::note_done(&mut tx, "sync", holder, begun).await.expect("notes");
        assert!(leases::is_done_since(&mut tx, "sync", begun).await.expect("is answered"));
        assert!(!leases::is_done_since(&mut tx, "sync", before).await.expect("is answered"));
        leases::note_done(&mut tx, "sync", holder, before).await.expect("notes");
        // One that took longer was begun before.
        leases::note_done(&mut tx, "sync", holder, begun).await.expect("notes");
        assert!(leases::is_done_since(&mut tx, "sync", before).await.expect("is answered"));
        tx.commit().await.expect("commits");
        assert!(acquire(db, 2).await, "the lease itself is another matter");
    }

    async fn only_its_holder_gives_it_back(db) {
        assert!(acquire(db, 1).await);
        let mut tx = db.store.begin().await.expect("begins");
        assert!(!leases::release(&mut tx, "sync", Uuid::from_u128(2)).await.expect("isn't theirs"));
        assert!(leases::release(&mut tx, "sync", Uuid::from_u128(1)).await.expect("releases"));
        tx.commit().await.expect("commits");
        assert!(acquire(db, 2).await);
    }
}

const HOUR: Duration = Duration::from_hours(1);

/// Another replica, whose clock goes differently.
async fn replica(db: &TestDatabase, clock: Clock) -> Store {
    Store::open(options(&db.database, KEY, &clock)).await.expect("opens")
}

async fn acquire_on(store: &Store, holder: u128) -> bool {
    let mut tx = store.begin().await.expect("begins");
    let held = leases::acquire(&mut tx, "sync", Uuid::from_u128(holder), TTL).await.expect("is answered");
    tx.commit().await.expect("commits");
    held
}

on_each_shared_database! {
    /// Whoever loses it so can't renew it, and ends within the time it was given: two have it no longer.
    async fn a_clock_that_is_set_forward_gives_it_away_once(db) {
        assert!(acquire(db, 1).await);
        let ahead = replica(db, Clock::manual(db.now().plus(HOUR))).await;
        assert!(acquire_on(&ahead, 2).await, "by that clock it has ended");
        assert!(acquire_on(&ahead, 2).await, "it is renewed");
        assert!(!acquire_on(&ahead, 3).await);
        ahead.close().await;
    }

    /// Who reads the clock first may write last: what was taken meanwhile ends later than it asks for.
    async fn who_is_overtaken_between_clock_and_write_takes_nothing(db) {
        let ahead = replica(db, Clock::manual(db.now().plus(Duration::from_millis(5)))).await;
        assert!(acquire_on(&ahead, 1).await);
        ahead.close().await;
        assert!(!acquire(db, 2).await);
    }

    async fn a_clock_that_is_set_back_blocks_nobody(db) {
        let ahead = replica(db, Clock::manual(db.now().plus(HOUR))).await;
        assert!(acquire_on(&ahead, 1).await);
        ahead.close().await;
        assert!(acquire(db, 2).await, "nobody can have taken it for so long");
        assert!(!acquire(db, 3).await);
        db.clock.advance(TTL);
        assert!(acquire(db, 3).await);
    }
}

/// Machines that share a database go by its clock, whatever their own say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_the_servers_clock_decides() {
    on_postgres(async |db: &TestDatabase| {
        let (one, two) = (replica(db, Clock::system()).await, replica(db, Clock::system()).await);
        assert!(acquire_on(&one, 1).await);
        assert!(!acquire_on(&two, 2).await);
        let mut tx = one.begin().await.expect("begins");
        let sql =
            "SELECT expires_at - CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS remaining
            FROM leases";
        let row = tx.query_one("leases", sql, crate::db::cells![]).await.expect("reads");
        let left: i64 = row.get("remaining").expect("a number");
        assert!((1..=30_000).contains(&left), "{left}");
        drop(tx);
        one.close().await;
        two.close().await;
    })
    .await;
}
