//! Long-lived streams for what belongs to no call: the GET stream of a legacy session, and
//! `subscriptions/listen` of 2026-07-28.
//!
//! A stream hears of resources that it subscribed to and, in the legacy era, what upstreams log outside
//! of calls. It hears that a list changed only if the list *as its key sees it* changed, and at most once
//! in a while, however often an upstream flaps. It ends when its key is revoked, when its client
//! leaves or doesn't read, and in the way its era asks for when the gateway stops. The stream of a session
//! waits a while for a client that left, and what is to be said meanwhile waits in it.

mod filter;
#[cfg(test)]
mod tests;
mod watch;

use bytes::Bytes;
use sql::model::{ApiKeyId, CallTransport, Mode};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::filter::Filter;
use self::watch::{ANNOUNCED, Face, Open, Watch};
use super::in_flight::{CallsInFlight, Permit};
use super::live::LiveSessions;
use super::log_feed::{self, LogFeed};
use super::mode::ModeOf;
use super::outlet::{Outlet, Pieces};
use super::replay::{self, EventId, Form, StreamLog};
use super::resource_updates::{Attached, ResourceUpdates, Source};
use super::session::Session;
use super::stream;
use super::tasks::ids::TaskIds;
use crate::access::{Caller, Keys};
use crate::catalog::View;
use crate::catalog::follow::Published;
use crate::facet::PathMode;
use crate::http_bridge::Reply;
use crate::refusal::Refusal;
use crate::tasks::Tasks;
use crate::upstream::Settling;
use crate::upstream::topic::Topic;
use crate::wire::compose;
use crate::wire::envelope::Request;
use crate::wire::meta::LogLevel;

/// Events that may wait for a client that doesn't read; then its stream is closed.
const EVENTS_MAX: usize = 64;

/// Opens streams.
#[derive(Clone)]
pub struct Subscriptions {
    /// The catalog in force, and word of a new one.
    pub published: Published,
    /// The keys as they are now: a stream outlives changes of its own.
    pub keys: Keys,
    /// What hangs off legacy sessions.
    pub live: LiveSessions,
    /// Who hears of which resource.
    pub updates: ResourceUpdates,
    /// Log messages that belong to no call.
    pub logs: LogFeed,
    /// Open streams by key.
    pub streams: CallsInFlight,
    /// Cancelled when no more requests are accepted.
    pub draining: CancellationToken,
    /// Opens the ids of tasks.
    pub task_ids: TaskIds,
    /// Owner of the streams' tasks.
    pub tasks: Tasks,
}

/// What a subscription of 2026-07-28 begins with.
struct Listening {
    mode: Option<PathMode>,
    outlet: Outlet,
    ended: CancellationToken,
    permit: Permit,
}

impl Subscriptions {
    /// The GET stream of a legacy session (Streamable HTTP, listening for messages from the server). It
    /// takes the place of another that the session has.
    pub fn stream(&self, session: &Session, caller: Caller, request_id: &str) -> Reply {
        let former = self.live.get(session.id).and_then(|live| live.stream());
        let permit = match self.permit_instead(former.as_deref(), caller.key().id) {
            Ok(permit) => permit,
            Err(refusal) => return refusal.respond(request_id),
        };
        let (events, body) = mpsc::channel(EVENTS_MAX);
        let log = self.live.replays.begin_session_stream(session.id, Form::of(session.version));
        let stopping = self.tasks.stopping().clone();
        let connection = log.open(Some(permit)).copy(events, caller.revoked().clone(), stopping);
        let inbox = self.updates.attach(session.id, caller.key().id);
        let open = self.of_session(session.id, inbox, Outlet::Log(log), None);
        let mode = ModeOf::Session(session.mode);
        let watch = Watch::new(self, caller, mode, open, &ANNOUNCED.map(|(method, _)| method));
        // The stream goes on for a while without its connection.
        self.tasks.spawn_here("mcp get stream", async { tokio::join!(watch.run(), connection) });
        stream::event_stream(body)
    }

