//! What a transport to one upstream can do: the seam between a connection and stdio or HTTP.
//!
//! A [`Link`] is a live transport. It sends requests, gives back answers, hands on what the upstream
//! sends of its own accord, and tells when it broke. The handshake, the states and the retries stand
//! above it (`connection`); which bytes a message has stands below it (`frame`).
//!
//! What comes from the upstream and isn't an answer goes one of three ways. What arrives tied to a
//! call (its own SSE stream, or a progress token) goes to that call's `Conversation`. A request or a
//! log message on a channel that calls share goes to the one owner of all calls in flight
//! ([`InFlight::sole`]); with several owners a request is answered -32603 and counted. Everything
//! else goes to the [`Listener`]. `ping` is answered `{}` by the link itself, in every era and state.
//!
//! Each transport has one way in, `async fn open(spec: &Upstream, .., wiring: Wiring) ->
//! Result<Arc<dyn Link>, OpenError>`: a link exists only once its transport lives.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::{Answer, Call, CallError, GATEWAY};
use super::frame;
use super::oauth::{Denial, Pass};
use crate::bridge::degraded::Reason;
use crate::downstream::conversation::{Conversation, Owner};
use crate::tasks::Tasks;
use crate::wire::envelope::Params;
use crate::wire::meta::Version;

pub(crate) use sql::model::Era;

/// A live transport to one upstream.
#[async_trait]
pub(crate) trait Link: Send + Sync {
    /// Sends one request under an id of our own ([`next_id`]) and waits for its answer.
    ///
    /// The client's progress token is replaced by our id and restored in `notifications/progress`.
    /// Idle and total timeout and `call.cancel` are honoured here: when one strikes, the upstream is
    /// told in the way of its era and transport (`notifications/cancelled`, or the end of the stream).
    /// Dropping the future has the same effect.
    async fn request(&self, call: Call) -> Result<Answer, CallError>;

    /// Sends one notification.
    async fn notify(&self, method: &str, params: Option<Bytes>) -> Result<(), CallError>;

    /// Says what is spoken from now on: the handshake says it before each of its tries, with no
    /// capabilities, and once more when it has settled. Before that a link is never asked anything.
    fn set_protocol(&self, protocol: Negotiated);

    /// Cancelled when the transport ended by itself (the child died, the connection is gone).
    fn closed(&self) -> &CancellationToken;

    /// Ends the transport in the way it asks for; bounded in time.
    async fn close(&self);

    /// Why the transport ended by itself, in words for an admin, where it can tell.
    fn farewell(&self) -> Option<String> {
        None
    }

    /// The last lines a child wrote to stderr.
    fn stderr(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What is spoken with an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// The protocol version.
    pub(crate) version: Version,
    /// The upstream's capabilities as it sent them, a raw JSON object; empty during the handshake.
    pub(crate) capabilities: Bytes,
}

impl Negotiated {
    /// Which family of versions it is.
    pub(crate) fn era(&self) -> Era {
        if self.version.is_modern() { Era::Modern } else { Era::Legacy }
    }
}

/// Takes what belongs to no call. Must return at once: it is called by the reader of the transport.
pub(crate) trait Listener: Send + Sync {
    /// A notification outside any call: `notifications/*/list_changed`, `resources/updated`, log messages.
    fn notification(&self, method: &str, params: Option<Bytes>);

    /// Something was dropped or refused; every drop is counted.
    fn dropped(&self, what: Dropped);

    /// A client got less than the protocol offers, for a reason that no gateway can help.
    fn degraded(&self, _reason: Reason) {}

    /// The transport looks broken though it hasn't ended: whether it lives should be found out now.
    fn suspect(&self) {}
}

/// What was dropped or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// A request or log message that can't be attributed to one client.
    Unattributed,
    /// An answer nobody waits for: late, doubled, or to an id we never used.
    Answer,
    /// A progress notification for a call that is over or never was.
    Progress,
    /// What isn't a JSON-RPC message (a log line on stdout, garbage in an event).
    Garbage,
}

/// What every transport is opened with.
#[derive(Clone)]
pub(crate) struct Wiring {
    /// Owner of the link's tasks.
    pub(crate) tasks: Tasks,
    /// Takes what belongs to no call.
    pub(crate) listener: Arc<dyn Listener>,
    /// Whether the upstream may ask for roots.
    pub(crate) roots: Roots,
    /// What authorises us there, for transports that have headers.
    pub(crate) pass: Arc<Pass>,
}

