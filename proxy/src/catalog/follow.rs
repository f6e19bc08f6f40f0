//! How a change reaches the data plane.
//!
//! The revision in the database is the truth, a notification is a hint, and a poll is the net. The
//! follower applies what is newer: one upstream's lists, one key; a gap, or a start, is a full load of
//! one consistent snapshot. The catalog is built here, off the request path, and published whole; one
//! that can't be read is refused and the old one stays.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use sql::changes::{self, Change, ChangeKind, Entries};
use sql::clock::Clock;
use sql::model::{ApiKeyId, Kind, Settings, UpstreamId};
use sql::{Store, StoreError, Tx, api_keys, lists, settings, upstreams};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Catalog, Snapshot, UpstreamLists};
use crate::access::Keys;
use crate::downstream::session_log::SessionLog;
use crate::upstream::Upstreams;

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
    problem: Mutex<Option<String>>,
    clock: Clock,
}

impl Published {
    /// Nothing is published yet: an empty catalog.
    pub fn new(clock: Clock) -> Self {
        let current = ArcSwap::from_pointee(Snapshot::new(Catalog::empty(), clock.now()));
        Self(Arc::new(Shared { current, changes: watch::Sender::new(0), problem: Mutex::default(), clock }))
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

    /// Tells of each new snapshot, from now on.
    pub fn changes(&self) -> watch::Receiver<i64> {
        self.0.changes.subscribe()
    }

    fn publish(&self, catalog: Catalog) {
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
    pub fn new(
        store: Store,
        published: Published,
        keys: Keys,
        upstreams: Upstreams,
        session_log: SessionLog,
        settings: SettingsFollower,
    ) -> Self {
        Self { store, published, keys, upstreams, session_log, settings, known: Known::default() }
    }

    /// Reads everything and publishes the first catalog.
    pub async fn load(&mut self) -> Result<(), StoreError> {
        let mut tx = self.store.read().await?;
        let revision = changes::revision(&mut tx).await?;
        self.load_settings(&mut tx).await?;
        self.keys.replace_all(api_keys::list(&mut tx).await?);
        let mut known = HashMap::new();
        for upstream in upstreams::list(&mut tx).await? {
            let id = upstream.id;
            known.insert(id, Arc::new(read_lists(&mut tx, upstream).await?));
        }
        drop(tx);
        self.session_log.load().await?;
        self.known = Known { revision, upstreams: known };
        self.publish();
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
            let caught_up = self.catch_up().await;
            if let Err(error) = &caught_up {
                tracing::warn!(
                    error = error as &dyn std::error::Error,
                    "changes could not be read, the catalog stays as it is"
                );
            }
            self.published.set_problem(caught_up.err().map(|error| error.to_string()));
            // What comes meanwhile is folded into the next round. A revoked key doesn't wait for it: the
            // first change after a quiet time is applied at once.
            tokio::time::sleep_until(published_at + PUBLISH_INTERVAL).await;
        }
    }

    async fn catch_up(&mut self) -> Result<(), StoreError> {
        let mut tx = self.store.read().await?;
        let since = changes::since(&mut tx, self.known.revision).await?;
        let Entries::All(entries) = since.entries else {
            drop(tx);
            return self.load().await;
        };
        let newer = Newer::fold(since.revision, &entries);
        for id in newer.keys {
            self.follow_key(&mut tx, ApiKeyId::from_uuid(id)).await?;
        }
        for id in newer.upstreams {
            self.follow_upstream(&mut tx, UpstreamId::from_uuid(id)).await?;
        }
        if newer.settings {
            self.load_settings(&mut tx).await?;
        }
        drop(tx);
        if newer.sessions {
            self.session_log.load().await?;
        }
        self.known.revision = newer.revision;
        if newer.catalog {
            self.publish();
        }
        Ok(())
    }

    async fn follow_key(&self, tx: &mut Tx, id: ApiKeyId) -> Result<(), StoreError> {
        match api_keys::get(tx, id).await? {
            Some(key) => self.keys.upsert(key),
            None => self.keys.remove(id),
        }
        Ok(())
    }

    async fn follow_upstream(&mut self, tx: &mut Tx, id: UpstreamId) -> Result<(), StoreError> {
        match upstreams::get(tx, id).await? {
            Some(upstream) => {
                let lists = read_lists(tx, upstream).await?;
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

async fn read_lists(tx: &mut Tx, upstream: sql::model::Upstream) -> Result<UpstreamLists, StoreError> {
    let id = upstream.id;
    let info = upstreams::info(tx, id).await?;
    let mut definitions = Vec::new();
    for kind in Kind::ALL {
        definitions.extend(lists::of_upstream(tx, id, *kind).await?);
    }
    let states = lists::states(tx).await?.into_iter().filter(|state| state.upstream_id == id).collect();
    Ok(UpstreamLists::new(Arc::new(upstream), info, definitions, states))
}

/// Changes by what they touch; many changes of one thing are one.
#[derive(Default)]
struct Newer {
    revision: i64,
    keys: Vec<Uuid>,
    upstreams: Vec<Uuid>,
    settings: bool,
    sessions: bool,
    catalog: bool,
}

impl Newer {
    fn fold(revision: i64, changes: &[Change]) -> Self {
        let mut newer = Self { revision, ..Self::default() };
        for &Change { kind, id, .. } in changes {
            match kind {
                ChangeKind::ApiKey => push_once(&mut newer.keys, id),
                ChangeKind::Upstream | ChangeKind::List => push_once(&mut newer.upstreams, id),
                ChangeKind::Settings => newer.settings = true,
                ChangeKind::Session => newer.sessions = true,
            }
            newer.catalog |= matches!(kind, ChangeKind::Upstream | ChangeKind::List | ChangeKind::Settings);
        }
        newer
    }
}

fn push_once(ids: &mut Vec<Uuid>, id: Uuid) {
    if !ids.contains(&id) {
        ids.push(id);
    }
}
