//! How a change reaches the data plane.
//!
//! The revision in the database is the truth, a notification is a hint, and a poll is the net. The
//! follower applies what is newer: one upstream's lists or rules, one session; a gap, or a start, is a full load
//! of one consistent snapshot. The catalog is built here, off the request path, with the views that are in use,
//! and published whole; one that can't be read or built is refused and the old one stays. Keys have a follower
//! of their own, with their rules: revoking one waits for no list.

mod build;
mod keys;
mod unreadable;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use sql::changes::{self, Change, ChangeKind, Entries, Written};
use sql::clock::Clock;
use sql::model::{
    DamagedRule, Definition, DefinitionId, Kind, ListState, OnToolChange, Pin, RuleOwner, Settings,
    UpstreamId,
};
use sql::{Store, StoreError, Tx, UnreadableRow, lists, names, pins, rules, settings, upstreams};
use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::Instant;
use uuid::Uuid;

use self::build::{Known, News};
pub use self::keys::KeyFollower;
use self::unreadable::{Part, Unreadable, unless_unreadable};
use super::snapshot::SWEEP_INTERVAL;
use super::{Catalog, Snapshot, Source};
use crate::access::Keys;
use crate::downstream::session_log::SessionLog;
use crate::upstream::Upstreams;
use crate::upstream::oauth::keeper::Keeper;

/// The net under the hints: a change that no hint announced is seen within this time.
const POLL: Duration = Duration::from_secs(5);

/// Between two publications, so that a burst of changes is folded into few builds.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(200);

/// How long a new catalog waits for the views that are in use, so that their callers don't; those that it has no
/// time for are made after it is published, and the first who needs one waits for it.
const PREPARE_MAX: Duration = Duration::from_millis(300);

/// The catalog in force. Requests take it once, at their start; streams are told of a new one.
#[derive(Clone)]
pub struct Published(Arc<Shared>);

struct Shared {
    current: ArcSwap<Snapshot>,
    changes: watch::Sender<i64>,
    applied: watch::Sender<Written>,
    problem: Mutex<Option<String>>,
    unreadable: Unreadable,
    clock: Clock,
}

impl Published {
    /// Nothing is published yet: an empty catalog.
    pub fn new(clock: Clock) -> Self {
        let current = ArcSwap::from_pointee(Snapshot::new(Catalog::empty(), clock.now()));
        let (changes, applied) = (watch::Sender::new(0), watch::Sender::default());
        let (problem, unreadable) = (Mutex::default(), Unreadable::default());
        Self(Arc::new(Shared { current, changes, applied, problem, unreadable, clock }))
    }

    /// Why the newest configuration isn't served, if it isn't: in words for an admin.
    pub fn problem(&self) -> Option<String> {
        self.0.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The stored rows that can't be read and are passed over.
    pub fn unreadable_rows(&self) -> Vec<UnreadableRow> {
        self.0.unreadable.all()
    }

    fn unreadable(&self) -> &Unreadable {
        &self.0.unreadable
    }

    fn set_problem(&self, problem: Option<String>) {
        *self.0.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// The snapshot in force.
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.current.load_full()
    }

    /// Resolves when these revisions are in force: of the keys, and of the catalog. A database that is put back
    /// to an older state may never get there, so waiting needs a limit.
    pub async fn reached(&self, written: Written) {
        let reached = |applied: &Written| applied.keys >= written.keys && applied.catalog >= written.catalog;
        // The sender lives as long as `self`.
        let _ = self.0.applied.subscribe().wait_for(reached).await;
    }

    /// Tells of each new snapshot, from now on.
    pub fn changes(&self) -> watch::Receiver<i64> {
        self.0.changes.subscribe()
    }

    /// Has streams look again: what is published is the same, but what some key sees of it isn't.
    pub(crate) fn remind(&self) {
        self.0.changes.send_modify(|_| {});
    }

    /// Publishes a catalog whose views are made when they are needed.
    #[cfg(test)]
    pub(crate) fn publish(&self, catalog: Catalog) {
        self.put(Snapshot::after(&self.current(), catalog, self.0.clock.now()));
    }

    fn put(&self, snapshot: Snapshot) {
        let revision = snapshot.catalog.revision;
        self.0.current.store(Arc::new(snapshot));
        self.0.changes.send_replace(revision);
    }
}

/// Keeps the data plane at the newest revision.
pub struct Follower {
    store: Store,
    published: Published,
    keys: Keys,
    upstreams: Upstreams,
    session_log: SessionLog,
    keeper: Keeper,
    settings: SettingsFollower,
    known: Known,
    /// Whether every view in use is made.
    is_prepared: bool,
}

/// Why the catalog stays as it is.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bug of ours: it is in the log as a panic.
    #[error("the catalog could not be built")]
    Build(#[source] JoinError),
}

/// Takes settings as the store has them and makes of them those in force (overrides by the environment).
pub struct SettingsFollower {
    /// Lays what the environment fixes over what the store has.
    pub overlay: Box<dyn Fn(Settings) -> Settings + Send + Sync>,
    /// Where the settings in force are told.
    pub in_force: watch::Sender<Arc<Settings>>,
}

impl Follower {
    /// A follower that has read nothing yet.
    pub(crate) fn new(
        store: Store,
        published: Published,
        keys: Keys,
        upstreams: Upstreams,
        session_log: SessionLog,
        keeper: Keeper,
        settings: SettingsFollower,
    ) -> Self {
        let known = Known::default();
        Self { store, published, keys, upstreams, session_log, keeper, settings, known, is_prepared: true }
    }

