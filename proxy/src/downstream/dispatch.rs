//! One message in, one answer (or a running call) out.
//!
//! Dispatch joins what the catalog routes and what the upstreams send. It meets one snapshot of the
//! catalog per request and decides, from the era of the client and that of the upstream, which bridge
//! a call crosses. It is the only place where a failed call becomes a JSON-RPC answer.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::StatusCode;
use sql::model::{Era, Kind, Upstream};
use tokio_util::sync::CancellationToken;

use super::conversation::{self, Conversation, Outbox, Owner};
use super::in_flight::CallsInFlight;
use super::initialize;
use super::live::LiveSessions;
use super::log_levels::LogLevels;
use super::resource_updates::ResourceUpdates;
use super::session::Session;
use super::verbs::{self, CALL_TOOL, COMPLETE, GET_PROMPT, READ_RESOURCE, Subject, Verb};
use crate::access::Caller;
use crate::bridge::{self, legacy_to_modern, modern_to_legacy};
use crate::catalog::follow::Published;
use crate::catalog::{Item, Policy, View, list_field, lists};
use crate::upstream::Upstreams;
use crate::upstream::call::{Answer, Call, CallError};
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::envelope::{Field, Params, Request};
use crate::wire::headers;
use crate::wire::ids::Id;
use crate::wire::meta::{self, LogLevel};

/// What a legacy session that named no level is sent from modern upstreams.
const LOG_LEVEL_DEFAULT: LogLevel = LogLevel::Info;

const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
const INTERNAL_ERROR: i64 = -32603;

/// Answers messages of every transport.
pub struct Dispatch {
    /// The catalog in force.
    pub published: Published,
    /// The servers behind.
    pub upstreams: Upstreams,
    /// What hangs off legacy sessions.
    pub live: LiveSessions,
    /// What legacy upstreams are asked to log.
    pub log_levels: LogLevels,
    /// Who hears of which resource.
    pub updates: ResourceUpdates,
    /// How many calls each key has in flight.
    pub in_flight: CallsInFlight,
}

/// Who asks, in the terms of its era.
#[derive(Clone)]
pub enum Client {
    /// The holder of a legacy session.
    Legacy(Arc<Session>),
    /// A client that says everything in each request.
    Modern(ModernClient),
}

/// What a modern request says of its client.
#[derive(Clone)]
pub struct ModernClient {
    /// The least severe log message wanted; absent: none.
    pub log_level: Option<LogLevel>,
}

impl Client {
    fn is_modern(&self) -> bool {
        matches!(self, Self::Modern(_))
    }
}

/// A request together with who asks and what they see.
pub struct Asked {
    /// The message.
    pub request: Request,
    /// Whose it is.
    pub client: Client,
    /// The key behind it.
    pub caller: Caller,
    /// What the key sees, of the one snapshot this request meets.
    pub view: Arc<View>,
}

/// What became of a request.
pub enum Outcome {
    /// It is answered.
    Done(Answered),
    /// It is at an upstream.
    Running(Running),
}

/// A JSON-RPC answer and the HTTP status it has where the transport has one.
pub struct Answered {
    /// 200, or what 2026-07-28 asks for with some errors.
    pub status: StatusCode,
    /// The message, in pieces.
    pub message: Vec<Bytes>,
}

/// A call at an upstream.
pub struct Running {
    /// What comes before the answer, in order.
    pub outbox: Outbox,
    /// The answer.
    pub answer: BoxFuture<'static, Answered>,
    /// Cancelled when nobody wants the answer any more: the client withdrew its request, its session
    /// ended, or its key was revoked. The call ends, the upstream is told, and nothing is answered.
    pub cancel: CancellationToken,
}

impl Running {
    /// Keeps `guard` until the answer is there.
    #[must_use]
    pub fn holding<G: Send + 'static>(self, guard: G) -> Self {
        let Self { outbox, answer, cancel } = self;
        let answer = Box::pin(async move {
            let answered = answer.await;
            drop(guard);
            answered
        });
        Self { outbox, answer, cancel }
    }

    /// The answer alone, where there is no way to send what comes before it: the upstream's requests
    /// are refused and its notifications dropped. `None`: the request was withdrawn.
    pub async fn alone(self) -> Option<Answered> {
        drop(self.outbox);
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => None,
            answered = self.answer => Some(answered),
        }
    }
}

