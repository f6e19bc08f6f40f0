//! A client on a transport that has one channel for everything: HTTP+SSE and WebSocket.
//!
//! Such a connection is the session: it begins with it and ends with it. Answers, and what comes before
//! and beside them, leave on one ordered channel; nothing is told by a status or a header. The era is
//! that of each message. A transport hands in messages that have passed every check, writes what waits
//! in the queue, and ends when [`Connection::ended`] says so.
//!
//! The end of a connection cancels its own calls and nothing else. A call that its client cancels isn't
//! answered, in either era.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use sql::clock::Clock;
use sql::model::CallTransport;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::dispatch::{Asked, Client, Dispatch, ModernClient, Outcome, Running};
use super::in_flight::Permit;
use super::incoming;
use super::live::Live;
use super::mode::ModeOf;
use super::modern_checks;
use super::outlet::{self, Outgoing, Outlet, Pieces};
use super::session::Session;
use super::stream::{self, Recipient};
use super::subscriptions::Subscriptions;
use crate::access::{Admitted, Caller};
use crate::catalog::View;
use crate::facet::{McpPath, McpTransport};
use crate::refusal::Refusal;
use crate::tasks::Tasks;
use crate::upstream::backoff;
use crate::wire::compose;
use crate::wire::envelope::{Message, Notification, Request};
use crate::wire::meta::{EraDecision, Version, detect_era};

const INVALID_REQUEST: i64 = -32600;

/// Opens connections.
#[derive(Clone)]
pub struct Connections {
    /// Answers messages.
    pub dispatch: Arc<Dispatch>,
    /// What a client hears beside its calls.
    pub subscriptions: Subscriptions,
    /// Dates sessions.
    pub clock: Clock,
    /// Owner of the calls' tasks.
    pub tasks: Tasks,
}

/// A connection as its transport holds it: dropped, it is closed.
pub struct Opened {
    /// Takes messages.
    pub connection: Arc<Connection>,
    /// What is to be written, in order.
    pub queue: mpsc::Receiver<Pieces>,
}

/// One connection. It has the id of its session, in both.
pub struct Connection {
    id: Uuid,
    path: McpPath,
    shared: Connections,
    caller: Caller,
    outgoing: Outgoing,
    live: Arc<Live>,
    session: Mutex<Option<Arc<Session>>>,
    /// Calls and subscriptions that run.
    running: TaskTracker,
    closed: CancellationToken,
    _permit: Permit,
}

/// Why the gateway ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its key is no longer valid.
    Revoked,
    /// Its client doesn't read.
    TooSlow,
    /// The gateway stops, and what ran has finished.
    Draining,
}

impl Connections {
    /// A connection for a caller on a path, unless the key has as many as it may have.
    pub fn open(&self, caller: Caller, path: McpPath) -> Result<Opened, Refusal> {
        let permit = self.subscriptions.permit(caller.key().id)?;
        let (outgoing, queue) = outlet::outgoing();
        let id = Uuid::now_v7();
        let transport = match path.transport {
            McpTransport::Websocket => CallTransport::Websocket,
            _ => CallTransport::Sse,
        };
        let connection = Arc::new(Connection {
            id,
            path,
            shared: self.clone(),
            caller,
            outgoing,
            live: self.dispatch.live.of(id, || transport),
            session: Mutex::default(),
            running: TaskTracker::new(),
            closed: CancellationToken::new(),
            _permit: permit,
        });
        Ok(Opened { connection, queue })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.connection.close();
    }
}

impl Drop for Connection {
    /// The calls are over, too: none of them can subscribe any more.
    fn drop(&mut self) {
        self.shared.dispatch.updates.end(self.id);
    }
}

impl Connection {
    /// The name of the connection and of its session.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Who opened it.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Takes a message. Waits only while there is no room for its answer.
    pub async fn receive(self: &Arc<Self>, admitted: &Admitted, message: Message) {
        if matches!(message, Message::Request(_)) && self.shared.subscriptions.draining.is_cancelled() {
            return self.refuse(&Refusal::Stopping, &message).await;
        }
        match detect_era(&HeaderMap::new(), &message) {
            EraDecision::Modern => self.modern(admitted.caller(), message).await,
            EraDecision::Legacy { .. } => self.legacy(admitted, message).await,
        }
    }