/// Whether `roots` is declared towards the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Roots {
    /// The session is one client's own: `roots/list` is put to it, and its changes are told.
    Declared,
    /// Several share the session: `roots/list` is put to the client with whose call it comes.
    OfCalls,
    /// No call of a client that has roots goes over the session: `roots/list` is answered -32601.
    Undeclared,
}

/// Why a transport could not be opened, or the handshake failed.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct OpenError {
    /// How far it came.
    pub(crate) stage: Stage,
    /// In words for an admin: no address, no secret.
    pub(crate) reason: String,
    /// What lay below, for the log.
    #[source]
    pub(crate) source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl OpenError {
    /// A failure at `stage` whose cause is the reason itself.
    pub(crate) fn new(stage: Stage, reason: impl Into<String>) -> Self {
        Self { stage, reason: reason.into(), source: None }
    }

    /// Why the upstream refuses us, if it is that.
    pub(crate) fn denial(&self) -> Option<&Denial> {
        match self.source.as_deref()?.downcast_ref::<CallError>()? {
            CallError::Denied(denial) => Some(denial),
            _ => None,
        }
    }
}

/// The steps of opening a connection, as a test of an upstream reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// The name became addresses that may be dialled; for stdio: the command may be started.
    Resolve,
    /// TCP is open; for stdio: the child runs.
    Connect,
    /// TLS is up.
    Tls,
    /// The handshake of the protocol is done.
    Initialize,
    /// The list of tools came.
    List,
}

/// The next request id: unique in the process, so that no two calls, links or clients can be mixed up.
pub(crate) fn next_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// How long a call that was given up is remembered, unless it is answered after all: what the upstream says for
/// it until it has read of its end must not be taken for another client's.
const AFTERMATH: Duration = Duration::from_secs(10);

/// Calls given up that are remembered of one session; beyond it the oldest are forgotten.
const GIVEN_UP_MAX: usize = 1024;

/// The calls in flight on one session, and whether they have one owner.
#[derive(Default)]
pub(crate) struct InFlight {
    calls: Mutex<Flights>,
}

#[derive(Default)]
struct Flights {
    calls: HashMap<u64, InFlightCall>,
    /// In the order they were given up.
    given_up: VecDeque<GivenUp>,
}

struct GivenUp {
    id: u64,
    whose: Whose,
    until: Instant,
}

/// Who is told what names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// A legacy session.
    Client(Owner),
    /// A modern client, of whom nothing tells which one of its key it is: each call stands for itself.
    Call(u64),
}

#[derive(Clone)]
struct InFlightCall {
    whose: Whose,
    conversation: Conversation,
    progress_token: Option<Bytes>,
}

impl InFlightCall {
    /// Whether it waits for its client to come back; only modern clients' calls do.
    fn is_parked(&self) -> bool {
        self.conversation.marks().is_parked()
    }
}

impl InFlight {
    /// Enters a call; it leaves when the guard drops.
    pub(crate) fn enter(self: &Arc<Self>, id: u64, conversation: &Conversation) -> Entered {
        self.enter_with(id, conversation, None)
    }

    /// Enters a call with the client's own progress token, for [`InFlight::progress`].
    pub(crate) fn enter_with(
        self: &Arc<Self>,
        id: u64,
        conversation: &Conversation,
        progress_token: Option<&Bytes>,
    ) -> Entered {
        let is_of_one_client = conversation.is_of_one_client();
        let call = InFlightCall {
            whose: if is_of_one_client { Whose::Client(conversation.owner()) } else { Whose::Call(id) },
            conversation: conversation.clone(),
            progress_token: progress_token.cloned(),
        };
        self.lock().calls.insert(id, call);
        Entered { in_flight: Arc::clone(self), id, is_over: false }
    }

    /// Hands a progress notification to its call, with the client's own token; `false` if there is no such call.
    pub(crate) fn progress(&self, params: Option<&Params>) -> bool {
        let Some((id, params)) = frame::progress_of(params).zip(params) else { return false };
        let Some(call) = self.lock().calls.get(&id).cloned() else { return false };
        if let Some(token) = &call.progress_token {
            call.conversation.notify("notifications/progress", Some(frame::restore_progress(params, token)));
        }
        true
    }

