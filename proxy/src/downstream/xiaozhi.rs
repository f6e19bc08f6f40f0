//! XiaoZhi: brokers of voice robots, which don't come to us but are dialled.
//!
//! The gateway opens the WebSocket and is the MCP *server* on it; the broker speaks first. An endpoint acts as
//! a key: it sees what the key sees, and its messages count in the key's limits, quotas and records. `socket`
//! dials, `messages` answers, `shown` and `answer` make tools and results such as robots take them, `serve` is
//! one live socket, `closing` what its end means, and `endpoint` goes from one to the next.
//!
//! Of several replicas one holds an endpoint, by a lease in the database: two sockets of one agent would
//! replace each other in turn. Here the leases are taken and renewed, and what the endpoints say of themselves
//! is written where every replica can read it.

mod answer;
mod board;
mod closing;
mod endpoint;
mod messages;
mod schema;
mod serve;
mod shown;
mod socket;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sql::clock::Clock;
use sql::model::{Settings, XiaozhiEndpoint, XiaozhiEndpointId};
use sql::xiaozhi_endpoints::{self, LEASES, lease};
use sql::{ChangeKind, Entries, Store, StoreError, changes, leases};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::board::Board;
use self::endpoint::{Dialled, Orders, Shared};
pub(crate) use self::socket::check_url;
use super::dispatch::Dispatch;
use crate::access::Keys;
use crate::tasks::Tasks;
use crate::upstream::Upstreams;

/// How long an endpoint stays with a replica that died.
const LEASE: Duration = Duration::from_secs(15);
/// How much before its lease a holder leaves: time to close, and for clocks that don't go alike.
const LEASE_MARGIN: Duration = Duration::from_secs(3);
/// How often leases are renewed: two renewals may fail.
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// How often it is looked whether an endpoint that another holds is free by now.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often changes are looked for that no hint announced.
const POLL: Duration = Duration::from_secs(5);
/// Between two rounds, so that a burst of changes is one.
const ROUND_INTERVAL: Duration = Duration::from_millis(50);
/// How long giving the leases back may keep the end of the process.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(2);

/// What they are run with.
pub(crate) struct Running {
    pub(crate) store: Store,
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) upstreams: Upstreams,
    pub(crate) keys: Keys,
    pub(crate) settings: watch::Receiver<Arc<Settings>>,
    pub(crate) tasks: Tasks,
    pub(crate) draining: CancellationToken,
}

/// Dials what is to be dialled, from now on until the gateway drains.
pub(crate) fn run(with: Running) {
    let Running { store, dispatch, upstreams, keys, settings, tasks, draining } = with;
    let clock: Clock = store.clock().clone();
    let shared = Arc::new(Shared {
        dispatch,
        keys,
        dialler: upstreams.pool().dialler().clone(),
        settings,
        clock,
        tasks: tasks.clone(),
        draining,
        holder: Uuid::now_v7(),
        board: Board::default(),
    });
    let holder = Holder {
        store,
        shared,
        endpoints: HashMap::new(),
        revision: None,
        held: HashMap::new(),
        renewed_at: None,
    };
    tasks.spawn("xiaozhi", holder.run());
}

/// Takes endpoints into its hold, and lets them go.
struct Holder {
    store: Store,
    shared: Arc<Shared>,
    /// Those that are to be dialled.
    endpoints: HashMap<XiaozhiEndpointId, Arc<XiaozhiEndpoint>>,
    /// The revision that they are known at.
    revision: Option<i64>,
    held: HashMap<XiaozhiEndpointId, Held>,
    renewed_at: Option<Instant>,
}

/// One that is held.
struct Held {
    endpoint: watch::Sender<Arc<XiaozhiEndpoint>>,
    until: watch::Sender<Instant>,
    over: CancellationToken,
    task: JoinHandle<()>,
}