    /// Says no to a message, where it is one that wants an answer.
    pub async fn refuse(&self, refusal: &Refusal, message: &Message) {
        tracing::info!(refusal.reason = refusal.reason(), "message refused");
        if let Message::Request(request) = message {
            self.say(vec![compose::error_raw(Some(&request.id), &refusal.error_object())]).await;
        }
    }

    /// Says something, behind what was said before.
    pub async fn say(&self, message: Pieces) {
        // A client that left hears nothing any more.
        self.outgoing.send(message).await;
    }

    /// Resolves when the gateway ends the connection: at once where that can't wait, and when what runs
    /// has finished where it can.
    pub async fn ended(&self) -> Ended {
        let drained = async {
            self.shared.subscriptions.draining.cancelled().await;
            self.running.close();
            tokio::select! {
                () = self.running.wait() => {}
                () = self.shared.tasks.stopping().cancelled() => {}
            }
        };
        tokio::select! {
            () = self.caller.revoked().cancelled() => Ended::Revoked,
            () = self.outgoing.overflowed() => Ended::TooSlow,
            () = drained => Ended::Draining,
        }
    }

    fn close(&self) {
        self.closed.cancel();
        self.live.end();
        self.shared.dispatch.live.forget(self.id);
    }

    async fn modern(self: &Arc<Self>, caller: &Caller, message: Message) {
        let request = match message {
            Message::Request(request) => request,
            Message::Notification(notification) => return self.notified(&notification),
            // Neither says which era it is of, so neither is ever taken for a modern one.
            Message::Response(_) | Message::Batch(_) => return,
        };
        let meta = match modern_checks::check_message(&request) {
            Ok(meta) => meta,
            Err(refused) => return self.say(refused.into_answer(&request.id).message).await,
        };
        let view = self.shared.dispatch.view(caller).await;
        if request.method.as_str() == "subscriptions/listen" {
            return self.listen(caller, &request).await;
        }
        let mode = ModeOf::Path(self.path.mode).now(caller.key(), view.settings());
        let client = Client::Modern(ModernClient::of(meta, self.path.full_path, mode));
        self.request(caller, client, view, request).await;
    }

    /// A subscription runs until it is cancelled, as a call does.
    async fn listen(self: &Arc<Self>, caller: &Caller, request: &Request) {
        let cancelled = CancellationToken::new();
        let outlet = Outlet::Shared(self.outgoing.clone());
        let subscriptions = &self.shared.subscriptions;
        match subscriptions.listen_beside(request, caller.clone(), self.path.mode, outlet, cancelled.clone())
        {
            Ok(listening) => {
                let entered = self.live.enter_call(request.id.detached(), cancelled);
                self.spawn("mcp listen", async move {
                    listening.await;
                    drop(entered);
                });
            }
            Err(message) => self.say(message).await,
        }
    }

    async fn legacy(self: &Arc<Self>, admitted: &Admitted, message: Message) {
        let caller = admitted.caller();
        let session = self.session().clone();
        match (message, session) {
            (Message::Request(request), _) if request.method.as_str() == "initialize" => {
                self.initialize(caller, &request).await;
            }
            (Message::Request(request), Some(session)) => {
                let view = self.shared.dispatch.view(caller).await;
                self.request(caller, Client::Legacy(session), view, request).await;
            }
            // The one thing that both sides may ask before there is a session.
            (Message::Request(request), None) if request.method.as_str() == "ping" => {
                self.say(vec![compose::result(&request.id, b"{}")]).await;
            }
            (Message::Request(request), None) => {
                let text = "initialize comes first, or _meta with the version of each request";
                self.say(vec![compose::error(Some(&request.id), INVALID_REQUEST, text, None)]).await;
            }
            (Message::Notification(notification), _) => self.notified(&notification),
            (Message::Response(response), _) => {
                incoming::answered(&self.shared.dispatch.live, self.id, response);
            }
            (Message::Batch(elements), session) => self.batch(admitted, session, elements).await,
        }
    }

