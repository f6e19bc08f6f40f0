//! The log on a store in memory.

use sql::clock::Clock;
use sql::model::settings::Mode;
use sql::model::{
    ApiKeyId, CallBatch, CallMethod, CallOutcome, CallRecord, CallTransport, Era, KeyMode, Kind,
};
use sql::seal::MasterKey;
use sql::statistics::{self, Cover, StatisticsFilter};
use sql::{Database, StoreOptions, call_records};

use super::*;
use crate::cache::redis::tests::{address, replica};
use crate::catalog::testing::{NOW, catalog, upstream_with};
use crate::feed::Feed;
use crate::upstream::call::Answer;

async fn store(database: Database) -> Store {
    let (master_key, _) = MasterKey::from_env_text(MasterKey::generate_hex().expose()).unwrap();
    let start_timeout = Duration::from_secs(10);
    Store::open(StoreOptions {
        database,
        master_key,
        previous_keys: Vec::new(),
        clock: Clock::manual(NOW),
        start_timeout,
    })
    .await
    .unwrap()
}

fn log(store: &Store) -> CallLog {
    CallLog::new(
        store.clone(),
        watch::channel(Arc::new(Settings::default())).1,
        Feed::default(),
        None,
        &Cache::default(),
    )
}

fn item() -> Arc<Item> {
    let catalog = catalog(&[upstream_with(&["echo".to_owned()])]);
    Arc::clone(catalog.items(Kind::Tool).next().expect("one tool"))
}

fn begin(log: &CallLog, item: &Arc<Item>) -> Recording {
    let way = Way::of("/mcp/smart/ws", KeyMode::Inherit, Mode::Full);
    let begun = Begun { key: ApiKeyId::at(NOW), way, era: Era::Modern, bytes_in: 7, deadline: None };
    log.begin(CallMethod::CallTool, item, begun)
}

fn end(recording: Recording) {
    recording.end(CallOutcome::Ok, &Answer::Result(bytes::Bytes::from_static(b"{}")));
}

async fn newest(store: &Store) -> Vec<CallRecord> {
    call_records::newest(&mut store.read().await.unwrap(), 100_000).await.unwrap()
}

/// The calls that there are sums of.
async fn calls(store: &Store) -> u64 {
    let (from, to) = (NOW.minus(Duration::from_hours(1)), NOW.plus(Duration::from_hours(1)));
    let mut calls = 0;
    let (cover, any) = (Cover::of(from, to, NOW), StatisticsFilter::default());
    let mut tx = store.read().await.unwrap();
    statistics::each(&mut tx, &cover, &any, |sum| calls += sum.tally.calls).await.unwrap();
    calls
}

#[tokio::test]
async fn a_call_leaves_its_record() {
    let store = store(Database::SqliteMemory).await;
    let (log, item) = (log(&store), item());
    end(begin(&log, &item));
    drop(begin(&log, &item));
    log.flush().await;
    let records = newest(&store).await;
    let [cancelled, done] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((done.outcome, done.bytes_in, done.bytes_out), (CallOutcome::Ok, 7, 2));
    assert_eq!((done.transport, done.mode, done.era), (CallTransport::Websocket, Mode::Smart, Era::Modern));
    assert_eq!((&*done.upstream_name, &*done.exposed_name, done.at), ("echo", "echo", NOW));
    assert_eq!(done.upstream_id, item.upstream.id);
    assert_eq!((cancelled.outcome, cancelled.bytes_out), (CallOutcome::Cancelled, 0));
    assert_eq!(log.counts(), CallLogCounts { written: 2, ..CallLogCounts::default() });
}

#[tokio::test]
async fn a_full_queue_loses_records_and_counts_them() {
    let store = store(Database::SqliteMemory).await;
    let (log, item) = (log(&store), item());
    for _ in 0..QUEUE_MAX + 3 {
        end(begin(&log, &item));
    }
    assert_eq!(log.counts().lost, 3);
    // However long it takes: what the end of the process waits for is bounded.
    assert!(log.0.writer.lock().await.write_all().await);
    assert_eq!(newest(&store).await.len(), QUEUE_MAX);
    assert_eq!(log.counts().written, QUEUE_MAX as u64);
}

/// What a store that is away doesn't take is kept up to the bound, the oldest giving way.
#[tokio::test]
async fn without_the_store_records_are_kept_up_to_a_bound() {
    let store = store(Database::SqliteMemory).await;
    let (log, item) = (log(&store), item());
    store.close().await;
    let mut ended = 0;
    while ended < writer::BUFFER_MAX + 5_000 {
        for _ in 0..1_000 {
            end(begin(&log, &item));
        }
        ended += 1_000;
        log.flush().await;
    }
    let counts = log.counts();
    assert_eq!(counts.written, 0);
    assert_eq!(counts.lost + counts.buffered, ended as u64);
    assert!(counts.lost >= 4_000, "{counts:?}");
}

/// A database that is locked by another process for a while, as by a backup.
#[tokio::test]
async fn what_was_kept_is_written_when_the_store_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(Database::Sqlite { path: folder.path().join("gateway.db") }).await;
    let (log, item) = (log(&store), item());
    end(begin(&log, &item));
    let writing = store.begin().await.unwrap();
    // Dropped in the middle, as at the end of the tasks: the batch is put back.
    let flush = async { log.0.writer.lock().await.write_all().await };
    timeout(Duration::from_millis(50), flush).await.expect_err("another transaction writes");
    assert_eq!(log.counts().buffered, 1);
    end(begin(&log, &item));
    drop(writing);
    log.flush().await;
    assert_eq!(newest(&store).await.len(), 2);
    assert_eq!(log.counts(), CallLogCounts { written: 2, ..CallLogCounts::default() });
}