impl Dispatch {
    /// What `caller` sees now.
    pub fn view(&self, caller: &Caller) -> Arc<View> {
        self.published.current().view(&Policy::of(caller.key()))
    }

    /// Answers a request, or starts its call.
    pub fn request(self: &Arc<Self>, asked: Asked) -> Outcome {
        let modern = asked.client.is_modern();
        match asked.request.method.as_str() {
            "tools/list" => Self::list(&asked, Kind::Tool),
            "prompts/list" => Self::list(&asked, Kind::Prompt),
            "resources/list" => Self::list(&asked, Kind::Resource),
            "resources/templates/list" => Self::list(&asked, Kind::ResourceTemplate),
            "tools/call" => self.call(asked, &CALL_TOOL),
            "prompts/get" => self.call(asked, &GET_PROMPT),
            "resources/read" => self.call(asked, &READ_RESOURCE),
            "completion/complete" => self.call(asked, &COMPLETE),
            "resources/subscribe" if let Client::Legacy(session) = &asked.client => {
                let session = Arc::clone(session);
                self.subscribe(asked, session)
            }
            "resources/unsubscribe" if !modern => self.unsubscribe(&asked),
            "ping" if !modern => done_result(&asked, Bytes::from_static(b"{}")),
            "logging/setLevel" if !modern => self.set_level(&asked),
            "server/discover" if modern => done_result(&asked, initialize::discover(&asked.view)),
            method => done_error(&asked, METHOD_NOT_FOUND, &format!("Method not found: {method}")),
        }
    }

    fn list(asked: &Asked, kind: Kind) -> Outcome {
        let params = asked.request.params.as_ref();
        let cursor = params.and_then(Params::cursor);
        // Taken for none, a cursor of another type would start the list again, and so without end. Some
        // clients write out what they leave out, as null.
        let given = params.and_then(|params| params.get(Field::Cursor)).filter(|raw| raw[..] != b"null"[..]);
        if cursor.is_none() && given.is_some() {
            return done_error(asked, INVALID_PARAMS, "params.cursor must be a string");
        }
        let page = match lists::page(&asked.view, kind, cursor.as_deref()) {
            Ok(page) => page,
            Err(bad) => return done_error(asked, INVALID_PARAMS, &bad.to_string()),
        };
        let mut message = vec![list_head(&asked.request.id, kind)];
        message.extend(page.slices);
        message.push(list_tail(asked, kind, page.next_cursor.as_deref()));
        Outcome::Done(Answered { status: StatusCode::OK, message })
    }

    fn set_level(&self, asked: &Asked) -> Outcome {
        let Client::Legacy(session) = &asked.client else {
            return done_error(asked, METHOD_NOT_FOUND, "Method not found");
        };
        match asked
            .request
            .params
            .as_ref()
            .and_then(|params| params.text(Field::Level))
            .and_then(|level| LogLevel::parse(&level))
        {
            Some(level) => {
                let until = session.ends_at(asked.view.settings().limits.session_ttl_s);
                self.live.set_level(session.id, level, until);
                self.log_levels.tell_all();
                done_result(asked, Bytes::from_static(b"{}"))
            }
            None => done_error(asked, INVALID_PARAMS, "level must be one of the eight syslog severities"),
        }
    }

