//! Many calls over one channel: ids of our own, answers matched by them, and an order that nothing breaks.
//!
//! stdio, WebSocket and HTTP+SSE have one stream of messages each way for all calls of a session. A
//! transport brings a [`Source`] and a [`Sink`]; a [`Channel`] on top of them has a task that reads, which
//! alone decides where a message goes (`reading`), and a task that writes (`writing`). Each client's
//! messages pass through its call's queue in the order they came, the answer last, because one task puts
//! all of them there and never waits: a queue that is full cancels its call, and a question put to a
//! client is awaited beside the reading, not before the next message.
//!
//! What is written is bounded in number and bytes. What was still queued when the channel broke was never
//! sent, and its call says so: it may be repeated.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::{Answer, Call, CallError};
use super::frame;
use super::link::{Entered, Era, InFlight, Negotiated, Wiring, next_id};
use crate::downstream::conversation::Conversation;
use crate::metrics::drops::{self, Queue};
use crate::wire::compose;
use writing::Message;

mod reading;
mod writing;

/// Messages that may wait to be written: several times the calls that may be in flight at one upstream.
const QUEUE_MESSAGES_MAX: usize = 1024;

/// Bytes that may wait to be written: sixteen requests of the default largest size. One larger than this
/// passes alone.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The only request that must not be cancelled (lifecycle, 2025-11-25).
const INITIALIZE: &str = "initialize";

/// Where messages come from.
pub(crate) trait Source: Send + 'static {
    /// The next message, or `None` at the end. Dropping the future must lose nothing.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Broken>> + Send;

    /// Is shown what isn't a JSON-RPC message.
    fn unreadable(&self, _message: &Bytes) {}
}

/// Where messages go.
pub(crate) trait Sink: Send + 'static {
    /// Writes one message. A future that is dropped leaves the sink unusable. `receipt` is for a transport
    /// that can fail with one message and go on.
    fn send(&mut self, message: Bytes, receipt: Receipt) -> impl Future<Output = Result<(), Broken>> + Send;

    /// Says that no further message comes.
    fn finish(self) -> impl Future<Output = ()> + Send;
}

/// The channel can't be used any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(pub(crate) String);

/// What a sink can say about a message that did not reach the upstream though others do.
pub(crate) struct Receipt {
    shared: Arc<Shared>,
    /// The call whose request it is.
    call: Option<u64>,
}

impl Receipt {
    /// The message was not taken: its call fails, if it is a request, and nothing else does.
    pub(crate) fn refused(self, error: CallError) {
        let pending = self.call.and_then(|id| self.shared.calls().pending.remove(&id));
        if let Some(pending) = pending {
            pending.entered.ended();
            let _ = pending.answer.send(Err(error)); // Nobody waits: nobody is told.
        } else {
            tracing::debug!(%error, "a message did not reach its upstream");
        }
    }
}

/// One channel to one upstream. Clones share it.
#[derive(Clone)]
pub(crate) struct Channel {
    shared: Arc<Shared>,
}

impl Channel {
    /// Starts reading and writing.
    pub(crate) fn open(source: impl Source, sink: impl Sink, wiring: Wiring) -> Self {
        let (queue, queued) = mpsc::channel(QUEUE_MESSAGES_MAX);
        let tasks = wiring.tasks.clone();
        let shared = Arc::new(Shared {
            queue,
            queue_bytes: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            calls: Mutex::new(Calls { over: None, pending: HashMap::new() }),
            in_flight: Arc::default(),
            protocol: Mutex::new(None),
            wiring,
            closing: CancellationToken::new(),
            lost: CancellationToken::new(),
            cut: CancellationToken::new(),
        });
        tasks.spawn("channel reader", reading::run(Arc::clone(&shared), source));
        tasks.spawn("channel writer", writing::run(Arc::clone(&shared), sink, queued));
        Self { shared }
    }

    /// Sends a request and waits for its answer; see [`super::link::Link::request`].
    pub(crate) async fn request(&self, call: Call) -> Result<Answer, CallError> {
        let id = next_id();
        let outgoing = frame::request(id, call.method, &call.params)
            .map_err(|_| CallError::Invalid { reason: "the _meta of the request is not usable" })?;
        let (waiting, answer) = self.enter(id, &call, outgoing.progress_token)?;
        self.shared.queue(outgoing.body, Some(Arc::clone(&waiting.ticket)))?;
        waiting.answer(answer, &call).await
    }