    /// Goes on with a stream of a legacy session on this connection, after the event that its client has
    /// last (Streamable HTTP, resumability and redelivery). `None`: it is a call's stream, and is gone. In the
    /// place of a session's stream that is gone there is a new one: that one hears of all that is to come.
    pub fn resume(
        &self,
        session: &Session,
        from: EventId,
        caller: Caller,
        request_id: &str,
    ) -> Option<Reply> {
        let log = match from.stream.kind() {
            replay::Kind::Call => self.live.replays.find(session.id, from.stream),
            replay::Kind::Session => {
                let current = self.live.get(session.id).and_then(|live| live.stream());
                current.filter(|log| log.name() == from.stream)
            }
        };
        let Some(log) = log.filter(|log| log.goes_on_after(from.number)) else {
            let is_call = from.stream.kind() == replay::Kind::Call;
            return (!is_call).then(|| self.stream(session, caller, request_id));
        };
        let permit = match self.permit_instead(Some(&log), caller.key().id) {
            Ok(permit) => permit,
            Err(refusal) => return Some(refusal.respond(request_id)),
        };
        let mut reading = log.resume(from.number, Some(permit))?;
        if reading.missed > 0 {
            tracing::info!(events.missed = reading.missed, "a stream is resumed after events that are gone");
            let least = self.live.level(session.id).unwrap_or(log_feed::LEVEL_DEFAULT);
            if LogLevel::Warning >= least {
                let missed = missed_message(reading.missed);
                reading = reading.opening_with(stream::event(&missed));
            }
        }
        let (events, body) = mpsc::channel(EVENTS_MAX);
        let connection = reading.copy(events, caller.revoked().clone(), self.tasks.stopping().clone());
        self.tasks.spawn_here("mcp resumed stream", connection);
        Some(stream::event_stream(body))
    }

    /// The same on the connection that a session has for everything, whose end is the end of what it
    /// subscribed to; resolves when it is over.
    pub fn beside(
        &self,
        session: Uuid,
        mode: Mode,
        caller: Caller,
        outlet: Outlet,
    ) -> impl Future<Output = ()> + Send + use<> {
        // Of a session that the client began anew on the same connection.
        self.updates.end(session);
        let inbox = self.updates.attach(session, caller.key().id).to_the_end();
        let open = self.of_session(session, inbox, outlet, None);
        let mode = ModeOf::Session(mode);
        Watch::new(self, caller, mode, open, &ANNOUNCED.map(|(method, _)| method)).run()
    }

    fn of_session(&self, session: Uuid, inbox: Attached, outlet: Outlet, permit: Option<Permit>) -> Open {
        // One with a connection of its own has this already, and it is known what that is.
        let live = self.live.of(session, || CallTransport::StreamableHttp);
        let ended = live.attach(outlet.clone());
        // The session may have ended after this request was let in and before its stream was attached.
        if self.live.is_ended(session) {
            ended.cancel();
        }
        let face = Face::Get { session, live, sessions: self.live.clone() };
        Open { face, inbox, outlet, ended, permit }
    }

    /// `subscriptions/listen`: the acknowledgement first, then only what was asked for.
    pub fn listen(
        &self,
        request: &Request,
        caller: Caller,
        mode: Option<PathMode>,
        request_id: &str,
    ) -> Reply {
        let filter = match Filter::of(request) {
            Ok(filter) => filter,
            Err(answered) => return stream::json(answered),
        };
        let permit = match self.permit(caller.key().id) {
            Ok(permit) => permit,
            Err(refusal) => return refusal.respond(request_id),
        };
        let (events, body) = mpsc::channel(EVENTS_MAX);
        let (outlet, ended) = (Outlet::Events(events), CancellationToken::new());
        let open = Listening { mode, outlet, ended, permit };
        let listening = self.listening(request, filter, caller, open);
        self.tasks.spawn_here("mcp listen stream", listening);
        stream::event_stream(body)
    }

