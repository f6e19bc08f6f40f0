//! Upstreams: what is written is read again, secrets included.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::harness::{TestDatabase, on_each_database};
use crate::error::StoreError;
use crate::model::definition::{Era, UpstreamInfo};
use crate::model::ids::UpstreamId;
use crate::model::secret::Secret;
use crate::model::upstream::{
    ConnParams, Isolation, NewUpstream, OnToolChange, Protocol, SyncSwitches, Transport, Upstream, Value,
};
use crate::upstreams;

pub(super) fn http(db: &TestDatabase, name: &str) -> Upstream {
    let params = ConnParams::Http { url: "https://host/mcp".into(), headers: BTreeMap::new() };
    let new = NewUpstream::named(name, Transport::StreamableHttp, params);
    Upstream::create(new, UpstreamId::new(&db.clock), db.now())
}

/// One with every field away from its default and a secret in every place that takes one.
pub(super) fn full(db: &TestDatabase, name: &str) -> Upstream {
    let params = ConnParams::Stdio {
        command: "npx".into(),
        args: vec![Value::Plain("-y".into()), Value::Secret("CANARY-argument".into())],
        env: BTreeMap::from([
            ("PLAIN".into(), Value::Plain("ünïcode \0 and NUL".into())),
            ("TOKEN".into(), Value::Secret("CANARY-environment".into())),
        ]),
        cwd: Some("/data".into()),
    };
    let mut new = NewUpstream::named(name, Transport::Stdio, params);
    new.credential = Some(Secret::from("CANARY-credential"));
    new.enabled = false;
    new.sort_order = -3;
    new.auto_sync = false;
    new.name_prefix = "fs.".into();
    new.isolation = Isolation::PerSession;
    new.protocol = Protocol::Legacy;
    new.call_timeout_s = Some(7);
    new.tags = vec!["files".into(), "数据".into()];
    new.on_tool_change = OnToolChange::Hold;
    new.sanitize = true;
    new.sync = SyncSwitches { tools: true, prompts: false, resources: false };
    Upstream::create(new, UpstreamId::new(&db.clock), db.now())
}

