//! What becomes of a call when it is over: a record of it, for statistics.
//!
//! A call never waits for the store. Its record goes into a bounded queue, which is full rather than
//! waited for; a task takes what is there about once a second and writes it in batches. While the store
//! is away records are kept in memory, up to a bound, the oldest giving way. What is lost in one way or
//! another is counted. So a crash costs the records of less than a second. The same task meters the calls, also
//! where none is recorded: counting costs a call nothing.

mod batching;
mod copies;
mod left;
mod recording;
mod retention;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use sql::Store;
use sql::model::{CallMethod, Settings, Timestamp};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{interval, timeout};

use self::recording::Ended;
pub use self::recording::{Begun, Recording, Way, outcome_of};
use self::writer::Writer;
use crate::cache::Cache;
use crate::catalog::Item;
use crate::feed::Feed;
use crate::metrics::calls::CallMeters;
use crate::spans::Spans;
use crate::tasks::Tasks;

/// Calls that may end between two looks at the queue: some ten thousand a second each way.
const QUEUE_MAX: usize = 32_768;

/// How often the queue is emptied, which is what a crash costs. Looking at it costs less than being woken by every
/// call, and half as many transactions half as much.
const WRITE_INTERVAL: Duration = Duration::from_millis(900);

/// How long the end of the process waits for a store that doesn't take the last records.
const FLUSH_WAIT: Duration = Duration::from_secs(5);

/// Takes the records of calls. Clones share it.
#[derive(Clone)]
pub struct CallLog(Arc<Shared>);

struct Shared {
    queue: mpsc::Sender<Ended>,
    /// Locked for as long as it writes: by its task, and at the end by the flush.
    writer: Mutex<Writer>,
    counts: Arc<Counts>,
    meters: CallMeters,
    store: Store,
    settings: watch::Receiver<Arc<Settings>>,
}

/// What became of records, since the process started.
#[derive(Default)]
struct Counts {
    written: AtomicU64,
    buffered: AtomicU64,
    lost: AtomicU64,
    surplus: AtomicU64,
}

/// What became of records, since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallLogCounts {
    /// Written to the store.
    pub written: u64,
    /// Waiting in memory for the store.
    pub buffered: u64,
    /// Lost: more came than could be queued, or kept while the store was away.
    pub lost: u64,
    /// Dropped from the store by this replica, the oldest, since there were more than are kept.
    pub surplus: u64,
}

impl CallLog {
    /// A log in which nothing is written until [`CallLog::run`] does.
    pub(crate) fn new(
        store: Store,
        settings: watch::Receiver<Arc<Settings>>,
        feed: Feed,
        spans: Option<Spans>,
        cache: &Cache,
    ) -> Self {
        let (queue, ended) = mpsc::channel(QUEUE_MAX);
        let (counts, meters) = (Arc::<Counts>::default(), CallMeters::default());
        let (of_writer, metered) = (Arc::clone(&counts), meters.clone());
        let writer = Writer::new(store.clone(), ended, of_writer, metered, (feed, spans), cache);
        Self(Arc::new(Shared { queue, writer: Mutex::new(writer), counts, meters, store, settings }))
    }

    /// Has the records written until the tasks stop. Dropping them is a job.
    pub(crate) fn run(&self, tasks: &Tasks) {
        tasks.spawn("call records", self.clone().write(tasks.clone()));
    }

    /// Begins the record of a call that was routed. It ends with [`Recording::end`]; one that is dropped
    /// before was cancelled.
    pub fn begin(&self, method: CallMethod, item: &Arc<Item>, begun: Begun) -> Recording {
        Recording::new(self.clone(), method, Arc::clone(item), begun)
    }

    /// What became of records.
    pub fn counts(&self) -> CallLogCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.0.counts;
        CallLogCounts {
            written: read(&counts.written),
            buffered: read(&counts.buffered),
            lost: read(&counts.lost),
            surplus: read(&counts.surplus),
        }
    }

    /// How many calls there were and how long they took, by upstream.
    pub fn meters(&self) -> &CallMeters {
        &self.0.meters
    }

    /// Writes what is there, for as long as the end of the process may wait.
    pub(crate) async fn flush(&self) {
        let flush = async { self.0.writer.lock().await.write_all().await };
        let is_written = timeout(FLUSH_WAIT, flush).await.unwrap_or(false);
        if !is_written {
            tracing::warn!("the last call records could not be written");
        }
    }

    fn is_recording(&self) -> bool {
        self.0.settings.borrow().statistics.enabled
    }

    fn now(&self) -> Timestamp {
        self.0.store.clock().now()
    }

    /// Never waits: a queue that is full loses the record, and counts it.
    fn push(&self, ended: Ended) {
        if self.0.queue.try_send(ended).is_err() {
            self.0.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn write(self, tasks: Tasks) {
        let mut due = interval(WRITE_INTERVAL);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let round = async {
                due.tick().await;
                let mut writer = self.0.writer.lock().await;
                if writer.write_due().await {
                    writer.write_left().await;
                }
            };
            tokio::select! {
                () = round => {}
                // What is being written then is written again by the flush, and counts once.
                () = tasks.stopping().cancelled() => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