    /// Sends a notification.
    pub(crate) fn notify(&self, method: &str, params: Option<&[u8]>) -> Result<(), CallError> {
        self.shared.queue(compose::notification(method, params), None)
    }

    /// Says what is spoken from now on.
    pub(crate) fn set_protocol(&self, protocol: Negotiated) {
        *self.shared.protocol() = Some(protocol);
    }

    /// Why the channel ended, if it did.
    pub(crate) fn over(&self) -> Option<String> {
        self.shared.calls().over.clone()
    }

    /// Cancelled when the channel broke, and not when it was closed.
    pub(crate) fn lost(&self) -> &CancellationToken {
        &self.shared.lost
    }

    /// Fails the calls in flight and tells the upstream that nothing more is sent. What it still sends is
    /// read and dropped until [`Channel::cut`].
    pub(crate) fn close(&self) {
        self.shared.closing.cancel();
        self.shared.fail_all("the connection is being closed");
    }

    /// Stops reading: the transport is gone.
    pub(crate) fn cut(&self, reason: &str) {
        self.shared.end(reason);
        self.shared.cut.cancel();
    }

    /// Makes the call known, so that its answer finds it.
    fn enter(
        &self,
        id: u64,
        call: &Call,
        progress_token: Option<Bytes>,
    ) -> Result<(Waiting, oneshot::Receiver<Result<Answer, CallError>>), CallError> {
        let (answer, awaited) = oneshot::channel();
        let ticket = Arc::new(Ticket::of(id));
        let clock = Arc::new(Clock::default());
        let mut calls = self.shared.calls();
        if let Some(reason) = &calls.over {
            return Err(CallError::Unavailable { reason: reason.clone() });
        }
        let pending = Pending {
            answer,
            method: call.method,
            conversation: call.conversation.clone(),
            progress_token,
            response_bytes_max: call.response_bytes_max,
            ticket: Arc::clone(&ticket),
            clock: Arc::clone(&clock),
            entered: self.shared.in_flight.enter(id, &call.conversation),
        };
        calls.pending.insert(id, pending);
        drop(calls);
        let waiting = Waiting { shared: Arc::clone(&self.shared), id, method: call.method, ticket, clock };
        Ok((waiting, awaited))
    }
}

/// What the two tasks and the callers share.
struct Shared {
    queue: mpsc::Sender<Message>,
    queue_bytes: Arc<Semaphore>,
    calls: Mutex<Calls>,
    in_flight: Arc<InFlight>,
    protocol: Mutex<Option<Negotiated>>,
    wiring: Wiring,
    /// Nothing is written any more.
    closing: CancellationToken,
    /// It broke by itself.
    lost: CancellationToken,
    /// Nothing is read any more.
    cut: CancellationToken,
}

/// The calls that wait for an answer.
struct Calls {
    /// Why no call is taken any more.
    over: Option<String>,
    pending: HashMap<u64, Pending>,
}

/// A call that waits for its answer, as the reader sees it.
struct Pending {
    answer: oneshot::Sender<Result<Answer, CallError>>,
    method: &'static str,
    conversation: Conversation,
    /// The client's own, to be put back into progress notifications.
    progress_token: Option<Bytes>,
    response_bytes_max: usize,
    ticket: Arc<Ticket>,
    clock: Arc<Clock>,
    /// Attribution counts it until it has its answer.
    entered: Entered,
}

impl Shared {
    // Both are whole between two statements, so a panic elsewhere can't have broken them.
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn protocol(&self) -> MutexGuard<'_, Option<Negotiated>> {
        self.protocol.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_modern(&self) -> bool {
        self.protocol().as_ref().is_some_and(|protocol| protocol.era() == Era::Modern)
    }

