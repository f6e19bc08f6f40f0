//! Long-lived streams for what belongs to no call: the GET stream of a legacy session, and
//! `subscriptions/listen` of 2026-07-28.
//!
//! A stream hears of resources that it subscribed to and, in the legacy era, what upstreams log outside
//! of calls. It hears that a list changed only if the list *as its key sees it* changed, and at most once
//! in a while, however often an upstream flaps. It ends when its key is revoked, when its client
//! leaves or doesn't read, and in the way its era asks for when the gateway stops.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::StatusCode;
use serde::Deserialize;
use sql::model::{ApiKeyId, Kind};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::dispatch::Answered;
use super::in_flight::{CallsInFlight, Permit};
use super::live::{Live, LiveSessions};
use super::log_feed::{self, LogFeed, LogMessage};
use super::outlet::{Outlet, Pieces};
use super::resource_updates::{Attached, Resource, ResourceUpdates};
use super::session::Session;
use super::stream::{self, KEEP_ALIVE};
use crate::access::{Caller, Keys};
use crate::catalog::follow::Published;
use crate::catalog::{Policy, View};
use crate::http_bridge::Reply;
use crate::refusal::Refusal;
use crate::tasks::Tasks;
use crate::upstream::Settling;
use crate::upstream::call::SubscribeError;
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::envelope::Request;
use crate::wire::meta;

/// Between two `list_changed` of one kind on one stream: a flapping upstream costs a client one
/// reload in this time.
const CHANGE_INTERVAL: Duration = Duration::from_secs(5);

/// Events that may wait for a client that doesn't read; then its stream is closed.
const EVENTS_MAX: usize = 64;

/// How long the acknowledgement of a subscription waits for upstreams.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

const INVALID_PARAMS: i64 = -32602;

/// The kinds whose lists are announced, by the method that does so. A template belongs to the
/// resources.
const ANNOUNCED: [(&str, [Kind; 2]); 3] = [
    ("notifications/tools/list_changed", [Kind::Tool, Kind::Tool]),
    ("notifications/prompts/list_changed", [Kind::Prompt, Kind::Prompt]),
    ("notifications/resources/list_changed", [Kind::Resource, Kind::ResourceTemplate]),
];

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
    /// Owner of the streams' tasks.
    pub tasks: Tasks,
}

impl Subscriptions {
    /// The GET stream of a legacy session (Streamable HTTP, listening for messages from the server).
    pub fn stream(&self, session: &Session, caller: Caller, request_id: &str) -> Reply {
        let permit = match self.permit(caller.key().id) {
            Ok(permit) => permit,
            Err(refusal) => return refusal.respond(request_id),
        };
        let (events, body) = mpsc::channel(EVENTS_MAX);
        let inbox = self.updates.attach(session.id, caller.key().id);
        let open = self.of_session(session.id, inbox, Outlet::Events(events), Some(permit));
        let watch = self.watch(caller, open, &ANNOUNCED.map(|(method, _)| method));
        self.tasks.spawn_here("mcp get stream", watch.run());
        stream::event_stream(body)
    }

    /// The same on the connection that a session has for everything, whose end is the end of what it
    /// subscribed to; resolves when it is over.
    pub fn beside(
        &self,
        session: Uuid,
        caller: Caller,
        outlet: Outlet,
    ) -> impl Future<Output = ()> + Send + use<> {
        // Of a session that the client began anew on the same connection.
        self.updates.end(session);
        let inbox = self.updates.attach(session, caller.key().id).to_the_end();
        let open = self.of_session(session, inbox, outlet, None);
        self.watch(caller, open, &ANNOUNCED.map(|(method, _)| method)).run()
    }

    fn of_session(&self, session: Uuid, inbox: Attached, outlet: Outlet, permit: Option<Permit>) -> Open {
        let live = self.live.of(session);
        let ended = live.attach(outlet.clone());
        // The session may have ended after this request was let in and before its stream was attached.
        if self.live.is_ended(session) {
            ended.cancel();
        }
        let face = Face::Get { session, live, sessions: self.live.clone() };
        Open { face, inbox, outlet, ended, permit }
    }

    /// `subscriptions/listen`: the acknowledgement first, then only what was asked for.
    pub fn listen(&self, request: &Request, caller: Caller, request_id: &str) -> Reply {
        let filter = match Filter::of(request) {
            Ok(filter) => filter,
            Err(message) => return stream::json(Answered { status: StatusCode::OK, message }),
        };
        let permit = match self.permit(caller.key().id) {
            Ok(permit) => permit,
            Err(refusal) => return refusal.respond(request_id),
        };
        let (events, body) = mpsc::channel(EVENTS_MAX);
        let (outlet, ended) = (Outlet::Events(events), CancellationToken::new());
        let listening = self.listening(request, filter, caller, outlet, ended, permit);
        self.tasks.spawn_here("mcp listen stream", listening);
        stream::event_stream(body)
    }

