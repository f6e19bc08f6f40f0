//! Fetching the lists of an upstream.
//!
//! A sync has a cause: the first connection, `list_changed`, a change of what names are made of, or the
//! admin's button. Runs for one upstream are folded: who asks while one runs gets the next. One that
//! another replica keeps from running is done when that one's was begun after its cause; else it is tried
//! again by itself, as is one that the store fails. Pages are bounded in count, bytes and
//! time. Each definition is kept as it came; a bad one is a finding and not a failure of the list. Only
//! a difference is written, and the last good list survives every failure.

mod diff;
mod fetch;

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use serde_json::json;
use sql::model::{
    AuditEvent, Definition, DefinitionId, Era, Finding, Kind, ListDiff, ListState, OnToolChange, Pin,
    Settings, Timestamp, Upstream, UpstreamId,
};
use sql::{Store, StoreError, Tx, audit_log, leases, lists, pins, upstreams};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use uuid::Uuid;

use crate::audit::{self, Target};
use crate::catalog::naming::settle::settle_list;
use crate::control::SyncReport;
use crate::pinning::{self, Taken};
use crate::tasks::Tasks;
use crate::upstream::call::CallError;
use crate::upstream::{Peer, Upstreams};

/// Who may wait for one upstream's next sync; more share what the waiting ones get.
const WAITING_MAX: usize = 16;

/// How much longer than a sync its lease lasts, so that a slow commit still holds it.
const LEASE_MARGIN: Duration = Duration::from_secs(10);

/// Between two attempts at a sync that failed for a reason of ours: a lease ends by itself in less than a
/// minute, and a replica that died in the middle of a sync holds one so long.
const RETRY_INTERVAL: Duration = Duration::from_secs(3);

/// What several replicas hear at once they don't begin before all have heard it, so that one run is for all.
const FOLD: Duration = Duration::from_millis(50);

/// Changed definitions that one audit event names.
const TOLD_MAX: usize = 100;

