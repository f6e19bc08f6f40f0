//! A master key that is changed for another: nothing is lost on the way, and in the end the old one is of no use.

use uuid::Uuid;

use super::harness::{KEY, OTHER_KEY, TestDatabase, on_each_shared_database, options};
use super::oauth::{begun, granted_with_client};
use super::upstreams::full;
use super::{schema, xiaozhi_endpoints};
use crate::audit_log::{self, Verified};
use crate::db::cells;
use crate::key_rotation::{self, NotRotated, Rotated};
use crate::model::upstream::Upstream;
use crate::seal::MasterKey;
use crate::{Store, StoreError, idempotent_answers, leases, oauth, upstreams};

const ATTEMPT: [u8; 32] = [7; 32];

/// A store with the new key, to which the old one is known.
async fn with_both(db: &TestDatabase) -> Store {
    let mut options = options(&db.database, OTHER_KEY, &db.clock);
    options.previous_keys = vec![MasterKey::from_env_text(KEY).expect("a good key").0];
    Store::open(options).await.expect("opens what the old key sealed")
}

/// One value in every sealed column.
async fn fill(db: &TestDatabase) -> Upstream {
    let upstream = full(db, "full");
    let mut tx = db.store.begin().await.expect("begins");
    upstreams::insert(&mut tx, &upstream).await.expect("inserts");
    assert!(
        idempotent_answers::insert(&mut tx, &ATTEMPT, &[1; 32], b"CANARY-answer").await.expect("inserts")
    );
    tx.commit().await.expect("commits");
    let granted = granted_with_client(db, "granted").await;
    begun(db, granted, "CANARY-state").await;
    xiaozhi_endpoints::inserted(db, "desk").await;
    upstream
}