    /// To whom something belongs that came on a shared channel: the client whose task it names, or who it
    /// must be where it names nobody.
    pub(crate) fn whose(&self, params: Option<&Params>) -> Attribution {
        self.named(params).unwrap_or_else(|| self.sole())
    }

    /// The same for a request of the upstream's own. A parked call has asked what it asks, and may wait for its
    /// client for minutes, or for ever: it doesn't stand in the way of its key's other calls. In the way of another
    /// key's it does.
    pub(crate) fn asker(&self, params: Option<&Params>) -> Attribution {
        self.named(params).unwrap_or_else(|| {
            let attribution = self.sole_of(|call| !call.is_parked());
            match attribution {
                Attribution::One(conversation) if !self.others_are_parked(&conversation) => {
                    Attribution::One(conversation)
                }
                Attribution::One(_) | Attribution::Several => Attribution::Several,
                Attribution::Nobody => self.sole(),
            }
        })
    }

    /// Whether a call of another key is parked.
    fn others_are_parked(&self, conversation: &Conversation) -> bool {
        let flights = self.lock();
        flights.calls.values().any(|call| call.is_parked() && call.conversation.key() != conversation.key())
    }

    /// The client that something names; nothing if it names nobody.
    fn named(&self, params: Option<&Params>) -> Option<Attribution> {
        let params = params?.raw();
        let flights = self.lock();
        let mut others = false;
        for call in flights.calls.values() {
            let Some(relay) = call.conversation.relay() else { continue };
            // That it names nobody, it says to each alike.
            if relay.concerns(params)? {
                return Some(Attribution::One(call.conversation.clone()));
            }
            others = true;
        }
        others.then_some(Attribution::Several)
    }

    /// To whom something belongs that names nobody.
    pub(crate) fn sole(&self) -> Attribution {
        self.sole_of(|_| true)
    }

    fn sole_of(&self, counts: impl Fn(&InFlightCall) -> bool) -> Attribution {
        let mut flights = self.lock();
        let now = Instant::now();
        while flights.given_up.front().is_some_and(|call| call.until <= now) {
            flights.given_up.pop_front();
        }
        let mut clients =
            flights.calls.iter().filter(|(_, call)| call.conversation.owner() != GATEWAY && counts(call));
        let Some(mut newest) = clients.next() else {
            let is_over = flights.given_up.is_empty();
            return if is_over { Attribution::Nobody } else { Attribution::Several };
        };
        let whose = newest.1.whose;
        if flights.given_up.iter().any(|call| call.whose != whose) {
            return Attribution::Several;
        }
        for call in clients {
            if call.1.whose != whose {
                return Attribution::Several;
            }
            // An upstream that asks is likely to ask about what came last.
            if call.0 > newest.0 {
                newest = call;
            }
        }
        Attribution::One(newest.1.conversation.clone())
    }

    /// Notes on every client's call what it may have missed.
    pub(crate) fn mark(&self, reason: Reason) {
        let flights = self.lock();
        let of_clients = flights.calls.values().filter(|call| call.conversation.owner() != GATEWAY);
        of_clients.for_each(|call| call.conversation.marks().set(reason));
    }

