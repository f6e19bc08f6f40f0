//! Streamable HTTP towards clients, in both eras, on one endpoint.
//!
//! The order in which an era is found out is that of the specifications' compatibility rules and is
//! kept in `wire::meta::detect_era`; here stands what HTTP makes of it: statuses, sessions in headers,
//! the GET stream. By the time a request comes here its key, address, origin, size and media types
//! have been checked.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use http::{Method, StatusCode};

use super::conversation::Owner;
use super::dispatch::{Answered, Asked, Client, Dispatch, ModernClient, Outcome, Running, response};
use super::initialize::{self, InitializeParams};
use super::modern_checks;
use super::session::{Session, SessionSealer};
use super::session_log::SessionLog;
use super::stream::{self, Surroundings};
use super::subscriptions::Subscriptions;
use crate::facet::PathMode;
use crate::http_bridge::{McpRequest, McpService, Reply, ReplyBody};
use crate::refusal::Refusal;
use crate::tasks::Tasks;
use crate::upstream::call::Answer;
use crate::wire::compose;
use crate::wire::envelope::{
    self, EnvelopeError, Field, Message, Notification, Request, Response, ResponseBody,
};
use crate::wire::headers::{MCP_PROTOCOL_VERSION, MCP_SESSION_ID};
use crate::wire::ids::Id;
use crate::wire::meta::{EraDecision, LogLevel, Version, detect_era};

/// Towards legacy clients: the session is unknown (as the official SDKs have it).
const SESSION_NOT_FOUND: i64 = -32001;
const INVALID_REQUEST: i64 = -32600;
const INVALID_PARAMS: i64 = -32602;

const ROOTS_CHANGED: &str = "notifications/roots/list_changed";

/// The endpoint.
pub struct StreamableHttp {
    /// Answers messages.
    pub dispatch: Arc<Dispatch>,
    /// Seals session ids.
    pub sealer: SessionSealer,
    /// Keeps what of a session changes.
    pub session_log: SessionLog,
    /// Streams for what belongs to no call.
    pub subscriptions: Subscriptions,
    /// Owner of the streams' tasks.
    pub tasks: Tasks,
}

#[async_trait]
impl McpService for StreamableHttp {
    async fn serve(&self, request: McpRequest) -> Reply {
        if request.path.mode == Some(PathMode::Smart) {
            return Refusal::NotFound.respond(&request.context.request_id);
        }
        match request.head.method {
            Method::POST => self.post(request).await,
            Method::GET => self.get(&request),
            Method::DELETE => self.delete(&request).await,
            _ => method_not_allowed(&request),
        }
    }
}

impl StreamableHttp {
    async fn post(&self, request: McpRequest) -> Reply {
        let message = match envelope::parse(request.body.clone()) {
            Ok(message) => message,
            Err(error) => return malformed(&error),
        };
        match detect_era(&request.head.headers, &message) {
            EraDecision::Modern => self.modern(request, message).await,
            EraDecision::Legacy { .. } => self.legacy(request, message).await,
        }
    }

    async fn modern(&self, http: McpRequest, message: Message) -> Reply {
        let request = match message {
            Message::Request(request) => request,
            // Nothing a modern client may notify needs an act of ours over HTTP: closing is cancelling.
            Message::Notification(_) => return empty(StatusCode::ACCEPTED),
            Message::Response(_) | Message::Batch(_) => {
                return error(
                    StatusCode::BAD_REQUEST,
                    None,
                    INVALID_REQUEST,
                    "a request or a notification is expected",
                );
            }
        };
        let caller = http.admitted.caller().clone();
        let view = self.dispatch.view(&caller);
        let meta = match modern_checks::check(&http.head.headers, &request, &view) {
            Ok(meta) => meta,
            Err(refused) => return stream::json(refused.into_answer(&request.id)),
        };
        if request.method.as_str() == "subscriptions/listen" {
            return self.subscriptions.listen(&request, caller, &http.context.request_id);
        }
        let client = Client::Modern(ModernClient { log_level: meta.log_level });
        self.request(Asked { request, client, caller, view }, http).await
    }

