//! The MCP servers we call: one supervised connection each, and the way to all of them.
//!
//! Reading order: [`call`] is what is asked; `isolation` chooses the session that a
//! call goes over; `connection` keeps one session connected by the pure
//! `states` (`backoff`, `breaker`) and shakes hands (`handshake`) over a `link`, which is Streamable HTTP
//! (`streamable_http`), HTTP+SSE (`sse`), WebSocket (`websocket`), all three on `pool`, `dial` and
//! [`egress`], and authorised by [`oauth`], or a child process ([`stdio`], [`supervise`]). All but the first are a `channel` each. [`status`], [`news`] and `trial` are what others get to see of it.

pub mod call;

pub mod egress;

pub(crate) mod link;

pub(crate) mod frame;

pub mod states;

pub(crate) mod backoff;

pub(crate) mod breaker;

pub(crate) mod dial;

pub(crate) mod http1;

pub(crate) mod pool;

pub(crate) mod target;

pub mod oauth;

pub(crate) mod streamable_http;

pub mod supervise;

pub(crate) mod channel;

pub mod stdio;

pub(crate) mod stream_link;

pub(crate) mod sse;

pub(crate) mod websocket;

pub(crate) mod handshake;

pub mod status;

pub mod news;

pub mod offers;

pub mod topic;

pub(crate) mod connection;

pub(crate) mod isolation;

mod trial;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::BoxFuture;
use sql::clock::Clock;
use sql::model::{Settings, Transport, Upstream, UpstreamId};
use tokio::sync::{mpsc, watch};

use self::call::{Answer, Call, CallError, SubscribeError};
use self::connection::{Opener, Scope, Surroundings};
use self::dial::Dialler;
use self::egress::Egress;
use self::isolation::Served;
use self::link::{Link, OpenError, Wiring};
use self::oauth::{Denial, Passes};
use self::pool::Pool;
use self::status::{Check, Status, TestReport};
use self::stdio::Launcher;
use self::topic::Topic;
use crate::bridge::degraded::Degradations;
use crate::downstream::conversation::Owner;
use crate::tasks::Tasks;
use crate::wire::meta::LogLevel;

pub use self::connection::Peer;
pub use self::news::UpstreamEvent;
pub use self::states::ConnectionState;

/// What the upstreams need of the process.
pub struct UpstreamDeps {
    /// The settings, as they change.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Which addresses may be dialled.
    pub egress: Egress,
    /// How children are started.
    pub launcher: Launcher,
    /// The wall clock, for what admins are shown.
    pub clock: Clock,
    /// What authorises us at them.
    pub passes: Passes,
    /// Owner of all that lives as long as a connection; its runtime is where connections are kept.
    pub tasks: Tasks,
    /// Takes the news of all upstreams.
    pub events: mpsc::Sender<UpstreamEvent>,
}

/// Resolves when it is known whether an upstream tells of a topic.
pub type Settling = BoxFuture<'static, Result<(), SubscribeError>>;

/// All upstreams. Clones share them.
#[derive(Clone)]
pub struct Upstreams {
    shared: Arc<Shared>,
}

struct Shared {
    connections: ArcSwap<HashMap<UpstreamId, Arc<Served>>>,
    /// One change at a time; never taken on the path of a call.
    applying: Mutex<()>,
    surroundings: Surroundings,
    transports: Arc<Transports>,
}

/// The real transports.
struct Transports {
    pool: Pool,
    launcher: Launcher,
}

#[async_trait::async_trait]
impl Opener for Transports {
    async fn open(&self, spec: &Upstream, wiring: Wiring) -> Result<Arc<dyn Link>, OpenError> {
        match spec.transport {
            Transport::StreamableHttp => streamable_http::open(spec, &self.pool, wiring),
            Transport::Stdio => stdio::open(spec, &self.launcher, wiring).await,
            Transport::Sse => sse::open(spec, &self.pool, wiring).await,
            Transport::Websocket => websocket::open(spec, self.pool.dialler(), wiring).await,
        }
    }
}

