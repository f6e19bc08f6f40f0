//! One message in, one answer (or a running call) out.
//!
//! Dispatch joins what the catalog routes and what the upstreams send. It meets one snapshot of the
//! catalog per request and decides, from the era of the client and that of the upstream, which bridge
//! a call crosses (`carry`); `answers` says what comes of it in the terms of the client's era.

mod answers;
mod carry;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::StatusCode;
use sql::model::{Era, Isolation, KeyMode, Kind, Mode};
use tokio_util::sync::CancellationToken;

use self::answers::{list_head, list_tail};
use super::abilities::Abilities;
use super::conversation::{self, Outbox, Owner};
use super::in_flight::CallsInFlight;
use super::initialize;
use super::live::LiveSessions;
use super::log_feed::LEVEL_DEFAULT;
use super::log_levels::LogLevels;
use super::resource_updates::ResourceUpdates;
use super::session::Session;
use super::smart_mode;
use super::tasks::{self, Tasks};
use super::verbs::{CALL_TOOL, COMPLETE, GET_PROMPT, READ_RESOURCE, Verb};
use crate::access::Caller;
use crate::bridge::parked::Parking;
use crate::call_log::{Begun, CallLog, Way, outcome_of};
use crate::catalog::follow::Published;
use crate::catalog::search::indexes::Indexes;
use crate::catalog::{View, lists};
use crate::relay::{Claim, Relay, ReplicaId};
use crate::spans::{AskedAs, CallSpan, Spans};
use crate::trace::{TraceContext, Traced};
use crate::upstream::Upstreams;
use crate::wire::envelope::{Field, Params, Request};
use crate::wire::ids::Id;
use crate::wire::meta::{LogLevel, MODERN_VERSION, RequestMeta};

pub(crate) use self::answers::response;
pub(super) use self::answers::{answered, done_error, done_result, failed, own_result, unknown};

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
    /// The calls that wait for a modern client to come back.
    pub parking: Parking,
    /// What is needed to know tasks again.
    pub tasks: Tasks,
    /// The other replicas.
    pub relay: Relay,
    /// What smart mode searches.
    pub indexes: Indexes,
    /// Where each call leaves its record.
    pub call_log: CallLog,
    /// Where a collector is told of calls, if there is one.
    pub spans: Option<Spans>,
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
#[derive(Debug, Clone)]
pub struct ModernClient {
    /// The path it came on, in its one spelling.
    pub face: &'static str,
    /// The least severe log message wanted; absent: none.
    pub log_level: Option<LogLevel>,
    /// What it can be asked: the raw `clientCapabilities`, read only where something is asked.
    pub capabilities: Option<Bytes>,
    /// The token that it wants progress under.
    pub progress_token: Option<Id>,
    /// The mode that is in force for it.
    pub mode: Mode,
}

impl ModernClient {
    /// What `_meta` says, of a client that came on this path and is in this mode.
    pub fn of(meta: RequestMeta, face: &'static str, mode: Mode) -> Self {
        Self {
            face,
            log_level: meta.log_level,
            capabilities: meta.client_capabilities,
            progress_token: meta.progress_token,
            mode,
        }
    }

    fn abilities(&self) -> Abilities {
        let declared = self.capabilities.as_deref().and_then(|raw| std::str::from_utf8(raw).ok());
        declared.map(Abilities::of).unwrap_or_default()
    }
}

impl Client {
    pub(super) fn is_modern(&self) -> bool {
        matches!(self, Self::Modern(_))
    }

    fn mode(&self) -> Mode {
        match self {
            Self::Legacy(session) => session.mode,
            Self::Modern(client) => client.mode,
        }
    }

