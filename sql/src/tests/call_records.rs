//! Call records: batches that nothing breaks, and as many records as are wanted.

use std::time::Duration;

use super::harness::{TestDatabase, on_each_database, on_file, on_postgres};
use crate::call_records::{self, Dropped, Keep, NAME_BYTES_MAX};
use crate::db::{Access, Db, cells};
use crate::model::call_batch::CallBatch;
use crate::model::call_record::{CallMethod, CallOutcome, CallRecord, CallRecordId, CallTransport};
use crate::model::definition::Era;
use crate::model::ids::{ApiKeyId, UpstreamId};
use crate::model::settings::Mode;
use crate::model::time::Timestamp;
use crate::{call_kinds, migrate};

const DAY: Duration = Duration::from_hours(24);

pub(super) fn record(at: Timestamp, id: i64) -> CallRecord {
    CallRecord {
        at,
        id: CallRecordId::from_i64(id),
        method: CallMethod::CallTool,
        upstream_id: UpstreamId::at(at),
        upstream_name: "echo".to_owned(),
        exposed_name: "a_echo".to_owned(),
        key_id: ApiKeyId::at(at),
        transport: CallTransport::Websocket,
        era: Era::Legacy,
        mode: Mode::Smart,
        outcome: CallOutcome::ToolError,
        latency_us: 1_234,
        bytes_in: 300,
        bytes_out: 0,
    }
}

pub(super) async fn insert(db: &TestDatabase, records: &[CallRecord]) {
    let mut tx = db.store.begin().await.expect("begins");
    call_records::insert(&mut tx, &CallBatch::of(records)).await.expect("inserts");
    tx.commit().await.expect("commits");
}

pub(super) async fn insert_again(db: &TestDatabase, records: &[CallRecord]) {
    let mut tx = db.store.begin().await.expect("begins");
    call_records::insert_again(&mut tx, &CallBatch::of(records)).await.expect("inserts");
    tx.commit().await.expect("commits");
}

async fn newest(db: &TestDatabase, limit: u32) -> Vec<CallRecord> {
    let mut tx = db.store.read().await.expect("reads");
    call_records::newest(&mut tx, limit).await.expect("reads")
}

async fn count(db: &TestDatabase) -> u64 {
    let mut tx = db.store.read().await.expect("reads");
    call_records::count(&mut tx).await.expect("reads")
}

/// How many rows there really are.
async fn rows(db: &TestDatabase, table: &str) -> i64 {
    let mut tx = db.store.read().await.expect("reads");
    let sql = format!("SELECT COUNT(*) AS n FROM {table}");
    tx.query_one("call_records", &sql, cells![]).await.expect("reads").get("n").expect("a number")
}

/// Drops until there is nothing more to drop.
async fn drop_all(db: &TestDatabase, keep: Keep) -> (u64, u64) {
    let (mut expired, mut surplus) = (0, 0);
    loop {
        let mut tx = db.store.begin().await.expect("begins");
        let Dropped { expired: old, surplus: many, more } =
            call_records::drop_oldest(&mut tx, keep).await.expect("drops");
        tx.commit().await.expect("commits");
        (expired, surplus) = (expired + old, surplus + many);
        if !more {
            return (expired, surplus);
        }
    }
}

async fn tend(db: &TestDatabase, now: Timestamp, keep_from: Timestamp) -> u64 {
    let mut tx = db.store.begin().await.expect("begins");
    let dropped = call_records::tend(&mut tx, now, keep_from).await.expect("tends");
    tx.commit().await.expect("commits");
    dropped
}

