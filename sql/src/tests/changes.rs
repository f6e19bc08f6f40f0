//! Revisions: complete, in order, and honest about gaps.

use std::time::Duration;

use futures::FutureExt as _;
use uuid::Uuid;

use super::harness::{KEY, TestDatabase, on_each_database, on_each_shared_database};
use crate::changes::{self, Change, ChangeKind, Entries, Written};
use crate::db::cells;

/// Longer than any hint takes.
const PATIENCE: Duration = Duration::from_secs(20);

async fn commit(db: &TestDatabase, changed: &[(ChangeKind, u128)]) {
    let mut tx = db.store.begin().await.expect("begins");
    for (kind, id) in changed {
        tx.changed(*kind, Uuid::from_u128(*id));
    }
    tx.commit().await.expect("commits");
}

async fn since(db: &TestDatabase, revision: i64) -> (i64, Entries) {
    let mut tx = db.store.read().await.expect("reads");
    let since = changes::since(&mut tx, revision).await.expect("reads");
    (since.revision, since.entries)
}

on_each_database! {
    async fn each_change_has_the_next_number(db) {
        assert_eq!(since(db, 0).await, (0, Entries::All(vec![])));
        commit(db, &[(ChangeKind::Upstream, 1), (ChangeKind::ApiKey, 2), (ChangeKind::Upstream, 1)]).await;
        commit(db, &[]).await;
        commit(db, &[(ChangeKind::Settings, 0)]).await;
        let change = |revision, kind, id| Change { revision, kind, id: Uuid::from_u128(id) };
        let all = [
            change(1, ChangeKind::Upstream, 1),
            change(2, ChangeKind::ApiKey, 2),
            change(3, ChangeKind::Settings, 0),
        ];
        assert_eq!(since(db, 0).await, (3, Entries::All(all.to_vec())));
        assert_eq!(since(db, 2).await, (3, Entries::All(all[2..].to_vec())));
        assert_eq!(since(db, 3).await, (3, Entries::All(vec![])));
    }

    async fn what_was_pruned_and_what_never_was_is_a_gap(db) {
        commit(db, &[(ChangeKind::Upstream, 1)]).await;
        let many: Vec<_> = (0..10_000).map(|id| (ChangeKind::ApiKey, id)).collect();
        for part in many.chunks(2_000) {
            commit(db, part).await;
        }
        // The first one is gone, the newest 10,000 are kept.
        assert_eq!(since(db, 0).await, (10_001, Entries::Gap));
        let (head, Entries::All(entries)) = since(db, 1).await else { panic!("all are kept") };
        assert_eq!((head, entries.len(), entries[0].revision), (10_001, 10_000, 2));
        let mut tx = db.store.read().await.expect("reads");
        let kept = tx.query_one("changes", "SELECT COUNT(*) AS n FROM changes", cells![]).await.expect("reads");
        assert_eq!(kept.get::<i64>("n").expect("a number"), 10_000);
        drop(tx);
        // A follower from before the database was put back.
        assert_eq!(since(db, 10_002).await, (10_001, Entries::Gap));
        assert_eq!(since(db, -1).await, (10_001, Entries::Gap));
    }
}

on_each_database! {
    async fn what_this_process_wrote_is_known_by_its_revision(db) {
        assert_eq!(db.store.written(), Written::default());
        commit(db, &[(ChangeKind::Upstream, 1), (ChangeKind::ApiKey, 2)]).await;
        assert_eq!(db.store.written(), Written { keys: 2, catalog: 2 });
        commit(db, &[(ChangeKind::Session, 3)]).await;
        assert_eq!(db.store.written(), Written { keys: 2, catalog: 2 });
        commit(db, &[(ChangeKind::ApiKey, 2)]).await;
        assert_eq!(db.store.written(), Written { keys: 4, catalog: 2 });
        commit(db, &[(ChangeKind::List, 1)]).await;
        assert_eq!(db.store.written(), Written { keys: 4, catalog: 5 });
    }
}

/// In one process a hint is there when the commit returns. (On Postgres the listener's own hints,
/// which may come at any time, would blur the "not".)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_hints_and_a_rollback_does_not() {
    super::harness::on_memory(async |db: &TestDatabase| {
        let mut hints = db.store.changes();
        let mut tx = db.store.begin().await.expect("begins");
        tx.changed(ChangeKind::Settings, Uuid::nil());
        drop(tx);
        commit(db, &[]).await;
        assert_eq!(hints.wait(PATIENCE).now_or_never(), None);
        commit(db, &[(ChangeKind::Settings, 0)]).await;
        assert_eq!(hints.wait(PATIENCE).now_or_never(), Some(true));
    })
    .await;
}

on_each_shared_database! {
    /// Whoever sees number n sees all before it, however many write at once.
    async fn numbers_become_visible_in_their_order(db) {
        let write = async |id: u128| commit(db, &[(ChangeKind::ApiKey, id), (ChangeKind::List, id)]).await;
        let read = async || {
            let mut seen = 0;
            while seen < 40 {
                let (head, entries) = since(db, seen).await;
                let Entries::All(entries) = entries else { panic!("no gap") };
                let numbers: Vec<i64> = entries.iter().map(|entry| entry.revision).collect();
                assert_eq!(numbers, (seen + 1..=head).collect::<Vec<_>>());
                seen = head;
            }
        };
        tokio::join!(futures::future::join_all((0..20).map(write)), read());
    }
}

/// Two replicas on one Postgres: each commit of one is heard by the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replica_hears_of_each_commit() {
    super::harness::on_postgres(async |db: &TestDatabase| {
        let other = db.open_another(KEY).await.expect("opens");
        let mut hints = other.changes();
        // One hint may be the listener's first; of four commits, the others are heard as such.
        for expected in 1..=4 {
            commit(db, &[(ChangeKind::Settings, 0)]).await;
            loop {
                assert!(hints.wait(PATIENCE).await, "commit {expected} is heard");
                let mut tx = other.read().await.expect("reads");
                if changes::revision(&mut tx).await.expect("reads") == expected {
                    break;
                }
            }
        }
        other.close().await;
    })
    .await;
}
