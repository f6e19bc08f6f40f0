//! How a change reaches the data plane.
//!
//! The revision in the database is the truth, a notification is a hint, and a poll is the net. The
//! follower applies what is newer: one upstream's lists, one session; a gap, or a start, is a full load
//! of one consistent snapshot. The catalog is built here, off the request path, and published whole; one
//! that can't be read is refused and the old one stays. Keys have a follower of their own: revoking one
//! waits for no list.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use sql::changes::{self, Change, ChangeKind, Entries, Written};
use sql::clock::Clock;
use sql::model::{ApiKeyId, Kind, ListState, Settings, UpstreamId};
use sql::{Store, StoreError, Tx, api_keys, lists, settings, upstreams};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Catalog, Snapshot, UpstreamLists};
use crate::access::Keys;
use crate::downstream::session_log::SessionLog;
use crate::upstream::Upstreams;
use crate::upstream::oauth::keeper::Keeper;

/// The net under the hints: a change that no hint announced is seen within this time.
const POLL: Duration = Duration::from_secs(5);

/// A revision that lies behind every change that is kept: what follows is a gap, and so a full load.
const REVISION_UNKNOWN: i64 = -1;

/// Between two publications, so that a burst of changes is folded into few builds.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(200);

/// Between two looks for changed keys, so that a burst of changes costs few reads. An admin who makes keys one
/// after the other waits about as long for each.
const KEYS_INTERVAL: Duration = Duration::from_millis(5);

/// The catalog in force. Requests take it once, at their start; streams are told of a new one.
#[derive(Clone)]
pub struct Published(Arc<Shared>);

struct Shared {
    current: ArcSwap<Snapshot>,
    changes: watch::Sender<i64>,
    applied: watch::Sender<Written>,
    problem: Mutex<Option<String>>,
    clock: Clock,
}

impl Published {
    /// Nothing is published yet: an empty catalog.
    pub fn new(clock: Clock) -> Self {
        let current = ArcSwap::from_pointee(Snapshot::new(Catalog::empty(), clock.now()));
        let (changes, applied) = (watch::Sender::new(0), watch::Sender::default());
        Self(Arc::new(Shared { current, changes, applied, problem: Mutex::default(), clock }))
    }

    /// Why the newest configuration isn't served, if it isn't: in words for an admin.
    pub fn problem(&self) -> Option<String> {
        self.0.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        self.load_settings(&mut tx).await?;
        let states = lists::states(&mut tx).await?;
        let mut known = HashMap::new();
        for upstream in upstreams::list(&mut tx).await? {
            let id = upstream.id;
            known.insert(id, Arc::new(read_lists(&mut tx, upstream, &states).await?));
        }
        // Before the upstreams are connected, so that they are shown it from the start.
        self.keeper.load(&mut tx).await?;
        drop(tx);
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
            self.load_settings(&mut tx).await?;
        }
        for id in newer.grants {
            self.keeper.follow(&mut tx, UpstreamId::from_uuid(id)).await?;
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
        match upstreams::get(tx, id).await? {
            Some(upstream) => {
                let lists = read_lists(tx, upstream, states).await?;
                self.known.upstreams.insert(id, Arc::new(lists));
            }
            None => {
                self.known.upstreams.remove(&id);
            }
        }
        Ok(())
    }

    async fn load_settings(&self, tx: &mut Tx) -> Result<(), StoreError> {
        let stored = settings::load(tx).await?.map(|(settings, _)| settings).unwrap_or_default();
        let in_force = Arc::new((self.settings.overlay)(stored));
        self.settings.in_force.send_if_modified(|current| {
            let changed = **current != *in_force;
            *current = in_force;
            changed
        });
        Ok(())
    }

    fn publish(&self) {
        let settings = Arc::clone(&self.settings.in_force.borrow());
        let all: Vec<_> = self.known.upstreams.values().cloned().collect();
        let specs: Vec<_> = all.iter().map(|lists| Arc::clone(&lists.upstream)).collect();
        self.published.publish(Catalog::new(self.known.revision, settings, all));
        self.upstreams.apply(&specs);
    }
}

/// Keeps the keys at the newest revision, apart from the catalog: reading the lists of many upstreams
/// takes a while, and what a revoked key has opened ends within a second all the same.
pub struct KeyFollower {
    store: Store,
    keys: Keys,
    published: Published,
    revision: i64,
    read_at: Instant,
    stale_max: Duration,
}

