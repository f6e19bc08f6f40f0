//! The data plane as a whole: what lives as long as the process and serves requests from memory.
//!
//! It owns the connections to upstreams, the catalog and its follower, the syncs, and what flushes to
//! the store. Everything runs in one task group, on the runtime it was started on; requests hold
//! handles. Start-up reads the store and publishes a catalog; upstreams connect afterwards, so that it
//! takes no longer with dead ones.

mod control;
mod metrics;
mod playground;
#[cfg(test)]
mod tests;
mod upkeep;
mod usage;

pub use self::control::{check_spec, check_xiaozhi_url};

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use sql::model::{Settings, SyncSwitches, Upstream, UpstreamId, UpstreamInfo};
use sql::{Store, StoreError, upstreams};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::access::{Keys, Sharing};
use crate::audit::denied::Denials;
use crate::audit::keeping;
use crate::bridge::parked::Parking;
use crate::cache::Cache;
use crate::call_log::CallLog;
use crate::catalog::follow::{Follower, Published, SettingsFollower};
use crate::catalog::search::indexes::Indexes;
use crate::control::Control;
use crate::downstream::connection::Connections;
use crate::downstream::dispatch::Dispatch;
use crate::downstream::endpoints::Endpoints;
use crate::downstream::in_flight::CallsInFlight;
use crate::downstream::incoming;
use crate::downstream::live::LiveSessions;
use crate::downstream::log_feed::LogFeed;
use crate::downstream::log_levels::LogLevels;
use crate::downstream::resource_updates::ResourceUpdates;
use crate::downstream::session::SessionSealer;
use crate::downstream::session_log::SessionLog;
use crate::downstream::sse::Sse;
use crate::downstream::streamable_http::StreamableHttp;
use crate::downstream::subscriptions::Subscriptions;
use crate::downstream::tasks::Tasks as ClientTasks;
use crate::downstream::tasks::given::GivenTasks;
use crate::downstream::tasks::ids::TaskIds;
use crate::downstream::tasks::status::TaskStatus;
use crate::downstream::websocket::Websocket;
use crate::downstream::xiaozhi;
use crate::feed::Feed;
use crate::http_bridge::McpService;
use crate::jobs::{Job, Jobs};
use crate::relay::{PeerService, Relay, RelayOptions};
use crate::spans::{SpanOptions, Spans};
use crate::sync::Syncs;
use crate::tasks::Tasks;
use crate::upstream::egress::Egress;
use crate::upstream::oauth::Passes;
use crate::upstream::oauth::keeper::Keeper;
use crate::upstream::stdio::Launcher;
use crate::upstream::{UpstreamDeps, UpstreamEvent, Upstreams};

/// What upstreams report that isn't handled yet. Each upstream has few events at a time; a full queue
/// makes an upstream's own task wait, and nothing else.
const EVENTS_MAX: usize = 1024;

/// What the data plane is started with.
pub struct Options {
    /// The opened store.
    pub store: Store,
    /// Lays what the environment fixes over the stored settings.
    pub overlay: Box<dyn Fn(Settings) -> Settings + Send + Sync>,
    /// Which addresses upstreams may be dialled at.
    pub egress: Egress,
    /// How children are started.
    pub launcher: Launcher,
    /// Owner of every long-lived task.
    pub tasks: Tasks,
    /// How long keys are served while the store is out of reach.
    pub stale_max: Duration,
    /// What is shared with other replicas beside the store.
    pub cache: Cache,
    /// Cancelled when no more requests are accepted: streams end in the way their era asks.
    pub draining: CancellationToken,
    /// The socket for other replicas, and the address by which they reach it.
    pub peer: Option<PeerSocket>,
    /// Where a collector is told of calls.
    pub spans: Option<SpanOptions>,
}

/// Where other replicas hand over what is for this one.
pub struct PeerSocket {
    /// It listens.
    pub socket: TcpListener,
    /// What the others are told.
    pub address: SocketAddr,
}

/// Handles to the running data plane. Clones share it.
#[derive(Clone)]
pub struct DataPlane(Arc<Parts>);

struct Parts {
    store: Store,
    cache: Cache,
    published: Published,
    keys: Keys,
    upstreams: Upstreams,
    syncs: Syncs,
    live: LiveSessions,
    updates: ResourceUpdates,
    logs: LogFeed,
    session_log: SessionLog,
    task_status: TaskStatus,
    log_levels: LogLevels,
    streams: CallsInFlight,
    parking: Parking,
    call_log: CallLog,
    spans: Option<Spans>,
    denials: Denials,
    feed: Feed,
    jobs: Jobs,
    settings: watch::Receiver<Arc<Settings>>,
    tasks: Tasks,
    draining: CancellationToken,
    relay: Relay,
    /// What answers clients, once it is there.
    mcp: OnceLock<Arc<dyn McpService>>,
    /// Until something serves on it.
    peer: Mutex<Option<PeerSocket>>,
}