on_each_database! {
    async fn a_batch_is_read_as_it_was_written(db) {
        let records: Vec<_> = (0..237).map(|id| record(db.now(), id)).collect();
        insert(db, &records).await;
        let newest = newest(db, 1_000).await;
        assert_eq!(newest.into_iter().rev().collect::<Vec<_>>(), records);
        assert_eq!(count(db).await, 237);
    }

    /// A writer whose commit was cut off doesn't know whether it took effect.
    async fn a_batch_that_is_written_again_counts_once(db) {
        let mut records: Vec<_> = (0..12).map(|id| record(db.now(), id)).collect();
        insert(db, &records).await;
        records.push(record(db.now(), 12));
        insert_again(db, &records).await;
        insert_again(db, &records).await;
        insert(db, &[]).await;
        assert_eq!((count(db).await, rows(db, "call_records").await), (13, 13));
    }

    async fn a_name_that_no_column_takes_costs_no_record(db) {
        let long = "\u{1F600}".repeat(NAME_BYTES_MAX);
        let names = ["", "a\0b", &long];
        let records: Vec<_> = (0_i64..).zip(names).map(|(id, name)| CallRecord {
            upstream_name: name.to_owned(),
            exposed_name: name.to_owned(),
            ..record(db.now(), id)
        }).collect();
        insert(db, &records).await;
        let found: Vec<_> = newest(db, 10).await.into_iter().rev().map(|record| record.exposed_name).collect();
        assert_eq!(found, ["", "a\u{FFFD}b", &"\u{1F600}".repeat(NAME_BYTES_MAX / 4)]);
    }

    async fn what_is_too_old_goes_and_the_rest_stays(db) {
        let now = db.now();
        for age in 0..100_u32 {
            insert(db, &[record(now.minus(DAY * age), 0), record(now.minus(DAY * age), 1)]).await;
        }
        let keep = Keep { from: now.minus(DAY * 30), records_max: None };
        assert_eq!(drop_all(db, keep).await, (2 * 69, 0));
        assert_eq!((count(db).await, rows(db, "call_records").await), (62, 62));
        assert!(newest(db, 100).await.iter().all(|record| record.at >= keep.from));
        assert_eq!(drop_all(db, keep).await, (0, 0));
    }

    async fn of_too_many_the_oldest_go(db) {
        let now = db.now();
        // Over four months, and more than go at once.
        for month in 0..4_u32 {
            let at = now.minus(DAY * 31 * month);
            let records: Vec<_> = (0..4_000).map(|id| record(at, id)).collect();
            insert(db, &records).await;
        }
        let keep = Keep { from: now.minus(DAY * 365), records_max: Some(1_500) };
        assert_eq!(drop_all(db, keep).await, (0, 14_500));
        assert_eq!((count(db).await, rows(db, "call_records").await), (1_500, 1_500));
        let left = newest(db, 2_000).await;
        assert!(left.iter().all(|record| record.at == now && record.id.get() >= 2_500));
    }

    async fn what_records_have_in_common_goes_when_they_are_gone(db) {
        let now = db.now();
        let (old, new) = (now.minus(DAY * 100), now.minus(DAY * 20));
        insert(db, &[record(old, 0), record(old, 1)]).await;
        insert(db, &[record(new, 2), CallRecord { exposed_name: "other".into(), ..record(new, 3) }]).await;
        let prune = async || {
            let mut tx = db.store.begin().await.expect("begins");
            let pruned = call_kinds::prune(&mut tx).await.expect("prunes");
            tx.commit().await.expect("commits");
            pruned
        };
        // Stored today, they may be used until its end.
        assert_eq!((rows(db, "call_kinds").await, prune().await), (4, 0));
        drop_all(db, Keep { from: now.minus(DAY * 50), records_max: None }).await;
        db.clock.advance(DAY * 60);
        insert(db, &[record(db.now(), 4)]).await;
        drop_all(db, Keep { from: now.plus(DAY * 50), records_max: None }).await;
        assert_eq!((prune().await, rows(db, "call_kinds").await, count(db).await), (4, 1, 1));
        insert(db, &[record(old, 5)]).await;
        assert_eq!(newest(db, 10).await.len(), 2, "a kind that went is stored again");
    }

    async fn a_count_that_is_wrong_puts_itself_right(db) {
        insert(db, &[record(db.now(), 0)]).await;
        let mut tx = db.store.begin().await.expect("begins");
        tx.execute("call_months", "UPDATE call_months SET records = 500", cells![]).await.expect("updates");
        tx.commit().await.expect("commits");
        let keep = Keep { from: db.now().minus(DAY), records_max: Some(10) };
        drop_all(db, keep).await;
        assert_eq!((count(db).await, rows(db, "call_records").await), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_made_ahead_and_dropped_when_their_time_is_over() {
    on_postgres(async |db: &TestDatabase| {
        let now = db.now();
        assert_eq!(tend(db, now, now.minus(DAY * 90)).await, 0);
        insert(db, &[record(now, 0), record(now.next_month_start(), 1)]).await;
        assert_eq!(rows(db, "call_records_default").await, 0, "this month and the next have their own");
        assert_eq!((rows(db, "call_records_2026_01").await, rows(db, "call_records_2026_02").await), (1, 1));
        // In four months: January is too old, February isn't but has a record, March has none.
        let later = "2026-05-20T00:00:00Z".parse().expect("a time");
        tend(db, "2026-03-01T00:00:00Z".parse().expect("a time"), now.minus(DAY)).await;
        assert_eq!(tend(db, later, "2026-02-01T00:00:00Z".parse().expect("a time")).await, 1);
        let mut tx = db.store.read().await.expect("reads");
        let sql = "SELECT CAST(relname AS TEXT) AS name FROM pg_class JOIN pg_inherits ON oid = inhrelid
            WHERE inhparent = CAST('call_records' AS REGCLASS) ORDER BY 1";
        let found = tx.query("pg_class", sql, cells![]).await.expect("reads");
        let found: Vec<String> = found.iter().map(|row| row.get("name").expect("a text")).collect();
        drop(tx);
        let expected =
            ["2026_02", "2026_05", "2026_06", "default"].map(|part| format!("call_records_{part}"));
        assert_eq!(found, expected);
        assert_eq!((count(db).await, newest(db, 10).await.len()), (1, 1));
    })
    .await;
}

/// The job didn't run, or the clock was set: nothing is lost, and all is put right when it runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_without_a_partition_falls_to_the_default_one() {
    on_postgres(async |db: &TestDatabase| {
        let now = db.now();
        insert(db, &[record(now, 0), record(now.plus(DAY * 700), 1), record(now.minus(DAY * 700), 2)]).await;
        assert_eq!(rows(db, "call_records_default").await, 3);
        tend(db, now, now.minus(DAY * 90)).await;
        assert_eq!(rows(db, "call_records_default").await, 2, "this month's is where it belongs");
        assert_eq!((count(db).await, newest(db, 10).await.len()), (3, 3));
        // A repetition finds the record where it is now.
        insert_again(db, &[record(now, 0)]).await;
        assert_eq!(count(db).await, 3);
        let keep = Keep { from: now.minus(DAY * 90), records_max: None };
        assert_eq!(drop_all(db, keep).await, (1, 0));
        let other = db.open_another(super::harness::KEY).await.expect("opens");
        let tend = async |store: &crate::Store| {
            let mut tx = store.begin().await.expect("begins");
            let at = now.plus(DAY * 90);
            call_records::tend(&mut tx, at, now.minus(DAY * 90)).await.expect("tends");
            tx.commit().await.expect("commits");
        };
        tokio::join!(tend(&db.store), tend(&other));
        other.close().await;
    })
    .await;
}

/// Records from before there were kinds are read as they were written, and those of later beside them.
async fn old_records_are_read(db: &TestDatabase) {
    let database = Db::open(&db.database).await.expect("opens");
    let mut old = database.begin(Access::Write).await.expect("begins");
    let script = |name| migrate::script_of(name, old.dialect()).expect("there is one");
    let (before, kinds) = (script("0004_calls"), script("0010_call_kinds"));
    old.run_script("DROP TABLE call_kinds; DROP TABLE call_months; DROP TABLE call_records;")
        .await
        .expect("drops");
    old.run_script(before).await.expect("creates");
    let now = db.now();
    let (upstream_id, key_id) = (UpstreamId::at(now), ApiKeyId::at(now));
    let of = |id: i64| CallRecord {
        upstream_id,
        key_id,
        exposed_name: format!("tool_{}", id % 3),
        ..record(now.minus(DAY * u32::try_from(id).expect("small")), id)
    };
    let records: Vec<_> = (0..7).map(of).collect();
    for record in &records {
        let sql =
            "INSERT INTO call_records (at, id, method, upstream_id, upstream_name, exposed_name, key_id,
                transport, era, mode, outcome, latency_us, bytes_in, bytes_out)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
        let cells = cells![
            record.at,
            record.id.get(),
            record.method.as_str(),
            record.upstream_id,
            &record.upstream_name,
            &record.exposed_name,
            record.key_id,
            record.transport.as_str(),
            record.era.as_str(),
            record.mode.as_str(),
            record.outcome.as_str(),
            record.latency_us,
            record.bytes_in,
            record.bytes_out,
        ];
        old.run("call_records", sql, cells).await.expect("inserts");
    }
    old.run_script(kinds).await.expect("migrates");
    old.commit().await.expect("commits");
    database.close().await;
    assert_eq!(newest(db, 100).await, records);
    assert_eq!(rows(db, "call_kinds").await, 3);
    insert(db, &[of(7), of(8)]).await;
    assert_eq!(newest(db, 100).await, (0..9).map(of).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_from_before_there_were_kinds_stay_readable() {
    on_file(old_records_are_read).await;
    on_postgres(old_records_are_read).await;
}
