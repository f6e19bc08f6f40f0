//! A running call towards its client: as one JSON answer where nothing comes before it, else as an
//! event stream.
//!
//! The stream is written by one task that drains the call's one queue, so that what came first goes
//! first and the answer last (Streamable HTTP, sending messages to the server). What the end of the
//! connection means differs: a modern client that leaves has cancelled, a legacy one has not, and may come
//! back for the rest. We never close a connection before its stream is over, though 2025-11-25 would let us:
//! signs of life keep it open, one that breaks all the same is resumed, and a client that can't do that would
//! lose its answer.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::conversation::{Ask, AskRefused, Outbound, Outbox};
use super::dispatch::{Answered, Client, Running};
use super::live::{Live, LiveSessions};
use super::outlet::Outlet;
use super::replay::{Form, Replays, StreamLog};
use super::session::Session;
use crate::access::Caller;
use crate::http_bridge::{Reply, ReplyBody};
use crate::tasks::Tasks;
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::meta::{LogLevel, Version};
use crate::wire::sse;

/// A call that is silent for this long is answered by a stream, so that proxies in between see life.
const QUIET_MAX: Duration = Duration::from_secs(10);

/// The same for a client of 2025-11-25: its stream begins with an id to come back with, so that from here on a
/// connection that breaks costs no answer. What is faster is cheaper as JSON.
const UNPRIMED_MAX: Duration = Duration::from_millis(25);

/// Between two signs of life on a stream that has nothing to say. Below it lie the idle limits of
/// common proxies (30 s and 60 s).
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Up to here copying an event costs less than writing it in pieces.
pub(super) const JOIN_BYTES_MAX: usize = 16 * 1024;

/// Events that may wait for one connection, on top of what the call's queue holds.
const EVENTS_MAX: usize = 32;

/// What a stream needs to know of its surroundings.
pub struct Surroundings {
    /// Owner of the writing task.
    pub tasks: Tasks,
    /// What hangs off legacy sessions.
    pub live: LiveSessions,
    /// Cancelled when the client's connection closes.
    pub gone: CancellationToken,
}

/// Answers a running call. Dropping the call ends it: the upstream is told that nobody waits.
pub async fn respond(mut running: Running, client: Client, caller: Caller, around: Surroundings) -> Reply {
    let deadline = Instant::now() + quiet_max(&client);
    let first = tokio::select! {
        biased;
        () = running.cancel.cancelled() => return unanswered(),
        () = leaves_by_closing(&client, &around.gone) => return unanswered(),
        () = caller.revoked().cancelled() => return unanswered(),
        first = running.outbox.next() => first,
        answered = &mut running.answer => return finished(answered, running.outbox, client, around),
        () = tokio::time::sleep_until(deadline) => None,
    };
    streamed(first, running, client, caller.revoked().clone(), around)
}

/// How long a call may be silent before its stream begins.
fn quiet_max(client: &Client) -> Duration {
    match client {
        Client::Legacy(session) if Form::of(session.version) == Form::Primed => UNPRIMED_MAX,
        _ => QUIET_MAX,
    }
}

/// What a withdrawn request gets where HTTP wants a response and the protocol no answer (cancellation:
/// the receiver should not answer): a stream that ends.
fn unanswered() -> Reply {
    event_stream(mpsc::channel(1).1)
}

/// The answer is there. What the upstream said just before it still goes first.
fn finished(answered: Answered, mut outbox: Outbox, client: Client, around: Surroundings) -> Reply {
    let Some(first) = outbox.next_ready() else { return json(answered) };
    let running = Running { outbox, answer: Box::pin(async { answered }), cancel: CancellationToken::new() };
    streamed(Some(first), running, client, CancellationToken::new(), around)
}

