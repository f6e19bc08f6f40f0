//! API keys: what is written is read again, and use is noted beside it.

use std::time::Duration;

use super::harness::{TestDatabase, on_each_database};
use crate::api_keys::{self, ApiKeyFilter};
use crate::changes;
use crate::db::cells;
use crate::error::StoreError;
use crate::model::api_key::{ApiKey, KeyMode, PlaintextKey, PreviousSecret, RateLimit};
use crate::model::ids::{ApiKeyId, UpstreamId};
use crate::model::page::PageRequest;

pub(super) fn plain(db: &TestDatabase, name: &str) -> ApiKey {
    ApiKey::create(ApiKeyId::new(&db.clock), name, &PlaintextKey::generate(), db.now())
}

fn full(db: &TestDatabase, name: &str) -> ApiKey {
    let until = db.now().plus(Duration::from_mins(1));
    ApiKey {
        previous: Some(PreviousSecret { hash: PlaintextKey::generate().hash(), until }),
        enabled: false,
        expires_at: Some(until),
        mode: KeyMode::Smart,
        upstream_ids: Some(vec![UpstreamId::new(&db.clock), UpstreamId::new(&db.clock)]),
        allowed_cidrs: ["10.0.0.0/8", "2001:db8::/32"].map(|net| net.parse().expect("a network")).into(),
        rate_limit: Some(RateLimit { limit: u32::MAX, window_s: 60 }),
        quota_per_day: Some(0),
        quota_per_month: Some(1_000_000_000_000),
        ..plain(db, name)
    }
}

on_each_database! {
    async fn what_is_inserted_is_read_again(db) {
        let (plain, full) = (plain(db, "plain"), full(db, "full"));
        let mut tx = db.store.begin().await.expect("begins");
        api_keys::insert(&mut tx, &plain).await.expect("inserts");
        api_keys::insert(&mut tx, &full).await.expect("inserts");
        assert_eq!(api_keys::get(&mut tx, full.id).await.expect("reads").as_ref(), Some(&full));
        assert_eq!(api_keys::by_name(&mut tx, "plain").await.expect("reads").as_ref(), Some(&plain));
        assert_eq!(api_keys::by_name(&mut tx, "\0").await.expect("reads"), None);
        let listed = api_keys::list(&mut tx).await.expect("reads");
        assert!(listed.len() == 2 && listed.contains(&plain) && listed.contains(&full));
        let filter = ApiKeyFilter { enabled: Some(true) };
        let page = api_keys::page(&mut tx, &PageRequest::default(), &filter).await.expect("reads");
        assert_eq!((page.items, page.total), (vec![plain.clone()], 1));
        assert!(api_keys::delete(&mut tx, plain.id).await.expect("deletes"));
        assert!(!api_keys::delete(&mut tx, plain.id).await.expect("is gone"));
    }

    async fn an_update_needs_the_version_it_read(db) {
        let mut key = plain(db, "one");
        let mut tx = db.store.begin().await.expect("begins");
        api_keys::insert(&mut tx, &key).await.expect("inserts");
        key = ApiKey { id: key.id, created_at: key.created_at, ..full(db, "two") };
        assert!(api_keys::update(&mut tx, &key, 1).await.expect("updates"));
        assert!(!api_keys::update(&mut tx, &key, 1).await.expect("is stale"));
        key.version = 2;
        assert_eq!(api_keys::get(&mut tx, key.id).await.expect("reads"), Some(key));
    }

    async fn names_and_secrets_are_unique(db) {
        let first = plain(db, "same");
        for (second, expected) in [
            (plain(db, "same"), "api_keys.name"),
            (ApiKey { hash: first.hash, ..plain(db, "other") }, "api_keys.hash"),
        ] {
            let mut tx = db.store.begin().await.expect("begins");
            api_keys::insert(&mut tx, &first).await.expect("inserts");
            let refused = api_keys::insert(&mut tx, &second).await.expect_err("conflicts");
            assert!(matches!(refused, StoreError::Conflict { constraint } if constraint == expected));
        }
    }

    async fn use_is_noted_forward_and_bumps_nothing(db) {
        let key = plain(db, "one");
        let mut tx = db.store.begin().await.expect("begins");
        api_keys::insert(&mut tx, &key).await.expect("inserts");
        tx.commit().await.expect("commits");

        let (early, late) = (db.now(), db.now().plus(Duration::from_secs(1)));
        let address = "2001:db8::1".parse().ok();
        let mut tx = db.store.begin().await.expect("begins");
        let uses = vec![(key.id, late, address), (key.id, early, None), (ApiKeyId::new(&db.clock), late, None)];
        api_keys::touch(&mut tx, uses).await.expect("touches");
        // A write of somebody who read the key before leaves the use alone.
        assert!(api_keys::update(&mut tx, &key, 1).await.expect("updates"));
        let read = api_keys::get(&mut tx, key.id).await.expect("reads").expect("is there");
        assert_eq!((read.last_used_at, read.last_ip), (Some(late), address));
        drop(tx);

        let mut tx = db.store.begin().await.expect("begins");
        api_keys::touch(&mut tx, vec![(key.id, late, address)]).await.expect("touches");
        tx.commit().await.expect("commits");
        let mut tx = db.store.read().await.expect("reads");
        assert_eq!(changes::revision(&mut tx).await.expect("reads"), 1);
        assert_eq!(api_keys::get(&mut tx, key.id).await.expect("reads").map(|key| key.version), Some(1));
    }

    /// Rather an error than a key without its limit.
    async fn half_a_limit_is_corrupt(db) {
        let mut tx = db.store.begin().await.expect("begins");
        let key = full(db, "one");
        api_keys::insert(&mut tx, &key).await.expect("inserts");
        tx.execute("api_keys", "UPDATE api_keys SET rate_window_s = NULL", cells![]).await.expect("updates");
        let refused = api_keys::get(&mut tx, key.id).await.expect_err("is corrupt");
        assert!(matches!(refused, StoreError::Corrupt { table: "api_keys", column, .. } if column == "rate_limit"));
    }
}
