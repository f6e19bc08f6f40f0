//! What of a legacy session lives in memory on this replica.
//!
//! The session itself is in the client's token. What hangs off it here is what needs a socket or a
//! waiting call: requests put to the client, calls that can be cancelled, the GET stream. An entry
//! exists only while one of these does. Beside it stand the two things that change and outlive a
//! connection, ended sessions and log levels, kept in the store and loaded at start.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use dashmap::DashMap;
use sql::model::{CallTransport, Timestamp};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::conversation::AskRefused;
use super::outlet::Outlet;
use super::replay::{Replays, StreamLog};
use crate::relay::ReplicaId;
use crate::upstream::call::Answer;
use crate::wire::ids::Id;
use crate::wire::meta::LogLevel;

/// Bits of a question's number; before them stands the name of the replica that asks.
const QUESTION_BITS: u32 = u32::BITS;

type AskReply = oneshot::Sender<Result<Answer, AskRefused>>;

/// All sessions that something hangs off. Clones share them.
#[derive(Clone, Default)]
pub struct LiveSessions {
    live: Arc<DashMap<Uuid, Weak<Live>>>,
    counts: Arc<Counts>,
    ended: Arc<Lasting<()>>,
    levels: Arc<Lasting<LogLevel>>,
    replica: ReplicaId,
    /// The streams that clients may come back for.
    pub replays: Replays,
}

/// How many sessions something hangs off, in the order of [`CallTransport::ALL`].
type Counts = [AtomicU64; CallTransport::ALL.len()];

/// Sessions of which one thing is remembered: about 100 bytes each, so some 20 MB at most.
const REMEMBERED_MAX: usize = 200_000;

/// What is remembered of sessions until they expire. A client can make sessions without end, so when
/// there are too many, those that would expire first are forgotten before their time.
struct Lasting<T> {
    values: DashMap<Uuid, (T, Timestamp)>,
    by_end: Mutex<BTreeSet<(Timestamp, Uuid)>>,
    max: usize,
}

impl<T> Default for Lasting<T> {
    fn default() -> Self {
        Self { values: DashMap::new(), by_end: Mutex::default(), max: REMEMBERED_MAX }
    }
}

impl<T: Copy> Lasting<T> {
    fn insert(&self, id: Uuid, value: T, until: Timestamp) {
        let mut by_end = self.by_end();
        if let Some((_, former)) = self.values.insert(id, (value, until)) {
            by_end.remove(&(former, id));
        }
        by_end.insert((until, id));
        while by_end.len() > self.max {
            let Some((_, first)) = by_end.pop_first() else { return };
            self.values.remove(&first);
        }
    }

    fn get(&self, id: Uuid) -> Option<T> {
        self.values.get(&id).map(|entry| entry.0)
    }

    fn remove(&self, id: Uuid) {
        let mut by_end = self.by_end();
        if let Some((_, (_, until))) = self.values.remove(&id) {
            by_end.remove(&(until, id));
        }
    }

    fn forget_expired(&self, now: Timestamp) {
        let mut by_end = self.by_end();
        while by_end.first().is_some_and(|(until, _)| *until <= now) {
            let Some((_, id)) = by_end.pop_first() else { return };
            self.values.remove(&id);
        }
    }

    fn by_end(&self) -> MutexGuard<'_, BTreeSet<(Timestamp, Uuid)>> {
        self.by_end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What hangs off one session; it leaves the map with the last holder.
pub struct Live {
    id: Uuid,
    replica: ReplicaId,
    registry: Arc<DashMap<Uuid, Weak<Live>>>,
    transport: CallTransport,
    counts: Arc<Counts>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    asks: HashMap<u64, AskReply>,
    calls: HashMap<Id, Vec<(u64, CancellationToken)>>,
    entered: u64,
    stream: Option<Stream>,
}

struct Stream {
    outlet: Outlet,
    replaced: CancellationToken,
}

/// Where a question was asked, if its id is one that a replica could have made.
pub fn asked_at(id: &Id) -> Option<ReplicaId> {
    ReplicaId::from_bits(id.as_u64()? >> QUESTION_BITS)
}

impl LiveSessions {
    /// What hangs off sessions at a replica: nothing yet.
    pub fn at(replica: ReplicaId) -> Self {
        Self { replica, replays: Replays::at(replica), ..Self::default() }
    }