impl DataPlane {
    /// Reads the store, publishes the first catalog and sets everything going.
    pub async fn start(options: Options) -> Result<Self, StoreError> {
        let Options { store, overlay, egress, launcher, tasks, stale_max, cache, draining, peer, spans } =
            options;
        let in_force = watch::Sender::new(Arc::new(Settings::default()));
        let settings = in_force.subscribe();
        let (events, reported) = mpsc::channel(EVENTS_MAX);
        let upstreams = Upstreams::new(UpstreamDeps {
            settings: settings.clone(),
            clock: store.clock().clone(),
            egress,
            launcher,
            passes: Passes::default(),
            tasks: tasks.clone(),
            events,
        });
        let sharing = cache.redis().map(|redis| Sharing::start(redis.clone(), settings.clone(), &tasks));
        let (published, keys) = (Published::new(store.clock().clone()), Keys::sharing(sharing));
        let relay = Relay::start(RelayOptions {
            cache: cache.clone(),
            sealer: store.sealer().clone(),
            clock: store.clock().clone(),
            tasks: tasks.clone(),
            settings: settings.clone(),
            peer: peer.as_ref().map(|peer| peer.address),
            draining: draining.clone(),
        });
        let relay = relay.await;
        let replica = relay.replica();
        let live = LiveSessions::at(replica);
        let updates = ResourceUpdates::new(Arc::new(upstreams.clone()));
        let session_log = SessionLog::new(live.clone(), updates.clone(), store.clone());
        let keeper = Keeper::new(store.clone(), upstreams.clone(), tasks.clone());
        let mut follower = Follower::new(
            store.clone(),
            published.clone(),
            keys.clone(),
            upstreams.clone(),
            session_log.clone(),
            keeper.clone(),
            SettingsFollower { overlay, in_force },
        );
        let key_follower = follower.load(stale_max).await?;
        usage::load(&store, &keys).await?;
        let task_status = TaskStatus {
            tasks: ClientTasks { ids: TaskIds::new(store.sealer().clone()), given: GivenTasks::default() },
            published: published.clone(),
            keys: keys.clone(),
            live: live.clone(),
        };
        let feed = Feed::new(draining.clone());
        let spans = spans.map(Spans::new);
        let parts = Arc::new(Parts {
            task_status,
            syncs: Syncs::new(
                store.clone(),
                upstreams.clone(),
                settings.clone(),
                tasks.clone(),
                relay.has_others(),
            ),
            log_levels: LogLevels::new(upstreams.clone(), live.clone(), tasks.clone()),
            streams: CallsInFlight::default(),
            parking: Parking::new(
                store.sealer().clone(),
                store.clock().clone(),
                tasks.clone(),
                upstreams.degraded().clone(),
                replica,
            ),
            call_log: CallLog::new(store.clone(), settings.clone(), feed.clone(), spans.clone(), &cache),
            spans,
            jobs: Jobs::new(store.clone()),
            denials: Denials::new(store.clock().clone()),
            feed,
            store,
            cache,
            published,
            keys,
            upstreams,
            live,
            updates: updates.clone(),
            logs: LogFeed::default(),
            session_log,
            settings,
            tasks: tasks.clone(),
            draining,
            relay,
            mcp: OnceLock::new(),
            peer: Mutex::new(peer),
        });
        parts.join_replicas();
        tasks.spawn("catalog follower", follower.run(tasks.stopping().clone()));
        tasks.spawn("key follower", key_follower.run(tasks.stopping().clone()));
        tasks.spawn("oauth", keeper.run());
        tasks.spawn("names", Arc::clone(&parts).follow_naming());
        tasks.spawn("upstream events", Arc::clone(&parts).handle_events(reported));
        tasks.spawn("last use of keys", Arc::clone(&parts).flush_last_used());
        tasks.spawn("use of quotas", Arc::clone(&parts).write_usage_regularly());
        tasks.spawn("expired keys", Arc::clone(&parts).end_expired_keys());
        tasks.spawn("streamless sessions", updates.sweep(tasks.stopping().clone()));
        parts.call_log.run(&tasks);
        parts.spans.iter().for_each(|spans| spans.run(&tasks));
        parts.session_log.run(&tasks);
        parts.feed.run(&tasks);
        parts.denials.run(parts.store.clone(), &tasks);
        let audit = keeping::run(parts.store.clone(), parts.settings.clone(), tasks.stopping().clone());
        tasks.spawn("audit log", audit);
        Ok(Self(parts))
    }