    fn call(self: &Arc<Self>, asked: Asked, verb: &'static Verb) -> Outcome {
        let Some(subject) = asked.request.params.as_ref().and_then(|params| (verb.subject)(params)) else {
            return done_error(&asked, INVALID_PARAMS, verb.needs);
        };
        let Some(item) = subject.route(&asked.view) else {
            return Outcome::Done(unknown(&asked, &subject));
        };
        let limit = asked.view.settings().limits.calls_in_flight_per_key;
        let Some(permit) = self.in_flight.enter(asked.caller.key().id, limit) else {
            let text = format!("this key has {limit} calls in flight, which is its limit");
            return done_error(&asked, INTERNAL_ERROR, &text);
        };
        let cancel = CancellationToken::new();
        // A queue that overflows ends the call but not the wish for an answer: that client is told why.
        let token = cancel.child_token();
        let (conversation, outbox) = conversation::open(owner(&asked), token.clone());
        let conversation = conversation.of_key(asked.caller.key().id).hearing(self.wanted_level(&asked));
        let dispatch = Arc::clone(self);
        let answer = Box::pin(async move {
            let answer = dispatch.run(&asked, verb, &item, &subject, conversation, token).await;
            drop(permit);
            answered(&asked, answer)
        });
        Outcome::Running(Running { outbox, answer, cancel })
    }

    /// What a legacy upstream is to log for a call. Never less than those want who said nothing: they share
    /// its session.
    fn wanted_level(&self, asked: &Asked) -> Option<LogLevel> {
        let said = match &asked.client {
            Client::Legacy(session) => self.live.level(session.id),
            Client::Modern(client) => client.log_level,
        };
        said.map(|level| level.min(LOG_LEVEL_DEFAULT))
    }

    /// One call at its upstream, over the bridge that it needs.
    async fn run(
        &self,
        asked: &Asked,
        verb: &'static Verb,
        item: &Item,
        subject: &Subject,
        conversation: Conversation,
        cancel: CancellationToken,
    ) -> Answer {
        let peer = match self.upstreams.peer(item.upstream.id).await {
            Ok(peer) => peer,
            Err(error) => return failed(asked, &item.upstream, &error),
        };
        if let Some(answer) = verbs::nothing_to_complete(verb, &peer, asked.client.is_modern()) {
            return answer;
        }
        let params =
            asked.request.params.as_ref().map_or(Bytes::from_static(b"{}"), |params| params.raw().clone());
        let params = subject.rename(params, item);
        let mirrored = subject.is_mirrored().then(|| item.subject_upstream(&subject.name));
        let route = Route {
            verb,
            item,
            mirrored: mirrored.as_deref(),
            conversation,
            cancel,
            timeouts: timeouts(asked, &item.upstream),
        };
        let answer = match (&asked.client, peer.era) {
            (Client::Legacy(_), Era::Legacy) => self.send(&route, params).await,
            (Client::Modern(_), Era::Modern) => self.send(&route, params).await.map(name_gateway),
            (Client::Modern(_), Era::Legacy) => {
                let sent = self.send(&route, modern_to_legacy::params(&params)).await;
                sent.map(|answer| modern_to_legacy::answer(answer, verb.method))
            }
            (Client::Legacy(session), Era::Modern) => self.rounds(&route, session.as_ref(), params).await,
        };
        match answer {
            Ok(Answer::Result(result)) => Answer::Result(item.with_exposed_uris(result)),
            Ok(error) => error,
            Err(error) => failed(asked, &item.upstream, &error),
        }
    }

    /// A legacy client at a modern upstream: as many rounds as the upstream needs input for, in no more
    /// time than one call may take. A client that never answers a form keeps nothing waiting for ever.
    async fn rounds(&self, route: &Route<'_>, session: &Session, params: Bytes) -> Result<Answer, CallError> {
        let after = route.timeouts.total;
        let rounds = tokio::time::timeout(after, self.rounds_untimed(route, session, params));
        rounds.await.unwrap_or(Err(CallError::TimedOut { after }))
    }

    async fn rounds_untimed(
        &self,
        route: &Route<'_>,
        session: &Session,
        params: Bytes,
    ) -> Result<Answer, CallError> {
        let said = legacy_to_modern::Said {
            capabilities: &session.capabilities,
            client_info: session.client_info.as_deref(),
            log_level: self.live.level(session.id).unwrap_or(LOG_LEVEL_DEFAULT),
        };
        let mut params = legacy_to_modern::params(&params, &said);
        for _ in 0..legacy_to_modern::ROUNDS_MAX {
            let answer = self.send(route, params.clone()).await?;
            let required = match legacy_to_modern::next(answer, route.verb.method) {
                legacy_to_modern::Next::Done(answer) => return Ok(answer),
                legacy_to_modern::Next::Ask(required) => required,
            };
            let retried = tokio::select! {
                retried = legacy_to_modern::retry_params(&params, required, &route.conversation) => retried,
                () = route.cancel.cancelled() => return Err(CallError::Cancelled),
            };
            params = match retried {
                Ok(params) => params,
                Err(answer) => return Ok(answer),
            };
        }
        Ok(legacy_to_modern::internal_error("the upstream asked for input again and again"))
    }

