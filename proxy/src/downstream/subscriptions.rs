//! Long-lived streams for what belongs to no call: the GET stream of a legacy session, and
//! `subscriptions/listen` of 2026-07-28.
//!
//! A stream hears that a list changed only if the list *as its key sees it* changed, and at most once
//! in a while, however often an upstream flaps. It ends when its key is revoked, when its client
//! leaves or doesn't read, and in the way its era asks for when the gateway stops.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use sql::model::{ApiKeyId, Kind};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::dispatch::Answered;
use super::in_flight::{CallsInFlight, Permit};
use super::live::{Live, LiveSessions};
use super::outlet::{Outlet, Pieces};
use super::session::Session;
use super::stream::{self, KEEP_ALIVE};
use crate::access::{Caller, Keys};
use crate::catalog::follow::Published;
use crate::catalog::{Policy, View};
use crate::http_bridge::Reply;
use crate::refusal::Refusal;
use crate::tasks::Tasks;
use crate::wire::compose;
use crate::wire::envelope::Request;
use crate::wire::meta;

/// Between two `list_changed` of one kind on one stream: a flapping upstream costs a client one
/// reload in this time.
const CHANGE_INTERVAL: Duration = Duration::from_secs(5);

/// Events that may wait for a client that doesn't read; then its stream is closed.
const EVENTS_MAX: usize = 64;

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
        let watch = self.of_session(session.id, caller, Outlet::Events(events), Some(permit));
        self.tasks.spawn_here("mcp get stream", watch.run());
        stream::event_stream(body)
    }

    /// The same on the connection that a session has for everything; resolves when it is over.
    pub fn beside(
        &self,
        session: Uuid,
        caller: Caller,
        outlet: Outlet,
    ) -> impl Future<Output = ()> + Send + use<> {
        self.of_session(session, caller, outlet, None).run()
    }

    fn of_session(&self, session: Uuid, caller: Caller, outlet: Outlet, permit: Option<Permit>) -> Watch {
        let live = self.live.of(session);
        let replaced = live.attach(outlet.clone());
        // The session may have ended after this request was let in and before its stream was attached.
        if self.live.is_ended(session) {
            replaced.cancel();
        }
        let methods = ANNOUNCED.map(|(method, _)| method);
        self.watch(caller, Face::Get { live }, outlet, replaced, permit, &methods)
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
        let watch = self.listening(request, &filter, caller, outlet, ended, permit);
        self.tasks.spawn_here("mcp listen stream", watch.run());
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
        Ok(self.listening(request, &filter, caller, outlet, cancelled, permit).run())
    }

    /// A subscription whose acknowledgement is on its way.
    fn listening(
        &self,
        request: &Request,
        filter: &Filter,
        caller: Caller,
        outlet: Outlet,
        ended: CancellationToken,
        permit: Permit,
    ) -> Watch {
        let id = request.id.detached().raw().clone();
        let acknowledged = compose::notification(
            "notifications/subscriptions/acknowledged",
            Some(filter.acknowledged(&id).as_bytes()),
        );
        // A stream of its own is new and empty; on a connection that is full, the watch ends at once.
        outlet.offer(&acknowledged);
        self.watch(caller, Face::Listen { id }, outlet, ended, Some(permit), &filter.methods())
    }

    /// A place among the key's streams.
    pub(super) fn permit(&self, key: ApiKeyId) -> Result<Permit, Refusal> {
        let limit = self.published.current().catalog.settings.limits.streams_per_key;
        self.streams.enter(key, limit).ok_or(Refusal::TooManyStreams { limit })
    }

    fn watch(
        &self,
        caller: Caller,
        face: Face,
        outlet: Outlet,
        ended: CancellationToken,
        permit: Option<Permit>,
        methods: &[&'static str],
    ) -> Watch {
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
        Watch {
            published: self.published.clone(),
            keys: self.keys.clone(),
            changes,
            draining: self.draining.clone(),
            caller,
            face,
            outlet,
            ended,
            lists,
            _permit: permit,
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

/// One open stream.
struct Watch {
    published: Published,
    keys: Keys,
    changes: watch::Receiver<i64>,
    draining: CancellationToken,
    caller: Caller,
    face: Face,
    outlet: Outlet,
    ended: CancellationToken,
    lists: BTreeMap<&'static str, Announced>,
    /// None where the connection has one for all it carries.
    _permit: Option<Permit>,
}

impl Watch {
    async fn run(mut self) {
        self.follow().await;
        // Whoever else holds the session must not hold the connection open.
        if let Face::Get { live } = &self.face {
            live.detach(&self.outlet);
        }
    }

    async fn follow(&mut self) {
        let mut silence = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        loop {
            let due = self.next_due();
            let alive = tokio::select! {
                Ok(()) = self.changes.changed() => self.announce(),
                () = until(due) => self.announce(),
                _ = silence.tick() => self.outlet.keep_alive(),
                () = self.outlet.closed() => false,
                () = self.ended.cancelled() => false,
                () = self.caller.revoked().cancelled() => false,
                () = self.draining.cancelled() => { self.farewell(); false }
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
            let message = compose::notification(method, self.face.params().as_deref());
            if !self.outlet.offer(&message) {
                tracing::info!("a stream's client does not read, its stream is closed");
                return false;
            }
        }
        true
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
        if let Face::Listen { id } = &self.face {
            let result = format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"complete",{}}}}}"#,
                raw(id),
                tag(id)
            );
            self.outlet.offer(result.as_bytes());
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
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