impl Upstreams {
    /// None yet: [`Upstreams::apply`] brings them.
    pub fn new(deps: UpstreamDeps) -> Self {
        let connect_timeout = connect_timeout(&deps.settings, &deps.tasks);
        let pool = Pool::new(Dialler::new(deps.egress, connect_timeout), deps.tasks.clone());
        let transports = Arc::new(Transports { pool, launcher: deps.launcher });
        let surroundings = Surroundings {
            opener: Arc::clone(&transports) as Arc<dyn Opener>,
            settings: deps.settings,
            clock: deps.clock,
            passes: deps.passes,
            tasks: deps.tasks,
            events: deps.events,
            degraded: Degradations::default(),
            scope: Scope::Everyone,
        };
        let shared =
            Shared { connections: ArcSwap::default(), applying: Mutex::new(()), surroundings, transports };
        Self { shared: Arc::new(shared) }
    }

    /// Makes these the upstreams: starts what is new, ends what is gone or switched off, replaces what is to
    /// be reached in another way, and leaves the rest alone. Returns at once.
    pub fn apply(&self, upstreams: &[Arc<Upstream>]) {
        let _one_at_a_time = self.shared.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.shared.connections.load_full();
        let mut after = HashMap::with_capacity(upstreams.len());
        for spec in upstreams {
            let served = match before.get(&spec.id) {
                Some(served) if same_connection(&served.shared().spec(), spec) => {
                    served.shared().update(Arc::clone(spec));
                    Arc::clone(served)
                }
                known => {
                    let watched = known.map(|served| Arc::clone(served.shared().watched()));
                    Arc::new(Served::start(spec, &self.shared.surroundings, watched.unwrap_or_default()))
                }
            };
            after.insert(spec.id, served);
        }
        self.shared.surroundings.passes.keep(|id| after.contains_key(id));
        let after = Arc::new(after);
        self.degraded().retain(|id| after.contains_key(&id));
        self.shared.connections.store(Arc::clone(&after));
        for (id, served) in before.iter() {
            if !after.get(id).is_some_and(|kept| Arc::ptr_eq(kept, served)) {
                served.end();
            }
        }
    }

    /// All of them, connected or not.
    pub fn ids(&self) -> Vec<UpstreamId> {
        self.shared.connections.load().keys().copied().collect()
    }

    /// Sends one call to one upstream.
    pub async fn call(&self, id: UpstreamId, call: Call) -> Result<Answer, CallError> {
        self.served(id)?.call(call).await
    }

    /// Sends one notification to one upstream, if it is connected.
    pub async fn notify(&self, id: UpstreamId, method: &str, params: Option<Bytes>) -> Result<(), CallError> {
        self.served(id)?.notify(method, params).await
    }

