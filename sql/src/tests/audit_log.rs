//! The audit log: with the act or not at all, and in a chain that shows what was done to it.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;

use super::harness::{TestDatabase, on_each_database};
use super::upstreams::http;
use crate::audit_log::{self, Anchor, AuditFilter, Cut, Extent, Fault, Verified};
use crate::db::{Access, cells};
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
    audit_log::verify(&mut tx, None).await.expect("is answered")
}

/// How many events of an unbroken chain are no longer kept, and its head.
async fn intact(db: &TestDatabase) -> (i64, i64) {
    match verify(db).await {
        Verified::Intact(Extent { dropped, head, .. }) => (dropped, head),
        broken @ Verified::Broken { .. } => panic!("{broken:?}"),
    }
}

async fn verify_after(db: &TestDatabase, tampering: &str) -> Verified {
    let mut tx = db.store.begin().await.expect("begins");
    for statement in tampering.split(';') {
        tx.execute("audit_events", statement, cells![]).await.expect("tampers");
    }
    audit_log::verify(&mut tx, None).await.expect("is answered")
}

async fn extent(db: &TestDatabase) -> Extent {
    let mut tx = db.store.read().await.expect("reads");
    audit_log::extent(&mut tx).await.expect("reads")
}

async fn cut(db: &TestDatabase, limit: u32) -> Option<Cut> {
    let mut tx = db.store.begin().await.expect("begins");
    let cut = audit_log::cut_before(&mut tx, db.now(), limit).await.expect("is answered");
    tx.commit().await.expect("commits");
    cut
}

