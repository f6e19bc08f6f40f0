//! How a change reaches the data plane.
//!
//! The revision in the database is the truth, a notification is a hint, and a poll is the net. The
//! follower applies what is newer: one upstream's lists, one session; a gap, or a start, is a full load
//! of one consistent snapshot. The catalog is built here, off the request path, and published whole; one
//! that can't be read is refused and the old one stays. Keys have a follower of their own: revoking one
//! waits for no list.

mod keys;
mod unreadable;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use sql::changes::{self, Change, ChangeKind, Entries, Written};
use sql::clock::Clock;
use sql::model::{Kind, ListState, Settings, UpstreamId};
use sql::{Store, StoreError, Tx, UnreadableRow, lists, settings, upstreams};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

pub use self::keys::KeyFollower;
use self::unreadable::{Part, Unreadable, unless_unreadable};
use super::{Catalog, Snapshot, UpstreamLists};
use crate::access::Keys;
use crate::downstream::session_log::SessionLog;
use crate::upstream::Upstreams;
use crate::upstream::oauth::keeper::Keeper;

/// The net under the hints: a change that no hint announced is seen within this time.
const POLL: Duration = Duration::from_secs(5);

/// Between two publications, so that a burst of changes is folded into few builds.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(200);

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

    pub(crate) fn publish(&self, catalog: Catalog) {
        let revision = catalog.revision;
        self.0.current.store(Arc::new(Snapshot::new(catalog, self.0.clock.now())));
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
}

/// Takes settings as the store has them and makes of them those in force (overrides by the environment).
pub struct SettingsFollower {
    /// Lays what the environment fixes over what the store has.
    pub overlay: Box<dyn Fn(Settings) -> Settings + Send + Sync>,
    /// Where the settings in force are told.
    pub in_force: watch::Sender<Arc<Settings>>,
}