    /// The same on a connection that carries other messages too, until `cancelled`; resolves when it is
    /// over. Where it can't be, the answer that says why.
    pub fn listen_beside(
        &self,
        request: &Request,
        caller: Caller,
        outlet: Outlet,
        cancelled: CancellationToken,
    ) -> Result<impl Future<Output = ()> + Send + use<>, Pieces> {
        let filter = Filter::of(request)?;
        let refused = |refusal: Refusal| vec![compose::error_raw(Some(&request.id), &refusal.error_object())];
        let permit = self.permit(caller.key().id).map_err(refused)?;
        Ok(self.listening(request, filter, caller, outlet, cancelled, permit))
    }

    /// A subscription, entered when this returns; resolves when it is over.
    fn listening(
        &self,
        request: &Request,
        filter: Filter,
        caller: Caller,
        outlet: Outlet,
        ended: CancellationToken,
        permit: Permit,
    ) -> impl Future<Output = ()> + Send + use<> {
        let id = request.id.detached().raw().clone();
        let who = Uuid::now_v7();
        let inbox = self.updates.attach(who, caller.key().id).to_the_end();
        let settling = self.subscribe(who, &caller, &filter.resource_subscriptions);
        let open = Open { face: Face::Listen { id }, inbox, outlet, ended, permit: Some(permit) };
        self.watch(caller, open, &filter.methods()).listen(filter, settling)
    }

    /// Subscribes a stream to the resources that its view shows and whose upstreams tell of changes.
    fn subscribe(&self, who: Uuid, caller: &Caller, uris: &[String]) -> Vec<(String, Settling)> {
        let view = self.published.current().view(&Policy::of(caller.key()));
        let mut settling: Vec<(String, Settling)> = Vec::new();
        for uri in uris {
            let Some(item) = view.route_uri(uri).filter(|item| view.offers(item.upstream.id).subscribe)
            else {
                continue;
            };
            let resource = Resource { upstream: item.upstream.id, uri: item.subject_upstream(uri).into() };
            if settling.iter().any(|(known, _)| known == uri) {
                continue;
            }
            match self.updates.subscribe(who, caller.key().id, uri, resource) {
                Ok(settles) => settling.push((uri.clone(), settles)),
                Err(error) => tracing::info!("a resource is not subscribed to: {error}"),
            }
        }
        settling
    }

    /// A place among the key's streams.
    pub(super) fn permit(&self, key: ApiKeyId) -> Result<Permit, Refusal> {
        let limit = self.published.current().catalog.settings.limits.streams_per_key;
        self.streams.enter(key, limit).ok_or(Refusal::TooManyStreams { limit })
    }

    fn watch(&self, caller: Caller, open: Open, methods: &[&'static str]) -> Watch {
        // Before the view is taken, so that no change falls between the two.
        let changes = self.published.changes();
        let view = self.published.current().view(&Policy::of(caller.key()));
        let lists = ANNOUNCED
            .iter()
            .filter(|(method, _)| methods.contains(method))
            .map(|(method, kinds)| {
                (*method, Announced { kinds: *kinds, seen: fingerprint(&view, *kinds), quiet_until: None })
            })
            .collect();
        let logs = matches!(open.face, Face::Get { .. }).then(|| self.logs.follow());
        Watch {
            logs,
            published: self.published.clone(),
            keys: self.keys.clone(),
            changes,
            draining: self.draining.clone(),
            caller,
            open,
            lists,
        }
    }
}

fn fingerprint(view: &View, kinds: [Kind; 2]) -> [[u8; 32]; 2] {
    kinds.map(|kind| view.fingerprint(kind))
}

#[derive(Default, Deserialize)]
struct ListenParams {
    #[serde(default)]
    notifications: Filter,
}

/// What a client asks to hear of (2026-07-28, subscriptions).
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    tools_list_changed: bool,
    #[serde(default)]
    prompts_list_changed: bool,
    #[serde(default)]
    resources_list_changed: bool,
    #[serde(default)]
    resource_subscriptions: Vec<String>,
}

impl Filter {
    /// What a request asks for; where that can't be read, the answer that says so.
    fn of(request: &Request) -> Result<Self, Pieces> {
        let Some(params) = &request.params else { return Ok(Self::default()) };
        serde_json::from_slice::<ListenParams>(params.raw()).map(|params| params.notifications).map_err(
            |_| {
                let text = "params.notifications must be a filter";
                vec![compose::error(Some(&request.id), INVALID_PARAMS, text, None)]
            },
        )
    }

