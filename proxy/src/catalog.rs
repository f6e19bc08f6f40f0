//! The immutable snapshot that a request meets: what exists, and what one caller sees of it.
//!
//! A [`Catalog`] is built off the request path and published whole. A definition is rendered once
//! per exposed name, as bytes that every answer shares. A [`View`] is what the catalog looks like
//! under one [`Policy`]: callers with equal policies share one view, and a view holds bits and the few items
//! that a key's own aliases change. What a view doesn't list can't be routed through it, so a hidden name and
//! an unknown one are the same to a client.
//!
//! To be read in this order: [`rules`] and [`naming`] (what decides), `upstream_lists` (one upstream, for all
//! callers), this file (all upstreams), `shown` and `view` (for one policy), `snapshot` (which views are kept),
//! [`lists`] (pages), [`follow`] (how it all comes from the store).

mod as_task;
pub mod follow;
mod item;
pub mod lists;
mod moved_uris;
pub mod naming;
mod per_kind;
mod policy;
pub mod rules;
pub mod search;
mod shown;
mod snapshot;
#[cfg(test)]
pub(crate) mod testing;
mod upstream_lists;
mod uri_template;
mod view;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sql::model::{Finding, Kind, Settings, Upstream, UpstreamId};

pub use self::as_task::{AsTask, Audience};
pub use self::item::Item;
pub(crate) use self::item::{Place, list_field, name_field};
use self::per_kind::PerKind;
pub use self::policy::Policy;
pub use self::snapshot::Snapshot;
pub use self::upstream_lists::{Source, UpstreamLists};
pub use self::view::View;

/// The caching hints of a list (2026-07-28, caching).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// How long a client may keep the list, in milliseconds.
    pub ttl_ms: i64,
    /// Whether a cache may serve it to other callers.
    pub public: bool,
}

impl Freshness {
    const NONE: Self = Self { ttl_ms: 0, public: false };

    fn and(self, other: Self) -> Self {
        Self { ttl_ms: self.ttl_ms.min(other.ttl_ms), public: self.public && other.public }
    }
}

/// Everything that exists, at one revision of the configuration.
pub struct Catalog {
    /// The revision it was built from.
    pub revision: i64,
    /// The settings in force.
    pub settings: Arc<Settings>,
    upstreams: Vec<Arc<UpstreamLists>>,
    index: PerKind<Index>,
}

/// The names of one kind.
#[derive(Default)]
struct Index {
    /// What is listed: its upstream and its place there.
    by_name: HashMap<Arc<str>, (u32, u32)>,
    /// Names that are held for what isn't listed.
    held: HashSet<Arc<str>>,
}

impl Catalog {
    /// Joins the lists of all enabled upstreams; the others only hold their names. Names are unique by their
    /// claims; should a damaged store hold one name twice, the first in order keeps it and the other is left out.
    pub fn new(revision: i64, settings: Arc<Settings>, upstreams: Vec<Arc<UpstreamLists>>) -> Self {
        let (mut upstreams, disabled): (Vec<_>, Vec<_>) =
            upstreams.into_iter().partition(|lists| lists.upstream.enabled);
        upstreams.sort_by_key(|lists| (lists.upstream.sort_order, lists.upstream.id));
        leave_out_doubles(&mut upstreams);
        let mut index = PerKind::<Index>::default();
        for (at, lists) in (0..).zip(&upstreams) {
            for (kind, items) in lists.items.iter() {
                let places =
                    (0..).zip(items).map(|(place, item)| (Arc::clone(&item.exposed_name), (at, place)));
                index.get_mut(kind).by_name.extend(places);
            }
        }
        for lists in upstreams.iter().chain(&disabled) {
            for (kind, held) in lists.held.iter() {
                index.get_mut(kind).held.extend(held.iter().cloned());
            }
        }
        for (kind, items) in disabled.iter().flat_map(|lists| lists.items.iter()) {
            index.get_mut(kind).held.extend(items.iter().map(|item| Arc::clone(&item.exposed_name)));
        }
        Self { revision, settings, upstreams, index }
    }

    /// The catalog before the first load: nothing at all.
    pub fn empty() -> Self {
        Self::new(0, Arc::default(), Vec::new())
    }

    /// The enabled upstreams, in order.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.iter().map(|lists| &lists.upstream)
    }

    /// How many definitions of each upstream are held back until an admin approves them.
    pub fn held_back(&self) -> impl Iterator<Item = (&Arc<Upstream>, usize)> {
        self.upstreams.iter().map(|lists| (&lists.upstream, lists.held_back))
    }

    /// What is wrong with what the store has of an upstream, if that is enabled.
    pub fn findings(&self, upstream: UpstreamId) -> &[Finding] {
        let lists = self.upstreams.iter().find(|lists| lists.upstream.id == upstream);
        lists.map_or(&[], |lists| lists.findings())
    }

    /// All items of a kind, in order.
    pub fn items(&self, kind: Kind) -> impl Iterator<Item = &Arc<Item>> {
        self.upstreams.iter().flat_map(move |lists| lists.items.get(kind))
    }

    /// How many items of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.upstreams.iter().map(|lists| lists.items.get(kind).len()).sum()
    }

    /// Whether a name is anybody's, listed or not.
    fn holds(&self, kind: Kind, exposed_name: &str) -> bool {
        let index = self.index.get(kind);
        index.by_name.contains_key(exposed_name) || index.held.contains(exposed_name)
    }

    /// The upstream that has a name, and the item's place there.
    fn find(&self, kind: Kind, exposed_name: &str) -> Option<(usize, usize)> {
        let (upstream, place) = self.index.get(kind).by_name.get(exposed_name)?;
        Some((usize::try_from(*upstream).ok()?, usize::try_from(*place).ok()?))
    }
}

fn leave_out_doubles(upstreams: &mut [Arc<UpstreamLists>]) {
    let mut names = HashSet::new();
    for lists in upstreams {
        let mut doubles = HashSet::new();
        for (kind, items) in lists.items.iter() {
            for (place, item) in items.iter().enumerate() {
                if !names.insert((kind, Arc::clone(&item.exposed_name))) {
                    tracing::error!(definition.id = %item.definition.id, "two definitions hold one name, the later is left out");
                    doubles.insert((kind, place));
                }
            }
        }
        if !doubles.is_empty() {
            *lists = Arc::new(lists.without(&doubles));
        }
    }
}

#[cfg(test)]
mod tests;