    /// Queues a message to be written; never waits.
    fn queue(&self, body: Bytes, ticket: Option<Arc<Ticket>>) -> Result<(), CallError> {
        if let Some(reason) = &self.calls().over {
            return Err(CallError::Unavailable { reason: reason.clone() });
        }
        let bytes = u32::try_from(body.len().min(QUEUE_BYTES_MAX)).expect("the limit is 64 MiB");
        let full = || {
            drops::count(Queue::Upstream, 1);
            CallError::Busy { limit: QUEUE_MESSAGES_MAX }
        };
        let room = Arc::clone(&self.queue_bytes).try_acquire_many_owned(bytes).map_err(|_| full())?;
        self.queue.try_send(Message { body, ticket, _room: room }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => full(),
            mpsc::error::TrySendError::Closed(_) => {
                CallError::Unavailable { reason: "the connection is gone".into() }
            }
        })
    }

    /// The channel ended: by itself, unless it is being closed.
    fn end(&self, reason: &str) {
        if !self.closing.is_cancelled() {
            tracing::info!(reason, "channel to an upstream ended");
            // First, so that whoever learns of the end can ask why.
            self.calls().over.get_or_insert_with(|| reason.to_owned());
            self.lost.cancel();
            self.closing.cancel();
        }
        self.fail_all(reason);
    }

    /// Lets no further call in and fails those that wait.
    fn fail_all(&self, reason: &str) {
        let pending = {
            let mut calls = self.calls();
            calls.over.get_or_insert_with(|| reason.to_owned());
            std::mem::take(&mut calls.pending)
        };
        for call in pending.into_values() {
            let error = match call.ticket.abandon() {
                Abandoned::Unsent => CallError::Unavailable { reason: reason.to_owned() },
                Abandoned::Sent => CallError::ClosedMidCall,
            };
            let _ = call.answer.send(Err(error)); // Nobody waits: nobody is told.
        }
    }
}

/// A call that waits for its answer, as the caller sees it. Dropping it gives the call up.
struct Waiting {
    shared: Arc<Shared>,
    id: u64,
    method: &'static str,
    ticket: Arc<Ticket>,
    clock: Arc<Clock>,
}

impl Waiting {
    async fn answer(
        self,
        mut answer: oneshot::Receiver<Result<Answer, CallError>>,
        call: &Call,
    ) -> Result<Answer, CallError> {
        let total = Instant::now() + call.total_timeout;
        let mut idle = Instant::now() + call.idle_timeout;
        loop {
            // While the upstream waits for the client's answer, the silence isn't the upstream's.
            let (deadline, after) = if self.clock.is_asking() || total <= idle {
                (total, call.total_timeout)
            } else {
                (idle, call.idle_timeout)
            };
            tokio::select! {
                biased; // An answer that is there counts, whatever else happened meanwhile.
                outcome = &mut answer => return outcome.unwrap_or(Err(CallError::ClosedMidCall)),
                () = call.cancel.cancelled() => return Err(CallError::Cancelled),
                () = self.clock.heard.notified() => idle = Instant::now() + call.idle_timeout,
                () = tokio::time::sleep_until(deadline) => return Err(CallError::TimedOut { after }),
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let given_up = self.shared.calls().pending.remove(&self.id);
        let Some(given_up) = given_up else { return }; // It has its answer.
        if matches!(self.ticket.abandon(), Abandoned::Unsent) {
            given_up.entered.ended();
        } else if self.method != INITIALIZE {
            drop(given_up);
            let cancelled = frame::cancelled(self.id, "its answer is no longer wanted");
            if let Err(error) = self.shared.queue(cancelled, None) {
                tracing::debug!(%error, "upstream not told of a cancelled call");
            }
        }
    }
}

/// Whether a queued request was written, decided between the writer and whoever gives the call up.
struct Ticket {
    id: u64,
    state: AtomicU8,
}

/// How far a request had come when its call was given up.
enum Abandoned {
    /// It is still queued and won't be written.
    Unsent,
    /// Some of it was written.
    Sent,
}

impl Ticket {
    const QUEUED: u8 = 0;
    const WRITTEN: u8 = 1;
    const ABANDONED: u8 = 2;

    fn of(id: u64) -> Self {
        Self { id, state: AtomicU8::new(Self::QUEUED) }
    }

    /// Called before the first byte is written; an abandoned request isn't.
    fn begin(&self) -> bool {
        self.state.compare_exchange(Self::QUEUED, Self::WRITTEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn abandon(&self) -> Abandoned {
        match self.state.compare_exchange(Self::QUEUED, Self::ABANDONED, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) | Err(Self::ABANDONED) => Abandoned::Unsent,
            Err(_) => Abandoned::Sent,
        }
    }
}

/// What keeps a call from being taken for silent.
#[derive(Default)]
struct Clock {
    /// The upstream sent something for this call, or a question to its client began or ended.
    heard: Notify,
    /// Questions that its client has yet to answer.
    asking: AtomicUsize,
}

impl Clock {
    fn is_asking(&self) -> bool {
        self.asking.load(Ordering::Acquire) > 0
    }
}

#[cfg(test)]
pub(super) mod tests;
