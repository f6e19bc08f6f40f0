//! What the control planes of replicas know of each other: guesses of passwords, and answers to creates.

use std::time::Duration;

use super::harness::{KEY, on_each_database, on_each_shared_database};
use crate::idempotent_answers::{self, Kept};
use crate::login_attempts::{self, Attempts};
use crate::model::time::Timestamp;

const ACCOUNT: [u8; 32] = [7; 32];

on_each_database! {
    async fn attempts_are_counted_forgotten_and_swept(db) {
        let (now, later) = (db.now(), db.now().plus(Duration::from_secs(1)));
        let mut tx = db.store.begin().await.expect("begins");
        let none = Attempts { count: 0, last_at: Timestamp::from_millis(0) };
        assert_eq!(login_attempts::lock(&mut tx, &ACCOUNT).await.expect("locks"), none);
        let some = Attempts { count: u32::MAX, last_at: now };
        login_attempts::save(&mut tx, &ACCOUNT, some).await.expect("saves");
        assert_eq!(login_attempts::lock(&mut tx, &ACCOUNT).await.expect("locks"), some);
        assert_eq!(login_attempts::lock(&mut tx, &[8; 32]).await.expect("locks"), none);
        login_attempts::forget(&mut tx, &[8; 32]).await.expect("forgets");
        assert_eq!(login_attempts::sweep(&mut tx, now).await.expect("sweeps"), 0);
        assert_eq!(login_attempts::sweep(&mut tx, later).await.expect("sweeps"), 1);
        assert_eq!(login_attempts::lock(&mut tx, &ACCOUNT).await.expect("locks"), none);
    }

    async fn an_answer_is_kept_sealed_once_and_for_a_while(db) {
        let (now, later) = (db.now(), db.now().plus(Duration::from_secs(1)));
        let mut tx = db.store.begin().await.expect("begins");
        let attempt = [1; 32];
        assert_eq!(idempotent_answers::get(&mut tx, &attempt, now).await.expect("reads"), None);
        assert!(idempotent_answers::insert(&mut tx, &attempt, &[2; 32], b"CANARY").await.expect("writes"));
        assert!(!idempotent_answers::insert(&mut tx, &attempt, &[3; 32], b"other").await.expect("answers"));
        let kept = Kept { body_hash: [2; 32], answer: Some(b"CANARY".to_vec()) };
        assert_eq!(idempotent_answers::get(&mut tx, &attempt, now).await.expect("reads"), Some(kept));
        assert_eq!(idempotent_answers::get(&mut tx, &attempt, later).await.expect("reads"), None);
        let stored = tx.query_one("", "SELECT answer FROM idempotent_answers", vec![]).await.expect("is there");
        assert!(!stored.get::<String>("answer").expect("a text").contains("CANARY"));
        assert_eq!(idempotent_answers::count(&mut tx).await.expect("counts"), 1);
        assert_eq!(idempotent_answers::sweep(&mut tx, later).await.expect("sweeps"), 1);
        assert_eq!(idempotent_answers::count(&mut tx).await.expect("counts"), 0);
    }
}

on_each_shared_database! {
    async fn who_counts_at_once_counts_one_after_the_other(db) {
        let other = db.open_another(KEY).await.expect("opens");
        let count = async |store: &crate::Store| {
            let mut tx = store.begin().await.expect("begins");
            let before = login_attempts::lock(&mut tx, &ACCOUNT).await.expect("locks");
            let now = login_attempts::now(&mut tx).await.expect("answers");
            let after = Attempts { count: before.count + 1, last_at: now };
            login_attempts::save(&mut tx, &ACCOUNT, after).await.expect("saves");
            tx.commit().await.expect("commits");
        };
        let stores = [&db.store, &other];
        futures::future::join_all((0..20).map(|index| count(stores[index % 2]))).await;
        let mut tx = db.store.begin().await.expect("begins");
        assert_eq!(login_attempts::lock(&mut tx, &ACCOUNT).await.expect("locks").count, 20);
        drop(tx);
        other.close().await;
    }
}