fn streamed(
    first: Option<Outbound>,
    running: Running,
    client: Client,
    revoked: CancellationToken,
    around: Surroundings,
) -> Reply {
    let (events, body) = mpsc::channel(EVENTS_MAX);
    let Surroundings { tasks, live, gone } = around;
    match client {
        Client::Modern(_) => {
            let pump =
                Pump { running, outlet: Outlet::Events(events), client: Recipient::new(client, &live), gone };
            tasks.spawn_here("mcp answer stream", async move {
                pump.run(first, revoked).await;
            });
        }
        Client::Legacy(ref session) => {
            let begun = Begun {
                log: live.replays.begin(session.id, Form::of(session.version)),
                replays: live.replays.clone(),
            };
            let outlet = Outlet::Log(Arc::clone(&begun.log));
            let pump = Pump { running, outlet, client: Recipient::new(client, &live), gone };
            let connection = begun.log.open(None).copy(events, revoked.clone(), tasks.stopping().clone());
            let owner = tasks.clone();
            tasks.spawn_here("mcp answer stream", async move {
                let call = async {
                    if pump.run(first, revoked.clone()).await {
                        begun.keep(revoked, &owner);
                    }
                };
                // The call doesn't end with the connection.
                tokio::join!(call, connection);
            });
        }
    }
    event_stream(body)
}

/// A stream that a call writes; dropped without its answer, it is over.
struct Begun {
    log: Arc<StreamLog>,
    replays: Replays,
}

impl Begun {
    /// Keeps the whole of it for a client that has yet to get its end.
    fn keep(self, revoked: CancellationToken, tasks: &Tasks) {
        self.replays.keep(Arc::clone(&self.log), revoked, tasks);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // One that is kept has ended.
        if !self.log.is_over() {
            self.replays.give_up(&self.log);
        }
    }
}

/// Resolves when a client that means it leaves: for a modern client the end of the connection is the
/// cancellation of its request; a legacy one cancels by a notification, and may come back.
async fn leaves_by_closing(client: &Client, gone: &CancellationToken) {
    match client {
        Client::Modern(_) => gone.cancelled().await,
        Client::Legacy(_) => std::future::pending().await,
    }
}

/// An answer as one JSON message.
pub fn json(answered: Answered) -> Reply {
    http::Response::builder()
        .status(answered.status)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(ReplyBody::Chain(answered.message))
        .expect("a status and a constant header")
}

/// The head of an event stream and its body.
pub fn event_stream(body: mpsc::Receiver<Bytes>) -> Reply {
    http::Response::builder()
        .header(http::header::CONTENT_TYPE, "text/event-stream")
        .header(http::header::CACHE_CONTROL, "no-cache")
        .header("x-accel-buffering", "no")
        .body(ReplyBody::Stream(body))
        .expect("constant headers")
}

/// A short message as an event.
pub fn event(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 32);
    sse::write_event(&mut out, Some("message"), None, None, message);
    out.freeze()
}

/// A message in pieces as an event: in one piece where that is cheap, since each piece is a write.
pub(super) fn event_of(message: Vec<Bytes>) -> Vec<Bytes> {
    if message.iter().map(Bytes::len).sum::<usize>() <= JOIN_BYTES_MAX {
        return vec![event(&message.concat())];
    }
    sse::event_chain(Some("message"), None, None, message)
}

/// A sign of life.
pub fn keep_alive() -> Bytes {
    Bytes::from_static(b": keep-alive\n\n")
}

/// Writes one call's stream.
struct Pump {
    running: Running,
    outlet: Outlet,
    client: Recipient,
    gone: CancellationToken,
}

impl Pump {
    /// Until the answer is written, or nobody wants it any more: `false`. What is left of the call then is
    /// dropped, which ends it, and the stream with it.
    async fn run(self, first: Option<Outbound>, revoked: CancellationToken) -> bool {
        let Self { running, outlet, client, gone } = self;
        let cancelled = running.cancel.clone();
        let is_answered = tokio::select! {
            biased;
            () = cancelled.cancelled() => false,
            () = revoked.cancelled() => false,
            () = client.leaves(&outlet, &gone) => false,
            () = write(first, running, &outlet, &client) => true,
        };
        client.withdraw();
        is_answered
    }
}

/// Everything of a call, in order, the answer last.
pub(super) async fn write(
    first: Option<Outbound>,
    mut running: Running,
    outlet: &Outlet,
    client: &Recipient,
) {
    if let Some(first) = first {
        client.deliver(first, outlet).await;
    }
    let mut silence = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    let answered = loop {
        tokio::select! {
            biased;
            Some(message) = running.outbox.next() => client.deliver(message, outlet).await,
            answered = &mut running.answer => break answered,
            _ = silence.tick() => { outlet.keep_alive(); }
        }
    };
    while let Some(message) = running.outbox.next_ready() {
        client.deliver(message, outlet).await;
    }
    // What it asked the client meanwhile is over before the client hears so.
    client.withdraw();
    outlet.send(answered.message).await;
}