    /// A call that was given up has been answered: nothing more comes for it.
    pub(crate) fn answered_late(&self, id: u64) {
        self.lock().given_up.retain(|call| call.id != id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Flights> {
        // It is whole between two statements, so a panic elsewhere can't have broken it.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose message it is that came on a shared channel.
pub(crate) enum Attribution {
    /// No client's call is in flight.
    Nobody,
    /// All calls in flight belong to one owner; this is the newest of them.
    One(Conversation),
    /// Calls of several owners are in flight, or were until a moment ago: it can't be known.
    Several,
}

/// A call's presence among the calls in flight. Dropped, the call is given up.
pub(crate) struct Entered {
    in_flight: Arc<InFlight>,
    id: u64,
    is_over: bool,
}

impl Entered {
    /// Nothing more comes for the call: it has its answer, or was never sent.
    pub(crate) fn ended(mut self) {
        self.is_over = true;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut flights = self.in_flight.lock();
        let Some(call) = flights.calls.remove(&self.id) else { return };
        if self.is_over || call.conversation.owner() == GATEWAY {
            return;
        }
        if flights.given_up.len() == GIVEN_UP_MAX {
            flights.given_up.pop_front();
        }
        flights.given_up.push_back(GivenUp {
            id: self.id,
            whose: call.whose,
            until: Instant::now() + AFTERMATH,
        });
    }
}

#[cfg(test)]
mod tests {
    use sql::model::ApiKeyId;
    use uuid::Uuid;

    use super::*;
    use crate::downstream::conversation::{self, Owner};

    fn conversation(owner: Owner) -> Conversation {
        let key = ApiKeyId::from_uuid(Uuid::from_u128(99));
        conversation::open(owner, CancellationToken::new()).0.of_key(key)
    }

    #[test]
    fn t20_modern_clients_of_one_key_are_not_taken_for_one() {
        let in_flight = Arc::new(InFlight::default());
        let modern = conversation(Owner(Uuid::from_u128(99)));
        let first = in_flight.enter(1, &modern);
        assert!(matches!(in_flight.sole(), Attribution::One(_)));
        let _second = in_flight.enter(2, &modern);
        assert!(matches!(in_flight.sole(), Attribution::Several));
        first.ended();
        assert!(matches!(in_flight.sole(), Attribution::One(_)));
    }

    #[test]
    fn a_parked_call_stands_in_the_way_of_no_other_of_its_key() {
        let in_flight = Arc::new(InFlight::default());
        let modern = || conversation(Owner(Uuid::from_u128(99)));
        let (first, second) = (modern(), modern());
        let _first = in_flight.enter(1, &first);
        first.marks().set_parked(true);
        assert!(matches!(in_flight.asker(None), Attribution::One(_)), "its own late question");
        let entered = in_flight.enter(2, &second);
        let asker = in_flight.asker(None);
        assert!(matches!(asker, Attribution::One(c) if !c.marks().is_parked()), "the other call's");
        assert!(matches!(in_flight.whose(None), Attribution::Several), "a log message may be either's");
        first.marks().set_parked(false);
        assert!(matches!(in_flight.asker(None), Attribution::Several), "it has come back");
        first.marks().set_parked(true);
        entered.ended();
        let other_key = conversation::open(Owner(Uuid::from_u128(7)), CancellationToken::new()).0;
        let other_key = other_key.of_key(ApiKeyId::from_uuid(Uuid::from_u128(7)));
        let _other = in_flight.enter(3, &other_key);
        assert!(matches!(in_flight.asker(None), Attribution::Several), "it may be another key's");
    }

    #[test]
    fn attributes_only_while_all_calls_have_one_owner() {
        let in_flight = Arc::new(InFlight::default());
        let (a, b) = (Owner(Uuid::from_u128(1)), Owner(Uuid::from_u128(2)));
        assert!(matches!(in_flight.sole(), Attribution::Nobody));
        let _gateway = in_flight.enter(1, &conversation(GATEWAY));
        assert!(matches!(in_flight.sole(), Attribution::Nobody));
        let _first = in_flight.enter(2, &conversation(a));
        let _second = in_flight.enter(3, &conversation(a));
        assert!(matches!(in_flight.sole(), Attribution::One(c) if c.owner() == a));
        let other = in_flight.enter(4, &conversation(b));
        assert!(matches!(in_flight.sole(), Attribution::Several));
        other.ended();
        assert!(matches!(in_flight.sole(), Attribution::One(c) if c.owner() == a));
    }

    #[tokio::test(start_paused = true)]
    async fn t20_what_comes_for_a_call_that_was_given_up_is_nobody_elses() {
        let in_flight = Arc::new(InFlight::default());
        let (a, b) = (Owner(Uuid::from_u128(1)), Owner(Uuid::from_u128(2)));
        drop(in_flight.enter(1, &conversation(a)));
        assert!(matches!(in_flight.sole(), Attribution::Several), "not for everyone either");
        let _own = in_flight.enter(2, &conversation(a));
        assert!(matches!(in_flight.sole(), Attribution::One(_)), "its owner's other call");
        let other = in_flight.enter(3, &conversation(b));
        in_flight.answered_late(1);
        drop(other);
        assert!(matches!(in_flight.sole(), Attribution::Several));
        in_flight.answered_late(3);
        assert!(matches!(in_flight.sole(), Attribution::One(_)));
        drop(in_flight.enter(4, &conversation(b)));
        tokio::time::advance(AFTERMATH).await;
        assert!(matches!(in_flight.sole(), Attribution::One(_)));
        for id in 5..=5 + GIVEN_UP_MAX as u64 {
            drop(in_flight.enter(id, &conversation(b)));
        }
        assert_eq!(in_flight.lock().given_up.len(), GIVEN_UP_MAX);
    }
}