    /// The replica that this is.
    pub fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// The live part of a session, made if there is none; only then it is asked which transport it is on.
    pub fn of(&self, id: Uuid, transport: impl FnOnce() -> CallTransport) -> Arc<Live> {
        let mut entry = self.live.entry(id).or_default();
        if let Some(live) = entry.upgrade() {
            return live;
        }
        let (registry, replica) = (Arc::clone(&self.live), self.replica);
        let (transport, counts) = (transport(), Arc::clone(&self.counts));
        counts[transport as usize].fetch_add(1, Ordering::Relaxed);
        let live = Arc::new(Live { id, replica, registry, transport, counts, state: Mutex::default() });
        *entry = Arc::downgrade(&live);
        live
    }

    /// The live part of a session, if it has one.
    pub fn get(&self, id: Uuid) -> Option<Arc<Live>> {
        self.live.get(&id)?.upgrade()
    }

    /// How many sessions something hangs off here, by transport.
    pub fn counts(&self) -> impl Iterator<Item = (CallTransport, u64)> {
        let count = |transport: &CallTransport| self.counts[*transport as usize].load(Ordering::Relaxed);
        CallTransport::ALL.iter().map(move |transport| (*transport, count(transport)))
    }

    /// Ends a session: its calls are cancelled, its stream closes, its token is unknown from now on.
    /// It is remembered until `until`, when the token has expired anyway.
    pub fn end(&self, id: Uuid, until: Timestamp) {
        self.ended.insert(id, (), until);
        self.levels.remove(id);
        if let Some(live) = self.get(id) {
            live.end();
        }
        self.replays.end_session(id);
    }

    /// Whether the session was ended by its client.
    pub fn is_ended(&self, id: Uuid) -> bool {
        self.ended.get(id).is_some()
    }

    /// Sets the least severe log message that a session wants.
    pub fn set_level(&self, id: Uuid, level: LogLevel, until: Timestamp) {
        self.levels.insert(id, level, until);
    }

    /// The least severe log message that a session wants, if it said so.
    pub fn level(&self, id: Uuid) -> Option<LogLevel> {
        self.levels.get(id)
    }

    /// The least severe log message that any session wants.
    pub fn least_level(&self) -> Option<LogLevel> {
        self.levels.values.iter().map(|entry| entry.0).min()
    }

    /// Forgets what is remembered of a session that ended with its connection.
    pub fn forget(&self, id: Uuid) {
        self.levels.remove(id);
    }

    /// Forgets what is remembered of sessions whose lifetime is over.
    pub fn forget_expired(&self, now: Timestamp) {
        self.ended.forget_expired(now);
        self.levels.forget_expired(now);
    }
}

impl Live {
    /// Enters a request to the client under an id of its own; the answer goes to `reply`.
    pub fn ask(self: &Arc<Self>, reply: AskReply) -> u64 {
        // Unique in the process, so that an answer that comes late can't meet another request.
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        // Its beginning says where the answer is waited for.
        let id = self.replica.bits() << QUESTION_BITS | u64::from(number);
        self.state().asks.insert(id, reply);
        id
    }

    /// Hands on a client's answer. `false`: nothing with this id was asked of this session.
    pub fn answer(&self, id: u64, answer: Answer) -> bool {
        let reply = self.state().asks.remove(&id);
        reply.is_some_and(|reply| reply.send(Ok(answer)).is_ok())
    }

    /// Withdraws a request whose call is over.
    pub fn withdraw(&self, id: u64) {
        self.state().asks.remove(&id);
    }