    /// Has an upstream log at the level that all callers want, which is `now` and, when its turn has come,
    /// what `level` says. `None`: there is nothing to tell it.
    pub fn tell_level(
        &self,
        id: UpstreamId,
        now: LogLevel,
        level: impl FnOnce() -> Option<LogLevel> + Send + 'static,
    ) -> Option<BoxFuture<'static, ()>> {
        self.served(id).ok()?.shared().tell_level(now, level)
    }

    /// Sends one notification over each session with an upstream that is this client's own.
    pub async fn notify_own(&self, owner: Owner, method: &str, params: Option<Bytes>) {
        let connections = self.shared.connections.load_full();
        let notified = connections.values().map(|served| served.notify_own(owner, method, params.clone()));
        futures::future::join_all(notified).await;
    }

    /// Wants to hear that a topic changed ([`UpstreamEvent::Updated`]), from now on and across
    /// reconnections, until [`Upstreams::unsubscribe`]; who wants it isn't counted here. The future
    /// resolves when the upstream tells of it, and need not be awaited.
    pub fn subscribe(&self, id: UpstreamId, topic: &Topic) -> Result<Settling, CallError> {
        let served = self.served(id)?;
        let watched = served.shared().watched();
        watched.want(topic)?;
        Ok(Box::pin(watched.settled(topic)))
    }

    /// Wants to hear of a topic no longer.
    pub fn unsubscribe(&self, id: UpstreamId, topic: &Topic) {
        if let Ok(served) = self.served(id) {
            served.shared().watched().unwant(topic);
        }
    }

    /// What is spoken with an upstream; wakes it, and waits for that at most 8 s, if it isn't available.
    pub async fn peer(&self, id: UpstreamId) -> Result<Peer, CallError> {
        self.served(id)?.shared().peer().await
    }

    /// How one upstream fares.
    pub fn status(&self, id: UpstreamId) -> Option<Status> {
        self.shared.connections.load().get(&id).map(|served| served.status())
    }

    /// How all of them fare.
    pub fn statuses(&self) -> HashMap<UpstreamId, Status> {
        self.shared.connections.load().iter().map(|(id, served)| (*id, served.status())).collect()
    }

    /// What clients of the upstreams could not be given.
    pub fn degraded(&self) -> &Degradations {
        &self.shared.surroundings.degraded
    }

    /// What the child of an upstream wrote to stderr, newest last.
    pub fn stderr(&self, id: UpstreamId) -> Vec<String> {
        self.served(id).map(|served| served.shared().stderr()).unwrap_or_default()
    }

    /// The last attempts and pings of an upstream, newest last.
    pub fn checks(&self, id: UpstreamId) -> Vec<Check> {
        self.served(id).map(|served| served.shared().checks()).unwrap_or_default()
    }

    /// Ends the connection of an upstream and connects anew at once; `false` if there is no such upstream.
    pub fn reconnect(&self, id: UpstreamId) -> bool {
        self.served(id).is_ok_and(|served| {
            served.reconnect();
            true
        })
    }

    /// Tries an upstream that may not be stored yet; nothing of it stays.
    pub async fn test(&self, spec: &Upstream) -> TestReport {
        let (transports, surroundings) = (&self.shared.transports, &self.shared.surroundings);
        let limit = seconds(surroundings.settings.borrow().connection.connect_timeout_s);
        let pass = surroundings.passes.find(spec.id).unwrap_or_default();
        let open = |wiring| transports.open(spec, wiring);
        trial::run(spec, &transports.pool, &surroundings.tasks, pass, limit, open).await
    }

    /// Why an upstream refuses us, if it does.
    pub(crate) fn denial(&self, id: UpstreamId) -> Option<Denial> {
        self.shared.connections.load().get(&id).and_then(|served| served.status().denial)
    }

    /// What authorises us at them.
    pub(crate) fn passes(&self) -> &Passes {
        &self.shared.surroundings.passes
    }

    /// What all their requests travel over.
    pub(crate) fn pool(&self) -> &Pool {
        &self.shared.transports.pool
    }

    /// Which addresses may be dialled, for checks before anything is stored.
    pub fn egress(&self) -> Egress {
        self.shared.transports.pool.dialler().egress()
    }

    /// How children are started, for checks before anything is stored.
    pub fn launcher(&self) -> &Launcher {
        &self.shared.transports.launcher
    }

    /// Ends all connections, each in the way of its transport, and waits for that in bounded time.
    pub async fn shutdown(&self) {
        let connections = self.shared.connections.swap(Arc::default());
        futures::future::join_all(connections.values().map(|served| served.ended())).await;
    }

    fn served(&self, id: UpstreamId) -> Result<Arc<Served>, CallError> {
        let connections = self.shared.connections.load();
        let served = connections.get(&id).cloned();
        served.ok_or_else(|| CallError::Unavailable { reason: "it no longer exists".into() })
    }
}

/// The one setting that the dialler needs, as it changes.
fn connect_timeout(settings: &watch::Receiver<Arc<Settings>>, tasks: &Tasks) -> watch::Receiver<Duration> {
    let mut settings = settings.clone();
    let (sender, receiver) =
        watch::channel(seconds(settings.borrow_and_update().connection.connect_timeout_s));
    let stopping = tasks.stopping().clone();
    tasks.spawn("upstream settings", async move {
        let follow = async {
            while settings.changed().await.is_ok() {
                sender.send_replace(seconds(settings.borrow_and_update().connection.connect_timeout_s));
            }
        };
        stopping.run_until_cancelled(follow).await;
    });
    receiver
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

/// Whether two records of one upstream mean the same connection.
fn same_connection(before: &Upstream, after: &Upstream) -> bool {
    before.enabled == after.enabled
        && before.transport == after.transport
        && before.conn_params == after.conn_params
        && before.credential == after.credential
        && before.isolation == after.isolation
        && before.protocol == after.protocol
}