    async fn legacy(&self, http: McpRequest, message: Message) -> Reply {
        if let Message::Request(request) = &message
            && request.method.as_str() == "initialize"
        {
            return self.initialize(&http, request);
        }
        let session = match self.session(&http) {
            Ok(session) => session,
            Err(refused) => return refused.into_reply(id_of(&message)),
        };
        match message {
            Message::Request(request) => self.legacy_request(http, session, request).await,
            Message::Notification(notification) => self.notified(&session, &notification),
            Message::Response(response) => self.answered(&session, response),
            Message::Batch(elements) => self.batch(http, session, elements).await,
        }
    }

    fn initialize(&self, http: &McpRequest, request: &Request) -> Reply {
        let params = request
            .params
            .as_ref()
            .and_then(|params| serde_json::from_slice::<InitializeParams>(params.raw()).ok())
            .filter(|params| params.capabilities.get().starts_with('{'));
        let Some(params) = params else {
            let text = "initialize needs protocolVersion, capabilities and clientInfo";
            return error(StatusCode::OK, Some(&request.id), INVALID_PARAMS, text);
        };
        let caller = http.admitted.caller();
        let version = initialize::negotiate(&params.protocol_version);
        let face = http.path.full_path.into();
        let now = self.sealer.now();
        let session =
            Session::new(caller.key().id, face, version, now, params.capabilities, params.client_info);
        let view = self.dispatch.view(caller);
        let result = Answer::Result(initialize::initialize(&view, version));
        let message = response(&request.id, result);
        let mut reply = stream::json(Answered { status: StatusCode::OK, message });
        let token = self.sealer.seal(&session).parse().expect("base64url is a header value");
        reply.headers_mut().insert(MCP_SESSION_ID, token);
        reply
    }

    async fn legacy_request(&self, http: McpRequest, session: Arc<Session>, request: Request) -> Reply {
        self.keep_level(&session, &request).await;
        let caller = http.admitted.caller().clone();
        let view = self.dispatch.view(&caller);
        self.request(Asked { request, client: Client::Legacy(session), caller, view }, http).await
    }

    /// A log level outlives the connection that set it.
    async fn keep_level(&self, session: &Session, request: &Request) {
        if request.method.as_str() != "logging/setLevel" {
            return;
        }
        let level = request.params.as_ref().and_then(|params| params.text(Field::Level));
        if let Some(level) = level.and_then(|level| LogLevel::parse(&level)) {
            self.session_log.set_level(session.id, level, session.ends_at(self.ttl_s())).await;
        }
    }

    /// A call that its session can cancel from now on, and that ends with it.
    fn cancellable(&self, session: &Session, id: Id, running: Running) -> Running {
        let guard = self.dispatch.live.of(session.id).enter_call(id, running.cancel.clone());
        // The session may have ended after this request was let in and before its call was entered.
        if self.dispatch.live.is_ended(session.id) {
            running.cancel.cancel();
        }
        running.holding(guard)
    }

    async fn request(&self, asked: Asked, http: McpRequest) -> Reply {
        let (client, caller, id) = (asked.client.clone(), asked.caller.clone(), asked.request.id.clone());
        let running = match self.dispatch.request(asked) {
            Outcome::Done(answered) => return stream::json(answered),
            Outcome::Running(running) => running,
        };
        let around =
            Surroundings { tasks: self.tasks.clone(), live: self.dispatch.live.clone(), gone: http.gone };
        let running = match &client {
            Client::Legacy(session) => self.cancellable(session, id, running),
            Client::Modern(_) => running,
        };
        stream::respond(running, client, caller, around).await
    }

    fn notified(&self, session: &Session, notification: &Notification) -> Reply {
        if notification.method.as_str() == ROOTS_CHANGED && session.abilities().roots {
            self.roots_changed(session, notification);
        }
        if notification.method.as_str() == "notifications/cancelled"
            && let Some(id) = notification.params.as_ref().and_then(|params| params.id(Field::RequestId))
            && let Some(live) = self.dispatch.live.get(session.id)
        {
            live.cancel(&id);
        }
        empty(StatusCode::ACCEPTED)
    }