/// How long giving a lease back may keep a sync's report, or the end of the process.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a sync failed; the last good list stays.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SyncError {
    /// No such upstream, or it is switched off.
    #[error("the upstream is unknown or disabled")]
    Unknown,
    /// The upstream did not answer.
    #[error("the upstream did not answer: {0}")]
    Upstream(#[source] Arc<CallError>),
    /// A list is larger or longer than is taken, or isn't one.
    #[error("the list of {kind} is refused: {reason}", kind = .kind.as_str())]
    Refused {
        /// Which list.
        kind: Kind,
        /// What is wrong with it.
        reason: String,
    },
    /// Another replica is at it.
    #[error("another replica is syncing this upstream")]
    Elsewhere,
    /// The store could not be written.
    #[error("the lists could not be stored")]
    Store(#[source] Arc<StoreError>),
}

impl SyncError {
    /// Whether the cause of the sync still stands and no news will come of it.
    fn is_ours(&self) -> bool {
        matches!(self, Self::Elsewhere | Self::Store(_))
    }
}

impl From<StoreError> for SyncError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<CallError> for SyncError {
    fn from(error: CallError) -> Self {
        Self::Upstream(Arc::new(error))
    }
}

type Reply = oneshot::Sender<Result<SyncReport, SyncError>>;

/// Somebody wants a sync.
struct Wish {
    /// Where its report goes; without, any replica's run will do.
    reply: Option<Reply>,
    at: Timestamp,
}

/// Runs syncs, one at a time for each upstream.
#[derive(Clone)]
pub struct Syncs(Arc<Shared>);

struct Shared {
    store: Store,
    upstreams: Upstreams,
    settings: watch::Receiver<Arc<Settings>>,
    tasks: Tasks,
    /// This replica, as a holder of leases.
    holder: Uuid,
    /// Whether other replicas may hear what this one hears.
    has_others: bool,
    workers: DashMap<UpstreamId, mpsc::Sender<Wish>>,
}

impl Syncs {
    /// Nothing runs until it is asked for.
    pub fn new(
        store: Store,
        upstreams: Upstreams,
        settings: watch::Receiver<Arc<Settings>>,
        tasks: Tasks,
        has_others: bool,
    ) -> Self {
        let (holder, workers) = (Uuid::now_v7(), DashMap::new());
        Self(Arc::new(Shared { store, upstreams, settings, tasks, holder, has_others, workers }))
    }

    /// Asks for a sync without waiting for it.
    pub fn request(&self, id: UpstreamId) {
        // A full queue means that a run is due which will see what this one would.
        let _ = self.worker(id).try_send(self.wish(None));
    }

    /// Syncs and says what changed.
    pub async fn run(&self, id: UpstreamId) -> Result<SyncReport, SyncError> {
        let (reply, report) = oneshot::channel();
        self.worker(id).send(self.wish(Some(reply))).await.map_err(|_| SyncError::Unknown)?;
        report.await.map_err(|_| SyncError::Unknown)?
    }

    fn wish(&self, reply: Option<Reply>) -> Wish {
        Wish { reply, at: self.0.store.clock().now() }
    }

    /// Ends the workers of upstreams that no longer exist.
    pub fn keep(&self, exists: impl Fn(UpstreamId) -> bool) {
        self.0.workers.retain(|id, _| exists(*id));
    }

    fn worker(&self, id: UpstreamId) -> mpsc::Sender<Wish> {
        let start = || {
            let (requests, waiting) = mpsc::channel(WAITING_MAX);
            let shared = Arc::clone(&self.0);
            self.0.tasks.spawn("upstream sync", work(shared, id, waiting));
            requests
        };
        let mut worker = self.0.workers.entry(id).or_insert_with(start);
        // A worker that panicked must not be the last one of its upstream.
        if worker.is_closed() {
            *worker = start();
        }
        worker.clone()
    }
}

async fn work(shared: Arc<Shared>, id: UpstreamId, mut waiting: mpsc::Receiver<Wish>) {
    let stopping = shared.tasks.stopping().clone();
    let mut again_at: Option<Instant> = None;
    // Since when somebody wants what another replica has kept from running.
    let mut missed: Option<Timestamp> = None;
    loop {
        let mut wishes = Vec::new();
        tokio::select! {
            wish = waiting.recv() => match wish {
                Some(wish) => wishes.push(wish),
                None => return,
            },
            () = until(again_at) => {}
            () = stopping.cancelled() => return,
        }
        if shared.has_others && wishes.iter().all(|wish| wish.reply.is_none()) {
            tokio::time::sleep(FOLD).await;
        }
        while let Ok(also) = waiting.try_recv() {
            wishes.push(also);
        }
        let wanted_at = wishes.iter().map(|wish| wish.at).max().into_iter().chain(missed).max();
        let replies: Vec<Reply> = wishes.into_iter().filter_map(|wish| wish.reply).collect();
        let done_elsewhere = wanted_at.filter(|_| missed.is_some() && replies.is_empty());
        let report = tokio::select! {
            report = shared.sync(id, done_elsewhere) => report,
            () = stopping.cancelled() => return shared.give_back(id, None).await,
        };
        if let Err(error) = &report {
            tracing::warn!(upstream.id = %id, error = error as &dyn std::error::Error, "sync failed, the last good list stays");
        }
        let ours = report.as_ref().is_err_and(SyncError::is_ours);
        again_at = ours.then(|| Instant::now() + RETRY_INTERVAL);
        missed = wanted_at.filter(|_| matches!(report, Err(SyncError::Elsewhere)));
        for reply in replies {
            let _ = reply.send(report.clone());
        }
    }
}

fn lease_of(id: UpstreamId) -> String {
    format!("sync:{id}")
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl Shared {
    /// One run; none if another replica's was begun since `unless_since`.
    async fn sync(&self, id: UpstreamId, unless_since: Option<Timestamp>) -> Result<SyncReport, SyncError> {
        let settings = Arc::clone(&self.settings.borrow());
        let timeout = Duration::from_secs(u64::from(settings.sync.timeout_s));
        let mut tx = self.store.begin().await?;
        let upstream = upstreams::get(&mut tx, id).await?.filter(|upstream| upstream.enabled);
        let upstream = upstream.ok_or(SyncError::Unknown)?;
        if let Some(since) = unless_since
            && leases::is_done_since(&mut tx, &lease_of(id), since).await?
        {
            return Ok(SyncReport::default());
        }
        let begun_at = self.store.clock().now();
        if !leases::acquire(&mut tx, &lease_of(id), self.holder, timeout + LEASE_MARGIN).await? {
            return Err(SyncError::Elsewhere);
        }
        tx.commit().await?;
        let report = tokio::time::timeout(timeout, self.fetch_and_apply(&upstream, &settings)).await;
        let report = report.unwrap_or_else(|_| Err(CallError::TimedOut { after: timeout }.into()));
        self.give_back(id, report.is_ok().then_some(begun_at)).await;
        report
    }

    /// Gives the lease back, so that the next sync, of whichever replica, needn't wait for its end.
    /// A run that was done is noted with its beginning, where others may have wanted the same.
    async fn give_back(&self, id: UpstreamId, done: Option<Timestamp>) {
        let released = async {
            let mut tx = self.store.begin().await?;
            if let Some(begun_at) = done.filter(|_| self.has_others) {
                leases::note_done(&mut tx, &lease_of(id), self.holder, begun_at).await?;
            }
            leases::release(&mut tx, &lease_of(id), self.holder).await?;
            tx.commit().await
        };
        let released = tokio::time::timeout(GIVE_BACK_TIMEOUT, released).await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::warn!(upstream.id = %id, "a lease could not be given back, it ends by itself");
        }
    }

    async fn fetch_and_apply(
        &self,
        upstream: &Upstream,
        settings: &Settings,
    ) -> Result<SyncReport, SyncError> {
        let peer = self.upstreams.peer(upstream.id).await?;
        let mut report = SyncReport::default();
        for kind in kinds_of(upstream) {
            let fetched = if fetch::offers(&peer, kind) {
                fetch::list(&self.upstreams, upstream.id, &peer, kind, settings).await?
            } else {
                fetch::Fetched::default()
            };
            self.apply(upstream, kind, fetched, settings, &mut report).await?;
        }
        Ok(report)
    }

    /// The pins that are no longer as they were, where changes of definitions matter to an admin.
    async fn pin(&self, tx: &mut Tx, taken: &Taken<'_>) -> Result<Vec<Pin>, SyncError> {
        if taken.upstream.on_tool_change == OnToolChange::Allow {
            return Ok(Vec::new());
        }
        let known = pins::of_list(tx, taken.upstream.id, taken.kind).await?;
        Ok(pinning::repinned(taken, known))
    }

    /// Writes the difference between what was fetched and what is stored, names claimed, in one
    /// transaction.
    async fn apply(
        &self,
        upstream: &Upstream,
        kind: Kind,
        fetched: fetch::Fetched,
        settings: &Settings,
        report: &mut SyncReport,
    ) -> Result<(), SyncError> {
        let mut tx = self.store.begin().await?;
        let names: Vec<&str> = fetched.items.iter().map(|item| item.name.as_str()).collect();
        // As it is now: its prefix may have changed since the list was asked for.
        let upstream = upstreams::get(&mut tx, upstream.id).await?.ok_or(SyncError::Unknown)?;
        let (exposed, is_claimed) =
            settle_list(&mut tx, &upstream, kind, &names, settings.naming.length_max).await?;
        let stored = lists::of_upstream(&mut tx, upstream.id, kind).await?;
        let unreadable = tx.take_unreadable();
        let source = diff::Source { upstream_id: upstream.id, kind, clock: self.store.clock() };
        let mut difference = diff::diff(&source, &stored, fetched.items, |name| {
            exposed.get(name).cloned().unwrap_or_else(|| name.to_owned())
        });
        // A row that can't be read gives way to what was fetched.
        difference.removed.extend(unreadable.iter().filter_map(|bad| bad.row.parse::<DefinitionId>().ok()));
        let state = ListState {
            upstream_id: upstream.id,
            kind,
            synced_at: self.store.clock().now(),
            ttl_ms: fetched.ttl_ms,
            cache_scope_public: fetched.public,
            findings: fetched.findings.clone(),
        };
        let now = self.store.clock().now();
        let taken = Taken { upstream: &upstream, kind, stored: &stored, difference: &difference, now };
        let pins = self.pin(&mut tx, &taken).await?;
        let states = lists::states(&mut tx).await?;
        let former =
            states.into_iter().find(|former| (former.upstream_id, former.kind) == (upstream.id, kind));
        let is_as_before = former.is_some_and(|former| same_but_for_time(&former, &state));
        if is_claimed || !difference.is_empty() || !is_as_before || !pins.is_empty() {
            lists::apply(&mut tx, &difference, &state).await?;
            pins::save(&mut tx, &pins).await?;
            // Last, since others wait for the log.
            if let Some(event) = found(&taken, &pins) {
                audit_log::append(&mut tx, &event).await?;
            }
            tx.commit().await?;
        }
        note(report, &difference, &stored, fetched.findings);
        Ok(())
    }
}

/// What the audit log is told of definitions that an admin is to look at from now on.
fn found(taken: &Taken<'_>, pins: &[Pin]) -> Option<AuditEvent> {
    let upstream = taken.upstream;
    let is_new = |pin: &&Pin| pin.found_at == Some(taken.now);
    let count = pins.iter().filter(is_new).count();
    let told: Vec<_> = pins.iter().filter(is_new).take(TOLD_MAX).map(|pin| told(taken, pin)).collect();
    if told.is_empty() {
        return None;
    }
    let is_held = upstream.on_tool_change == OnToolChange::Hold;
    tracing::warn!(upstream.id = %upstream.id, upstream.name, definitions.changed = count, definitions.held = is_held, "definitions changed and wait to be looked at");
    let diff = json!({"kind": taken.kind, "count": count, "held": is_held, "definitions": told});
    let target = Target { id: Some(upstream.id.to_string()), name: Some(&upstream.name) };
    Some(audit::by_system(taken.now, "upstream.definitions-changed", target, diff))
}

fn told(taken: &Taken<'_>, pin: &Pin) -> serde_json::Value {
    let difference = taken.difference;
    let item = difference.changed.iter().chain(&difference.added).chain(taken.stored);
    let item = item.into_iter().find(|item| item.upstream_name == pin.upstream_name);
    let fields = item
        .zip(pin.approved.as_ref())
        .map(|(item, approved)| pinning::changed_fields(pin.kind, approved, &item.body));
    json!({"name": pin.upstream_name, "review": pin.review, "fields": fields})
}

fn note(report: &mut SyncReport, difference: &ListDiff, stored: &[Definition], findings: Vec<Finding>) {
    report.added.extend(difference.added.iter().map(|item| item.upstream_name.clone()));
    report.changed.extend(difference.changed.iter().map(|item| item.upstream_name.clone()));
    let gone = stored.iter().filter(|item| difference.removed.contains(&item.id));
    report.removed.extend(gone.map(|item| item.upstream_name.clone()));
    report.findings.extend(findings);
}

fn kinds_of(upstream: &Upstream) -> Vec<Kind> {
    let mut kinds = Vec::new();
    if upstream.sync.tools {
        kinds.push(Kind::Tool);
    }
    if upstream.sync.prompts {
        kinds.push(Kind::Prompt);
    }
    if upstream.sync.resources {
        kinds.extend([Kind::Resource, Kind::ResourceTemplate]);
    }
    kinds
}

fn same_but_for_time(a: &ListState, b: &ListState) -> bool {
    (a.ttl_ms, a.cache_scope_public, &a.findings) == (b.ttl_ms, b.cache_scope_public, &b.findings)
}

/// The era of a peer as the store has it.
pub(crate) fn is_modern(peer: &Peer) -> bool {
    peer.era == Era::Modern
}