    /// Enters a call that the client may cancel; it leaves with the guard.
    pub fn enter_call(self: &Arc<Self>, id: Id, cancel: CancellationToken) -> CallGuard {
        let mut state = self.state();
        state.entered += 1;
        let number = state.entered;
        // An id is to be used once, but a client that doesn't must not lose hold of a call.
        state.calls.entry(id.clone()).or_default().push((number, cancel));
        drop(state);
        CallGuard { live: Arc::clone(self), id, number }
    }

    /// Cancels a call in flight (`notifications/cancelled`). `false`: there is none with this id. That is
    /// ignored, as the specification says, since the call may be over; or it runs at another replica.
    pub fn cancel(&self, id: &Id) -> bool {
        let state = self.state();
        let calls = state.calls.get(id);
        for (_, cancel) in calls.into_iter().flatten() {
            cancel.cancel();
        }
        calls.is_some()
    }

    /// Makes `outlet` the stream for what belongs to no call. A stream that was there before is told
    /// to end: its client has come back before we noticed that it left.
    pub fn attach(self: &Arc<Self>, outlet: Outlet) -> CancellationToken {
        let replaced = CancellationToken::new();
        let former = self.state().stream.replace(Stream { outlet, replaced: replaced.clone() });
        if let Some(former) = former {
            former.replaced.cancel();
        }
        replaced
    }

    /// Takes the stream off again, unless another one has replaced it: a sender that is kept would keep
    /// the client's connection open.
    pub fn detach(&self, outlet: &Outlet) {
        let mut state = self.state();
        if state.stream.as_ref().is_some_and(|stream| stream.outlet.is(outlet)) {
            state.stream = None;
        }
    }

    /// The stream, if it is one that outlives its connection.
    pub fn stream(&self) -> Option<Arc<StreamLog>> {
        match &self.state().stream.as_ref()?.outlet {
            Outlet::Log(log) => Some(Arc::clone(log)),
            Outlet::Events(_) | Outlet::Shared(_) => None,
        }
    }

    /// Puts a message on the stream. `false`: there is none, or its client doesn't read.
    pub fn push(&self, message: &[u8]) -> bool {
        self.state().stream.as_ref().is_some_and(|stream| stream.outlet.offer(message))
    }