impl KeyFollower {
    /// Follows until the task group stops. Keys that can't be read stay as they are until the next poll.
    pub async fn run(mut self, stopping: tokio_util::sync::CancellationToken) {
        let mut hints = self.store.changes();
        loop {
            // At first too: the keys were loaded before there was anybody to take a hint.
            let caught_up = tokio::select! {
                caught_up = self.catch_up() => caught_up,
                () = stopping.cancelled() => return,
            };
            match caught_up {
                Ok(()) => self.read_at = Instant::now(),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "changes of keys could not be read"
                    );
                    self.close_if_stale();
                }
            }
            tokio::time::sleep(KEYS_INTERVAL).await;
            tokio::select! {
                _ = hints.wait(POLL) => {}
                () = stopping.cancelled() => return,
            }
        }
    }

    /// Keys that nobody could revoke for so long are taken as revoked. They are read anew, as after a
    /// gap, when the store is back.
    fn close_if_stale(&mut self) {
        if self.read_at.elapsed() < self.stale_max || self.keys.is_empty() {
            return;
        }
        tracing::error!(
            stale_max_s = self.stale_max.as_secs(),
            "the store has been out of reach for longer than MPG_STALE_MAX, no key is served until it is back"
        );
        self.keys.replace_all(Vec::new());
        self.revision = REVISION_UNKNOWN;
    }

    async fn load(&mut self, tx: &mut Tx) -> Result<(), StoreError> {
        let revision = changes::revision(tx).await?;
        self.keys.replace_all(api_keys::list(tx).await?);
        self.caught_up(revision);
        Ok(())
    }

    fn caught_up(&mut self, revision: i64) {
        self.revision = revision;
        self.published.0.applied.send_modify(|applied| applied.keys = revision);
    }

    async fn catch_up(&mut self) -> Result<(), StoreError> {
        let mut tx = self.store.read().await?;
        let since = changes::since(&mut tx, self.revision).await?;
        let Entries::All(entries) = since.entries else {
            self.load(&mut tx).await?;
            self.published.remind();
            return Ok(());
        };
        let is_key = |change: &&Change| change.kind == ChangeKind::ApiKey;
        let changed: BTreeSet<Uuid> = entries.iter().filter(is_key).map(|change| change.id).collect();
        for id in &changed {
            let id = ApiKeyId::from_uuid(*id);
            match api_keys::get(&mut tx, id).await? {
                Some(key) => self.keys.upsert(key),
                None => self.keys.remove(id),
            }
        }
        self.caught_up(since.revision);
        if !changed.is_empty() {
            self.published.remind();
        }
        Ok(())
    }
}

async fn read_lists(
    tx: &mut Tx,
    upstream: sql::model::Upstream,
    states: &[ListState],
) -> Result<UpstreamLists, StoreError> {
    let id = upstream.id;
    let info = upstreams::info(tx, id).await?;
    let mut definitions = Vec::new();
    for kind in Kind::ALL {
        definitions.extend(lists::of_upstream(tx, id, *kind).await?);
    }
    let states = states.iter().filter(|state| state.upstream_id == id).cloned().collect();
    Ok(UpstreamLists::new(Arc::new(upstream), info, definitions, states))
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
                // No view looks at rules yet.
                ChangeKind::Rules => {}
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

#[cfg(test)]
mod tests {
    use sql::clock::Clock;
    use sql::model::{ApiKey, PlaintextKey};
    use sql::seal::MasterKey;
    use sql::{Database, StoreOptions};

    use super::*;

    async fn store() -> Store {
        let key = MasterKey::from_env_text(MasterKey::generate_hex().expose()).expect("a fresh key").0;
        let options = StoreOptions {
            database: Database::SqliteMemory,
            master_key: key,
            clock: Clock::system(),
            start_timeout: Duration::from_secs(1),
        };
        Store::open(options).await.expect("a store in memory")
    }

    async fn follower(store: &Store, stale_max: Duration) -> KeyFollower {
        let clock = store.clock().clone();
        let mut tx = store.begin().await.unwrap();
        let key = ApiKey::create(ApiKeyId::new(&clock), "a", &PlaintextKey::generate(), clock.now());
        api_keys::insert(&mut tx, &key).await.unwrap();
        tx.commit().await.unwrap();
        let mut follower = KeyFollower {
            store: store.clone(),
            keys: Keys::default(),
            published: Published::new(clock),
            revision: 0,
            read_at: Instant::now(),
            stale_max,
        };
        follower.catch_up().await.unwrap();
        assert_eq!(follower.keys.len(), 1);
        follower
    }

    #[tokio::test]
    async fn without_the_store_keys_are_served_for_a_while() {
        let store = store().await;
        let mut follower = follower(&store, Duration::from_hours(1)).await;
        store.close().await;
        follower.catch_up().await.expect_err("the store is closed");
        follower.close_if_stale();
        assert_eq!(follower.keys.len(), 1);
    }

    #[tokio::test]
    async fn keys_that_nobody_can_revoke_any_more_are_not_served_until_the_store_is_back() {
        let store = store().await;
        let mut follower = follower(&store, Duration::ZERO).await;
        follower.close_if_stale();
        assert!(follower.keys.is_empty());
        follower.catch_up().await.unwrap();
        assert_eq!(follower.keys.len(), 1, "they are read whole again");
    }
}