    /// The same on a connection that carries other messages too, until `cancelled`; resolves when it is
    /// over. Where it can't be, the answer that says why.
    pub fn listen_beside(
        &self,
        request: &Request,
        caller: Caller,
        mode: Option<PathMode>,
        outlet: Outlet,
        cancelled: CancellationToken,
    ) -> Result<impl Future<Output = ()> + Send + use<>, Pieces> {
        let filter = Filter::of(request).map_err(|answered| answered.message)?;
        let refused = |refusal: Refusal| vec![compose::error_raw(Some(&request.id), &refusal.error_object())];
        let permit = self.permit(caller.key().id).map_err(refused)?;
        let open = Listening { mode, outlet, ended: cancelled, permit };
        Ok(self.listening(request, filter, caller, open))
    }

    /// A subscription, entered when this returns; resolves when it is over.
    fn listening(
        &self,
        request: &Request,
        filter: Filter,
        caller: Caller,
        Listening { mode, outlet, ended, permit }: Listening,
    ) -> impl Future<Output = ()> + Send + use<> {
        let id = request.id.detached().raw().clone();
        let who = Uuid::now_v7();
        let inbox = self.updates.attach(who, caller.key().id).to_the_end();
        let settling = self.subscribe(who, &caller, &filter);
        let open = Open { face: Face::Listen { id }, inbox, outlet, ended, permit: Some(permit) };
        Watch::new(self, caller, ModeOf::Path(mode), open, &filter.methods()).listen(filter, settling)
    }

    /// Subscribes a stream to the resources and tasks that its view shows and whose upstreams tell of
    /// changes. Each is named as the client does.
    fn subscribe(&self, who: Uuid, caller: &Caller, filter: &Filter) -> Vec<(Topic, Settling)> {
        // It was made, if it had to be, for the request that asks for this.
        let view = self.published.current().view(caller.policy());
        let resources = filter.resource_subscriptions.iter().map(|uri| Topic::resource(uri));
        let tasks = filter.task_ids.iter().map(|id| Topic::task(id));
        let mut settling: Vec<(Topic, Settling)> = Vec::new();
        for named in resources.chain(tasks) {
            let Some(source) = self.source(caller, &view, &named) else { continue };
            if settling.iter().any(|(known, _)| *known == named) {
                continue;
            }
            match self.updates.subscribe(who, caller.key().id, named.name(), source) {
                Ok(settles) => settling.push((named, settles)),
                Err(error) => tracing::info!("{} is not sent: {error}", named.method()),
            }
        }
        settling
    }

    /// Where a topic is, if the view shows it and its upstream tells of such.
    fn source(&self, caller: &Caller, view: &View, named: &Topic) -> Option<Source> {
        match named {
            Topic::Resource(uri) => {
                let item = view.route_uri(uri).filter(|item| view.offers(item.upstream.id).subscribe)?;
                let topic = Topic::resource(&item.subject_upstream(uri));
                Some(Source { upstream: item.upstream.id, topic })
            }
            Topic::Task(ours) => {
                let at = self.task_ids.open(caller.key().id, ours)?;
                let is_told = view.offers(at.upstream).tasks_extension;
                is_told.then(|| Source { upstream: at.upstream, topic: Topic::task(&at.theirs) })
            }
        }
    }

    /// A place among the key's streams: that of the stream whose place is taken, if it has one.
    fn permit_instead(&self, former: Option<&StreamLog>, key: ApiKeyId) -> Result<Permit, Refusal> {
        former.and_then(StreamLog::take_permit).map_or_else(|| self.permit(key), Ok)
    }

    /// A place among the key's streams.
    pub(super) fn permit(&self, key: ApiKeyId) -> Result<Permit, Refusal> {
        let limit = self.published.current().catalog.settings.limits.streams_per_key;
        self.streams.enter(key, limit).ok_or(Refusal::TooManyStreams { limit })
    }
}

/// What a client is told that comes back too late for some of a stream. It has no id: it is of no stream.
fn missed_message(events: u64) -> Bytes {
    let text = format!("{events} messages of this stream are lost: they were too many to be kept");
    let params = serde_json::json!({ "level": "warning", "logger": "mcp-proxy-gateway", "data": text });
    compose::notification("notifications/message", Some(params.to_string().as_bytes()))
}