    /// Ends what hangs off the session: its calls are cancelled, its stream closes.
    pub fn end(&self) {
        let mut state = self.state();
        state.asks.clear();
        for (_, cancel) in state.calls.values().flatten() {
            cancel.cancel();
        }
        if let Some(stream) = state.stream.take() {
            stream.replaced.cancel();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one map operation, so a panic elsewhere can't leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.counts[self.transport as usize].fetch_sub(1, Ordering::Relaxed);
        self.registry.remove_if(&self.id, |_, live| live.strong_count() == 0);
    }
}

/// A call's presence among those that its client may cancel.
pub struct CallGuard {
    live: Arc<Live>,
    id: Id,
    number: u64,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let mut state = self.live.state();
        if let Some(calls) = state.calls.get_mut(&self.id) {
            calls.retain(|(number, _)| *number != self.number);
            if calls.is_empty() {
                state.calls.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn nothing_is_kept_of_a_session_that_nothing_hangs_off() {
        let sessions = LiveSessions::default();
        let id = Uuid::from_u128(1);
        let here = |sessions: &LiveSessions| sessions.counts().map(|(_, count)| count).collect::<Vec<_>>();
        let live = sessions.of(id, || CallTransport::Sse);
        assert!(Arc::ptr_eq(&live, &sessions.of(id, || CallTransport::Websocket)));
        assert_eq!(here(&sessions), [0, 1, 0, 0]);
        drop(live);
        assert_eq!(here(&sessions), [0, 0, 0, 0]);
        assert!(sessions.get(id).is_none());
        assert!(sessions.live.is_empty());
    }

    #[tokio::test]
    async fn an_answer_reaches_the_one_that_asked_and_once_only() {
        let live = LiveSessions::default().of(Uuid::from_u128(1), || CallTransport::StreamableHttp);
        let (reply, answer) = oneshot::channel();
        let id = live.ask(reply);
        assert_eq!(asked_at(&Id::number(id)), Some(live.replica));
        assert!(!live.answer(id + 1, Answer::Result(Bytes::from_static(b"{}"))));
        assert!(live.answer(id, Answer::Result(Bytes::from_static(b"{}"))));
        assert!(!live.answer(id, Answer::Result(Bytes::from_static(b"{}"))));
        assert_eq!(answer.await, Ok(Ok(Answer::Result(Bytes::from_static(b"{}")))));
    }

    #[test]
    fn an_ended_session_ends_what_hangs_off_it() {
        let sessions = LiveSessions::default();
        let live = sessions.of(Uuid::from_u128(1), || CallTransport::StreamableHttp);
        let cancel = CancellationToken::new();
        let _call = live.enter_call(Id::number(1), cancel.clone());
        let (events, _received) = mpsc::channel(1);
        let replaced = live.attach(Outlet::Events(events));
        sessions.end(Uuid::from_u128(1), Timestamp::from_millis(1));
        assert!(cancel.is_cancelled() && replaced.is_cancelled() && sessions.is_ended(Uuid::from_u128(1)));
    }

    #[test]
    fn what_is_remembered_of_sessions_is_bounded_in_time_and_number() {
        let levels = Lasting { max: 3, ..Lasting::default() };
        let at = Timestamp::from_millis;
        for n in 1..=5 {
            levels.insert(Uuid::from_u128(n), LogLevel::Info, at(i64::try_from(n).expect("small")));
        }
        assert_eq!(levels.get(Uuid::from_u128(2)), None, "the first to expire had to go");
        // Said again, it lasts longer.
        levels.insert(Uuid::from_u128(3), LogLevel::Debug, at(9));
        levels.forget_expired(at(4));
        assert_eq!(levels.get(Uuid::from_u128(4)), None);
        assert_eq!(levels.get(Uuid::from_u128(3)), Some(LogLevel::Debug));
        levels.remove(Uuid::from_u128(3));
        levels.forget_expired(at(10));
        assert!(levels.values.is_empty() && levels.by_end().is_empty());
    }

    #[tokio::test]
    async fn a_stream_that_ended_is_not_kept_open_by_a_call() {
        let live = LiveSessions::default().of(Uuid::from_u128(1), || CallTransport::StreamableHttp);
        let _call = live.enter_call(Id::number(1), CancellationToken::new());
        let (first, mut received) = mpsc::channel(1);
        let (second, mut received_by_second) = mpsc::channel(1);
        let (first, second) = (Outlet::Events(first), Outlet::Events(second));
        live.attach(first.clone());
        live.detach(&second);
        assert!(live.push(b"{}"), "another stream is not this one");
        live.detach(&first);
        drop(first);
        assert!(received.recv().await.is_some());
        assert_eq!(received.recv().await, None);
        live.attach(second);
        assert!(live.push(b"{}") && received_by_second.recv().await.is_some());
    }

    #[test]
    fn a_call_that_reuses_an_id_does_not_take_the_other_off() {
        let live = LiveSessions::default().of(Uuid::from_u128(1), || CallTransport::StreamableHttp);
        let (first, second) = (CancellationToken::new(), CancellationToken::new());
        let former = live.enter_call(Id::number(1), first);
        let _later = live.enter_call(Id::number(1), second.clone());
        drop(former);
        assert!(live.cancel(&Id::number(1)) && !live.cancel(&Id::number(2)));
        assert!(second.is_cancelled());
    }

    #[test]
    fn a_second_stream_replaces_the_first() {
        let live = LiveSessions::default().of(Uuid::from_u128(1), || CallTransport::StreamableHttp);
        let (first, _a) = mpsc::channel(1);
        let (second, mut b) = mpsc::channel(1);
        let replaced = live.attach(Outlet::Events(first));
        live.attach(Outlet::Events(second));
        assert!(replaced.is_cancelled());
        assert!(live.push(b"{}"));
        assert_eq!(b.try_recv().ok(), Some(Bytes::from_static(b"event: message\ndata: {}\n\n")));
    }
}
