//! One stream that its client can resume: its events in order, and the one connection that reads them.
//!
//! Who writes and who reads meet here only, so that nothing is lost or said twice whenever a connection
//! breaks or another takes over. An event is framed once, and its bytes are shared with the connection.
//! While a connection reads, nothing is dropped that it hasn't taken: the writer waits for it, as for any
//! slow client. While none does the oldest events go when there are too many, and who comes back for
//! them is told how many are missing.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::event::{Event, Form};
use super::{AWAY_MAX, BYTES_MAX, EventId, Kind, Replays, StreamName};
use crate::downstream::in_flight::Permit;
use crate::downstream::outlet::Pieces;
use crate::downstream::stream::{self, KEEP_ALIVE};

/// Events kept of one stream: what a call's own queue may hold, so a burst of progress survives a break.
pub(super) const EVENTS_MAX: usize = 256;
/// Their bytes; the newest event is kept whatever its size, since it may be the answer.
pub(super) const STREAM_BYTES_MAX: usize = 1024 * 1024;
/// Events that a connection may be behind before the writer waits for it.
pub(super) const UNREAD_MAX: u64 = 64;
/// How long a connection may write on once the gateway has stopped: the calls that this ended are answered
/// within it, and a client that doesn't read holds nothing up.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long the stream of a session goes on without its client: more than a client's retries take.
pub(super) const AWAY_KEPT: Duration = Duration::from_mins(2);

/// After which time a client is to come back, unless we say otherwise: as the SDKs do by themselves.
const RETRY_MS: u64 = 1000;

/// One stream.
pub struct StreamLog {
    session: Uuid,
    name: StreamName,
    form: Form,
    replays: Replays,
    state: Mutex<State>,
    /// The reader took something, or left.
    room: Notify,
    /// A reader came or left, or the stream is over.
    presence: Notify,
}

struct State {
    /// In order and without gaps; the first of them has the number `first`.
    events: VecDeque<Event>,
    first: u64,
    bytes: usize,
    reader: Option<Reader>,
    readers: u64,
    /// Since when nobody reads.
    left_at: Option<Instant>,
    is_away: bool,
    is_ended: bool,
    is_closed: bool,
}

struct Reader {
    number: u64,
    /// The event to be taken next.
    next: u64,
    wake: Arc<Notify>,
    replaced: CancellationToken,
    permit: Option<Permit>,
}

/// A connection's hold on a stream; dropped, the stream has no reader, unless another took over.
pub struct Reading {
    log: Arc<StreamLog>,
    number: u64,
    wake: Arc<Notify>,
    replaced: CancellationToken,
    /// Goes before everything else.
    opening: Option<Bytes>,
    /// Events that the client doesn't have and that are gone.
    pub missed: u64,
}

impl StreamLog {
    pub(super) fn new(kind: Kind, session: Uuid, form: Form, replays: Replays) -> Self {
        let state = State {
            events: VecDeque::new(),
            first: 1,
            bytes: 0,
            reader: None,
            readers: 0,
            left_at: None,
            is_away: false,
            is_ended: false,
            is_closed: false,
        };
        Self {
            session,
            name: StreamName::new(kind, session, replays.replica()),
            form,
            replays,
            state: Mutex::new(state),
            room: Notify::new(),
            presence: Notify::new(),
        }
    }

    /// The session it belongs to.
    pub fn session(&self) -> Uuid {
        self.session
    }

    /// How its events name it.
    pub fn name(&self) -> StreamName {
        self.name
    }

    /// Whether its client can come back.
    pub fn is_resumable(&self) -> bool {
        self.form.is_resumable()
    }

    /// The first connection, which reads from the start. Any other is replaced.
    pub fn open(self: &Arc<Self>, permit: Option<Permit>) -> Reading {
        let mut state = self.state();
        let first = state.first;
        self.attach(&mut state, first, permit)
    }

    /// Whether a client that has everything up to the event `after` can go on here.
    pub fn goes_on_after(&self, after: u64) -> bool {
        let state = self.state();
        !state.is_closed && after < state.end()
    }

    /// A connection of a client that has everything up to the event `after`. None if it can't go on here.
    /// Any other connection is replaced.
    pub fn resume(self: &Arc<Self>, after: u64, permit: Option<Permit>) -> Option<Reading> {
        let mut state = self.state();
        if state.is_closed || after >= state.end() {
            return None;
        }
        let next = (after + 1).max(state.first);
        let mut reading = self.attach(&mut state, next, permit);
        reading.missed = next - (after + 1);
        Some(reading)
    }