    /// The keys in force, for the checks of the gateway.
    pub fn keys(&self) -> Keys {
        self.0.keys.clone()
    }

    /// Where the gateway notes whom it turns away.
    pub fn denials(&self) -> Denials {
        self.0.denials.clone()
    }

    /// The settings in force, and word of new ones.
    pub fn settings(&self) -> watch::Receiver<Arc<Settings>> {
        self.0.settings.clone()
    }

    /// What answers clients of the protocol. `public_url` is where they reach the gateway, if that is
    /// known to differ from what they say.
    pub fn mcp_service(&self, public_url: Option<Url>) -> Arc<dyn McpService> {
        let parts = &self.0;
        let clock = parts.store.clock().clone();
        let sealer = SessionSealer::new(parts.store.sealer().clone(), clock.clone());
        let dispatch = Arc::new(Dispatch {
            published: parts.published.clone(),
            upstreams: parts.upstreams.clone(),
            live: parts.live.clone(),
            log_levels: parts.log_levels.clone(),
            updates: parts.updates.clone(),
            in_flight: CallsInFlight::default(),
            parking: parts.parking.clone(),
            tasks: parts.task_status.tasks.clone(),
            relay: parts.relay.clone(),
            indexes: Indexes::default(),
            call_log: parts.call_log.clone(),
            spans: parts.spans.clone(),
        });
        xiaozhi::run(xiaozhi::Running {
            store: parts.store.clone(),
            dispatch: Arc::clone(&dispatch),
            upstreams: parts.upstreams.clone(),
            keys: parts.keys.clone(),
            settings: parts.settings.clone(),
            tasks: parts.tasks.clone(),
            draining: parts.draining.clone(),
        });
        let subscriptions = Subscriptions {
            published: parts.published.clone(),
            keys: parts.keys.clone(),
            live: parts.live.clone(),
            updates: parts.updates.clone(),
            logs: parts.logs.clone(),
            streams: parts.streams.clone(),
            draining: parts.draining.clone(),
            task_ids: parts.task_status.tasks.ids.clone(),
            tasks: parts.tasks.clone(),
        };
        let connections = Connections {
            dispatch: Arc::clone(&dispatch),
            subscriptions: subscriptions.clone(),
            clock: clock.clone(),
            tasks: parts.tasks.clone(),
        };
        let mcp: Arc<dyn McpService> = Arc::new(Endpoints {
            streamable_http: StreamableHttp {
                dispatch,
                sealer: sealer.clone(),
                session_log: parts.session_log.clone(),
                subscriptions,
                tasks: parts.tasks.clone(),
            },
            sse: Sse::new(connections.clone(), sealer, public_url),
            websocket: Websocket {
                connections,
                keys: parts.keys.clone(),
                settings: parts.settings.clone(),
                clock: clock.clone(),
            },
        });
        // Made once; who asks again gets another that is alike.
        let _ = parts.mcp.set(Arc::clone(&mcp));
        let peer = parts.peer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (keys, settings, tasks) = (parts.keys.clone(), parts.settings.clone(), parts.tasks.clone());
        let service = PeerService { mcp: Arc::clone(&mcp), keys, settings, clock, tasks };
        parts.relay.listen(peer.map(|peer| peer.socket), service);
        mcp
    }

    /// What the control plane may ask.
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.0) as Arc<dyn crate::control::ControlPlane>)
    }

    /// Does a job, if no other replica does it. One that runs already isn't begun again.
    pub async fn run_job(&self, job: Job) {
        let parts = &self.0;
        let work: BoxFuture<'_, Result<(), StoreError>> = match job {
            Job::Sync => Box::pin(async {
                parts.request_syncs();
                Ok(())
            }),
            Job::CallRecords => Box::pin(parts.call_log.drop_old_records()),
            Job::Partitions => Box::pin(parts.call_log.tend_partitions()),
            Job::Rollups => Box::pin(parts.call_log.prune_rollups()),
            Job::Sessions => {
                // What lies in memory is each replica's own affair.
                parts.session_log.forget_expired();
                Box::pin(parts.session_log.sweep())
            }
            Job::KeyUsage => Box::pin(parts.sweep_usage()),
        };
        parts.jobs.run(job, work).await;
    }

    /// Ends streams and connections, stops children, writes what is not yet written.
    pub async fn shutdown(&self) {
        self.0.tasks.stopping().cancel();
        self.0.upstreams.shutdown().await;
        self.0.write_last_used().await;
        self.0.write_usage().await;
        self.0.call_log.flush().await;
        if let Some(spans) = &self.0.spans {
            spans.flush().await;
        }
        self.0.denials.flush(&self.0.store).await;
        self.0.tasks.stop().await;
    }
}

