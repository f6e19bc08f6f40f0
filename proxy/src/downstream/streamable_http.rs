//! Streamable HTTP towards clients, in both eras, on one endpoint.
//!
//! The order in which an era is found out is that of the specifications' compatibility rules and is
//! kept in `wire::meta::detect_era`; here stands what HTTP makes of it: statuses, sessions in headers,
//! the GET stream. By the time a request comes here its key, address, origin, size and media types
//! have been checked.
//!
//! What most requests never come to is boxed where it is awaited: a future is moved whenever it is handed on, and
//! has room for its largest branch.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, Method, StatusCode};

use super::dispatch::{Answered, Asked, Client, Dispatch, ModernClient, Outcome};
use super::incoming::{self, Kept};
use super::mode::ModeOf;
use super::modern_checks;
use super::replay::{self, EventId, Form};
use super::session::{Session, SessionSealer};
use super::session_log::SessionLog;
use super::stream::{self, Surroundings};
use super::subscriptions::Subscriptions;
use crate::http_bridge::{McpRequest, McpService, Reply, ReplyBody, Via, check_event_stream};
use crate::refusal::Refusal;
use crate::relay::{Claim, Told};
use crate::tasks::Tasks;
use crate::trace::TraceContext;
use crate::wire::compose;
use crate::wire::envelope::{self, EnvelopeError, Message, Request};
use crate::wire::headers::{MCP_PROTOCOL_VERSION, MCP_SESSION_ID};
use crate::wire::ids::Id;
use crate::wire::meta::{EraDecision, Version, detect_era};