    fn attach(self: &Arc<Self>, state: &mut State, next: u64, permit: Option<Permit>) -> Reading {
        state.readers += 1;
        let number = state.readers;
        let (wake, replaced) = (Arc::new(Notify::new()), CancellationToken::new());
        let reader = Reader { number, next, wake: Arc::clone(&wake), replaced: replaced.clone(), permit };
        if let Some(former) = state.reader.replace(reader) {
            former.replaced.cancel();
        }
        state.left_at = None;
        self.count_away(state, false);
        self.presence.notify_one();
        self.room.notify_one();
        // On a resumed connection as well: one that breaks before its first event is resumed from here again.
        let opening = (self.form == Form::Primed)
            .then(|| Event::empty(EventId { stream: self.name, number: next - 1 }, RETRY_MS).head);
        Reading { log: Arc::clone(self), number, wake, replaced, opening, missed: 0 }
    }

    /// The place among the key's streams that the present connection has, for the one that replaces it.
    pub fn take_permit(&self) -> Option<Permit> {
        self.state().reader.as_mut()?.permit.take()
    }

    /// Puts a message behind those before it; waits while a connection is far behind. `false`: the stream is
    /// over.
    pub async fn send(&self, message: Pieces) -> bool {
        loop {
            {
                let mut state = self.state();
                if state.is_over() {
                    return false;
                }
                if state.unread() < UNREAD_MAX {
                    self.put(&mut state, message);
                    break;
                }
            }
            self.room.notified().await;
        }
        self.relieve();
        true
    }

    /// The same without waiting. `false`: the stream is over, or its client doesn't read.
    pub fn offer(&self, message: &[u8]) -> bool {
        let mut state = self.state();
        if state.is_over() || state.unread() >= UNREAD_MAX {
            return false;
        }
        self.put(&mut state, vec![Bytes::copy_from_slice(message)]);
        drop(state);
        self.relieve();
        true
    }

    /// Whether at least half of what may wait is free.
    pub fn has_room(&self) -> bool {
        let state = self.state();
        match state.reader {
            Some(_) => state.unread() <= UNREAD_MAX / 2,
            None => state.events.len() <= EVENTS_MAX / 2,
        }
    }

    /// The last thing on a stream that is closed before its time: when to come back.
    pub fn farewell(&self, retry: Duration) {
        let mut state = self.state();
        if self.form == Form::Primed && !state.is_over() {
            let retry_ms = u64::try_from(retry.as_millis()).unwrap_or(RETRY_MS);
            let id = EventId { stream: self.name, number: state.end() };
            self.push(&mut state, Event::empty(id, retry_ms));
        }
        drop(state);
        self.end();
    }

    /// No more events: who reads gets what is there and then the end.
    pub fn end(&self) {
        let mut state = self.state();
        state.is_ended = true;
        if let Some(reader) = &state.reader {
            reader.wake.notify_one();
        }
        self.presence.notify_one();
    }

    /// The end, now, with all that waits thrown away.
    pub fn close(&self) {
        let mut state = self.state();
        state.is_ended = true;
        state.is_closed = true;
        let (count, bytes) = (state.events.len() as u64, state.bytes);
        state.events = VecDeque::new();
        state.first += count;
        state.bytes = 0;
        self.replays.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(reader) = state.reader.take() {
            reader.replaced.cancel();
        }
        self.count_away(&mut state, false);
        self.presence.notify_one();
        self.room.notify_one();
    }

    /// Whether the stream is over.
    pub fn is_over(&self) -> bool {
        self.state().is_over()
    }

    /// Resolves when nobody has read for so long that nobody will come back, or when the stream is over.
    pub async fn abandoned(&self) {
        loop {
            let gone_at = {
                let state = self.state();
                if state.is_over() {
                    return;
                }
                match (&state.reader, state.left_at) {
                    (None, Some(left_at)) if state.is_away => Some(left_at + AWAY_KEPT),
                    (None, Some(left_at)) => Some(left_at),
                    _ => None,
                }
            };
            tokio::select! {
                () = until(gone_at) => return,
                () = self.presence.notified() => {}
            }
        }
    }

    fn put(&self, state: &mut State, message: Pieces) {
        let id = self.is_resumable().then(|| EventId { stream: self.name, number: state.end() });
        let event = Event::of(message, id);
        self.push(state, event);
    }

    fn push(&self, state: &mut State, event: Event) {
        let bytes = event.bytes();
        state.bytes += bytes;
        self.replays.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        state.events.push_back(event);
        if let Some(reader) = &state.reader {
            reader.wake.notify_one();
        }
        self.trim(state, EVENTS_MAX, STREAM_BYTES_MAX);
    }