#[tokio::test]
async fn what_is_too_much_or_too_old_is_dropped() {
    let store = store(Database::SqliteMemory).await;
    let mut settings = Settings::default();
    settings.statistics.records_max = Some(5);
    let settings = watch::Sender::new(Arc::new(settings));
    let (log, item) =
        (CallLog::new(store.clone(), settings.subscribe(), Feed::default(), None, &Cache::default()), item());
    for _ in 0..20 {
        end(begin(&log, &item));
    }
    log.flush().await;
    log.drop_old_records().await.unwrap();
    assert_eq!((newest(&store).await.len(), log.counts().surplus), (5, 15));
    log.prune_rollups().await.unwrap();
    assert_eq!(calls(&store).await, 20, "sums are of all calls that there were");
    store.clock().advance(Duration::from_hours(24 * 91));
    log.drop_old_records().await.unwrap();
    log.prune_rollups().await.unwrap();
    store.clock().set_back(Duration::from_hours(24 * 91));
    assert_eq!((newest(&store).await.len(), calls(&store).await), (0, 0));
}

#[tokio::test]
async fn calls_are_metered_and_not_recorded_where_statistics_are_off() {
    let store = store(Database::SqliteMemory).await;
    let mut off = Settings::default();
    off.statistics.enabled = false;
    let settings = watch::Sender::new(Arc::new(off));
    let (log, item) =
        (CallLog::new(store.clone(), settings.subscribe(), Feed::default(), None, &Cache::default()), item());
    let metered = || log.meters().open().total(item.upstream.id);
    end(begin(&log, &item));
    log.flush().await;
    assert_eq!((newest(&store).await.len(), calls(&store).await, metered()), (0, 0, 1));
    assert_eq!(log.counts(), CallLogCounts::default(), "nothing was lost");
    settings.send_replace(Arc::new(Settings::default()));
    end(begin(&log, &item));
    log.flush().await;
    assert_eq!((newest(&store).await.len(), calls(&store).await, metered()), (1, 1, 2));
}

/// A write that was cut off is repeated: records and sums have it once.
#[tokio::test]
async fn a_write_that_is_repeated_counts_once() {
    let store = store(Database::SqliteMemory).await;
    let (log, item) = (log(&store), item());
    for _ in 0..3 {
        end(begin(&log, &item));
    }
    log.flush().await;
    let written = newest(&store).await;
    // As after a commit whose answer was lost.
    log.0.writer.lock().await.take_back(CallBatch::of(&written));
    end(begin(&log, &item));
    log.flush().await;
    assert_eq!((newest(&store).await.len(), calls(&store).await), (4, 4));
}

/// A database that is away for long: what is too much for memory waits in Redis, and is counted as such.
#[tokio::test]
async fn what_is_too_much_for_memory_waits_in_redis() {
    let Some(server) = address() else { return };
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let redis = replica(&server, uuid::Uuid::now_v7(), &tasks).await;
    let cache = Cache::Redis(redis.clone());
    let store = store(Database::SqliteMemory).await;
    let settings = watch::channel(Arc::new(Settings::default())).1;
    let (log, item) = (CallLog::new(store.clone(), settings, Feed::default(), None, &cache), item());
    store.close().await;
    let mut ended = 0;
    while ended < writer::BUFFER_MAX + 5_000 {
        for _ in 0..1_000 {
            end(begin(&log, &item));
        }
        ended += 1_000;
        log.flush().await;
    }
    let all = CallLogCounts { buffered: ended as u64, ..CallLogCounts::default() };
    assert_eq!(log.counts(), all);
    let mut command = redis::cmd("HLEN");
    command.arg(redis.full_name(&format!("calls:{}", redis.replica())));
    assert_eq!(redis.command::<u64>(&command).await.unwrap(), ended as u64 / 1_000);
    tasks.stop().await;
}

/// One replica finds what another left, which is written already in part: each call counts once.
#[tokio::test]
async fn what_a_replica_left_in_redis_another_writes_once() {
    let Some(server) = address() else { return };
    let installation = uuid::Uuid::now_v7();
    let (gone, tasks) =
        (Tasks::new(tokio::runtime::Handle::current()), Tasks::new(tokio::runtime::Handle::current()));
    let one = replica(&server, installation, &gone).await;
    let two = replica(&server, installation, &tasks).await;
    let store = store(Database::SqliteMemory).await;
    let item = item();
    let log = |redis: &crate::cache::redis::Redis| {
        let settings = watch::channel(Arc::new(Settings::default())).1;
        CallLog::new(store.clone(), settings, Feed::default(), None, &Cache::Redis(redis.clone()))
    };
    let (first, second) = (log(&one), log(&two));
    for _ in 0..3 {
        end(begin(&first, &item));
    }
    first.flush().await;
    // As if it was killed between two commits: one batch is written and has its copy still, one was never written.
    let written = CallBatch::of(&newest(&store).await);
    let mut copies = copies::Copies::new(&Cache::Redis(one.clone())).unwrap();
    copies.put(&written).await.unwrap();
    let mut unwritten = newest(&store).await;
    for (id, record) in (0_i64..).zip(&mut unwritten) {
        record.id = sql::model::CallRecordId::from_i64(id);
    }
    copies.put(&CallBatch::of(&unwritten)).await.unwrap();
    gone.stop().await;
    second.0.writer.lock().await.write_left().await;
    assert_eq!((newest(&store).await.len(), calls(&store).await), (6, 6));
    assert_eq!(second.counts(), CallLogCounts { written: 3, ..CallLogCounts::default() });
    let mut command = redis::cmd("EXISTS");
    command.arg(two.full_name(&format!("calls:{}", one.replica())));
    assert_eq!(two.command::<u64>(&command).await.unwrap(), 0);
    tasks.stop().await;
}