/// The columns in which a text lies that was sealed under the same key as `sealed`.
async fn columns_of_the_key_of(db: &TestDatabase, sealed: &[String]) -> Vec<String> {
    // Four bytes of key id are these characters of base64url, and two bits of the next.
    let ids: Vec<&str> = sealed.iter().map(|sealed| &sealed[..5]).collect();
    let mut found = Vec::new();
    for (table, column) in schema::texts(db).await {
        let mut tx = db.store.read().await.expect("reads");
        let select = format!("SELECT {column} FROM {table} WHERE {column} IS NOT NULL");
        for row in tx.query("any", &select, cells![]).await.expect("reads") {
            let text: String = row.get(&column).expect("a text");
            // A document has its sealed values in quotes.
            let mut values = text.split('"');
            if values.any(|value| value.len() > 30 && ids.iter().any(|id| value.starts_with(id))) {
                found.push(format!("{table}.{column}"));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// What a key seals at rest, and what it seals answers with.
fn samples(store: &Store) -> Vec<String> {
    let place = crate::seal::Place { table: "t", column: "c", row: "r" };
    let token = store.sealer().seal_token(idempotent_answers::PURPOSE, b"x", b"");
    vec![store.sealer().seal(b"x", place), token]
}

on_each_shared_database! {
    async fn every_sealed_value_is_sealed_anew_and_the_old_key_is_of_no_use(db) {
        let upstream = fill(db).await;
        let sealed_before = columns_of_the_key_of(db, &samples(&db.store)).await;
        assert_eq!(sealed_before, [
            "audit_head.chain_key", "idempotent_answers.answer", "installation.key_check",
            "oauth_authorizations.document", "oauth_clients.client", "oauth_grants.tokens",
            "upstreams.conn_params", "upstreams.credential", "xiaozhi_endpoints.url",
        ]);
        let both = with_both(db).await;
        let rotated = key_rotation::rotate(&both).await.expect("rotates");
        assert_eq!(rotated.resealed, 9, "one a column");
        assert_eq!(columns_of_the_key_of(db, &samples(&db.store)).await, Vec::<String>::new());
        assert_eq!(columns_of_the_key_of(db, &samples(&both)).await, sealed_before);
        both.close().await;

        assert!(matches!(db.open_another(KEY).await.map(drop), Err(StoreError::WrongKey)));
        let new = db.open_another(OTHER_KEY).await.expect("the new key alone opens it");
        let mut tx = new.read().await.expect("reads");
        assert_eq!(upstreams::get(&mut tx, upstream.id).await.expect("reads"), Some(upstream));
        assert_eq!(oauth::grants(&mut tx).await.expect("reads").len(), 1);
        let kept = idempotent_answers::get(&mut tx, &ATTEMPT, db.now()).await.expect("reads").expect("is kept");
        assert_eq!(kept.answer.as_deref(), Some(&b"CANARY-answer"[..]));
        assert!(tx.take_unreadable().is_empty());
        let verified = audit_log::verify(&mut tx, None).await.expect("verifies");
        assert!(matches!(verified, Verified::Intact(_)), "{verified:?}");
        drop(tx);
        new.close().await;
    }

    async fn a_second_run_changes_nothing_and_tells_nothing(db) {
        fill(db).await;
        let both = with_both(db).await;
        key_rotation::rotate(&both).await.expect("rotates");
        let mut tx = both.read().await.expect("reads");
        let head = audit_log::extent(&mut tx).await.expect("reads").head;
        drop(tx);
        let again = key_rotation::rotate(&both).await.expect("has nothing to do");
        assert_eq!((again.resealed, again.current > 0), (0, true));
        let mut tx = both.read().await.expect("reads");
        assert_eq!(audit_log::extent(&mut tx).await.expect("reads").head, head);
        drop(tx);
        both.close().await;
    }

    async fn what_both_gateways_write_meanwhile_opens_and_is_sealed_anew(db) {
        let both = with_both(db).await;
        let (old, new) = (full(db, "by the old"), full(db, "by the new"));
        for (store, upstream) in [(&db.store, &old), (&both, &new)] {
            let mut tx = store.begin().await.expect("begins");
            upstreams::insert(&mut tx, upstream).await.expect("inserts");
            tx.commit().await.expect("commits");
        }
        let rotated = key_rotation::rotate(&both).await.expect("rotates");
        assert_eq!(rotated, Rotated { resealed: 4, current: 4 }, "two of the old, the chain's key and the check");
        let mut tx = both.read().await.expect("reads");
        assert_eq!(upstreams::get(&mut tx, old.id).await.expect("reads"), Some(old.clone()), "version and all");
        drop(tx);
        both.close().await;
    }

    async fn a_value_that_opens_with_no_key_is_named_and_the_key_check_stays(db) {
        let upstream = fill(db).await;
        let mut tx = db.store.begin().await.expect("begins");
        let sql = "UPDATE xiaozhi_endpoints SET url = $1";
        tx.execute("xiaozhi_endpoints", sql, cells!["AAAA"]).await.expect("updates");
        tx.commit().await.expect("commits");
        let both = with_both(db).await;
        let refused = key_rotation::rotate(&both).await.expect_err("must not end");
        let NotRotated::Unreadable { total: 1, first } = refused else { panic!("{refused:?}") };
        assert_eq!((first[0].table, first[0].column.as_str()), ("xiaozhi_endpoints", "url"));
        let old_still_starts = db.open_another(KEY).await.expect("the key check is of the old key");
        old_still_starts.close().await;
        let mut tx = both.begin().await.expect("begins");
        assert!(upstreams::get(&mut tx, upstream.id).await.expect("reads").is_some());
        tx.execute("xiaozhi_endpoints", "DELETE FROM xiaozhi_endpoints", cells![]).await.expect("deletes");
        tx.commit().await.expect("commits");
        key_rotation::rotate(&both).await.expect("goes on where it ended");
        both.close().await;
    }

    async fn only_one_runs_at_a_time(db) {
        let mut tx = db.store.begin().await.expect("begins");
        let ttl = std::time::Duration::from_secs(30);
        assert!(leases::acquire(&mut tx, "rotate-key", Uuid::from_u128(1), ttl).await.expect("acquires"));
        tx.commit().await.expect("commits");
        let refused = key_rotation::rotate(&db.store).await;
        assert!(matches!(refused, Err(NotRotated::Running)), "{refused:?}");
    }

    async fn a_store_that_knows_only_the_new_key_does_not_open_before(db) {
        assert!(matches!(db.open_another(OTHER_KEY).await.map(drop), Err(StoreError::WrongKey)));
    }
}
