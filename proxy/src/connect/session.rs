//! What the legacy era keeps: the session, and the stream for what belongs to no request.
//!
//! A gateway that no longer knows the session says 404, and has carried nothing out. Then the client's
//! own `initialize` is played back, once for all who wait, and what was refused is sent again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Method, Response, StatusCode};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::answers::Answers;
use super::relay::{Final, Shared};
use super::remote::{Extra, RETRY};
use super::trouble::Trouble;
use crate::upstream::backoff;
use crate::upstream::pool::Body;
use crate::upstream::streamable_http::events::Position;
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::envelope::{self, Message, ResponseBody};
use crate::wire::headers::{MCP_PROTOCOL_VERSION, MCP_SESSION_ID};
use crate::wire::ids::Id;

/// The gateway is told of the end, but not waited for.
const DELETE_TIMEOUT: Duration = Duration::from_secs(1);
/// Names the event after which a stream goes on.
const LAST_EVENT_ID: &str = "last-event-id";

/// One session.
pub(super) struct Session {
    id: Option<HeaderValue>,
    version: Option<HeaderValue>,
    over: CancellationToken,
}

impl Session {
    fn headers(&self) -> Extra {
        let id = self.id.clone().map(|id| (MCP_SESSION_ID, id));
        let version = self.version.clone().map(|version| (MCP_PROTOCOL_VERSION, version));
        id.into_iter().chain(version).collect()
    }
}

/// The session in force, and how to come to another.
#[derive(Default)]
pub(super) struct Sessions {
    state: Mutex<State>,
    /// Held while one is made anew.
    making: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Session>>,
    /// The client's message.
    initialize: Option<Bytes>,
    /// The client has said so.
    initialized: bool,
}

impl Sessions {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn current(&self) -> Option<Arc<Session>> {
        self.change(|state| state.current.clone())
    }
}

impl Shared {
    /// The client's `initialize`: its answer.
    pub(super) async fn initialize(&self, message: &Bytes, id: &Id) -> Result<Bytes, Trouble> {
        let (session, answer) = self.shake_hands(message, id).await?;
        if let Some(session) = session {
            let before = self.sessions.change(|state| {
                state.initialize = Some(message.clone());
                state.initialized = false;
                state.current.replace(session)
            });
            if let Some(before) = before {
                before.over.cancel();
            }
        }
        Ok(answer.message)
    }

    /// The client is ready: the gateway may speak from now on.
    pub(super) fn initialized(self: &Arc<Self>) {
        let session = self.sessions.change(|state| {
            state.initialized = true;
            state.current.clone()
        });
        if let Some(session) = session {
            self.open_stream(session);
        }
    }

    /// Posts a message of the legacy era, in a session that the gateway knows.
    pub(super) async fn post_in_session(
        self: &Arc<Self>,
        message: &Bytes,
    ) -> Result<Response<Body>, Trouble> {
        let Some(session) = self.sessions.current() else {
            return self.remote.post(message, &Extra::new()).await;
        };
        let response = self.remote.post(message, &session.headers()).await?;
        if response.status() != StatusCode::NOT_FOUND || session.id.is_none() {
            return Ok(response);
        }
        let session = self.renew(&session).await?;
        self.remote.post(message, &session.headers()).await
    }

    /// Ends the session at the gateway.
    pub(super) async fn end_session(&self) {
        let Some(session) = self.sessions.change(|state| state.current.take()) else { return };
        session.over.cancel();
        if session.id.is_some() {
            // Sessions end by themselves, too.
            let _ = timeout(DELETE_TIMEOUT, self.remote.ask(Method::DELETE, &session.headers())).await;
        }
    }

    async fn shake_hands(&self, message: &Bytes, id: &Id) -> Result<(Option<Arc<Session>>, Final), Trouble> {
        let response = self.remote.post(message, &Extra::new()).await?;
        let token = response.headers().get(MCP_SESSION_ID).cloned();
        let answer = self.answer_of(response, id, &mut false).await?;
        let ResponseBody::Result(result) = &answer.body else { return Ok((None, answer)) };
        let agreed = Object::parse(result).ok().and_then(|result| result.text("protocolVersion"));
        let version = agreed.and_then(|version| HeaderValue::from_str(&version).ok());
        let session = Session { id: token, version, over: CancellationToken::new() };
        Ok((Some(Arc::new(session)), answer))
    }

    /// A session in the place of one that the gateway doesn't know; made once, whoever asks.
    async fn renew(self: &Arc<Self>, stale: &Arc<Session>) -> Result<Arc<Session>, Trouble> {
        let _making = self.sessions.making.lock().await;
        let (current, initialize, initialized) = self
            .sessions
            .change(|state| (state.current.clone(), state.initialize.clone(), state.initialized));
        if let Some(current) = current.filter(|current| !Arc::ptr_eq(current, stale)) {
            return Ok(current);
        }
        let message = initialize.ok_or(Trouble::Broken)?;
        let Ok(Message::Request(request)) = envelope::parse(message.clone()) else {
            return Err(Trouble::Broken);
        };
        let (session, _) = self.shake_hands(&message, &request.id).await?;
        let session = session.ok_or(Trouble::Refused(StatusCode::NOT_FOUND))?;
        stale.over.cancel();
        self.sessions.change(|state| state.current = Some(Arc::clone(&session)));
        tracing::warn!("the gateway had forgotten the session, it has another now");
        if initialized {
            let ready = compose::notification("notifications/initialized", None);
            self.remote.post(&ready, &session.headers()).await?;
            self.open_stream(Arc::clone(&session));
        }
        Ok(session)
    }

    fn open_stream(self: &Arc<Self>, session: Arc<Session>) {
        let shared = Arc::clone(self);
        self.tasks.spawn("gateway stream", async move {
            tokio::select! {
                () = session.over.cancelled() => {}
                () = shared.ended.cancelled() => {}
                () = shared.keep_open(&session) => {}
            }
        });
    }

    /// Keeps the stream open, from after the last event on; a gateway without one says so, and that is that.
    async fn keep_open(self: &Arc<Self>, session: &Arc<Session>) {
        let (mut position, mut failures) = (Position::default(), 0);
        loop {
            let mut extra = session.headers();
            let last = position.last_event_id.as_deref().map(HeaderValue::from_str);
            if let Some(Ok(last)) = last {
                extra.push((LAST_EVENT_ID.parse().expect("a header name"), last));
            }
            failures += 1;
            match self.remote.ask(Method::GET, &extra).await {
                Ok(response) if response.status().is_success() => {
                    let Some(answers) = Answers::of(response) else { return };
                    failures = 1;
                    self.pass_on(answers, &mut position).await;
                }
                Ok(response) if response.status() == StatusCode::NOT_FOUND && session.id.is_some() => {
                    // The new session opens a stream of its own.
                    if let Err(trouble) = self.renew(session).await {
                        tracing::warn!(%trouble, "no session");
                    } else {
                        return;
                    }
                }
                Ok(response) if response.status().is_client_error() => return,
                Ok(_) | Err(_) => {}
            }
            sleep(RETRY.after(failures, backoff::jitter())).await;
        }
    }

    async fn pass_on(&self, mut answers: Answers, position: &mut Position) {
        while let Ok(Some(message)) = answers.next().await {
            if envelope::parse(message.clone()).is_ok() {
                self.emit(message).await;
            }
        }
        if let Some(last) = answers.position() {
            *position = last.clone();
        }
    }
}
