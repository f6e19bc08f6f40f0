//! Leases: one holder at a time, by the given clock.

use std::time::Duration;

use futures::future::join_all;
use uuid::Uuid;

use super::harness::{TestDatabase, on_each_database};
use crate::leases;

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
