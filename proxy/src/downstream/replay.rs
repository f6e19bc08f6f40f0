//! What legacy clients may come back for: the streams of their calls, while they run and shortly after.
//!
//! A stream of the legacy era is not its connection (Streamable HTTP, resumability and redelivery): when
//! the connection breaks the call goes on, and its messages wait in a [`StreamLog`] of bounded size until
//! the client comes back with the id of the last event it has. Here stands which streams there are and
//! what all of them together may hold; [`stream_log`] is one of them, [`event`] one thing said on it, [`event_id`] how that is named.
//!
//! A stream is found by a session that is its own alone. What can't be kept is given up, the oldest first;
//! a client that comes back for it is told that it is gone, and never gets another stream in its place. All
//! this is in the memory of one process, which an event's id names: after its end a call's stream is gone.

mod event;
mod event_id;
mod stream_log;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::event::Form;
pub use self::event_id::{EventId, Kind, StreamName};
pub use self::stream_log::{Reading, StreamLog};
use crate::relay::ReplicaId;
use crate::tasks::Tasks;

/// What all streams together hold for clients that may come back. It isn't reserved; a thousand calls
/// with a hundred messages each take half of it.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a stream is kept after its last event. The SDKs come back at once, and a second time within
/// half a minute.
const ENDED_KEPT: Duration = Duration::from_mins(2);

/// Ended streams kept for one session: more than a client has calls in flight at a time.
const ENDED_PER_SESSION_MAX: usize = 32;

/// Ended streams kept in all, so that a flood of short ones takes a few megabytes beside its bytes.
const ENDED_MAX: usize = 4096;

/// Streams of sessions whose client is away: each still follows what is to be told.
const AWAY_MAX: usize = 1000;

/// Between two looks for what need not be kept any longer; in this time what a revoked key left is gone.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The streams of one gateway that can be resumed. Clones share them.
#[derive(Clone, Default)]
pub struct Replays(Arc<Shared>);

#[derive(Default)]
struct Shared {
    calls: DashMap<StreamName, Arc<StreamLog>>,
    bytes: AtomicUsize,
    away: AtomicUsize,
    ended: Mutex<Ended>,
    /// Where they are.
    replica: ReplicaId,
}

/// Streams that have had their last event, by age and by session.
#[derive(Default)]
struct Ended {
    by_age: BTreeMap<u64, EndedStream>,
    by_session: HashMap<Uuid, VecDeque<u64>>,
    last: u64,
    is_swept: bool,
}

struct EndedStream {
    log: Arc<StreamLog>,
    revoked: CancellationToken,
    until: Instant,
}

impl Replays {
    /// The streams of a replica, which has none yet.
    pub fn at(replica: ReplicaId) -> Self {
        Self(Arc::new(Shared { replica, ..Shared::default() }))
    }

    /// Where they are.
    pub(super) fn replica(&self) -> ReplicaId {
        self.0.replica
    }

    /// The stream of a call that begins.
    pub fn begin(&self, session: Uuid, form: Form) -> Arc<StreamLog> {
        let log = Arc::new(StreamLog::new(Kind::Call, session, form, self.clone()));
        if form.is_resumable() {
            self.0.calls.insert(log.name(), Arc::clone(&log));
        }
        log
    }

    /// A stream of this session for what belongs to no call. Its session holds it.
    pub fn begin_session_stream(&self, session: Uuid, form: Form) -> Arc<StreamLog> {
        Arc::new(StreamLog::new(Kind::Session, session, form, self.clone()))
    }

    /// The stream of a call, if it is one of this session that can still be resumed.
    pub fn find(&self, session: Uuid, name: StreamName) -> Option<Arc<StreamLog>> {
        let log = self.0.calls.get(&name)?;
        (log.session() == session).then(|| Arc::clone(&log))
    }