    fn methods(&self) -> Vec<&'static str> {
        let wanted = [self.tools_list_changed, self.prompts_list_changed, self.resources_list_changed];
        ANNOUNCED.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|((method, _), _)| *method).collect()
    }

    /// Params of the acknowledgement: the subset that is honoured.
    fn acknowledged(&self, id: &Bytes) -> String {
        let mut honoured = serde_json::Map::new();
        let wanted = [
            ("toolsListChanged", self.tools_list_changed),
            ("promptsListChanged", self.prompts_list_changed),
            ("resourcesListChanged", self.resources_list_changed),
        ];
        for (name, _) in wanted.iter().filter(|(_, wanted)| *wanted) {
            honoured.insert((*name).into(), true.into());
        }
        if !self.resource_subscriptions.is_empty() {
            honoured.insert("resourceSubscriptions".into(), self.resource_subscriptions.clone().into());
        }
        format!(r#"{{{},"notifications":{}}}"#, tag(id), serde_json::Value::Object(honoured))
    }
}

/// The member that ties a message to its subscription, with the id exactly as the client wrote it.
fn tag(id: &Bytes) -> String {
    format!(r#""_meta":{{"{}":{}}}"#, meta::SUBSCRIPTION_ID, raw(id))
}

fn raw(id: &Bytes) -> &str {
    std::str::from_utf8(id).expect("the envelope was parsed as UTF-8")
}

/// The era's form of a stream.
enum Face {
    Get {
        session: Uuid,
        sessions: LiveSessions,
        /// Where the stream is attached while it is open.
        live: Arc<Live>,
    },
    Listen {
        id: Bytes,
    },
}

/// One kind of list that a stream is told about.
struct Announced {
    kinds: [Kind; 2],
    seen: [[u8; 32]; 2],
    quiet_until: Option<Instant>,
}

/// What there is of a stream when it is opened.
struct Open {
    face: Face,
    inbox: Attached,
    outlet: Outlet,
    ended: CancellationToken,
    /// None where the connection has one for all it carries.
    #[expect(dead_code, reason = "held, not used")]
    permit: Option<Permit>,
}

/// One open stream.
struct Watch {
    published: Published,
    keys: Keys,
    changes: watch::Receiver<i64>,
    draining: CancellationToken,
    caller: Caller,
    open: Open,
    /// What upstreams log outside of calls; the legacy era alone has that.
    logs: Option<log_feed::Follower>,
    lists: BTreeMap<&'static str, Announced>,
}

impl Watch {
    /// A subscription: acknowledged once it is known what is honoured, so that the client hears of every
    /// change after that.
    async fn listen(self, mut filter: Filter, settling: Vec<(String, Settling)>) {
        let (names, settling): (Vec<_>, Vec<_>) = settling.into_iter().unzip();
        let settled = join_all(settling.into_iter().map(|settles| timeout(SETTLE_TIMEOUT, settles)));
        let settled = tokio::select! {
            settled = settled => settled,
            () = self.open.over(&self.caller, &self.draining) => return self.farewell(),
        };
        filter.resource_subscriptions.clear();
        for (uri, outcome) in names.into_iter().zip(settled) {
            if matches!(outcome, Ok(Err(SubscribeError::Refused(_)))) {
                self.open.inbox.unsubscribe(&uri);
            } else {
                // One that can't be reached now is asked as soon as it can.
                filter.resource_subscriptions.push(uri);
            }
        }
        let Face::Listen { id } = &self.open.face else { return };
        let acknowledged = compose::notification(
            "notifications/subscriptions/acknowledged",
            Some(filter.acknowledged(id).as_bytes()),
        );
        if self.open.offer(&acknowledged) {
            self.run().await;
        }
    }

    async fn run(mut self) {
        self.follow().await;
        // Whoever else holds the session must not hold the connection open.
        if let Face::Get { live, .. } = &self.open.face {
            live.detach(&self.open.outlet);
        }
    }

    async fn follow(&mut self) {
        let mut silence = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        loop {
            let due = self.next_due();
            let alive = tokio::select! {
                () = self.open.over(&self.caller, &self.draining) => { self.farewell(); false }
                Ok(()) = self.changes.changed() => self.announce(),
                () = until(due) => self.announce(),
                () = self.open.inbox.rung() => self.tell_updates(),
                message = next_log(&mut self.logs) => self.tell_log(&message),
                _ = silence.tick() => self.open.outlet.keep_alive(),
            };
            if !alive {
                return;
            }
        }
    }

    /// What the key sees now. The caller has the key as it was when the stream was opened; what it may
    /// see can have changed since. One that is gone sees nothing new: its stream is ending.
    fn view(&self) -> Arc<View> {
        let now = self.keys.get(self.caller.key().id);
        self.published.current().view(&Policy::of(now.as_ref().unwrap_or(self.caller.key())))
    }

    /// Says which lists changed since they were last announced. `false`: the client doesn't read.
    fn announce(&mut self) -> bool {
        let view = self.view();
        let now = Instant::now();
        for (method, list) in &mut self.lists {
            let seen = fingerprint(&view, list.kinds);
            if seen == list.seen || list.quiet_until.is_some_and(|until| until > now) {
                continue;
            }
            list.seen = seen;
            list.quiet_until = Some(now + CHANGE_INTERVAL);
            let message = compose::notification(method, self.open.face.params().as_deref());
            if !self.open.offer(&message) {
                return false;
            }
        }
        true
    }

    /// Says which subscribed resources changed, of those that the key still sees. `false`: the client
    /// doesn't read, or has another stream by now.
    fn tell_updates(&self) -> bool {
        if self.open.ended.is_cancelled() {
            return false;
        }
        let view = self.view();
        let mut updates = self.open.inbox.take().into_iter();
        while let Some(update) = updates.next() {
            if view.route_uri(&update.subscribed).is_none() {
                continue;
            }
            let params = self.open.face.tagged(update.params.clone());
            let message = compose::notification("notifications/resources/updated", Some(&params));
            if !self.open.offer(&message) {
                self.open.inbox.give_back(std::iter::once(update).chain(updates));
                return false;
            }
        }
        true
    }

    /// Says what an upstream logged outside of calls, if it is for this session. Log messages leave room
    /// for the rest: a flood of them closes no stream.
    fn tell_log(&self, message: &LogMessage) -> bool {
        let Face::Get { session, sessions, .. } = &self.open.face else { return true };
        let least = sessions.level(*session).unwrap_or(log_feed::LEVEL_DEFAULT);
        if message.level < least || !self.open.outlet.has_room() {
            return true;
        }
        let view = self.view();
        let is_shown = view.upstreams().any(|lists| lists.upstream.id == message.upstream);
        !is_shown || self.open.offer(&message.message)
    }

    /// When a change that was held back may be announced.
    fn next_due(&self) -> Option<Instant> {
        let view = self.view();
        self.lists
            .values()
            .filter(|list| fingerprint(&view, list.kinds) != list.seen)
            .filter_map(|list| list.quiet_until)
            .min()
    }

    /// The graceful end of a subscription is its answer; a GET stream just ends.
    fn farewell(&self) {
        if self.draining.is_cancelled()
            && let Face::Listen { id } = &self.open.face
        {
            let result = format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"complete",{}}}}}"#,
                raw(id),
                tag(id)
            );
            self.open.outlet.offer(result.as_bytes());
        }
    }
}