/// The client as the receiver of messages in the middle of a call.
pub(super) enum Recipient {
    Legacy {
        session: Arc<Session>,
        sessions: LiveSessions,
        live: Arc<Live>,
        asked: std::sync::Mutex<Vec<u64>>,
    },
    Modern {
        log_level: Option<LogLevel>,
    },
}

impl Recipient {
    pub(super) fn new(client: Client, sessions: &LiveSessions) -> Self {
        match client {
            Client::Legacy(session) => {
                let live = sessions.of(session.id, || session.transport());
                Self::Legacy { session, live, sessions: sessions.clone(), asked: std::sync::Mutex::default() }
            }
            Client::Modern(client) => Self::Modern { log_level: client.log_level },
        }
    }

    pub(super) async fn deliver(&self, message: Outbound, outlet: &Outlet) {
        match message {
            Outbound::Notification { method, params } => {
                if self.wants(&method, params.as_ref()) {
                    let message = compose::notification(&method, params.as_deref());
                    outlet.send(vec![message]).await;
                }
            }
            Outbound::Ask(ask) => self.ask(ask, outlet).await,
        }
    }

    /// A log message goes to whom it concerns; anything else belongs to the call.
    fn wants(&self, method: &str, params: Option<&Bytes>) -> bool {
        if method != "notifications/message" {
            return true;
        }
        let least = match self {
            // A legacy client that named no level leaves the choice to the server.
            Self::Legacy { session, sessions, .. } => match sessions.level(session.id) {
                Some(level) => level,
                None => return true,
            },
            Self::Modern { log_level: Some(level) } => *level,
            Self::Modern { log_level: None } => return false,
        };
        params.and_then(|raw| level_of(raw)).is_some_and(|level| level >= least)
    }

    async fn ask(&self, ask: Ask, outlet: &Outlet) {
        let Self::Legacy { session, live, asked, .. } = self else {
            tracing::info!(mcp.method = %ask.method, "a modern client can't be asked in the middle of a call");
            let _ = ask.reply.send(Err(AskRefused::unsupported(&ask.method)));
            return;
        };
        if !session.abilities().admit(&ask.method, ask.params.as_deref()) {
            let _ = ask.reply.send(Err(AskRefused::unsupported(&ask.method)));
            return;
        }
        let id = live.ask(ask.reply);
        asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(id);
        let params = ask.params.map(|params| without_mode(&ask.method, params, session.version));
        let message = compose::request(id, &ask.method, params.as_deref());
        if !outlet.send(vec![message]).await {
            live.withdraw(id);
        }
    }

    /// Resolves when the client has cancelled by leaving.
    async fn leaves(&self, outlet: &Outlet, gone: &CancellationToken) {
        match self {
            Self::Modern { .. } => tokio::select! {
                () = outlet.closed() => {}
                () = gone.cancelled() => {}
            },
            Self::Legacy { .. } => std::future::pending().await,
        }
    }

    /// The call is over: what it asked the client is no longer waited for.
    pub(super) fn withdraw(&self) {
        if let Self::Legacy { live, asked, .. } = self {
            for id in asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner).drain(..) {
                live.withdraw(id);
            }
        }
    }
}

/// The level of a log message, if it is one.
pub(super) fn level_of(params: &[u8]) -> Option<LogLevel> {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        level: std::borrow::Cow<'a, str>,
    }
    LogLevel::parse(&serde_json::from_slice::<Message<'_>>(params).ok()?.level)
}

/// Before 2025-11-25 an elicitation had no `mode`, and a client may refuse what it doesn't know.
fn without_mode(method: &str, params: Bytes, version: Version) -> Bytes {
    if method != "elicitation/create" || version >= Version::V2025_11_25 {
        return params;
    }
    let Ok(mut object) = Object::parse(&params) else { return params };
    object.remove("mode");
    object.into_bytes()
}