impl Holder {
    async fn run(mut self) {
        let mut hints = self.store.changes();
        let (draining, board) = (self.shared.draining.clone(), self.shared.board.clone());
        while !draining.is_cancelled() {
            if let Err(error) = self.round().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the leases of XiaoZhi endpoints could not be looked after"
                );
            }
            let patience = self.patience();
            tokio::select! {
                _ = hints.wait(patience) => {}
                () = board.changed() => {}
                () = draining.cancelled() => break,
            }
            tokio::time::sleep(ROUND_INTERVAL).await;
        }
        self.leave().await;
    }

    fn patience(&self) -> Duration {
        if self.endpoints.keys().any(|id| !self.held.contains_key(id)) {
            LOOK_EVERY
        } else if self.held.is_empty() {
            POLL
        } else {
            RENEW_EVERY
        }
    }

    /// Brings what is held to what is to be, and writes what is new of it.
    async fn round(&mut self) -> Result<(), StoreError> {
        let others = self.look().await?;
        self.follow();
        let mut ended = Vec::new();
        self.held.retain(|id, held| {
            if held.task.is_finished() {
                ended.push(*id);
            }
            !held.task.is_finished()
        });
        let free = |id: &XiaozhiEndpointId| {
            others.get(&id.to_string()).is_none_or(|holder| *holder == self.shared.holder)
        };
        let new: Vec<XiaozhiEndpointId> =
            self.endpoints.keys().filter(|id| !self.held.contains_key(id) && free(id)).copied().collect();
        let now = Instant::now();
        let is_time = self.renewed_at.is_none_or(|at| at + RENEW_EVERY <= now);
        // All together, so that one time says when the next is due.
        let is_due = !self.held.is_empty() && (is_time || !new.is_empty());
        // One that is not to be dialled any more is still held until its socket is closed.
        let renewed: Vec<XiaozhiEndpointId> =
            if is_due { self.held.keys().copied().collect() } else { Vec::new() };
        let reports = self.shared.board.unwritten();
        if new.is_empty() && renewed.is_empty() && reports.is_empty() && ended.is_empty() {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        let mut kept = HashSet::new();
        for id in renewed.iter().chain(&new) {
            if leases::acquire(&mut tx, &lease(*id), self.shared.holder, LEASE).await? {
                kept.insert(*id);
            }
        }
        for id in ended.iter().filter(|id| !kept.contains(*id)) {
            leases::release(&mut tx, &lease(*id), self.shared.holder).await?;
        }
        for report in &reports {
            xiaozhi_endpoints::save_report(&mut tx, report).await?;
        }
        tx.commit().await?;
        self.shared.board.written(&reports);
        // Counted from before it was asked for: it ends here first.
        let until = now + LEASE - LEASE_MARGIN;
        if is_due || !new.is_empty() {
            self.renewed_at = Some(now);
        }
        for id in renewed {
            if kept.contains(&id) {
                if let Some(held) = self.held.get(&id) {
                    held.until.send_replace(until);
                }
            } else if let Some(held) = self.held.get(&id) {
                tracing::warn!(xiaozhi.id = %id, "another replica holds the endpoint now");
                held.over.cancel();
            }
        }
        for id in new.into_iter().filter(|id| kept.contains(id)) {
            self.take(id, until);
        }
        Ok(())
    }

    /// Reads what is new of the endpoints, and who holds them.
    async fn look(&mut self) -> Result<HashMap<String, Uuid>, StoreError> {
        let mut tx = self.store.read().await?;
        let news = match self.revision {
            None => None,
            Some(revision) => Some(changes::since(&mut tx, revision).await?),
        };
        let is_known = news.as_ref().is_some_and(|news| match &news.entries {
            Entries::All(entries) => entries.iter().all(|entry| entry.kind != ChangeKind::XiaozhiEndpoint),
            Entries::Gap => false,
        });
        let revision = match news {
            Some(news) => news.revision,
            None => changes::revision(&mut tx).await?,
        };
        if !is_known {
            let all = xiaozhi_endpoints::list(&mut tx).await?;
            for bad in tx.take_unreadable() {
                tracing::error!(
                    table = bad.table,
                    row = bad.row,
                    column = bad.column,
                    "a XiaoZhi endpoint that can't be read isn't dialled"
                );
            }
            let wanted = all.into_iter().filter(|endpoint| endpoint.enabled);
            self.endpoints = wanted.map(|endpoint| (endpoint.id, Arc::new(endpoint))).collect();
        }
        self.revision = Some(revision);
        if self.endpoints.keys().all(|id| self.held.contains_key(id)) {
            return Ok(HashMap::new());
        }
        leases::holders(&mut tx, LEASES).await
    }

    /// Tells those that are held what they are to be, and those that are to be no more that.
    fn follow(&self) {
        for (id, held) in &self.held {
            match self.endpoints.get(id) {
                None => held.over.cancel(),
                Some(endpoint) => {
                    held.endpoint.send_if_modified(|known| {
                        let is_other = *known != *endpoint;
                        known.clone_from(endpoint);
                        is_other
                    });
                }
            }
        }
    }

    fn take(&mut self, id: XiaozhiEndpointId, until: Instant) {
        let Some(endpoint) = self.endpoints.get(&id) else { return };
        let (endpoint, is_to_be) = watch::channel(Arc::clone(endpoint));
        let (until, held_until) = watch::channel(until);
        let over = CancellationToken::new();
        let orders = Orders { endpoint: is_to_be, until: held_until, over: over.clone() };
        let dialled = Dialled::new(Arc::clone(&self.shared), orders);
        let task = self.shared.tasks.spawn("xiaozhi endpoint", dialled.run());
        self.held.insert(id, Held { endpoint, until, over, task });
    }

    /// Holds what is held until its sockets are closed, and gives it back at once then.
    async fn leave(mut self) {
        let mut left: Vec<XiaozhiEndpointId> = self.held.keys().copied().collect();
        while self.held.values().any(|held| !held.task.is_finished()) {
            // The leases go on meanwhile; that one isn't renewed ends its socket.
            if let Err(error) = self.renew().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the leases of XiaoZhi endpoints could not be renewed"
                );
            }
            let ends = self.held.values_mut().map(|held| &mut held.task);
            let _ = timeout(RENEW_EVERY, futures::future::join_all(ends.filter(|task| !task.is_finished())))
                .await;
        }
        let given_back = async {
            let mut tx = self.store.begin().await?;
            for id in left.drain(..) {
                leases::release(&mut tx, &lease(id), self.shared.holder).await?;
            }
            tx.commit().await
        };
        match timeout(GIVE_BACK_TIMEOUT, given_back).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(
                    "the leases of XiaoZhi endpoints could not be given back, they end by themselves"
                );
            }
        }
    }

    async fn renew(&self) -> Result<(), StoreError> {
        let now = Instant::now();
        if self.renewed_at.is_some_and(|at| at + RENEW_EVERY > now) {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        let mut kept = Vec::new();
        for id in self.held.keys() {
            if leases::acquire(&mut tx, &lease(*id), self.shared.holder, LEASE).await? {
                kept.push(*id);
            }
        }
        tx.commit().await?;
        for held in kept.iter().filter_map(|id| self.held.get(id)) {
            held.until.send_replace(now + LEASE - LEASE_MARGIN);
        }
        Ok(())
    }
}