    /// Keeps a stream that has had its last event for as long as is sensible, or until the key is revoked.
    pub fn keep(&self, log: Arc<StreamLog>, revoked: CancellationToken, tasks: &Tasks) {
        log.end();
        if !log.is_resumable() || tasks.stopping().is_cancelled() {
            return self.forget(&log);
        }
        let session = log.session();
        let mut ended = self.ended();
        ended.last += 1;
        let age = ended.last;
        ended.by_age.insert(age, EndedStream { log, revoked, until: Instant::now() + ENDED_KEPT });
        let of_session = ended.by_session.entry(session).or_default();
        of_session.push_back(age);
        let too_many = (of_session.len() > ENDED_PER_SESSION_MAX).then(|| of_session[0]);
        let mut gone: Vec<_> = too_many.and_then(|age| ended.take(age)).into_iter().collect();
        if ended.by_age.len() > ENDED_MAX {
            gone.extend(ended.take_oldest());
        }
        if !std::mem::replace(&mut ended.is_swept, true) {
            tasks.spawn("ended streams", self.clone().sweep(tasks.stopping().clone()));
        }
        drop(ended);
        for log in &gone {
            self.forget(log);
        }
        self.relieve();
    }

    /// Ends a stream at once, with what waits on it.
    pub fn give_up(&self, log: &StreamLog) {
        self.forget(log);
        log.close();
    }

    /// Lets a stream no longer be resumed. A connection that reads it reads on to its end.
    fn forget(&self, log: &StreamLog) {
        self.0.calls.remove(&log.name());
    }

    /// Forgets what is kept for a session that is over. Calls of it that run are cancelled elsewhere.
    pub fn end_session(&self, session: Uuid) {
        let mut ended = self.ended();
        let ages = ended.by_session.get(&session).cloned().unwrap_or_default();
        let gone: Vec<_> = ages.into_iter().filter_map(|age| ended.take(age)).collect();
        drop(ended);
        for log in &gone {
            self.give_up(log);
        }
    }

    /// Bytes that are held now.
    pub fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Makes room where too much is held: ended streams go first, the oldest of them first. `false`: that
    /// wasn't enough.
    fn relieve(&self) -> bool {
        while self.bytes() > BYTES_MAX {
            let Some(oldest) = self.ended().take_oldest() else { return false };
            self.forget(&oldest);
        }
        true
    }

    async fn sweep(self, stopping: CancellationToken) {
        loop {
            let is_stopping = tokio::select! {
                () = tokio::time::sleep(SWEEP_INTERVAL) => false,
                () = stopping.cancelled() => true,
            };
            let now = Instant::now();
            let mut ended = self.ended();
            let over =
                |stream: &EndedStream| is_stopping || stream.until <= now || stream.revoked.is_cancelled();
            let ages: Vec<u64> =
                ended.by_age.iter().filter(|(_, stream)| over(stream)).map(|(age, _)| *age).collect();
            let gone: Vec<_> = ages.into_iter().filter_map(|age| ended.take(age)).collect();
            ended.is_swept = !ended.by_age.is_empty();
            let is_done = !ended.is_swept;
            drop(ended);
            for log in &gone {
                self.forget(log);
            }
            if is_done {
                return;
            }
        }
    }

    fn ended(&self) -> MutexGuard<'_, Ended> {
        // What a panic elsewhere could leave is a stream too many on one of the two lists.
        self.0.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ended {
    fn take(&mut self, age: u64) -> Option<Arc<StreamLog>> {
        let stream = self.by_age.remove(&age)?;
        let session = stream.log.session();
        if let Some(ages) = self.by_session.get_mut(&session) {
            ages.retain(|other| *other != age);
            if ages.is_empty() {
                self.by_session.remove(&session);
            }
        }
        Some(stream.log)
    }

    fn take_oldest(&mut self) -> Option<Arc<StreamLog>> {
        let age = *self.by_age.first_key_value()?.0;
        self.take(age)
    }
}
