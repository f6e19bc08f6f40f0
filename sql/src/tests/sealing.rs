//! Secrets at rest: not readable, not movable.

use super::harness::{TestDatabase, on_each_database, on_each_shared_database};
use super::upstreams::full;
use crate::db::cells;
use crate::error::StoreError;
use crate::model::upstream::Upstream;
use crate::{Database, upstreams};

async fn insert(db: &TestDatabase, upstream: &Upstream) {
    let mut tx = db.store.begin().await.expect("begins");
    upstreams::insert(&mut tx, upstream).await.expect("inserts");
    tx.commit().await.expect("commits");
}

/// Runs an UPDATE, as somebody with access to the database would.
async fn tamper(db: &TestDatabase, sql: &str) {
    let mut tx = db.store.begin().await.expect("begins");
    assert!(tx.execute("upstreams", sql, cells![]).await.expect("updates") > 0);
    tx.commit().await.expect("commits");
}

fn assert_corrupt<T: std::fmt::Debug>(read: Result<T, StoreError>, upstream: &Upstream, column: &str) {
    let Err(StoreError::Corrupt { table: "upstreams", column: found, row }) = read else {
        panic!("must be corrupt: {read:?}")
    };
    assert_eq!((found.as_str(), row), (column, upstream.id.to_string()));
}

on_each_database! {
    async fn a_credential_moved_to_another_row_does_not_open(db) {
        let (a, b) = (full(db, "a"), full(db, "b"));
        insert(db, &a).await;
        insert(db, &b).await;
        tamper(db, "UPDATE upstreams SET credential =
            (SELECT other.credential FROM upstreams AS other WHERE other.name = 'b') WHERE name = 'a'").await;
        let mut tx = db.store.read().await.expect("reads");
        assert_corrupt(upstreams::get(&mut tx, a.id).await, &a, "credential");
        assert_eq!(upstreams::get(&mut tx, b.id).await.expect("is untouched"), Some(b));
    }

    async fn a_secret_moved_within_its_row_does_not_open(db) {
        let a = full(db, "a");
        insert(db, &a).await;
        // The environment's TOKEN takes the place of the argument.
        let mut tx = db.store.begin().await.expect("begins");
        let row = tx.query_one("upstreams", "SELECT id, conn_params FROM upstreams", cells![]).await;
        let mut params: serde_json::Value = row.expect("reads").json("conn_params").expect("is JSON");
        params["args"][1] = params["env"]["TOKEN"].clone();
        let sql = "UPDATE upstreams SET conn_params = $1";
        tx.execute("upstreams", sql, cells![params.to_string()]).await.expect("updates");
        assert_corrupt(upstreams::get(&mut tx, a.id).await, &a, "conn_params");
    }

    async fn a_column_that_is_not_what_we_write_is_named(db) {
        let a = full(db, "a");
        insert(db, &a).await;
        for (column, value) in [("transport", "'pigeon'"), ("tags", "'['"), ("conn_params", "'{}'"), ("enabled", "2")] {
            let mut tx = db.store.begin().await.expect("begins");
            let sql = format!("UPDATE upstreams SET {column} = {value}");
            tx.execute("upstreams", &sql, cells![]).await.expect("updates");
            assert_corrupt(upstreams::get(&mut tx, a.id).await, &a, column);
        }
    }
}

on_each_shared_database! {
    async fn no_secret_lies_in_the_database_as_it_is(db) {
        insert(db, &full(db, "a")).await;
        let bytes = if let Database::Sqlite { path } = &db.database {
            let mut bytes = std::fs::read(path).expect("the file is there");
            bytes.extend(std::fs::read(path.with_extension("db-wal")).expect("and its log"));
            bytes
        } else {
            let sql = "SELECT id, CAST(upstreams.* AS TEXT) AS everything FROM upstreams";
            let mut tx = db.store.read().await.expect("reads");
            let row = tx.query_one("upstreams", sql, cells![]).await.expect("reads");
            row.get::<String>("everything").expect("is text").into_bytes()
        };
        let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(holds("PLAIN"), "the row is there");
        assert!(!holds("CANARY"));
        // Nor in base64, at any of its three offsets.
        assert!(!holds("Q0FOQVJZ") && !holds("NBTkFSW") && !holds("DQU5BUl"));
    }
}