on_each_database! {
    async fn an_event_that_cannot_be_written_is_counted(db) {
        let mut tx = db.store.begin().await.expect("begins");
        audit_log::append(&mut tx, &event(db, "a")).await.expect("appends");
        assert_eq!(db.store.audit_failures(), 0);
        // Within the transaction alone: either database takes back what was done to a table.
        let away = "ALTER TABLE audit_events RENAME TO audit_away";
        tx.execute("audit_events", away, cells![]).await.expect("renames");
        audit_log::append(&mut tx, &event(db, "b")).await.expect_err("there is no such table");
        assert_eq!(db.store.audit_failures(), 1);
    }

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
        assert_eq!(intact(db).await, (0, 3));
    }

    async fn every_kind_of_tampering_is_found(db) {
        assert_eq!(intact(db).await, (0, 0));
        for number in 0..8 {
            append(db, &event(db, &format!("act.{number}"))).await;
        }
        assert_eq!(intact(db).await, (0, 8));
        for (tampering, seq, fault) in [
            ("UPDATE audit_events SET actor_name = 'x' WHERE seq = 5", 5, Fault::Altered),
            ("UPDATE audit_events SET target_id = NULL WHERE seq = 2", 2, Fault::Altered),
            ("DELETE FROM audit_events WHERE seq = 1", 1, Fault::Missing),
            ("DELETE FROM audit_events WHERE seq = 4", 4, Fault::Missing),
            ("DELETE FROM audit_events WHERE seq > 5", 6, Fault::Missing),
            ("DELETE FROM audit_events", 1, Fault::Missing),
            ("UPDATE audit_events SET seq = 100 WHERE seq = 8", 8, Fault::Missing),
            // One in the place of another.
            ("DELETE FROM audit_events WHERE seq = 3; UPDATE audit_events SET seq = 3 WHERE seq = 8", 3, Fault::Altered),
            // Two change places.
            (
                "UPDATE audit_events SET seq = 100 WHERE seq = 4; UPDATE audit_events SET seq = 4 WHERE seq = 5;
                 UPDATE audit_events SET seq = 5 WHERE seq = 100",
                4,
                Fault::Altered,
            ),
            ("UPDATE audit_head SET seq = 7", 8, Fault::Inserted),
            ("UPDATE audit_head SET seal = NULL", 8, Fault::Ends),
            // Cut short, and the end made to fit.
            (
                "DELETE FROM audit_events WHERE seq > 5; UPDATE audit_head SET seq = 5,
                 hash = (SELECT hash FROM audit_events WHERE seq = 5)",
                5,
                Fault::Ends,
            ),
            // Its beginning is gone, and a later one named.
            (
                "UPDATE audit_head SET first_seq = 3, first_hash = (SELECT hash FROM audit_events WHERE seq = 3);
                 DELETE FROM audit_events WHERE seq <= 3",
                8,
                Fault::Ends,
            ),
        ] {
            assert_eq!(verify_after(db, tampering).await, Verified::Broken { seq, fault }, "{tampering}");
        }
        assert_eq!(intact(db).await, (0, 8));
    }

    async fn events_at_once_make_one_chain(db) {
        join_all((0..30).map(async |_| append(db, &event(db, "a.b")).await)).await;
        assert_eq!(intact(db).await, (0, 30));
    }

    async fn an_event_is_there_with_its_act_or_not_at_all(db) {
        let mut tx = db.store.begin().await.expect("begins");
        audit_log::append(&mut tx, &event(db, "upstream.create")).await.expect("appends");
        upstreams::insert(&mut tx, &http(db, "a")).await.expect("inserts");
        upstreams::insert(&mut tx, &http(db, "a")).await.expect_err("conflicts");
        drop(tx);
        assert_eq!(intact(db).await, (0, 0));
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

    /// What was done to the ends isn't made good by the next event.
    async fn a_broken_end_stays_broken(db) {
        for number in 0..3 {
            append(db, &event(db, &format!("act.{number}"))).await;
        }
        let mut tx = db.store.begin().await.expect("begins");
        for statement in [
            "DELETE FROM audit_events WHERE seq = 3",
            "UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit_events WHERE seq = 2)",
        ] {
            tx.execute("audit_events", statement, cells![]).await.expect("tampers");
        }
        tx.commit().await.expect("commits");
        append(db, &event(db, "act.later")).await;
        assert_eq!(verify(db).await, Verified::Broken { seq: 3, fault: Fault::Ends });
        assert_eq!(cut(db, 10).await, None, "nothing is dropped: it is evidence");
    }

    async fn an_anchor_tells_a_chain_from_another(db) {
        append(db, &event(db, "act.1")).await;
        let anchor: Anchor = extent(db).await.to_string().parse().expect("an anchor");
        let wrong: Anchor = format!("1:{}", "ab".repeat(32)).parse().expect("an anchor");
        append(db, &event(db, "act.2")).await;
        let later: Anchor = format!("7:{}", "ab".repeat(32)).parse().expect("an anchor");
        let mut tx = db.store.read().await.expect("reads");
        assert!(matches!(audit_log::verify(&mut tx, Some(&anchor)).await.expect("reads"), Verified::Intact(_)));
        for (anchor, seq, fault) in [(wrong, 1, Fault::Anchor), (later, 3, Fault::Missing)] {
            let verified = audit_log::verify(&mut tx, Some(&anchor)).await.expect("reads");
            assert_eq!(verified, Verified::Broken { seq, fault });
        }
        for text in ["", "1", "0:00", "x:y", &format!("1:{}", "ü".repeat(32))] {
            assert!(text.parse::<Anchor>().is_err(), "{text}");
        }
    }

    async fn old_events_go_and_the_rest_holds(db) {
        for number in 0..6 {
            append(db, &event(db, &format!("act.{number}"))).await;
        }
        db.clock.advance(Duration::from_hours(1));
        for number in 6..8 {
            append(db, &event(db, &format!("act.{number}"))).await;
        }
        assert_eq!(cut(db, 4).await, Some(Cut { events: 4, last: 4 }));
        assert_eq!(intact(db).await, (4, 8));
        assert_eq!(cut(db, 4).await, Some(Cut { events: 2, last: 6 }));
        assert_eq!((cut(db, 4).await, intact(db).await), (None, (6, 8)));
        db.clock.advance(Duration::from_hours(1));
        assert_eq!(cut(db, 4).await, Some(Cut { events: 1, last: 7 }), "the last one stays");
        append(db, &event(db, "act.8")).await;
        assert_eq!(intact(db).await, (7, 9));
        for (tampering, seq, fault) in [
            ("DELETE FROM audit_events WHERE seq = 8", 8, Fault::Missing),
            ("UPDATE audit_head SET first_seq = 0", 1, Fault::Missing),
            ("UPDATE audit_events SET seq = 2 WHERE seq = 9", 2, Fault::Inserted),
        ] {
            assert_eq!(verify_after(db, tampering).await, Verified::Broken { seq, fault }, "{tampering}");
        }
    }

    /// What came before there was a seal counts as it is found.
    async fn a_chain_from_before_seals_begins_as_it_is(db) {
        append(db, &event(db, "act.1")).await;
        let mut tx = db.store.begin().await.expect("begins");
        let old = "UPDATE audit_head SET seal = NULL, chain_key = NULL, first_hash = NULL";
        tx.execute("audit_head", old, cells![]).await.expect("writes");
        tx.commit().await.expect("commits");
        let mut transaction = db.store.db().begin(Access::Write).await.expect("begins");
        audit_log::seal_unsealed(&mut transaction, db.store.sealer()).await.expect("seals");
        transaction.commit().await.expect("commits");
        append(db, &event(db, "act.2")).await;
        assert_eq!(intact(db).await, (0, 2));
    }

    async fn the_log_is_read_from_one_end_to_the_other(db) {
        for number in 0..5 {
            append(db, &event(db, if number % 2 == 0 { "even.act" } else { "odd.act" })).await;
        }
        let mut tx = db.store.read().await.expect("reads");
        let all = AuditFilter::default();
        let first = audit_log::after(&mut tx, &all, None, (0, 4), 3).await.expect("reads");
        assert_eq!(first.iter().map(|one| one.seq).collect::<Vec<_>>(), [1, 2, 3]);
        let rest = audit_log::after(&mut tx, &all, None, (3, 4), 3).await.expect("reads");
        assert_eq!(rest.iter().map(|one| one.seq).collect::<Vec<_>>(), [4]);
        let odd = audit_log::after(&mut tx, &all, Some("ODD"), (0, 9), 9).await.expect("reads");
        assert_eq!(odd.iter().map(|one| one.seq).collect::<Vec<_>>(), [2, 4]);
        let of_keys = AuditFilter { actor_kind: Some("key".into()), ..all };
        assert!(audit_log::after(&mut tx, &of_keys, None, (0, 9), 9).await.expect("reads").is_empty());
    }
}