    /// Roots are told to those upstreams alone that may ask for them: where the session is this client's
    /// own. The client doesn't wait for them.
    fn roots_changed(&self, session: &Session, notification: &Notification) {
        let (upstreams, owner) = (self.dispatch.upstreams.clone(), Owner(session.id));
        let params = notification.params.as_ref().map(|params| params.raw().clone());
        self.tasks.spawn("roots changed", async move {
            upstreams.notify_own(owner, ROOTS_CHANGED, params).await;
        });
    }

    /// A client's answer to a request of ours. One that nobody waits for is accepted and dropped: its
    /// call may be over.
    fn answered(&self, session: &Session, response: Response) -> Reply {
        let answer = match response.body {
            ResponseBody::Result(raw) => Answer::Result(raw),
            ResponseBody::Error(raw) => Answer::Error(raw),
        };
        let live = self.dispatch.live.get(session.id);
        let known = live
            .zip(response.id.and_then(|id| id.as_u64()))
            .is_some_and(|(live, id)| live.answer(id, answer));
        if !known {
            tracing::debug!("an answer that nobody waits for was dropped");
        }
        empty(StatusCode::ACCEPTED)
    }

    /// A batch, which 2025-03-26 alone has: each element is carried out on its own, and the answers go
    /// back as one array.
    async fn batch(&self, http: McpRequest, session: Arc<Session>, elements: Vec<Bytes>) -> Reply {
        if session.version != Version::V2025_03_26 {
            let text = "a batch is legal in a session of 2025-03-26 only";
            return error(StatusCode::BAD_REQUEST, None, INVALID_REQUEST, text);
        }
        // The first message was paid for when the request came.
        let further = u32::try_from(elements.len()).unwrap_or(u32::MAX).saturating_sub(1);
        if let Err(refusal) = http.admitted.charge_further(further) {
            return refusal.respond(&http.context.request_id);
        }
        let caller = http.admitted.caller();
        let answers =
            join_all(elements.into_iter().map(|element| self.element(&session, caller, element))).await;
        let answers: Vec<Vec<Bytes>> = answers.into_iter().flatten().collect();
        if answers.is_empty() {
            return empty(StatusCode::ACCEPTED);
        }
        let mut message = vec![Bytes::from_static(b"[")];
        for (i, answer) in answers.into_iter().enumerate() {
            if i > 0 {
                message.push(Bytes::from_static(b","));
            }
            message.extend(answer);
        }
        message.push(Bytes::from_static(b"]"));
        stream::json(Answered { status: StatusCode::OK, message })
    }

    /// One element of a batch. There is no stream beside a batch's answer, so what an upstream sends
    /// in the middle of such a call has nowhere to go: notifications are dropped, requests refused.
    async fn element(
        &self,
        session: &Arc<Session>,
        caller: &crate::access::Caller,
        element: Bytes,
    ) -> Option<Vec<Bytes>> {
        let request = match envelope::parse(element) {
            Ok(Message::Request(request)) if request.method.as_str() != "initialize" => request,
            Ok(Message::Notification(notification)) => {
                self.notified(session, &notification);
                return None;
            }
            Ok(Message::Response(response)) => {
                self.answered(session, response);
                return None;
            }
            Ok(Message::Request(request)) => {
                let text = "initialize can't be part of a batch";
                return Some(vec![compose::error(Some(&request.id), INVALID_REQUEST, text, None)]);
            }
            Ok(Message::Batch(_)) => {
                return Some(vec![compose::error(None, INVALID_REQUEST, "a batch can't hold a batch", None)]);
            }
            Err(bad) => return Some(vec![compose::error(bad.id(), bad.code(), &bad.to_string(), None)]),
        };
        self.keep_level(session, &request).await;
        let (view, id) = (self.dispatch.view(caller), request.id.clone());
        let client = Client::Legacy(Arc::clone(session));
        let asked = Asked { request, client, caller: caller.clone(), view };
        let running = match self.dispatch.request(asked) {
            Outcome::Done(answered) => return Some(answered.message),
            Outcome::Running(running) => self.cancellable(session, id, running),
        };
        tokio::select! {
            biased;
            () = caller.revoked().cancelled() => None,
            answered = running.alone() => answered.map(|answered| answered.message),
        }
    }