    /// Begins the session. A client that begins anew has forgotten the one before.
    async fn initialize(self: &Arc<Self>, caller: &Caller, request: &Request) {
        let shared = &self.shared;
        let now = shared.clock.now();
        match incoming::initialize(&shared.dispatch, caller, self.path, now, request).await {
            Err(message) => self.say(message).await,
            Ok((session, message)) => {
                let mode = session.mode;
                *self.session() = Some(Arc::new(Session { id: self.id, ..session }));
                self.say(message).await;
                let outlet = Outlet::Shared(self.outgoing.clone());
                let beside = shared.subscriptions.beside(self.id, mode, caller.clone(), outlet);
                self.spawn("mcp notifications", beside);
            }
        }
    }

    async fn batch(
        self: &Arc<Self>,
        admitted: &Admitted,
        session: Option<Arc<Session>>,
        elements: Vec<Bytes>,
    ) {
        let Some(session) = session.filter(|session| session.version == Version::V2025_03_26) else {
            let text = "a batch is legal in a session of 2025-03-26 only";
            return self.say(vec![compose::error(None, INVALID_REQUEST, text, None)]).await;
        };
        // The first message was paid for when the batch came.
        let further = u32::try_from(elements.len()).unwrap_or(u32::MAX).saturating_sub(1);
        if let Err(refusal) = admitted.charge_further(further, self.shared.clock.now()).await {
            return self.say(vec![compose::error_raw(None, &refusal.error_object())]).await;
        }
        let (connection, caller) = (Arc::clone(self), admitted.caller().clone());
        self.spawn("mcp batch", async move {
            let shared = &connection.shared;
            let answers = incoming::batch(&shared.dispatch, &shared.tasks, &session, &caller, elements, None);
            tokio::select! {
                Some(message) = answers => connection.say(message).await,
                () = connection.closed.cancelled() => {}
                else => {}
            }
        });
    }

    fn notified(&self, notification: &Notification) {
        let (dispatch, session) = (&self.shared.dispatch, self.session().clone());
        // Everything of such a session is here.
        let _ = match session {
            Some(session) => incoming::notified_in(dispatch, &self.shared.tasks, &session, notification),
            None => incoming::notified(&dispatch.live, self.id, notification),
        };
    }

    async fn request(self: &Arc<Self>, caller: &Caller, client: Client, view: Arc<View>, request: Request) {
        let dispatch = &self.shared.dispatch;
        let id = request.id.detached();
        let asked =
            Asked { request, client: client.clone(), caller: caller.clone(), view, trace: None, span: None };
        let running = match dispatch.request(asked) {
            Outcome::Done(answered) => return self.say(answered.message).await,
            Outcome::Running(running) => running,
        };
        let entered = self.live.enter_call(id, running.cancel.clone());
        let recipient = Recipient::new(client, &dispatch.live);
        let connection = Arc::clone(self);
        self.spawn("mcp call", async move {
            connection.carry(running, recipient).await;
            drop(entered);
        });
    }

    /// Follows a call to its end, unless nobody wants that any more: dropping a call ends it, and the
    /// upstream is told.
    async fn carry(&self, running: Running, client: Recipient) {
        let outlet = Outlet::Shared(self.outgoing.clone());
        let cancelled = running.cancel.clone();
        tokio::select! {
            biased;
            () = cancelled.cancelled() => {}
            () = self.closed.cancelled() => {}
            () = stream::write(None, running, &outlet, &client) => {}
        }
        client.withdraw();
    }

    fn spawn<F>(&self, name: &'static str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.shared.tasks.spawn_here(name, self.running.track_future(work));
    }

    fn session(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        // It is replaced as a whole, so a panic elsewhere can't leave it half done.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When to give the next sign of life: connections that began together don't give it together.
pub fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.75 + backoff::jitter() / 4.0)
}
