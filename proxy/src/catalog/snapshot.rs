//! Which views are kept, and where they are made.
//!
//! A view that a request needs is there already in all but one case: the publisher makes those in use for a new
//! catalog, so only the first caller with a policy, or one of more callers than the publisher had time for, waits
//! for its view. It is made once however many wait, and on the blocking pool, unless its policy has no rules: that
//! takes microseconds. Nobody waits for the view of another policy.
//!
//! Views that nobody used for ten minutes are dropped; so are the ones least used lately when all together take
//! more than [`VIEWS_BYTES_MAX`]. What is dropped is made again when it is needed.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use sql::model::{Timestamp, UpstreamId};
use tokio::sync::OnceCell;

use super::{Catalog, Policy, View};

/// What all views together may take. Bytes: 1,000 policies over 10,000 tools take a tenth of it, unless each
/// gives every tool a name of its own.
const VIEWS_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Of the views that are there, one in so many goes when there are too many.
const DROPPED_PART: usize = 8;

/// How often views are looked through for unused ones.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Sweeps that an unused view outlives: ten minutes.
const UNUSED_SWEEPS_MAX: u32 = 10;

/// What a place for a view takes, with its policy. Bytes.
const SLOT_BYTES: usize = 512;

/// A catalog together with the views of it. Views point at the catalog and not back, so both go when the last
/// request that met them has ended.
pub struct Snapshot {
    /// The catalog.
    pub catalog: Arc<Catalog>,
    /// When it was published.
    pub published_at: Timestamp,
    slots: DashMap<Policy, Arc<Slot>>,
    bytes: AtomicUsize,
    /// What all views together may take.
    bytes_max: usize,
    /// How many sweeps there have been: the time by which use is told.
    sweeps: AtomicU32,
}

/// The place of one policy's view.
#[derive(Default)]
struct Slot {
    view: OnceCell<Arc<View>>,
    /// The sweep after which it was last used.
    used: AtomicU32,
    /// The view of the catalog before: what it shares with this one needn't be made again.
    former: Mutex<Option<Arc<View>>>,
}

impl Snapshot {
    /// A catalog without views.
    pub fn new(catalog: Catalog, published_at: Timestamp) -> Self {
        Self {
            catalog: Arc::new(catalog),
            published_at,
            slots: DashMap::new(),
            bytes: AtomicUsize::new(0),
            bytes_max: VIEWS_BYTES_MAX,
            sweeps: AtomicU32::new(0),
        }
    }

    /// The catalog that comes after `former`, with places for the views that are in use. They are still to be
    /// made: [`Self::prepare`].
    pub(super) fn after(former: &Self, catalog: Catalog, published_at: Timestamp) -> Self {
        let next = Self { bytes_max: former.bytes_max, ..Self::new(catalog, published_at) };
        next.sweeps.store(former.sweeps.load(Ordering::Relaxed), Ordering::Relaxed);
        for entry in &former.slots {
            let last = entry.view.get().cloned().or_else(|| entry.former().clone());
            let slot = Slot {
                view: OnceCell::new(),
                used: AtomicU32::new(entry.used.load(Ordering::Relaxed)),
                former: Mutex::new(last),
            };
            next.slots.insert(entry.key().clone(), Arc::new(slot));
        }
        next
    }

    /// What a caller with `policy` sees. Made here, if it isn't there: not for a thread that others wait for.
    pub fn view(&self, policy: &Policy) -> Arc<View> {
        if let Some(view) = self.ready(policy) {
            return view;
        }
        let slot = self.slot(policy);
        let made = Arc::new(View::new(Arc::clone(&self.catalog), policy));
        if slot.view.set(Arc::clone(&made)).is_ok() {
            self.made(&slot, &made);
        }
        // Another may have been quicker. They are equal, and one is enough.
        slot.view.get().cloned().unwrap_or(made)
    }

    /// Whether a caller with `policy` sees an upstream.
    pub fn shows(&self, policy: &Policy, upstream: UpstreamId) -> bool {
        policy.admits(upstream) && self.catalog.upstreams().any(|known| known.id == upstream)
    }

