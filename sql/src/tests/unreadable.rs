//! Damaged rows: each is named and passed over, and costs the others nothing.

use super::harness::{TestDatabase, on_each_database};
use super::upstreams::full;
use crate::db::cells;
use crate::model::api_key::{ApiKey, PlaintextKey};
use crate::model::definition::Kind;
use crate::model::ids::ApiKeyId;
use crate::model::page::PageRequest;
use crate::{Tx, UnreadableRow, api_keys, changes, lists, oauth, sessions, upstreams};

/// Runs a statement, as somebody with access to the database would.
async fn damage(db: &TestDatabase, sql: &str) {
    let mut tx = db.store.begin().await.expect("begins");
    assert!(tx.execute("damaged", sql, cells![]).await.expect("updates") > 0, "{sql}");
    tx.commit().await.expect("commits");
}

fn assert_passed_over(tx: &mut Tx, table: &str, row: &str, column: &str) {
    let bad = tx.take_unreadable();
    let [UnreadableRow { table: of, row: which, column: what }] = bad.as_slice() else { panic!("{bad:?}") };
    assert_eq!((*of, which.as_str(), what.as_str()), (table, row, column));
    assert_eq!(tx.take_unreadable(), [], "it is told once");
}

on_each_database! {
    async fn a_damaged_upstream_costs_no_other(db) {
        let (a, b) = (full(db, "a"), full(db, "b"));
        let mut tx = db.store.begin().await.expect("begins");
        upstreams::insert(&mut tx, &a).await.expect("inserts");
        upstreams::insert(&mut tx, &b).await.expect("inserts");
        tx.commit().await.expect("commits");
        for (column, value) in [
            ("isolation", "'solitary'"),
            ("tags", "'['"),
            ("conn_params", "'{}'"),
            ("credential", "'v1:nonsense'"),
            ("enabled", "7"),
        ] {
            // Rolled back at the end of the round.
            let mut tx = db.store.begin().await.expect("begins");
            let sql = format!("UPDATE upstreams SET {column} = {value} WHERE name = 'a'");
            tx.execute("upstreams", &sql, cells![]).await.expect("updates");
            assert_eq!(upstreams::list(&mut tx).await.expect("reads"), std::slice::from_ref(&b));
            assert_passed_over(&mut tx, "upstreams", &a.id.to_string(), column);
            let request = PageRequest { limit: 10, cursor: None, search: None, sort: None };
            let page = upstreams::page(&mut tx, &request, &upstreams::UpstreamFilter::default()).await;
            assert_eq!(page.expect("reads").items, std::slice::from_ref(&b));
            assert_passed_over(&mut tx, "upstreams", &a.id.to_string(), column);
        }
    }

    async fn a_damaged_key_costs_no_other(db) {
        let mut keys = Vec::new();
        let mut tx = db.store.begin().await.expect("begins");
        for name in ["a", "b"] {
            let key = ApiKey::create(ApiKeyId::new(&db.clock), name, &PlaintextKey::generate(), db.now());
            api_keys::insert(&mut tx, &key).await.expect("inserts");
            keys.push(key);
        }
        tx.commit().await.expect("commits");
        for (column, value, mended) in [
            ("mode", "'sideways'", "'inherit'"),
            ("allowed_cidrs", "'[\"10.0.0.0/99\"]'", "'[]'"),
            ("rate_limit", "5", "NULL"),
            ("upstream_ids", "'nobody'", "NULL"),
        ] {
            damage(db, &format!("UPDATE api_keys SET {column} = {value} WHERE name = 'a'")).await;
            let mut tx = db.store.read().await.expect("reads");
            assert_eq!(api_keys::list(&mut tx).await.expect("reads"), &keys[1..]);
            assert_passed_over(&mut tx, "api_keys", &keys[0].id.to_string(), column);
            drop(tx);
            damage(db, &format!("UPDATE api_keys SET {column} = {mended} WHERE name = 'a'")).await;
        }
    }

    async fn a_damaged_definition_costs_no_other(db) {
        let (upstream, tools) = crate::tests::lists::with_tools(db, &["a", "b", "c"]).await;
        damage(db, "UPDATE definitions SET enabled = 3 WHERE upstream_name = 'b'").await;
        let mut tx = db.store.read().await.expect("reads");
        let found = lists::of_upstream(&mut tx, upstream, Kind::Tool).await.expect("reads");
        assert_eq!(found, [tools[0].clone(), tools[2].clone()]);
        assert_passed_over(&mut tx, "definitions", &tools[1].id.to_string(), "enabled");
        drop(tx);
        damage(db, "UPDATE list_states SET findings = 'none'").await;
        let mut tx = db.store.read().await.expect("reads");
        assert_eq!(lists::states(&mut tx).await.expect("reads"), []);
        assert_passed_over(&mut tx, "list_states", &upstream.to_string(), "findings");
    }

    async fn a_damaged_grant_costs_no_other(db) {
        let (a, b) = (crate::tests::oauth::granted(db, "a").await, crate::tests::oauth::granted(db, "b").await);
        damage(db, &format!("UPDATE oauth_grants SET tokens = 'x' WHERE upstream_id = '{a}'")).await;
        let mut tx = db.store.read().await.expect("reads");
        let found = oauth::grants(&mut tx).await.expect("reads");
        assert_eq!(found.iter().map(|grant| grant.upstream_id).collect::<Vec<_>>(), [b]);
        assert_passed_over(&mut tx, "oauth_grants", &a.to_string(), "tokens");
    }

    async fn a_damaged_session_costs_no_other(db) {
        let mut tx = db.store.begin().await.expect("begins");
        for rid in [1, 2] {
            sessions::end(&mut tx, uuid::Uuid::from_u128(rid), db.now()).await.expect("ends");
        }
        tx.commit().await.expect("commits");
        damage(db, &format!("UPDATE sessions SET ended = 9 WHERE rid = '{}'", uuid::Uuid::from_u128(1))).await;
        let mut tx = db.store.read().await.expect("reads");
        assert_eq!(sessions::load(&mut tx).await.expect("reads").len(), 1);
        assert_passed_over(&mut tx, "sessions", &uuid::Uuid::from_u128(1).to_string(), "ended");
    }

    /// What a newer release noted beside this one, in a rolling update: everything is read instead.
    async fn a_change_of_an_unknown_kind_is_a_gap(db) {
        let mut tx = db.store.begin().await.expect("begins");
        tx.changed(crate::ChangeKind::Settings, uuid::Uuid::nil());
        tx.commit().await.expect("commits");
        damage(db, "UPDATE changes SET kind = 'weather'").await;
        let mut tx = db.store.read().await.expect("reads");
        let since = changes::since(&mut tx, 0).await.expect("reads");
        assert_eq!((since.revision, since.entries), (1, changes::Entries::Gap));
        assert_eq!(tx.take_unreadable(), []);
    }
}