/// Towards legacy clients: the session is unknown (as the official SDKs have it).
const SESSION_NOT_FOUND: i64 = -32001;
const INVALID_REQUEST: i64 = -32600;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const NOT_RESUMABLE: &str = "Last-Event-ID names no stream of this session that can be resumed";

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
        match request.head.method {
            Method::POST => self.post(request).await,
            Method::GET => Box::pin(self.get(&request)).await,
            Method::DELETE => Box::pin(self.delete(&request)).await,
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
        let view = self.dispatch.view(&caller).await;
        let mode = ModeOf::Path(http.path.mode).now(caller.key(), view.settings());
        let meta = match modern_checks::check(&http.head.headers, &request, &view, mode) {
            Ok(meta) => meta,
            Err(refused) => return stream::json(refused.into_answer(&request.id)),
        };
        if self.dispatch.relay.has_others()
            && let Some(replica) = self.dispatch.parked_elsewhere(&request)
            && let Some(reply) = Box::pin(self.dispatch.relay.at(&http, replica)).await
        {
            return reply;
        }
        if request.method.as_str() == "subscriptions/listen" {
            return self.subscriptions.listen(&request, caller, http.path.mode, &http.context.request_id);
        }
        let client = Client::Modern(ModernClient::of(meta, http.path.full_path, mode));
        let trace = TraceContext::of_headers(&http.head.headers);
        self.request(Asked { request, client, caller, view, trace, span: None }, http).await
    }

    async fn legacy(&self, http: McpRequest, message: Message) -> Reply {
        if let Message::Request(request) = &message
            && request.method.as_str() == "initialize"
        {
            return Box::pin(self.initialize(&http, request)).await;
        }
        let session = match self.session(&http) {
            Ok(session) => session,
            Err(refused) => return refused.into_reply(id_of(&message)),
        };
        match message {
            Message::Request(request) => self.legacy_request(http, session, request).await,
            Message::Notification(notification) => {
                let told = incoming::notified_in(&self.dispatch, &self.tasks, &session, &notification);
                self.dispatch.relay.tell(&http, told);
                empty(StatusCode::ACCEPTED)
            }
            Message::Response(response) => {
                let elsewhere = incoming::answered(&self.dispatch.live, session.id, response);
                let handed_over = match elsewhere {
                    Some(replica) => Box::pin(self.dispatch.relay.at(&http, replica)).await,
                    None => None,
                };
                handed_over.unwrap_or_else(|| empty(StatusCode::ACCEPTED))
            }
            Message::Batch(elements) => Box::pin(self.batch(http, session, elements)).await,
        }
    }

    async fn initialize(&self, http: &McpRequest, request: &Request) -> Reply {
        let now = self.sealer.now();
        let opened =
            incoming::initialize(&self.dispatch, http.admitted.caller(), http.path, now, request).await;
        let (session, message) = match opened {
            Ok(opened) => opened,
            Err(message) => return stream::json(Answered { status: StatusCode::OK, message }),
        };
        // Of its own calls an admin sees the calls; no client has that session.
        if http.via != Via::Console {
            self.session_log.opened(&session, http.context.address);
        }
        let mut reply = stream::json(Answered { status: StatusCode::OK, message });
        let token = self.sealer.seal(&session).parse().expect("base64url is a header value");
        reply.headers_mut().insert(MCP_SESSION_ID, token);
        reply
    }

    async fn legacy_request(&self, http: McpRequest, session: Arc<Session>, request: Request) -> Reply {
        // What it subscribes to is told where its stream is.
        if matches!(request.method.as_str(), "resources/subscribe" | "resources/unsubscribe")
            && let Some(reply) = Box::pin(self.dispatch.relay.at_holder(&http, Claim::Home(session.id))).await
        {
            return reply;
        }
        if request.method.as_str() == "logging/setLevel" {
            Box::pin(self.kept(&http).keep_level(&session, &request)).await;
        }
        let caller = http.admitted.caller().clone();
        let view = self.dispatch.view(&caller).await;
        let trace = TraceContext::of_headers(&http.head.headers);
        let client = Client::Legacy(session);
        self.request(Asked { request, client, caller, view, trace, span: None }, http).await
    }

    fn kept<'a>(&'a self, http: &'a McpRequest) -> Kept<'a> {
        Kept { log: &self.session_log, http }
    }

    async fn request(&self, asked: Asked, http: McpRequest) -> Reply {
        if self.dispatch.relay.has_others()
            && let Some(claim) = self.dispatch.own_sessions(&asked)
            && let Some(reply) = Box::pin(self.dispatch.relay.at_holder(&http, claim)).await
        {
            return reply;
        }
        let (client, caller, id) = (asked.client.clone(), asked.caller.clone(), asked.request.id.clone());
        let running = match self.dispatch.request(asked) {
            Outcome::Done(answered) => return stream::json(answered),
            Outcome::Running(running) => running,
        };
        let around =
            Surroundings { tasks: self.tasks.clone(), live: self.dispatch.live.clone(), gone: http.gone };
        let running = match &client {
            Client::Legacy(session) => incoming::cancellable(&self.dispatch.live, session, id, running),
            Client::Modern(_) => running,
        };
        stream::respond(running, client, caller, around).await
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
        if let Err(refusal) = http.admitted.charge_further(further, self.sealer.now()).await {
            return refusal.respond(&http.context.request_id);
        }
        let caller = http.admitted.caller();
        let kept = self.kept(&http);
        match incoming::batch(&self.dispatch, &self.tasks, &session, caller, elements, Some(&kept)).await {
            Some(message) => stream::json(Answered { status: StatusCode::OK, message }),
            None => empty(StatusCode::ACCEPTED),
        }
    }

    async fn get(&self, http: &McpRequest) -> Reply {
        if is_modern(http) {
            return method_not_allowed(http);
        }
        if let Err(refusal) = check_event_stream(&http.head.headers) {
            return refusal.respond(&http.context.request_id);
        }
        let session = match self.session(http) {
            Ok(session) => session,
            Err(refused) => return refused.into_reply(None),
        };
        let (caller, request_id) = (http.admitted.caller().clone(), &http.context.request_id);
        // Without ids in its streams, a version knows no such header.
        let last = http.head.headers.get(LAST_EVENT_ID).filter(|last| !last.is_empty());
        let last = last.filter(|_| Form::of(session.version).is_resumable());
        let from = last.and_then(|last| EventId::parse(last.to_str().ok()?, session.id));
        if let Some(reply) = self.stream_elsewhere(http, &session, from).await {
            return reply;
        }
        // Should it have to be made, then away from this thread.
        self.dispatch.view(&caller).await;
        if last.is_none() {
            return self.subscriptions.stream(&session, caller, request_id);
        }
        let resumed = from.and_then(|from| self.subscriptions.resume(&session, from, caller, request_id));
        // Not 404: the session is well. And no other stream instead: its client would wait for the answer there.
        resumed.unwrap_or_else(|| error(StatusCode::BAD_REQUEST, None, INVALID_REQUEST, NOT_RESUMABLE))
    }

    /// What the replica answers that has the stream: a call's that the call is at, a session's its home.
    async fn stream_elsewhere(
        &self,
        http: &McpRequest,
        session: &Session,
        from: Option<EventId>,
    ) -> Option<Reply> {
        let relay = &self.dispatch.relay;
        match from.map(|from| from.stream).filter(|stream| stream.kind() == replay::Kind::Call) {
            Some(call) => relay.at(http, call.replica()?).await,
            None => relay.at_holder(http, Claim::Home(session.id)).await,
        }
    }

    async fn delete(&self, http: &McpRequest) -> Reply {
        if is_modern(http) {
            return method_not_allowed(http);
        }
        match self.session(http) {
            Ok(session) => {
                let until = session.forgotten_at();
                // Before the database is waited for: what hangs off it elsewhere ends at once as well.
                self.dispatch.relay.tell(http, Some(Told::Ended { session: session.id, until }));
                self.session_log.end(session.id, until).await;
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
        Ok(session)
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