    /// Drops the oldest events until no more than that are left, but never the newest, nor what the
    /// connection has yet to take.
    fn trim(&self, state: &mut State, events_max: usize, bytes_max: usize) {
        let taken = state.reader.as_ref().map_or(u64::MAX, |reader| reader.next);
        let is_kept = self.is_resumable();
        while (state.events.len() > events_max || state.bytes > bytes_max || !is_kept)
            && (state.events.len() > 1 || !is_kept)
            && state.first < taken
        {
            let Some(oldest) = state.events.pop_front() else { return };
            let bytes = oldest.bytes();
            state.first += 1;
            state.bytes -= bytes;
            self.replays.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Where all streams together hold too much, this one gives up what it can.
    fn relieve(&self) {
        if self.replays.bytes() > BYTES_MAX && !self.replays.relieve() {
            self.trim(&mut self.state(), 1, 0);
        }
    }

    /// A reader leaves; only the stream of a session goes on without one for a time.
    fn leave(&self, number: u64) {
        let mut state = self.state();
        if state.reader.as_ref().is_none_or(|reader| reader.number != number) {
            return;
        }
        state.reader = None;
        state.left_at = Some(Instant::now());
        let may_wait = self.is_resumable() && self.replays.0.away.load(Ordering::Relaxed) < AWAY_MAX;
        if self.name.kind() == Kind::Session && !state.is_over() && may_wait {
            self.count_away(&mut state, true);
        }
        self.trim(&mut state, EVENTS_MAX, STREAM_BYTES_MAX);
        self.presence.notify_one();
        self.room.notify_one();
    }

    fn count_away(&self, state: &mut State, is_away: bool) {
        match (std::mem::replace(&mut state.is_away, is_away), is_away) {
            (false, true) => self.replays.0.away.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.replays.0.away.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StreamLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    /// The number of the next event.
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// How far the connection is behind, if there is one.
    fn unread(&self) -> u64 {
        self.reader.as_ref().map_or(0, |reader| self.end() - reader.next)
    }

    fn is_over(&self) -> bool {
        self.is_ended || self.is_closed
    }
}

impl Reading {
    /// Has `event` go before everything that is read.
    #[must_use]
    pub fn opening_with(mut self, event: Bytes) -> Self {
        self.opening = Some(match self.opening.take() {
            Some(opening) => [opening, event].concat().into(),
            None => event,
        });
        self
    }

    /// Writes the stream to a connection, until either of them is over, another connection took over, its
    /// key is `revoked`, or a moment after the gateway is `stopping`.
    pub async fn copy(
        mut self,
        connection: mpsc::Sender<Bytes>,
        revoked: CancellationToken,
        stopping: CancellationToken,
    ) {
        let replaced = self.replaced.clone();
        tokio::select! {
            biased;
            () = replaced.cancelled() => {}
            () = revoked.cancelled() => {}
            () = connection.closed() => {}
            () = self.write(&connection) => {}
            () = async {
                stopping.cancelled().await;
                tokio::time::sleep(STOP_GRACE).await;
            } => {}
        }
    }

    async fn write(&mut self, connection: &mpsc::Sender<Bytes>) {
        if let Some(opening) = self.opening.take()
            && connection.send(opening).await.is_err()
        {
            return;
        }
        let mut silence = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        loop {
            let event = tokio::select! {
                biased;
                event = self.next() => event,
                _ = silence.tick() => {
                    // One that takes no sign of life doesn't read.
                    if connection.try_send(stream::keep_alive()).is_err() {
                        return;
                    }
                    continue;
                }
            };
            let Some(event) = event else { return };
            for piece in std::iter::once(event.head).chain(event.rest) {
                if connection.send(piece).await.is_err() {
                    return;
                }
            }
        }
    }

    /// The next event; none when there are no more for this connection.
    async fn next(&mut self) -> Option<Event> {
        loop {
            {
                let mut state = self.log.state();
                let (first, is_ended) = (state.first, state.is_ended);
                let reader = state.reader.as_mut().filter(|reader| reader.number == self.number)?;
                let at = usize::try_from(reader.next - first).ok()?;
                if at < state.events.len() {
                    let event = state.events[at].clone();
                    if let Some(reader) = &mut state.reader {
                        reader.next += 1;
                    }
                    self.log.trim(&mut state, EVENTS_MAX, STREAM_BYTES_MAX);
                    self.log.room.notify_one();
                    return Some(event);
                }
                if is_ended {
                    return None;
                }
            }
            self.wake.notified().await;
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.log.leave(self.number);
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