    fn get(&self, http: &McpRequest) -> Reply {
        if is_modern(http) {
            return method_not_allowed(http);
        }
        match self.session(http) {
            Ok(session) => {
                self.subscriptions.stream(&session, http.admitted.caller().clone(), &http.context.request_id)
            }
            Err(refused) => refused.into_reply(None),
        }
    }

    async fn delete(&self, http: &McpRequest) -> Reply {
        if is_modern(http) {
            return method_not_allowed(http);
        }
        match self.session(http) {
            Ok(session) => {
                self.session_log.end(session.id, session.ends_at(self.ttl_s())).await;
                empty(StatusCode::NO_CONTENT)
            }
            Err(refused) => refused.into_reply(None),
        }
    }

    /// The session that a request names, if it is one of this key on this path and still lives.
    fn session(&self, http: &McpRequest) -> Result<Arc<Session>, NoSession> {
        let mut values = http.head.headers.get_all(MCP_SESSION_ID).iter();
        let token = values.next().ok_or(NoSession::Missing)?;
        if values.next().is_some() {
            return Err(NoSession::Missing);
        }
        let token = token.to_str().map_err(|_| NoSession::Unknown)?;
        let key = http.admitted.caller().key().id;
        let session =
            self.sealer.open(token, key, http.path.full_path, self.ttl_s()).ok_or(NoSession::Unknown)?;
        if self.dispatch.live.is_ended(session.id) {
            return Err(NoSession::Unknown);
        }
        let named = http.head.headers.get(MCP_PROTOCOL_VERSION);
        if named.is_some_and(|version| !is_legacy_version(version)) {
            return Err(NoSession::Version);
        }
        Ok(Arc::new(session))
    }

    fn ttl_s(&self) -> u32 {
        self.dispatch.published.current().catalog.settings.limits.session_ttl_s
    }
}

fn id_of(message: &Message) -> Option<&Id> {
    match message {
        Message::Request(request) => Some(&request.id),
        _ => None,
    }
}

/// Why a request has no session.
enum NoSession {
    Missing,
    Unknown,
    Version,
}

impl NoSession {
    fn into_reply(self, id: Option<&Id>) -> Reply {
        match self {
            Self::Missing => error(
                StatusCode::BAD_REQUEST,
                id,
                INVALID_REQUEST,
                "Mcp-Session-Id is needed, once; initialize gives one",
            ),
            // An ended session answers 404, so that the client initialises anew.
            Self::Unknown => error(StatusCode::NOT_FOUND, id, SESSION_NOT_FOUND, "Session not found"),
            Self::Version => error(
                StatusCode::BAD_REQUEST,
                id,
                INVALID_REQUEST,
                "MCP-Protocol-Version is not a supported version",
            ),
        }
    }
}

fn is_legacy_version(value: &http::HeaderValue) -> bool {
    value.to_str().ok().and_then(Version::parse).is_some_and(|version| !version.is_modern())
}

fn is_modern(http: &McpRequest) -> bool {
    let version = http.head.headers.get(MCP_PROTOCOL_VERSION).and_then(|value| value.to_str().ok());
    version.and_then(Version::parse).is_some_and(Version::is_modern)
}

fn malformed(bad: &EnvelopeError) -> Reply {
    error(StatusCode::BAD_REQUEST, bad.id(), bad.code(), &bad.to_string())
}

fn error(status: StatusCode, id: Option<&Id>, code: i64, message: &str) -> Reply {
    stream::json(Answered { status, message: vec![compose::error(id, code, message, None)] })
}

fn empty(status: StatusCode) -> Reply {
    http::Response::builder().status(status).body(ReplyBody::Empty).expect("a status alone")
}

fn method_not_allowed(http: &McpRequest) -> Reply {
    Refusal::MethodNotAllowed { allow: "POST" }.respond(&http.context.request_id)
}
