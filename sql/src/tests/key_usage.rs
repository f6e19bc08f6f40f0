//! What keys used, added up.

use std::time::Duration;

use super::harness::on_each_database;
use crate::key_usage;
use crate::model::ids::ApiKeyId;
use crate::model::key_usage::{KeyUsage, QuotaSpan};

on_each_database! {
    async fn messages_add_up_by_key_day_and_month(db) {
        let (now, key) = (db.now(), ApiKeyId::new(&db.clock));
        let of = |key_id, span: QuotaSpan, messages| KeyUsage { key_id, span, starts_at: span.start(now), messages };
        let (day, month) = (of(key, QuotaSpan::Day, 3), of(key, QuotaSpan::Month, 30));
        let mut tx = db.store.begin().await.expect("works");
        assert_eq!(key_usage::add(&mut tx, &[month, day]).await.expect("works"), [day, month]);
        let sums = key_usage::add(&mut tx, &[day]).await.expect("works");
        assert_eq!(sums, [of(key, QuotaSpan::Day, 6)]);
        // More than one statement's worth, with counts as large as they get.
        let others: Vec<KeyUsage> =
            (0..250).map(|_| of(ApiKeyId::new(&db.clock), QuotaSpan::Day, u64::MAX >> 1)).collect();
        assert_eq!(key_usage::add(&mut tx, &others).await.expect("works").len(), 250);
        tx.commit().await.expect("works");

        let mut tx = db.store.begin().await.expect("works");
        let current = key_usage::current(&mut tx, now).await.expect("works");
        assert_eq!(current.len(), 252);
        assert!(current.contains(&of(key, QuotaSpan::Day, 6)) && current.contains(&month));
        let tomorrow = now.plus(Duration::from_hours(24));
        let current = key_usage::current(&mut tx, tomorrow).await.expect("works");
        assert_eq!(current, [month], "the same month, another day");
        assert_eq!(key_usage::sweep(&mut tx, QuotaSpan::Day.start(now)).await.expect("works"), 1);
        assert_eq!(key_usage::sweep(&mut tx, tomorrow).await.expect("works"), 251);
        tx.commit().await.expect("works");
    }
}