on_each_database! {
    async fn what_is_inserted_is_read_again(db) {
        let (plain, full) = (http(db, "plain"), full(db, "full"));
        let mut tx = db.store.begin().await.expect("begins");
        upstreams::insert(&mut tx, &plain).await.expect("inserts");
        upstreams::insert(&mut tx, &full).await.expect("inserts");
        tx.commit().await.expect("commits");

        let mut tx = db.store.read().await.expect("reads");
        assert_eq!(upstreams::get(&mut tx, full.id).await.expect("reads"), Some(full.clone()));
        assert_eq!(upstreams::by_name(&mut tx, "plain").await.expect("reads"), Some(plain.clone()));
        assert_eq!(upstreams::list(&mut tx).await.expect("reads"), [full, plain]);
        assert_eq!(upstreams::get(&mut tx, UpstreamId::new(&db.clock)).await.expect("reads"), None);
        assert_eq!(upstreams::by_name(&mut tx, "PLAIN").await.expect("reads"), None);
        assert_eq!(upstreams::by_name(&mut tx, "a\0b").await.expect("reads"), None);
    }

    async fn an_update_needs_the_version_it_read(db) {
        let mut upstream = http(db, "one");
        let mut tx = db.store.begin().await.expect("begins");
        upstreams::insert(&mut tx, &upstream).await.expect("inserts");
        upstream.name = "two".into();
        upstream.credential = Some("s".into());
        assert!(upstreams::update(&mut tx, &upstream, 1).await.expect("updates"));
        assert!(!upstreams::update(&mut tx, &upstream, 1).await.expect("is stale"));
        upstream.version = 2;
        assert_eq!(upstreams::get(&mut tx, upstream.id).await.expect("reads"), Some(upstream.clone()));
        upstream.credential = None;
        assert!(upstreams::update(&mut tx, &upstream, 2).await.expect("updates"));
        let read = upstreams::get(&mut tx, upstream.id).await.expect("reads").expect("is there");
        assert_eq!((read.version, read.credential), (3, None));
        assert!(!upstreams::update(&mut tx, &http(db, "gone"), 1).await.expect("isn't there"));
    }

    async fn a_name_is_unique(db) {
        let mut tx = db.store.begin().await.expect("begins");
        upstreams::insert(&mut tx, &http(db, "same")).await.expect("inserts");
        let refused = upstreams::insert(&mut tx, &http(db, "same")).await.expect_err("conflicts");
        assert!(matches!(refused, StoreError::Conflict { constraint } if constraint == "upstreams.name"));
        // On both databases that was the transaction's end.
        assert!(matches!(upstreams::list(&mut tx).await, Err(StoreError::Aborted)));
        assert!(matches!(tx.commit().await, Err(StoreError::Aborted)));
        let mut tx = db.store.read().await.expect("reads");
        assert!(upstreams::list(&mut tx).await.expect("reads").is_empty());
    }

    async fn a_nul_is_refused_alike(db) {
        let mut tx = db.store.begin().await.expect("begins");
        let refused = upstreams::insert(&mut tx, &http(db, "a\0b")).await.expect_err("has a NUL");
        assert!(matches!(refused, StoreError::Unstorable { table: "upstreams" }));
    }

    async fn a_new_order_names_every_upstream_once(db) {
        let (a, b, c) = (http(db, "a"), http(db, "b"), http(db, "c"));
        let mut tx = db.store.begin().await.expect("begins");
        for upstream in [&a, &b, &c] {
            upstreams::insert(&mut tx, upstream).await.expect("inserts");
        }
        for wrong in [vec![], vec![a.id, b.id], vec![a.id, b.id, b.id], vec![a.id, b.id, c.id, c.id]] {
            assert!(!upstreams::reorder(&mut tx, &wrong).await.expect("isn't a permutation"));
        }
        assert!(upstreams::reorder(&mut tx, &[c.id, a.id, b.id]).await.expect("reorders"));
        let listed = upstreams::list(&mut tx).await.expect("reads");
        let names: Vec<_> = listed.iter().map(|upstream| upstream.name.as_str()).collect();
        assert_eq!(names, ["c", "a", "b"]);
        // The first one's place stayed 0, so it wasn't written.
        assert_eq!(listed.iter().map(|upstream| upstream.version).collect::<Vec<_>>(), [1, 2, 2]);
    }

    async fn what_an_upstream_said_of_itself_goes_with_it(db) {
        let upstream = http(db, "a");
        let mut info = UpstreamInfo {
            upstream_id: upstream.id,
            era: Era::Modern,
            protocol_version: "2026-07-28".into(),
            server_info: Bytes::from_static(br#"{"name":"x" }"#),
            capabilities: Bytes::from_static(b"{}"),
            instructions: Some("a\0b".into()),
            seen_at: db.now(),
        };
        let mut tx = db.store.begin().await.expect("begins");
        upstreams::insert(&mut tx, &upstream).await.expect("inserts");
        upstreams::save_info(&mut tx, &info).await.expect("saves");
        assert_eq!(upstreams::info(&mut tx, upstream.id).await.expect("reads"), Some(info.clone()));
        info.era = Era::Legacy;
        info.instructions = None;
        upstreams::save_info(&mut tx, &info).await.expect("saves again");
        assert_eq!(upstreams::infos(&mut tx).await.expect("reads"), [info.clone()]);
        assert!(upstreams::delete(&mut tx, upstream.id).await.expect("deletes"));
        assert!(!upstreams::delete(&mut tx, upstream.id).await.expect("is gone"));
        assert_eq!(upstreams::infos(&mut tx).await.expect("reads"), []);
        let refused = upstreams::save_info(&mut tx, &info).await.expect_err("has no upstream");
        assert!(matches!(refused, StoreError::Conflict { constraint } if constraint == StoreError::FOREIGN_KEY));
    }
}
