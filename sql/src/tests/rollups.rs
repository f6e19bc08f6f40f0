//! Sums of calls: they agree with the records, whoever writes them and however often.

use std::time::Duration;

use super::call_records::{insert, insert_again, record};
use super::harness::{KEY, TestDatabase, on_each_database, on_postgres};
use crate::call_records::NAME_BYTES_MAX;
use crate::db::cells;
use crate::model::call_batch::CallBatch;
use crate::model::call_record::{CallOutcome, CallRecord};
use crate::model::ids::ApiKeyId;
use crate::model::rollup::{Rollup, RollupSpan};
use crate::model::time::Timestamp;
use crate::statistics::{self, Cover, StatisticsFilter};
use crate::{call_records, rollups};

/// The sums of all time there is, of quarters of an hour.
async fn sums(db: &TestDatabase) -> Vec<Rollup> {
    let (from, to) = (Timestamp::from_millis(0), db.now().plus(Duration::from_hours(1)));
    let mut sums = Vec::new();
    let mut tx = db.store.read().await.expect("reads");
    let cover = Cover::of(from, to, db.now());
    statistics::each(&mut tx, &cover, &StatisticsFilter::default(), |sum| sums.push(sum))
        .await
        .expect("reads");
    sums
}

async fn rows(db: &TestDatabase, span: RollupSpan) -> u64 {
    let mut tx = db.store.read().await.expect("reads");
    let sql = "SELECT COUNT(*) AS n FROM call_rollups WHERE span = $1";
    tx.query_one("call_rollups", sql, cells![span.as_str()]).await.expect("reads").get("n").expect("a number")
}

async fn prune(db: &TestDatabase, span: RollupSpan, before: Timestamp) -> u64 {
    let mut tx = db.store.begin().await.expect("begins");
    let pruned = rollups::prune(&mut tx, span, before).await.expect("prunes");
    tx.commit().await.expect("commits");
    pruned
}