impl Face {
    /// Params that name the subscription, where the era has one.
    fn params(&self) -> Option<Vec<u8>> {
        match self {
            Self::Get { .. } => None,
            Self::Listen { id } => Some(format!("{{{}}}", tag(id)).into_bytes()),
        }
    }

    /// Other params with the same.
    fn tagged(&self, params: Bytes) -> Bytes {
        let Self::Listen { id } = self else { return params };
        let Ok(mut object) = Object::parse(&params) else { return params };
        let meta = object.get("_meta").and_then(|raw| Object::parse(&raw).ok());
        let mut meta = meta.unwrap_or_else(Object::empty);
        meta.set(meta::SUBSCRIPTION_ID, id.clone());
        object.set("_meta", meta.into_bytes());
        object.into_bytes()
    }
}

impl Open {
    /// Puts a message on the stream. `false`: the client is gone, or doesn't read.
    fn offer(&self, message: &[u8]) -> bool {
        let taken = self.outlet.offer(message);
        if !taken && !self.outlet.is_closed() {
            tracing::info!("a stream's client does not read, its stream is closed");
        }
        taken
    }

    /// Resolves when the stream is to end.
    async fn over(&self, caller: &Caller, draining: &CancellationToken) {
        tokio::select! {
            () = self.outlet.closed() => {}
            () = self.ended.cancelled() => {}
            () = caller.revoked().cancelled() => {}
            () = draining.cancelled() => {}
        }
    }
}

/// The next log message outside of calls, where the era has such.
async fn next_log(logs: &mut Option<log_feed::Follower>) -> Arc<LogMessage> {
    match logs {
        Some(logs) => logs.next().await,
        None => std::future::pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
