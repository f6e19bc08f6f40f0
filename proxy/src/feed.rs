//! What happens in the data plane, for consoles that watch it live.
//!
//! Nobody waits for a console: what happens goes into one bounded ring that all of them read, and one that is too
//! far behind is told so. While none watches, nothing is made. Calls come from where their records are written, off
//! their way, and of a busy moment only some are shown.

use std::sync::Arc;

use sql::model::{CallBatch, CallRecord, UpstreamId};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::tasks::Tasks;

/// What a console may be behind: some seconds of a busy gateway.
const BEHIND_MAX: usize = 1_024;
/// Calls of one batch that are shown; nobody reads more than some hundred a second.
const CALLS_MAX: usize = 50;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Happened {
    /// The state of an upstream's connection, or what there is to say of it.
    Upstream(UpstreamId),
    /// A call ended.
    Call(Arc<CallRecord>),
    /// So many calls ended that aren't shown one by one.
    Calls(usize),
    /// The gateway stops: nothing comes any more.
    End,
}

/// Where it is told. Clones are one.
#[derive(Clone)]
pub struct Feed {
    ring: broadcast::Sender<Happened>,
    ending: CancellationToken,
}

impl Default for Feed {
    fn default() -> Self {
        Self::new(CancellationToken::new())
    }
}

impl Feed {
    /// Ends when `ending` is cancelled, once it runs.
    pub fn new(ending: CancellationToken) -> Self {
        let (ring, _) = broadcast::channel(BEHIND_MAX);
        Self { ring, ending }
    }

    /// Tells the end when it has come.
    pub(crate) fn run(&self, tasks: &Tasks) {
        let (ring, ending, stopping) = (self.ring.clone(), self.ending.clone(), tasks.stopping().clone());
        tasks.spawn("console feed", async move {
            tokio::select! {
                () = ending.cancelled() => {}
                () = stopping.cancelled() => {}
            }
            // Nobody may be watching.
            let _ = ring.send(Happened::End);
        });
    }

    /// What happens from now on; none if the gateway stops.
    pub fn watch(&self) -> Option<broadcast::Receiver<Happened>> {
        let watching = self.ring.subscribe();
        // In this order, so that no end is missed.
        (!self.ending.is_cancelled()).then_some(watching)
    }

    /// There is something new to say of an upstream.
    pub fn upstream(&self, id: UpstreamId) {
        let _ = self.ring.send(Happened::Upstream(id));
    }

    pub(crate) fn calls(&self, batch: &CallBatch) {
        if self.ring.receiver_count() == 0 {
            return;
        }
        for record in batch.records().take(CALLS_MAX) {
            let _ = self.ring.send(Happened::Call(Arc::new(record)));
        }
        if batch.len() > CALLS_MAX {
            let _ = self.ring.send(Happened::Calls(batch.len() - CALLS_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use sql::model::{ApiKeyId, CallMethod, CallOutcome, CallRecordId, CallTransport, Era, Mode, Timestamp};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn record(id: i64) -> CallRecord {
        CallRecord {
            at: NOW,
            id: CallRecordId::from_i64(id),
            method: CallMethod::CallTool,
            upstream_id: UpstreamId::at(NOW),
            upstream_name: "a".into(),
            exposed_name: "b".into(),
            key_id: ApiKeyId::at(NOW),
            transport: CallTransport::Sse,
            era: Era::Legacy,
            mode: Mode::Full,
            outcome: CallOutcome::Ok,
            latency_us: 1,
            bytes_in: 1,
            bytes_out: 1,
        }
    }

    #[tokio::test]
    async fn all_who_watch_see_the_same_and_hear_the_end() {
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let ending = CancellationToken::new();
        let feed = Feed::new(ending.clone());
        feed.run(&tasks);
        feed.calls(&CallBatch::of(&[record(1)]));
        let mut watching = [feed.watch().unwrap(), feed.watch().unwrap()];
        feed.calls(&CallBatch::of(&(0..60).map(record).collect::<Vec<_>>()));
        ending.cancel();
        for one in &mut watching {
            for id in 0..50 {
                let happened = one.recv().await.unwrap();
                assert!(matches!(happened, Happened::Call(call) if call.id.get() == id));
            }
            assert!(matches!(one.recv().await.unwrap(), Happened::Calls(10)));
            assert!(matches!(one.recv().await.unwrap(), Happened::End));
        }
        assert!(feed.watch().is_none());
        tasks.stop().await;
    }

    #[tokio::test]
    async fn who_is_too_far_behind_is_told() {
        let feed = Feed::default();
        let mut watching = feed.watch().unwrap();
        for _ in 0..=BEHIND_MAX {
            feed.upstream(UpstreamId::at(NOW));
        }
        assert!(matches!(watching.recv().await, Err(broadcast::error::RecvError::Lagged(1))));
    }
}