on_each_database! {
    async fn calls_that_are_alike_are_one_sum(db) {
        let now = db.now();
        let records: Vec<_> = (0..1_000_u32).map(|n| CallRecord {
            latency_us: u64::from(n),
            outcome: if n % 10 == 0 { CallOutcome::Timeout } else { CallOutcome::Ok },
            bytes_out: 7,
            ..record(now, n.into())
        }).collect();
        // In several batches: the later ones add to what the earlier ones made.
        for part in records.chunks(130) {
            let one_upstream: Vec<_> = part.iter().map(|other| CallRecord {
                upstream_id: records[0].upstream_id, key_id: records[0].key_id, ..other.clone()
            }).collect();
            insert(db, &one_upstream).await;
        }
        let mut sums = sums(db).await;
        sums.sort_by_key(|sum| sum.tally.calls);
        let [timeouts, good] = sums.as_slice() else { panic!("{sums:#?}") };
        assert_eq!((timeouts.outcome, timeouts.tally.calls), (CallOutcome::Timeout, 100));
        assert_eq!((good.outcome, good.tally.calls, good.tally.bytes_in), (CallOutcome::Ok, 900, 270_000));
        assert_eq!((good.tally.bytes_out, good.tally.latency_us), (6_300, 499_500 - 49_500));
        assert_eq!(good.tally.latencies.count(), 900);
        let median = good.tally.latencies.percentile(500).expect("there are some");
        assert!(median.abs_diff(499) <= 499 / 32, "{median}");
        assert_eq!((rows(db, RollupSpan::Minute).await, rows(db, RollupSpan::Quarter).await), (2, 2));
    }

    async fn a_batch_that_is_written_again_is_added_once(db) {
        let records: Vec<_> = (0..7).map(|id| record(db.now(), id)).collect();
        insert_again(db, &records[..4]).await;
        insert_again(db, &records).await;
        insert_again(db, &records).await;
        let calls: u64 = sums(db).await.iter().map(|sum| sum.tally.calls).sum();
        assert_eq!(calls, 7);
    }

    async fn what_is_rolled_back_is_in_neither(db) {
        let mut tx = db.store.begin().await.expect("begins");
        call_records::insert(&mut tx, &CallBatch::of(&[record(db.now(), 0)])).await.expect("inserts");
        drop(tx);
        assert_eq!(sums(db).await, []);
    }

    async fn a_name_that_no_column_takes_costs_no_sum(db) {
        let long = "\u{1F600}".repeat(NAME_BYTES_MAX);
        let names = ["", "a\0b", &long];
        let records: Vec<_> = (0_i64..).zip(names).map(|(id, name)| CallRecord {
            exposed_name: name.to_owned(), ..record(db.now(), id)
        }).collect();
        insert(db, &records).await;
        let mut found: Vec<_> = sums(db).await.into_iter().map(|sum| sum.exposed_name).collect();
        found.sort();
        assert_eq!(found, ["", "a\u{FFFD}b", &"\u{1F600}".repeat(NAME_BYTES_MAX / 4)]);
    }

    async fn a_damaged_histogram_keeps_nothing_out(db) {
        let records = [record(db.now(), 0), record(db.now(), 1)];
        insert(db, &records[..1]).await;
        let mut tx = db.store.begin().await.expect("begins");
        let sql = "UPDATE call_rollups SET latencies = $1";
        tx.execute("call_rollups", sql, cells![vec![0x80_u8]]).await.expect("updates");
        tx.commit().await.expect("commits");
        assert_eq!(sums(db).await, [], "passed over");
        insert(db, &[CallRecord { key_id: records[0].key_id, upstream_id: records[0].upstream_id, ..records[1].clone() }]).await;
        let sums = sums(db).await;
        assert_eq!((sums[0].tally.calls, sums[0].tally.latencies.count()), (2, 1));
    }

    async fn what_is_too_old_is_pruned_span_by_span(db) {
        let now = db.now();
        for minutes in 0..60_u32 {
            insert(db, &[record(now.minus(Duration::from_mins(1) * minutes), minutes.into())]).await;
        }
        assert_eq!((rows(db, RollupSpan::Minute).await, rows(db, RollupSpan::Quarter).await), (60, 60));
        let before = RollupSpan::Quarter.start(now.minus(Duration::from_mins(30)));
        let minutes = prune(db, RollupSpan::Minute, before).await;
        assert_eq!(rows(db, RollupSpan::Minute).await, 60 - minutes);
        assert!(minutes > 0 && rows(db, RollupSpan::Quarter).await == 60);
        assert_eq!(prune(db, RollupSpan::Minute, before).await, 0);
        assert_eq!(prune(db, RollupSpan::Quarter, now.plus(Duration::from_hours(1))).await, 60);
    }
}

/// Two replicas that write at once wait for each other's rows, and lose nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_add_up() {
    on_postgres(async |db: &TestDatabase| {
        let other = db.open_another(KEY).await.expect("opens");
        let now = db.now();
        let keys: Vec<_> = (0..20_u32).map(|_| ApiKeyId::at(now)).collect();
        let upstream_id = record(now, 0).upstream_id;
        let write = async |store: &crate::Store, first: i64| {
            for batch in 0..10_i64 {
                let record = |n: i64| CallRecord {
                    key_id: keys[usize::try_from(n % 20).expect("small")],
                    upstream_id,
                    ..record(now, first + batch * 100 + n)
                };
                let records: Vec<_> = (0..100).map(record).collect();
                let mut tx = store.begin().await.expect("begins");
                call_records::insert(&mut tx, &CallBatch::of(&records)).await.expect("inserts");
                tx.commit().await.expect("commits");
            }
        };
        tokio::join!(write(&db.store, 0), write(&other, 1_000_000));
        other.close().await;
        let sums = sums(db).await;
        assert_eq!(sums.len(), 20);
        for sum in &sums {
            assert_eq!((sum.tally.calls, sum.tally.latencies.count()), (100, 100));
        }
    })
    .await;
}