    /// The path it came on, which says its transport and may say its mode.
    fn face(&self) -> &str {
        match self {
            Self::Legacy(session) => &session.face,
            Self::Modern(client) => client.face,
        }
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
    /// The trace that the headers of its request name, where it came with headers of its own.
    pub trace: Option<TraceContext>,
    /// What a collector is told of it, once it is a call.
    pub span: Option<Arc<CallSpan>>,
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
    pub async fn view(&self, caller: &Caller) -> Arc<View> {
        self.published.current().view_soon(caller.policy()).await
    }

    /// Answers a request, or starts its call.
    pub fn request(self: &Arc<Self>, asked: Asked) -> Outcome {
        let (modern, mode) = (asked.client.is_modern(), asked.client.mode());
        match asked.request.method.as_str() {
            "tools/list" if mode == Mode::Smart => self.smart_list(&asked),
            "tools/list" => Self::list(&asked, Kind::Tool),
            "prompts/list" => Self::list(&asked, Kind::Prompt),
            "resources/list" => Self::list(&asked, Kind::Resource),
            "resources/templates/list" => Self::list(&asked, Kind::ResourceTemplate),
            "tools/call" if mode == Mode::Smart => self.smart_call(asked),
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
            "server/discover" if modern => done_result(&asked, initialize::discover(&asked.view, mode)),
            method if method.starts_with("tasks/") => self.task(asked),
            method => done_error(&asked, METHOD_NOT_FOUND, &format!("Method not found: {method}")),
        }
    }

    /// The sessions with an upstream that a request goes over, where they are its client's own: they stand
    /// at one replica.
    pub fn own_sessions(&self, asked: &Asked) -> Option<Claim> {
        let params = asked.request.params.as_ref()?;
        let upstream = match asked.request.method.as_str() {
            method if method.starts_with("tasks/") => {
                let at = self.tasks.ids.open(asked.caller.key().id, &params.text(Field::TaskId)?)?;
                let mut shown = asked.view.upstreams();
                Arc::clone(&shown.find(|lists| lists.upstream.id == at.upstream)?.upstream)
            }
            method => {
                // In smart mode a call is that of the tool in it; the gateway's own tools are at no upstream.
                let is_wrapped = method == CALL_TOOL.method && asked.client.mode() == Mode::Smart;
                let wrapped = if is_wrapped { Some(smart_mode::wrapped(params)?) } else { None };
                let params = wrapped.as_ref().unwrap_or(params);
                let verb = [&CALL_TOOL, &GET_PROMPT, &READ_RESOURCE, &COMPLETE];
                let verb = verb.into_iter().find(|verb| verb.method == method)?;
                Arc::clone(&(verb.subject)(params)?.route(&asked.view)?.upstream)
            }
        };
        let Owner(owner) = match upstream.isolation {
            Isolation::Shared => return None,
            Isolation::PerKey => Owner(asked.caller.key().id.uuid()),
            Isolation::PerSession => owner(asked),
        };
        Some(Claim::Own(upstream.id, owner))
    }

    /// The replica at which the call is parked that a modern request goes on with, if that isn't here.
    pub fn parked_elsewhere(&self, request: &Request) -> Option<ReplicaId> {
        self.parking.elsewhere(&request.params.as_ref()?.get(Field::RequestState)?)
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
        let page = match lists::page(&asked.view, kind, tasks::audience(&asked.client), cursor.as_deref()) {
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
                self.live.set_level(session.id, level, session.forgotten_at());
                self.log_levels.tell_all();
                done_result(asked, Bytes::from_static(b"{}"))
            }
            None => done_error(asked, INVALID_PARAMS, "level must be one of the eight syslog severities"),
        }
    }

    pub(super) fn call(self: &Arc<Self>, mut asked: Asked, verb: &'static Verb) -> Outcome {
        let Some(subject) = asked.request.params.as_ref().and_then(|params| (verb.subject)(params)) else {
            return done_error(&asked, INVALID_PARAMS, verb.needs);
        };
        let Some(item) = tasks::shown(&asked, subject.route(&asked.view)) else {
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
        let mut recording = self.call_log.begin(verb.recorded, &item, begun(&asked));
        if let Some(spans) = &self.spans {
            asked.span = span(spans, &asked);
            recording = recording.seen_as(asked.span.clone());
        }
        let answer = Box::pin(async move {
            let carried = dispatch.carry(&asked, verb, &item, &subject, conversation, token).await;
            drop(permit);
            let outcome = outcome_of(verb.recorded, &carried);
            let answer = carried.unwrap_or_else(|error| failed(&asked, &item.upstream, &error));
            recording.end(outcome, &answer);
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
        said.map(|level| level.min(LEVEL_DEFAULT))
    }
}

/// The span of a call that begins, unless its trace isn't recorded.
fn span(spans: &Spans, asked: &Asked) -> Option<Arc<CallSpan>> {
    let said = Traced::of(asked.request.params.as_ref(), asked.trace.as_ref());
    let (version, session) = match &asked.client {
        Client::Legacy(session) => (session.version, Some(session.id)),
        Client::Modern(_) => (MODERN_VERSION, None),
    };
    let request_id = String::from_utf8_lossy(asked.request.id.raw()).trim_matches('"').to_owned();
    spans.begin(said.as_ref(), AskedAs { request_id, version: version.as_str().to_owned(), session })
}

/// What a call's record says of who asks.
fn begun(asked: &Asked) -> Begun {
    Begun {
        key: asked.caller.key().id,
        // The mode that the call was made in: that of a session may no longer be what its key or the settings say.
        way: Way::of(asked.client.face(), KeyMode::Inherit, asked.client.mode()),
        era: if asked.client.is_modern() { Era::Modern } else { Era::Legacy },
        bytes_in: asked.request.params.as_ref().map_or(0, |params| params.raw().len()),
        deadline: match &asked.client {
            Client::Legacy(session) => session.deadline,
            Client::Modern(_) => None,
        },
    }
}

pub(super) fn owner(asked: &Asked) -> Owner {
    match &asked.client {
        Client::Legacy(session) => Owner(session.id),
        Client::Modern(_) => Owner(asked.caller.key().id.uuid()),
    }
}