/// What was read so far.
#[derive(Default)]
struct Known {
    revision: i64,
    upstreams: HashMap<UpstreamId, Arc<UpstreamLists>>,
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
        Self { store, published, keys, upstreams, session_log, keeper, settings, known: Known::default() }
    }

    /// Reads everything and publishes the first catalog. The answer follows the keys from then on; they
    /// are served for `stale_max` without the store.
    pub async fn load(&mut self, stale_max: Duration) -> Result<KeyFollower, StoreError> {
        let mut keys = KeyFollower {
            store: self.store.clone(),
            keys: self.keys.clone(),
            published: self.published.clone(),
            revision: 0,
            read_at: Instant::now(),
            stale_max,
        };
        keys.load(&mut self.store.read().await?).await?;
        self.load_catalog().await?;
        Ok(keys)
    }

    async fn load_catalog(&mut self) -> Result<(), StoreError> {
        let mut tx = self.store.read().await?;
        let revision = changes::revision(&mut tx).await?;
        let mut unreadable = vec![(Part::Settings, self.load_settings(&mut tx).await?)];
        let states = lists::states(&mut tx).await?;
        let all = upstreams::list(&mut tx).await?;
        unreadable.push((Part::Upstreams, tx.take_unreadable()));
        let mut known = HashMap::new();
        for upstream in all {
            let id = upstream.id;
            let (lists, bad) = read_lists(&mut tx, upstream, &states).await?;
            unreadable.push((Part::Upstream(id), bad));
            known.insert(id, Arc::new(lists));
        }
        // Before the upstreams are connected, so that they are shown it from the start.
        self.keeper.load(&mut tx).await?;
        unreadable.push((Part::Grants, tx.take_unreadable()));
        drop(tx);
        self.published.unreadable().replace_all_but_keys(unreadable);
        self.session_log.load().await?;
        self.known = Known { revision, upstreams: known };
        self.publish();
        self.published.0.applied.send_modify(|applied| applied.catalog = revision);
        Ok(())
    }

    /// Follows until the task group stops. A store that can't be read is tried again at the next poll;
    /// what was published last stays in force meanwhile.
    pub async fn run(mut self, stopping: tokio_util::sync::CancellationToken) {
        let mut hints = self.store.changes();
        loop {
            tokio::select! {
                _ = hints.wait(POLL) => {}
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
            // What comes meanwhile is folded into the next round.
            tokio::time::sleep_until(published_at + PUBLISH_INTERVAL).await;
        }
    }

    async fn catch_up(&mut self) -> Result<(), StoreError> {
        let mut tx = self.store.read().await?;
        let since = changes::since(&mut tx, self.known.revision).await?;
        let Entries::All(entries) = since.entries else {
            drop(tx);
            return self.load_catalog().await;
        };
        let newer = Newer::fold(&entries);
        if !newer.upstreams.is_empty() {
            let states = lists::states(&mut tx).await?;
            for id in newer.upstreams {
                self.follow_upstream(&mut tx, UpstreamId::from_uuid(id), &states).await?;
            }
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
        self.known.revision = since.revision;
        if newer.catalog {
            self.publish();
        }
        self.published.0.applied.send_modify(|applied| applied.catalog = since.revision);
        Ok(())
    }

    async fn follow_upstream(
        &mut self,
        tx: &mut Tx,
        id: UpstreamId,
        states: &[ListState],
    ) -> Result<(), StoreError> {
        let bad = match unless_unreadable(upstreams::get(tx, id).await)? {
            Ok(Some(upstream)) => {
                let (lists, bad) = read_lists(tx, upstream, states).await?;
                self.known.upstreams.insert(id, Arc::new(lists));
                bad
            }
            Ok(None) => {
                self.known.upstreams.remove(&id);
                Vec::new()
            }
            // What was last read of it stays in force.
            Err(bad) => vec![bad],
        };
        self.published.unreadable().set(Part::Upstream(id), bad);
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

    fn publish(&self) {
        let settings = Arc::clone(&self.settings.in_force.borrow());
        let all: Vec<_> = self.known.upstreams.values().cloned().collect();
        let specs: Vec<_> = all.iter().map(|lists| Arc::clone(&lists.upstream)).collect();
        self.published.publish(Catalog::new(self.known.revision, settings, all));
        self.upstreams.apply(&specs);
    }
}

/// What is known of an upstream, and the rows of it that can't be read.
async fn read_lists(
    tx: &mut Tx,
    upstream: sql::model::Upstream,
    states: &[ListState],
) -> Result<(UpstreamLists, Vec<UnreadableRow>), StoreError> {
    let id = upstream.id;
    let mut bad = Vec::new();
    let info = unless_unreadable(upstreams::info(tx, id).await)?.unwrap_or_else(|row| {
        bad.push(row);
        None
    });
    let mut definitions = Vec::new();
    for kind in Kind::ALL {
        definitions.extend(lists::of_upstream(tx, id, *kind).await?);
    }
    bad.extend(tx.take_unreadable());
    let states = states.iter().filter(|state| state.upstream_id == id).cloned().collect();
    let lists = UpstreamLists::new(Arc::new(upstream), info, definitions, states);
    bad.extend(lists.left_out.iter().map(|id| UnreadableRow {
        table: "definitions",
        row: id.to_string(),
        column: "body".to_owned(),
    }));
    Ok((lists, bad))
}

/// Changes by what they touch; many changes of one thing are one.
#[derive(Default)]
struct Newer {
    upstreams: BTreeSet<Uuid>,
    sessions: BTreeSet<Uuid>,
    grants: BTreeSet<Uuid>,
    settings: bool,
    catalog: bool,
}

impl Newer {
    fn fold(changes: &[Change]) -> Self {
        let mut newer = Self::default();
        for &Change { kind, id, .. } in changes {
            match kind {
                // They have a follower of their own.
                ChangeKind::ApiKey => {}
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
            newer.catalog |= matches!(kind, ChangeKind::Upstream | ChangeKind::List | ChangeKind::Settings);
        }
        newer
    }
}
