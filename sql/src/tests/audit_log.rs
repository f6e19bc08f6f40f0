//! The audit log: with the act or not at all, and in a chain that shows what was done to it.

use futures::future::join_all;
use serde_json::json;

use super::harness::{TestDatabase, on_each_database};
use super::upstreams::http;
use crate::audit_log::{self, AuditFilter, Verified};
use crate::db::cells;
use crate::model::audit_event::{Actor, AuditEvent, Outcome};
use crate::model::ids::{AdminUserId, ApiKeyId, AuditEventId};
use crate::model::page::PageRequest;
use crate::upstreams;

fn event(db: &TestDatabase, action: &str) -> AuditEvent {
    AuditEvent {
        id: AuditEventId::new(&db.clock),
        at: db.now(),
        actor: Actor::Admin { id: AdminUserId::new(&db.clock), name: "root".into() },
        address: "2001:db8::1".parse().ok(),
        user_agent: Some("curl/8".into()),
        action: action.into(),
        target_kind: "upstream".into(),
        target_id: Some("1".into()),
        target_name: Some("files".into()),
        diff: json!({"before": null, "after": {"name": "a\0b", "n": 1.5}}),
        request_id: Some("r1".into()),
        outcome: Outcome::Success,
    }
}

async fn append(db: &TestDatabase, event: &AuditEvent) {
    let mut tx = db.store.begin().await.expect("begins");
    audit_log::append(&mut tx, event).await.expect("appends");
    tx.commit().await.expect("commits");
}

async fn verify(db: &TestDatabase) -> Verified {
    let mut tx = db.store.read().await.expect("reads");
    audit_log::verify(&mut tx).await.expect("is answered")
}

async fn verify_after(db: &TestDatabase, tampering: &str) -> Verified {
    let mut tx = db.store.begin().await.expect("begins");
    tx.execute("audit_events", tampering, cells![]).await.expect("tampers");
    audit_log::verify(&mut tx).await.expect("is answered")
}

on_each_database! {
    async fn what_is_appended_is_read_again_newest_first(db) {
        let first = event(db, "upstream.create");
        let second = AuditEvent {
            actor: Actor::Key { id: ApiKeyId::new(&db.clock), name: "team".into() },
            ..event(db, "call.refused")
        };
        let third = AuditEvent {
            actor: Actor::System,
            address: None,
            user_agent: None,
            target_id: None,
            target_name: None,
            diff: serde_json::Value::Null,
            request_id: None,
            outcome: Outcome::Failure,
            ..event(db, "settings.update")
        };
        for event in [&first, &second, &third] {
            append(db, event).await;
        }
        let mut tx = db.store.read().await.expect("reads");
        let request = PageRequest { limit: 2, ..PageRequest::default() };
        let page = audit_log::page(&mut tx, &request, &AuditFilter::default()).await.expect("reads");
        assert_eq!((page.items, page.total), (vec![third.clone(), second], 3));
        let request = PageRequest { cursor: page.next_cursor, ..request };
        let page = audit_log::page(&mut tx, &request, &AuditFilter::default()).await.expect("reads");
        assert_eq!((page.items, page.next_cursor), (vec![first.clone()], None));
        let failed = AuditFilter { outcome: Some(Outcome::Failure), ..AuditFilter::default() };
        let page = audit_log::page(&mut tx, &PageRequest::default(), &failed).await.expect("reads");
        assert_eq!(page.items, [third]);
        let created = AuditFilter { action: Some("upstream.create".into()), to: Some(db.now()), ..AuditFilter::default() };
        let page = audit_log::page(&mut tx, &PageRequest::default(), &created).await.expect("reads");
        assert_eq!(page.total, 0);
        drop(tx);
        assert_eq!(verify(db).await, Verified::Intact { events: 3, head: 3 });
    }

    async fn every_kind_of_tampering_is_found(db) {
        assert_eq!(verify(db).await, Verified::Intact { events: 0, head: 0 });
        for number in 0..8 {
            append(db, &event(db, &format!("act.{number}"))).await;
        }
        assert_eq!(verify(db).await, Verified::Intact { events: 8, head: 8 });
        for (tampering, seq) in [
            ("UPDATE audit_events SET actor_name = 'x' WHERE seq = 5", 5),
            ("UPDATE audit_events SET target_id = NULL WHERE seq = 2", 2),
            ("DELETE FROM audit_events WHERE seq = 1", 1),
            ("DELETE FROM audit_events WHERE seq = 4", 4),
            ("DELETE FROM audit_events WHERE seq > 5", 6),
            ("DELETE FROM audit_events", 1),
            ("UPDATE audit_events SET seq = 100 WHERE seq = 8", 8),
            ("UPDATE audit_head SET seq = 7", 9),
        ] {
            assert_eq!(verify_after(db, tampering).await, Verified::Broken { seq }, "{tampering}");
        }
        assert_eq!(verify(db).await, Verified::Intact { events: 8, head: 8 });
    }

    async fn events_at_once_make_one_chain(db) {
        join_all((0..30).map(async |_| append(db, &event(db, "a.b")).await)).await;
        assert_eq!(verify(db).await, Verified::Intact { events: 30, head: 30 });
    }

    async fn an_event_is_there_with_its_act_or_not_at_all(db) {
        let mut tx = db.store.begin().await.expect("begins");
        audit_log::append(&mut tx, &event(db, "upstream.create")).await.expect("appends");
        upstreams::insert(&mut tx, &http(db, "a")).await.expect("inserts");
        upstreams::insert(&mut tx, &http(db, "a")).await.expect_err("conflicts");
        drop(tx);
        assert_eq!(verify(db).await, Verified::Intact { events: 0, head: 0 });
    }

    async fn what_strangers_write_never_loses_an_event(db) {
        let long = "ü".repeat(5_000);
        let nasty = AuditEvent {
            actor: Actor::Admin { id: AdminUserId::new(&db.clock), name: "a\0\nFAKE".into() },
            user_agent: Some(long.clone()),
            target_name: Some("\0".into()),
            ..event(db, "login")
        };
        append(db, &nasty).await;
        let mut tx = db.store.read().await.expect("reads");
        let page = audit_log::page(&mut tx, &PageRequest::default(), &AuditFilter::default()).await.expect("reads");
        assert!(matches!(&page.items[0].actor, Actor::Admin { name, .. } if name == "a\u{fffd}\nFAKE"));
        assert_eq!(page.items[0].user_agent.as_deref(), Some(&long[..1_024]));
    }
}