    async fn send(&self, route: &Route<'_>, params: Bytes) -> Result<Answer, CallError> {
        let call = Call {
            method: route.verb.method,
            headers: mirror_headers(route, &params),
            params,
            conversation: route.conversation.clone(),
            idle_timeout: route.timeouts.idle,
            total_timeout: route.timeouts.total,
            response_bytes_max: route.timeouts.response_bytes_max,
            cancel: route.cancel.clone(),
        };
        self.upstreams.call(route.item.upstream.id, call).await
    }
}

/// A call on its way: where it goes and what bounds it.
struct Route<'a> {
    verb: &'static Verb,
    item: &'a Item,
    /// What the upstream calls what the client asks for, where a header has it.
    mirrored: Option<&'a str>,
    conversation: Conversation,
    cancel: CancellationToken,
    timeouts: Bounds,
}

struct Bounds {
    idle: Duration,
    total: Duration,
    response_bytes_max: usize,
}

fn timeouts(asked: &Asked, upstream: &Upstream) -> Bounds {
    let settings = asked.view.settings();
    let idle_s = upstream.call_timeout_s.unwrap_or(settings.aggregation.upstream_call_timeout_s);
    Bounds {
        idle: Duration::from_secs(u64::from(idle_s)),
        total: Duration::from_secs(u64::from(settings.aggregation.call_total_timeout_s)),
        response_bytes_max: settings.mcp_api.response_body_max_mib as usize * 1024 * 1024,
    }
}

/// What 2026-07-28 mirrors into headers: the name the upstream knows, and the marked parameters.
fn mirror_headers(route: &Route<'_>, params: &Bytes) -> Vec<(http::HeaderName, http::HeaderValue)> {
    let name = route.mirrored.map(|name| (headers::MCP_NAME, headers::encode_value(name)));
    let mut mirrored: Vec<_> = name.into_iter().collect();
    let item = route.item;
    if !item.param_headers.is_empty() {
        let arguments = Object::parse(params).ok().and_then(|params| params.get("arguments"));
        mirrored.extend(item.param_headers.extract(arguments.as_ref()));
    }
    mirrored
}

pub(super) fn owner(asked: &Asked) -> Owner {
    match &asked.client {
        Client::Legacy(session) => Owner(session.id),
        Client::Modern(_) => Owner(asked.caller.key().id.uuid()),
    }
}

fn name_gateway(answer: Answer) -> Answer {
    match answer {
        Answer::Result(result) => Answer::Result(bridge::modern_to_modern(result)),
        Answer::Error(error) => Answer::Error(error),
    }
}

/// A call that brought no answer of its own, as a model can act on it: for a tool a result that says
/// what failed and whether to try again, for anything else an internal error with the same as data.
pub(super) fn failed(asked: &Asked, upstream: &Upstream, error: &CallError) -> Answer {
    let (code, retryable) = match error {
        CallError::Unavailable { .. } => ("UPSTREAM_UNAVAILABLE", true),
        CallError::Busy { .. } => ("UPSTREAM_BUSY", true),
        CallError::TimedOut { .. } => ("UPSTREAM_TIMEOUT", false),
        CallError::ClosedMidCall => ("UPSTREAM_CLOSED", false),
        CallError::TooLarge { .. } => ("UPSTREAM_ANSWER_TOO_LARGE", false),
        CallError::Invalid { .. } => ("UPSTREAM_ANSWER_INVALID", false),
        CallError::Refused { .. } => ("UPSTREAM_REFUSED", false),
        CallError::SessionUnknown => ("UPSTREAM_SESSION_LOST", true),
        CallError::Cancelled => ("CANCELLED", false),
    };
    tracing::info!(upstream.id = %upstream.id, error.code = code, "call failed: {error}");
    let data = serde_json::json!({ "code": code, "upstream": upstream.name, "retryable": retryable });
    let text = format!("The upstream \"{}\" did not answer: {error}.", upstream.name);
    if asked.request.method.as_str() != "tools/call" {
        let error = serde_json::json!({ "code": INTERNAL_ERROR, "message": text, "data": data });
        return Answer::Error(Bytes::from(error.to_string()));
    }
    let mut meta = serde_json::json!({ (meta::GATEWAY_ERROR): data });
    let mut result = serde_json::json!({ "content": [{ "type": "text", "text": text }], "isError": true });
    if asked.client.is_modern() {
        result["resultType"] = "complete".into();
        meta[meta::SERVER_INFO] = serde_json::from_slice(&bridge::implementation()).unwrap_or_default();
    }
    result["_meta"] = meta;
    Answer::Result(Bytes::from(result.to_string()))
}