    /// Reads everything and publishes the first catalog. The answer follows the keys from then on; they
    /// are served for `stale_max` without the store.
    pub async fn load(&mut self, stale_max: Duration) -> Result<KeyFollower, StoreError> {
        let mut keys =
            KeyFollower::new(self.store.clone(), self.keys.clone(), self.published.clone(), stale_max);
        keys.load(&mut self.store.read().await?).await?;
        match self.load_catalog().await {
            Ok(()) => Ok(keys),
            Err(Trouble::Store(error)) => Err(error),
            Err(Trouble::Build(error)) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    async fn load_catalog(&mut self) -> Result<(), Trouble> {
        let mut tx = self.store.read().await?;
        let revision = changes::revision(&mut tx).await?;
        let mut unreadable = vec![(Part::Settings, self.load_settings(&mut tx).await?)];
        let states = lists::states(&mut tx).await?;
        let mut news = News::default();
        let loaded = rules::all(&mut tx).await?;
        unreadable.extend(damaged_by_owner(&loaded.damaged));
        let ours = loaded.owners.into_iter().filter(|(owner, _)| !matches!(owner, RuleOwner::Key(_)));
        news.rules.extend(ours);
        let all = upstreams::list(&mut tx).await?;
        unreadable.push((Part::Upstreams, tx.take_unreadable()));
        for upstream in all {
            let id = upstream.id;
            let (source, bad) = read_source(&mut tx, upstream, &states).await?;
            unreadable.push((Part::Upstream(id), bad));
            news.upstreams.insert(id, Some(source));
        }
        // Before the upstreams are connected, so that they are shown it from the start.
        self.keeper.load(&mut tx).await?;
        unreadable.push((Part::Grants, tx.take_unreadable()));
        drop(tx);
        self.published.unreadable().replace_all_but_keys(unreadable);
        self.session_log.load().await?;
        self.publish(Known::default().at(revision), news).await?;
        self.published.0.applied.send_modify(|applied| applied.catalog = revision);
        Ok(())
    }

    /// Follows until the task group stops. A store that can't be read is tried again at the next poll;
    /// what was published last stays in force meanwhile.
    pub async fn run(mut self, stopping: tokio_util::sync::CancellationToken) {
        let mut hints = self.store.changes();
        let mut sweep_at = Instant::now() + SWEEP_INTERVAL;
        loop {
            let patience = if self.is_prepared { POLL } else { Duration::ZERO };
            tokio::select! {
                _ = hints.wait(patience) => {}
                () = stopping.cancelled() => return,
            }
            let published_at = Instant::now();
            let caught_up = tokio::select! {
                caught_up = self.catch_up() => caught_up,
                () = stopping.cancelled() => return,
            };
            if let Err(error) = &caught_up {
                tracing::warn!(
                    error = error as &dyn std::error::Error,
                    "changes could not be read, the catalog stays as it is"
                );
            }
            self.published.set_problem(caught_up.err().map(|error| error.to_string()));
            self.prepare_more().await;
            if Instant::now() >= sweep_at {
                self.published.current().sweep();
                sweep_at = Instant::now() + SWEEP_INTERVAL;
            }
            // What comes meanwhile is folded into the next round.
            tokio::time::sleep_until(published_at + PUBLISH_INTERVAL).await;
        }
    }

    async fn catch_up(&mut self) -> Result<(), Trouble> {
        let mut tx = self.store.read().await?;
        let since = changes::since(&mut tx, self.known.revision).await?;
        let Entries::All(entries) = since.entries else {
            drop(tx);
            tracing::info!("changes have been missed, everything is read anew");
            return self.load_catalog().await;
        };
        let newer = Newer::fold(&entries);
        let mut news = News::default();
        if !newer.upstreams.is_empty() {
            let states = lists::states(&mut tx).await?;
            for id in newer.upstreams {
                let id = UpstreamId::from_uuid(id);
                let bad = match unless_unreadable(upstreams::get(&mut tx, id).await)? {
                    Ok(Some(upstream)) => {
                        let (source, bad) = read_source(&mut tx, upstream, &states).await?;
                        news.upstreams.insert(id, Some(source));
                        bad
                    }
                    Ok(None) => {
                        news.upstreams.insert(id, None);
                        Vec::new()
                    }
                    // What was last read of it stays in force.
                    Err(bad) => vec![bad],
                };
                self.published.unreadable().set(Part::Upstream(id), bad);
            }
        }
        for id in newer.rules {
            let owner =
                if id.is_nil() { RuleOwner::All } else { RuleOwner::Upstream(UpstreamId::from_uuid(id)) };
            let mut loaded = rules::of_owner_id(&mut tx, id).await?;
            let bad = damaged_by_owner(&loaded.damaged).remove(&Part::Rules(id)).unwrap_or_default();
            self.published.unreadable().set(Part::Rules(id), bad);
            // Those of a key, or none any more: then there is nothing that they could be taken for.
            news.rules.push((owner, loaded.owners.remove(&owner).unwrap_or_default()));
        }
        if newer.settings {
            let bad = self.load_settings(&mut tx).await?;
            self.published.unreadable().set(Part::Settings, bad);
        }
        for id in newer.grants {
            let id = UpstreamId::from_uuid(id);
            let bad = unless_unreadable(self.keeper.follow(&mut tx, id).await)?.err();
            self.published.unreadable().set(Part::Grant(id), bad.into_iter().collect());
        }
        for session in newer.sessions {
            self.session_log.follow(&mut tx, session, since.revision).await?;
        }
        drop(tx);
        let known = self.known.clone().at(since.revision);
        if newer.settings || known.is_concerned_by(&news) {
            self.publish(known, news).await?;
        } else {
            self.known = known;
        }
        self.published.0.applied.send_modify(|applied| applied.catalog = since.revision);
        Ok(())
    }

    /// Takes the stored settings over. Those that can't be read leave the ones in force, which are the
    /// defaults at first; the answer names their row.
    async fn load_settings(&self, tx: &mut Tx) -> Result<Vec<UnreadableRow>, StoreError> {
        let stored = match unless_unreadable(settings::load(tx).await)? {
            Ok(stored) => stored.map(|(settings, _)| settings).unwrap_or_default(),
            Err(bad) => return Ok(vec![bad]),
        };
        let in_force = Arc::new((self.settings.overlay)(stored));
        self.settings.in_force.send_if_modified(|current| {
            let changed = **current != *in_force;
            *current = in_force;
            changed
        });
        Ok(Vec::new())
    }

    /// Builds what follows from the news, and publishes it. Should that fail, everything stays as it was.
    async fn publish(&mut self, known: Known, news: News) -> Result<(), Trouble> {
        let settings = Arc::clone(&self.settings.in_force.borrow());
        let (former, now) = (self.published.current(), self.published.0.clock.now());
        let built = spawn_blocking(move || {
            let known = known.with(news);
            let snapshot = Snapshot::after(&former, known.catalog(settings), now);
            let is_prepared = snapshot.prepare(std::time::Instant::now() + PREPARE_MAX);
            (known, snapshot, is_prepared)
        });
        let (known, snapshot, is_prepared) = built.await.map_err(Trouble::Build)?;
        let specs = known.upstreams();
        self.published.unreadable().set(Part::Definitions, known.left_out());
        (self.known, self.is_prepared) = (known, is_prepared);
        self.published.put(snapshot);
        self.upstreams.apply(&specs);
        Ok(())
    }

    /// Makes some more of the views that a new catalog had no time for.
    async fn prepare_more(&mut self) {
        if self.is_prepared {
            return;
        }
        let snapshot = self.published.current();
        let made = spawn_blocking(move || snapshot.prepare(std::time::Instant::now() + PREPARE_MAX));
        // What can't be made is made by the one who needs it, who is told then.
        self.is_prepared = made.await.unwrap_or(true);
    }
}

/// What the store has of an upstream, and the rows of it that can't be read.
async fn read_source(
    tx: &mut Tx,
    upstream: sql::model::Upstream,
    states: &[ListState],
) -> Result<(Source, Vec<UnreadableRow>), StoreError> {
    let id = upstream.id;
    let mut bad = Vec::new();
    let info = unless_unreadable(upstreams::info(tx, id).await)?.unwrap_or_else(|row| {
        bad.push(row);
        None
    });
    let mut definitions = Vec::new();
    for kind in Kind::ALL {
        definitions.extend(lists::of_upstream(tx, id, *kind).await?.into_iter().map(Arc::new));
    }
    let mut claims = names::of_upstream(tx, id).await?;
    // An item that is there holds its name by itself.
    let there: HashSet<(Kind, &str)> =
        definitions.iter().map(|item| (item.kind, item.upstream_name.as_str())).collect();
    claims.retain(|claim| !there.contains(&(claim.kind, claim.upstream_name.as_str())));
    claims.shrink_to_fit();
    let held = match upstream.on_tool_change {
        OnToolChange::Hold => held_back(&pins::under_review(tx, Some(id)).await?, &definitions),
        OnToolChange::Allow | OnToolChange::Warn => HashSet::new(),
    };
    bad.extend(tx.take_unreadable());
    let states = states.iter().filter(|state| state.upstream_id == id).cloned().collect();
    Ok((Source { upstream: Arc::new(upstream), info, definitions, states, claims, held }, bad))
}

/// The definitions that wait for an admin.
fn held_back(pins: &[Pin], definitions: &[Arc<Definition>]) -> HashSet<DefinitionId> {
    let waiting: HashSet<(Kind, &str)> =
        pins.iter().map(|pin| (pin.kind, pin.upstream_name.as_str())).collect();
    let waits = |item: &&Arc<Definition>| waiting.contains(&(item.kind, item.upstream_name.as_str()));
    definitions.iter().filter(waits).map(|item| item.id).collect()
}

/// The rules that can't be read, by whose they are; those of keys are followed elsewhere.
fn damaged_by_owner(damaged: &[DamagedRule]) -> BTreeMap<Part, Vec<UnreadableRow>> {
    let mut by_owner = BTreeMap::<Part, Vec<UnreadableRow>>::new();
    for rule in damaged {
        let part = match rule.owner {
            Some(RuleOwner::Key(_)) => continue,
            Some(owner) => Part::Rules(owner.id()),
            None => Part::StrayRules,
        };
        by_owner.entry(part).or_default().push(unreadable_rule(rule));
    }
    by_owner
}

/// A rule that is passed over; whoever looks after the gateway has to know.
fn unreadable_rule(rule: &DamagedRule) -> UnreadableRow {
    tracing::error!("{rule}: the rule is left out");
    UnreadableRow { table: rule.table, row: rule.id.clone(), column: rule.column.clone() }
}

/// Changes by what they touch; many changes of one thing are one.
#[derive(Default)]
struct Newer {
    upstreams: BTreeSet<Uuid>,
    sessions: BTreeSet<Uuid>,
    grants: BTreeSet<Uuid>,
    rules: BTreeSet<Uuid>,
    settings: bool,
}

impl Newer {
    fn fold(changes: &[Change]) -> Self {
        let mut newer = Self::default();
        for &Change { kind, id, .. } in changes {
            match kind {
                // They have a follower of their own.
                ChangeKind::ApiKey | ChangeKind::XiaozhiEndpoint => {}
                ChangeKind::Rules => {
                    newer.rules.insert(id);
                }
                ChangeKind::Upstream | ChangeKind::List => {
                    newer.upstreams.insert(id);
                }
                ChangeKind::OAuth => {
                    newer.grants.insert(id);
                }
                ChangeKind::Settings => newer.settings = true,
                ChangeKind::Session => {
                    newer.sessions.insert(id);
                }
            }
        }
        newer
    }
}
