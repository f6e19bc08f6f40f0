//! What legacy sessions said after they were opened.

use std::time::Duration;

use uuid::Uuid;

use super::harness::on_each_database;
use crate::model::ids::ApiKeyId;
use crate::model::session::{ClientSession, SessionState};
use crate::sweeping::DELETED_AT_ONCE;
use crate::{ChangeKind, Entries, changes, client_sessions, sessions};

on_each_database! {
    async fn an_ended_session_stays_ended_until_it_expires(db) {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let expires_at = db.now().plus(Duration::from_mins(1));
        let mut tx = db.store.begin().await.expect("begins");
        sessions::set_level(&mut tx, one, Some("debug".into()), expires_at).await.expect("sets");
        sessions::end(&mut tx, one, expires_at).await.expect("ends");
        sessions::set_level(&mut tx, one, Some("info".into()), expires_at).await.expect("sets");
        sessions::end(&mut tx, other, expires_at.plus(Duration::from_secs(1))).await.expect("ends");
        tx.commit().await.expect("commits");

        let mut tx = db.store.begin().await.expect("begins");
        let expected = SessionState { rid: one, ended: true, log_level: Some("info".into()), expires_at };
        assert_eq!(sessions::get(&mut tx, one).await.expect("reads").as_ref(), Some(&expected));
        assert_eq!(sessions::load(&mut tx).await.expect("reads").len(), 2);
        let since = changes::since(&mut tx, 0).await.expect("reads");
        let Entries::All(entries) = since.entries else { panic!("no gap") };
        assert!(entries.iter().map(|entry| (entry.kind, entry.id)).eq([one, other].map(|id| (ChangeKind::Session, id))));

        assert_eq!(sessions::sweep(&mut tx, expires_at).await.expect("sweeps"), 1);
        assert_eq!(sessions::get(&mut tx, one).await.expect("reads"), None);
        assert!(sessions::get(&mut tx, other).await.expect("reads").is_some());
    }

    async fn many_expired_sessions_are_forgotten_some_at_a_time(db) {
        let session = |number| ClientSession {
            rid: Uuid::from_u128(number),
            key_id: ApiKeyId::from_uuid(Uuid::from_u128(1)),
            path: "/mcp".into(),
            version: "2025-11-25".into(),
            client: None,
            address: None,
            created_at: db.now(),
            expires_at: db.now().plus(Duration::from_secs(if number == 0 { 2 } else { 1 })),
        };
        let opened: Vec<_> = (0..u128::from(DELETED_AT_ONCE) + 2).map(session).collect();
        let mut tx = db.store.begin().await.expect("begins");
        client_sessions::insert(&mut tx, &opened).await.expect("inserts");
        let expired = db.now().plus(Duration::from_secs(1));
        for swept in [DELETED_AT_ONCE, 1, 0] {
            assert_eq!(client_sessions::sweep(&mut tx, expired).await.expect("sweeps"), swept);
        }
    }
}