/// A subject that isn't there, or that this key doesn't see: the same answer for both.
pub(super) fn unknown(asked: &Asked, subject: &Subject) -> Answered {
    let (code, message, data) = subject.unknown(asked.client.is_modern());
    let message = compose::error(Some(&asked.request.id), code, &message, data.as_deref().map(str::as_bytes));
    Answered { status: StatusCode::OK, message: vec![message] }
}

/// An upstream's answer under the id that the client gave.
pub(super) fn answered(asked: &Asked, answer: Answer) -> Answered {
    let status = match &answer {
        Answer::Error(raw) if asked.client.is_modern() => modern_status(raw),
        _ => StatusCode::OK,
    };
    Answered { status, message: response(&asked.request.id, answer) }
}

/// The HTTP status that 2026-07-28 gives to an error where it is the whole answer (Streamable HTTP,
/// server validation; versioning).
fn modern_status(error: &[u8]) -> StatusCode {
    match bridge::ErrorObject::read(error).map(|error| error.code) {
        Some(METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
        Some(-32022..=-32020) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

pub(super) fn done_result(asked: &Asked, result: Bytes) -> Outcome {
    let result = if asked.client.is_modern() { bridge::modern_to_modern(result) } else { result };
    Outcome::Done(answered(asked, Answer::Result(result)))
}

pub(super) fn done_error(asked: &Asked, code: i64, message: &str) -> Outcome {
    Outcome::Done(answered(asked, Answer::Error(compose::error_object(code, message, None))))
}

/// An answer under the client's id, in pieces.
pub(crate) fn response(id: &Id, answer: Answer) -> Vec<Bytes> {
    match answer {
        Answer::Result(result) => compose::result_chain(id, result).into(),
        Answer::Error(error) => vec![compose::error_raw(Some(id), &error)],
    }
}

/// What precedes the definitions in the answer to a list.
fn list_head(id: &Id, kind: Kind) -> Bytes {
    let mut head = BytesMut::from(&br#"{"jsonrpc":"2.0","id":"#[..]);
    head.extend_from_slice(id.raw());
    head.extend_from_slice(br#","result":{""#);
    head.extend_from_slice(list_field(kind).as_bytes());
    head.extend_from_slice(br#"":["#);
    head.freeze()
}

/// What follows the definitions in the answer to a list.
fn list_tail(asked: &Asked, kind: Kind, next_cursor: Option<&str>) -> Bytes {
    let mut tail = String::from("]");
    if let Some(cursor) = next_cursor {
        // A cursor is base64url: nothing in it needs an escape.
        let _ = write!(tail, r#","nextCursor":"{cursor}""#);
    }
    if asked.client.is_modern() {
        let fresh = asked.view.freshness(kind);
        let scope = if fresh.public { "public" } else { "private" };
        let info = bridge::implementation();
        let info = std::str::from_utf8(&info).expect("a literal of ours");
        let _ = write!(
            tail,
            r#","resultType":"complete","ttlMs":{},"cacheScope":"{scope}","_meta":{{"{}":{info}}}"#,
            fresh.ttl_ms,
            meta::SERVER_INFO
        );
    }
    tail.push_str("}}");
    Bytes::from(tail)
}
