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

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::call::{Answer, Call, CallError, GATEWAY};
use super::frame;
use crate::downstream::conversation::Conversation;
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
}

/// Whether `roots` is declared towards the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Roots {
    /// The session is one client's own: `roots/list` is put to it.
    Declared,
    /// The session is shared: `roots/list` is answered -32601.
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

/// The calls in flight on one session, and whether they have one owner.
#[derive(Default)]
pub(crate) struct InFlight {
    calls: Mutex<HashMap<u64, InFlightCall>>,
}

#[derive(Clone)]
struct InFlightCall {
    conversation: Conversation,
    progress_token: Option<Bytes>,
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
        let call =
            InFlightCall { conversation: conversation.clone(), progress_token: progress_token.cloned() };
        self.lock().insert(id, call);
        Entered { in_flight: Arc::clone(self), id }
    }

    /// Hands a progress notification to its call, with the client's own token; `false` if there is no such call.
    pub(crate) fn progress(&self, params: Option<&Params>) -> bool {
        let Some((id, params)) = frame::progress_of(params).zip(params) else { return false };
        let Some(call) = self.lock().get(&id).cloned() else { return false };
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

    /// The client that something names; nothing if it names nobody.
    fn named(&self, params: Option<&Params>) -> Option<Attribution> {
        let params = params?.raw();
        let calls = self.lock();
        let mut others = false;
        for call in calls.values() {
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
        let calls = self.lock();
        let mut clients = calls.iter().filter(|(_, call)| call.conversation.owner() != GATEWAY);
        let Some(mut newest) = clients.next() else { return Attribution::Nobody };
        for call in clients {
            if call.1.conversation.owner() != newest.1.conversation.owner() {
                return Attribution::Several;
            }
            // An upstream that asks is likely to ask about what came last.
            if call.0 > newest.0 {
                newest = call;
            }
        }
        Attribution::One(newest.1.conversation.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, InFlightCall>> {
        // The map is whole between two statements, so a panic elsewhere can't have broken it.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose message it is that came on a shared channel.
pub(crate) enum Attribution {
    /// No client's call is in flight.
    Nobody,
    /// All calls in flight belong to one owner; this is the newest of them.
    One(Conversation),
    /// Calls of several owners are in flight: it can't be known.
    Several,
}

/// A call's presence among the calls in flight.
pub(crate) struct Entered {
    in_flight: Arc<InFlight>,
    id: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.in_flight.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::downstream::conversation::{self, Owner};

    fn conversation(owner: Owner) -> Conversation {
        conversation::open(owner, CancellationToken::new()).0
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
        drop(other);
        assert!(matches!(in_flight.sole(), Attribution::One(c) if c.owner() == a));
    }
}