/// What decides under which names an upstream's definitions are exposed.
#[derive(PartialEq)]
struct Naming {
    length_max: u32,
    prefix: String,
    kinds: SyncSwitches,
}

impl Parts {
    /// Is there for other replicas, and takes what they tell.
    fn join_replicas(&self) {
        let (live, updates) = (self.live.clone(), self.updates.clone());
        let (upstreams, tasks) = (self.upstreams.clone(), self.tasks.clone());
        let sessions = live.clone();
        let hearer = move |told| incoming::told(&live, &updates, &upstreams, &tasks, told);
        self.relay.run(hearer, move |session| sessions.get(session).is_some());
    }

    async fn handle_events(self: Arc<Self>, mut reported: mpsc::Receiver<UpstreamEvent>) {
        let stopping = self.tasks.stopping().clone();
        loop {
            let event = tokio::select! {
                event = reported.recv() => event,
                () = stopping.cancelled() => return,
            };
            match event {
                None => return,
                Some(UpstreamEvent::Connected { id, info }) => self.connected(id, info).await,
                Some(UpstreamEvent::ListChanged { id, .. }) => self.sync_if_automatic(id),
                Some(UpstreamEvent::Updated { id, topic, params }) => {
                    self.updates.updated(id, &topic, &params);
                }
                Some(UpstreamEvent::TaskStatus { id, params }) => self.task_status.tell(id, &params),
                Some(UpstreamEvent::Log { id, params }) => self.logs.publish(id, &params),
                // States are asked for, by whoever hears that there is a new one.
                Some(UpstreamEvent::StateChanged { id }) => self.feed.upstream(id),
            }
        }
    }

    async fn connected(&self, id: UpstreamId, info: UpstreamInfo) {
        // First what needs no store: one that hangs must not keep a list from being fetched.
        self.log_levels.tell(id);
        self.sync_if_automatic(id);
        if let Err(error) = self.keep_info(&info).await {
            tracing::warn!(upstream.id = %id, error = &error as &dyn std::error::Error, "what the upstream says of itself could not be kept");
        }
    }

    /// Writes what an upstream says of itself where it says something new.
    async fn keep_info(&self, info: &UpstreamInfo) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        let known = upstreams::info(&mut tx, info.upstream_id).await?;
        let same = known.is_some_and(|known| UpstreamInfo { seen_at: info.seen_at, ..known } == *info);
        if same || upstreams::get(&mut tx, info.upstream_id).await?.is_none() {
            return Ok(());
        }
        upstreams::save_info(&mut tx, info).await?;
        tx.commit().await
    }

    fn request_syncs(&self) {
        let catalog = Arc::clone(&self.published.current().catalog);
        for upstream in catalog.upstreams().filter(|upstream| upstream.auto_sync && upstream.enabled) {
            self.syncs.request(upstream.id);
        }
    }

    fn sync_if_automatic(&self, id: UpstreamId) {
        let snapshot = self.published.current();
        let automatic = snapshot.catalog.upstreams().any(|upstream| upstream.id == id && upstream.auto_sync);
        if automatic {
            self.syncs.request(id);
        }
    }

    /// Names are settled when a list is taken in. So what decides on names asks for a sync when it
    /// changes, and an upstream that is gone takes its worker with it.
    async fn follow_naming(self: Arc<Self>) {
        let stopping = self.tasks.stopping().clone();
        let mut changes = self.published.changes();
        let mut known = self.naming();
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = stopping.cancelled() => return,
            }
            let now = self.naming();
            for (id, naming) in &now {
                if known.get(id).is_some_and(|former| former != naming) {
                    self.sync_if_automatic(*id);
                }
            }
            self.syncs.keep(|id| now.contains_key(&id));
            known = now;
        }
    }

    /// What the names and kinds of each upstream's definitions depend on.
    fn naming(&self) -> HashMap<UpstreamId, Naming> {
        let catalog = Arc::clone(&self.published.current().catalog);
        let length_max = catalog.settings.naming.length_max;
        let naming = |upstream: &Arc<Upstream>| Naming {
            length_max,
            prefix: upstream.name_prefix.clone(),
            kinds: upstream.sync,
        };
        catalog.upstreams().map(|upstream| (upstream.id, naming(upstream))).collect()
    }
}