    /// What a caller with `policy` sees, without holding up the thread while it is made.
    pub async fn view_soon(&self, policy: &Policy) -> Arc<View> {
        if let Some(view) = self.ready(policy) {
            return view;
        }
        if policy.rules().is_none() {
            return self.view(policy);
        }
        let slot = self.slot(policy);
        let make = async || {
            let (catalog, policy) = (Arc::clone(&self.catalog), policy.clone());
            let made = tokio::task::spawn_blocking(move || Arc::new(View::new(catalog, &policy))).await;
            match made {
                Ok(view) => {
                    self.made(&slot, &view);
                    view
                }
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        };
        Arc::clone(slot.view.get_or_init(make).await)
    }

    /// The view, if it is there.
    fn ready(&self, policy: &Policy) -> Option<Arc<View>> {
        let slot = self.slots.get(policy)?;
        let view = slot.view.get()?;
        slot.touch(self.sweeps.load(Ordering::Relaxed));
        Some(Arc::clone(view))
    }

    fn slot(&self, policy: &Policy) -> Arc<Slot> {
        let slot = Arc::clone(&self.slots.entry(policy.clone()).or_default());
        slot.touch(self.sweeps.load(Ordering::Relaxed));
        slot
    }

    fn made(&self, slot: &Slot, view: &View) {
        slot.former().take();
        let taken = SLOT_BYTES + view.bytes();
        if self.bytes.fetch_add(taken, Ordering::Relaxed) + taken > self.bytes_max {
            self.make_room();
        }
    }

    /// Drops some of the views, those first that were not used for longest.
    fn make_room(&self) {
        let mut by_use: Vec<(u32, Policy)> =
            self.slots.iter().map(|slot| (slot.used.load(Ordering::Relaxed), slot.key().clone())).collect();
        by_use.sort_by_key(|(used, _)| *used);
        let count = by_use.len().div_ceil(DROPPED_PART);
        for (_, policy) in by_use.into_iter().take(count) {
            self.slots.remove(&policy);
        }
        self.count_bytes();
    }

    fn count_bytes(&self) {
        let taken = |slot: &Slot| SLOT_BYTES + slot.view.get().map_or(0, |view| view.bytes());
        self.bytes.store(self.slots.iter().map(|slot| taken(&slot)).sum(), Ordering::Relaxed);
    }

    /// Makes the views that are in use, those first that were used last, until the time is up or the room is
    /// taken. `false`: some are left that there may be room for.
    pub(super) fn prepare(&self, until: Instant) -> bool {
        let mut by_use: Vec<(u32, Policy)> = self
            .slots
            .iter()
            .filter(|slot| slot.view.get().is_none())
            .map(|slot| (slot.used.load(Ordering::Relaxed), slot.key().clone()))
            .collect();
        by_use.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
        let room = self.bytes_max - self.bytes_max / DROPPED_PART;
        for (used, policy) in by_use {
            if Instant::now() >= until {
                return false;
            }
            if self.bytes.load(Ordering::Relaxed) >= room {
                // More would only drop what was made before, of callers that came later than these.
                self.let_formers_go();
                return true;
            }
            self.view(&policy);
            // Nobody has used it by that.
            if let Some(slot) = self.slots.get(&policy) {
                slot.used.store(used, Ordering::Relaxed);
            }
        }
        true
    }

    /// Drops the views of the catalog before: those that are still to be made are made without them.
    fn let_formers_go(&self) {
        self.slots.iter().for_each(|slot| drop(slot.former().take()));
    }

    /// Drops what was not used for ten minutes. To be called every [`SWEEP_INTERVAL`].
    pub(super) fn sweep(&self) {
        let now = self.sweeps.fetch_add(1, Ordering::Relaxed) + 1;
        self.slots.retain(|_, slot| now - slot.used.load(Ordering::Relaxed).min(now) <= UNUSED_SWEEPS_MAX);
        self.count_bytes();
    }

    /// The same with room for less.
    #[cfg(test)]
    pub(super) fn with_bytes_max(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }

    /// What its views take.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many views there are.
    #[cfg(test)]
    pub(super) fn views(&self) -> usize {
        self.slots.iter().filter(|slot| slot.view.get().is_some()).count()
    }
}

impl Slot {
    fn touch(&self, now: u32) {
        // Written only when it changes, so that callers on many threads don't fight for it.
        if self.used.load(Ordering::Relaxed) != now {
            self.used.store(now, Ordering::Relaxed);
        }
    }

    fn former(&self) -> std::sync::MutexGuard<'_, Option<Arc<View>>> {
        self.former.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
