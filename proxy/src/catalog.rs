//! The immutable snapshot that a request meets: what exists, and what one caller sees of it.
//!
//! A [`Catalog`] is built off the request path and published whole. A definition is rendered once
//! per exposed name, as bytes that every answer shares. A [`View`] is what the catalog looks like
//! under one [`Policy`]: callers with equal policies share one view, and a view holds indices only.
//! What a view doesn't list can't be routed through it, so a hidden name and an unknown one are the
//! same to a client.

mod as_task;
pub mod follow;
mod item;
pub mod lists;
mod moved_uris;
pub mod naming;
#[cfg(test)]
pub(crate) mod testing;
mod uri_template;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use ring::digest::{Context, SHA256};
use sql::model::{
    ApiKey, Definition, DefinitionId, Kind, ListState, Settings, Timestamp, Upstream, UpstreamId,
    UpstreamInfo,
};

pub use self::as_task::{AsTask, Audience};
pub use self::item::Item;
pub(crate) use self::item::{Place, list_field, name_field};
use self::moved_uris::MovedUris;
use crate::upstream::offers::Offers;

/// Views kept of one catalog. More different policies than this are built again on demand.
const VIEWS_MAX: usize = 1024;

/// What is known of one upstream's lists; shared between catalogs, so that a change of one upstream
/// rebuilds no other.
pub struct UpstreamLists {
    /// The upstream's configuration.
    pub upstream: Arc<Upstream>,
    /// What the upstream said of itself when it was last connected.
    pub info: Option<UpstreamInfo>,
    offers: Offers,
    items: BTreeMap<Kind, Vec<Arc<Item>>>,
    moved_uris: Arc<MovedUris>,
    states: Vec<ListState>,
    /// The definitions that can't be read, and so are left out.
    pub left_out: Vec<DefinitionId>,
}

impl UpstreamLists {
    /// Renders the definitions of one upstream. Switched-off ones are left out; a definition that
    /// can't be read (a damaged row) is named in the log and left out.
    pub fn new(
        upstream: Arc<Upstream>,
        info: Option<UpstreamInfo>,
        definitions: Vec<Definition>,
        states: Vec<ListState>,
    ) -> Self {
        let offers =
            info.as_ref().map(|info| Offers::of(&info.capabilities).spoken_in(&info.protocol_version));
        let offers = offers.unwrap_or_default();
        let moved_uris = Arc::new(MovedUris::of(&definitions));
        let mut items: BTreeMap<Kind, Vec<Arc<Item>>> = BTreeMap::new();
        let mut left_out = Vec::new();
        for definition in definitions.into_iter().filter(|definition| definition.enabled) {
            let (kind, id) = (definition.kind, definition.id);
            if let Some(mut item) = Item::new(&upstream, Arc::new(definition), &moved_uris) {
                if offers.task_calls {
                    item.as_task = AsTask::of(&item.definition, &moved_uris);
                }
                items.entry(kind).or_default().push(Arc::new(item));
            } else {
                tracing::error!(definition.id = %id, "stored definition can't be read, left out");
                left_out.push(id);
            }
        }
        Self { upstream, info, offers, items, moved_uris, states, left_out }
    }

    /// How long the list of `kind` stays fresh, and whether anybody may share it: what a modern
    /// upstream said of it; an upstream that said nothing promises nothing.
    fn freshness(&self, kind: Kind) -> Freshness {
        self.states.iter().find(|state| state.kind == kind).map_or(Freshness::NONE, |state| Freshness {
            ttl_ms: state.ttl_ms.unwrap_or(0),
            public: state.cache_scope_public,
        })
    }
}

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

/// What decides which part of the catalog a caller sees.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Policy {
    upstream_ids: Option<Vec<UpstreamId>>,
}

impl Policy {
    /// The policy of a key. Equal policies give the same value, whatever order they were written in.
    pub fn of(key: &ApiKey) -> Self {
        let mut upstream_ids = key.upstream_ids.clone();
        if let Some(ids) = &mut upstream_ids {
            ids.sort_unstable();
            ids.dedup();
        }
        Self { upstream_ids }
    }

    fn admits(&self, upstream: UpstreamId) -> bool {
        self.upstream_ids.as_ref().is_none_or(|ids| ids.binary_search(&upstream).is_ok())
    }
}

/// Everything that exists, at one revision of the configuration.
pub struct Catalog {
    /// The revision it was built from.
    pub revision: i64,
    /// The settings in force.
    pub settings: Arc<Settings>,
    upstreams: Vec<Arc<UpstreamLists>>,
    kinds: BTreeMap<Kind, Index>,
}

#[derive(Default)]
struct Index {
    items: Vec<Arc<Item>>,
    by_name: HashMap<Arc<str>, Arc<Item>>,
}

impl Catalog {
    /// Joins the lists of all enabled upstreams. Names are unique by their claims; should a damaged
    /// store hold one name twice, the first in order keeps it and the other is left out.
    pub fn new(revision: i64, settings: Arc<Settings>, mut upstreams: Vec<Arc<UpstreamLists>>) -> Self {
        upstreams.retain(|lists| lists.upstream.enabled);
        upstreams.sort_by_key(|lists| (lists.upstream.sort_order, lists.upstream.id));
        let mut kinds: BTreeMap<Kind, Index> = BTreeMap::new();
        for (kind, items) in upstreams.iter().flat_map(|lists| &lists.items) {
            kinds.entry(*kind).or_default().items.extend(items.iter().cloned());
        }
        for index in kinds.values_mut() {
            index.settle();
        }
        Self { revision, settings, upstreams, kinds }
    }

    /// The catalog before the first load: nothing at all.
    pub fn empty() -> Self {
        Self::new(0, Arc::default(), Vec::new())
    }

    /// The enabled upstreams, in order.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.iter().map(|lists| &lists.upstream)
    }

    /// All items of a kind, in order.
    pub fn items(&self, kind: Kind) -> &[Arc<Item>] {
        self.kinds.get(&kind).map_or(&[], |index| &index.items)
    }
}

/// A catalog together with the views made of it so far. Views point at the catalog and not back, so
/// both go when the last request that met them has ended.
pub struct Snapshot {
    /// The catalog.
    pub catalog: Arc<Catalog>,
    /// When it was published.
    pub published_at: Timestamp,
    views: Mutex<HashMap<Policy, Cell>>,
}

/// The place of a view that is made, once, by the first who needs it.
type Cell = Arc<OnceLock<Arc<View>>>;

impl Snapshot {
    /// A catalog without views; each is made when the first caller with its policy comes.
    pub fn new(catalog: Catalog, published_at: Timestamp) -> Self {
        Self { catalog: Arc::new(catalog), published_at, views: Mutex::default() }
    }

    /// What a caller with `policy` sees. Callers with other policies don't wait while a view is made.
    pub fn view(&self, policy: &Policy) -> Arc<View> {
        let cell = self.cell(policy);
        Arc::clone(cell.get_or_init(|| Arc::new(View::new(Arc::clone(&self.catalog), policy))))
    }

    fn cell(&self, policy: &Policy) -> Cell {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = views.get(policy) {
            return Arc::clone(cell);
        }
        if views.len() >= VIEWS_MAX {
            views.clear();
        }
        Arc::clone(views.entry(policy.clone()).or_default())
    }
}

impl Index {
    fn settle(&mut self) {
        self.items.sort_by(|a, b| a.place().cmp(&b.place()));
        let by_name = &mut self.by_name;
        self.items.retain(|item| {
            let name = Arc::clone(&item.exposed_name);
            let free = !by_name.contains_key(&name);
            if free {
                by_name.insert(name, Arc::clone(item));
            } else {
                tracing::error!(definition.id = %item.definition.id, "two definitions hold one name, the later is left out");
            }
            free
        });
    }
}

/// The catalog as one policy shows it.
pub struct View {
    catalog: Arc<Catalog>,
    policy: Policy,
    visible: BTreeMap<Kind, Vec<u32>>,
    fingerprints: BTreeMap<Kind, [u8; 32]>,
}

impl View {
    fn new(catalog: Arc<Catalog>, policy: &Policy) -> Self {
        let mut visible = BTreeMap::new();
        let mut fingerprints = BTreeMap::new();
        for (kind, index) in &catalog.kinds {
            let mut hash = Context::new(&SHA256);
            let mut seen = Vec::new();
            for (i, item) in (0u32..).zip(&index.items) {
                if policy.admits(item.upstream.id) {
                    hash.update(item.exposed_name.as_bytes());
                    hash.update(&item.definition.hash);
                    seen.push(i);
                }
            }
            let mut fingerprint = [0; 32];
            fingerprint.copy_from_slice(hash.finish().as_ref());
            fingerprints.insert(*kind, fingerprint);
            visible.insert(*kind, seen);
        }
        Self { policy: policy.clone(), visible, fingerprints, catalog }
    }

    /// The item behind an exposed name, if this view shows it.
    pub fn route(&self, kind: Kind, exposed_name: &str) -> Option<&Arc<Item>> {
        let item = self.catalog.kinds.get(&kind)?.by_name.get(exposed_name)?;
        self.policy.admits(item.upstream.id).then_some(item)
    }

    /// The resource with this URI, or the template that it is an instance of, if this view shows one.
    pub fn route_uri(&self, uri: &str) -> Option<&Arc<Item>> {
        self.route(Kind::Resource, uri).or_else(|| {
            self.items(Kind::ResourceTemplate).find(|item| uri_template::matches(&item.exposed_name, uri))
        })
    }

    /// The visible items of a kind, in order.
    pub fn items(&self, kind: Kind) -> impl Iterator<Item = &Arc<Item>> {
        let items = self.catalog.items(kind);
        self.visible.get(&kind).into_iter().flatten().map(move |i| &items[*i as usize])
    }

    /// Changes exactly when the list of a kind, as this view shows it, changes.
    pub fn fingerprint(&self, kind: Kind) -> [u8; 32] {
        self.fingerprints.get(&kind).copied().unwrap_or_default()
    }

    /// The caching hints for a list: the least that any visible upstream promises. A view that a
    /// policy narrows is private.
    pub fn freshness(&self, kind: Kind) -> Freshness {
        let open = Freshness { ttl_ms: i64::MAX, public: self.policy.upstream_ids.is_none() };
        let least = self.upstreams_with(kind).map(|lists| lists.freshness(kind)).fold(open, Freshness::and);
        if least.ttl_ms == i64::MAX { Freshness::NONE } else { least }
    }

    /// Whether the view has anything of a kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.visible.get(&kind).is_some_and(|visible| !visible.is_empty())
    }

    /// The visible upstreams, in order, with what is known of each.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<UpstreamLists>> {
        self.catalog.upstreams.iter().filter(|lists| self.policy.admits(lists.upstream.id))
    }

    /// Whether an upstream is visible.
    pub fn shows(&self, upstream: UpstreamId) -> bool {
        self.upstreams().any(|lists| lists.upstream.id == upstream)
    }

    /// The result of a call at an upstream, with the URIs that clients know in place of the upstream's own.
    pub fn with_exposed_uris(&self, upstream: UpstreamId, result: &Bytes) -> Bytes {
        self.moved_uris(upstream).map_or_else(|| result.clone(), |moved| moved.in_result(result))
    }

    /// The same for a task of 2026-07-28, which holds the result of its call once that is over.
    pub fn task_with_exposed_uris(&self, upstream: UpstreamId, task: &Bytes) -> Bytes {
        self.moved_uris(upstream).map_or_else(|| task.clone(), |moved| moved.in_task(task))
    }

    fn moved_uris(&self, upstream: UpstreamId) -> Option<&MovedUris> {
        let lists = self.upstreams().find(|lists| lists.upstream.id == upstream)?;
        Some(&*lists.moved_uris).filter(|moved| !moved.is_empty())
    }

    /// What an upstream offers beyond its lists: nothing if this view doesn't show it.
    pub fn offers(&self, upstream: UpstreamId) -> Offers {
        let lists = self.upstreams().find(|lists| lists.upstream.id == upstream);
        lists.map(|lists| lists.offers).unwrap_or_default()
    }

    /// What any visible upstream offers beyond its lists.
    pub fn offered(&self) -> Offers {
        self.upstreams().fold(Offers::default(), |offered, lists| offered.or(lists.offers))
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.catalog.settings
    }

    fn upstreams_with(&self, kind: Kind) -> impl Iterator<Item = &Arc<UpstreamLists>> {
        self.catalog
            .upstreams
            .iter()
            .filter(move |lists| lists.items.contains_key(&kind) && self.policy.admits(lists.upstream.id))
    }
}

#[cfg(test)]
mod tests {
    use sql::clock::Clock;
    use sql::model::DefinitionId;

    use super::*;
    use crate::catalog::testing::{catalog, upstream_with};

    fn definition(kind: Kind, exposed_name: &str, body: &'static str) -> Definition {
        let (clock, start) = (Clock::system(), Timestamp::from_millis(0));
        Definition {
            id: DefinitionId::new(&clock),
            upstream_id: UpstreamId::new(&clock),
            kind,
            upstream_name: "t".into(),
            exposed_name: exposed_name.into(),
            body: Bytes::from_static(body.as_bytes()),
            hash: [0; 32],
            position: 0,
            enabled: true,
            sort_order: None,
            first_seen_at: start,
            changed_at: start,
        }
    }

    fn rendered(kind: Kind, exposed_name: &str, body: &'static str) -> Bytes {
        item::render(&definition(kind, exposed_name, body), &MovedUris::default()).expect("it is an object")
    }

    #[test]
    fn what_an_upstream_says_later_has_the_uris_of_its_own_resources() {
        let (plain, known) = (upstream_with(&[]), upstream_with(&[]));
        let contested = definition(Kind::Resource, "mpg+01:t", r#"{"uri":"t","name":"t"}"#);
        let lists = UpstreamLists::new(Arc::clone(&known.upstream), None, vec![contested], Vec::new());
        let both = Arc::new(catalog(&[Arc::clone(&plain), Arc::new(lists)]));
        let sees = |upstream_ids| View::new(Arc::clone(&both), &Policy { upstream_ids });
        let (result, moved) = (r#"{"content":[{"uri":"t"}]}"#, r#"{"content":[{"uri":"mpg+01:t"}]}"#);
        let task = |result: &str| Bytes::from(format!(r#"{{"taskId":"1","result":{result}}}"#));
        let view = sees(None);
        let raw = Bytes::from_static(result.as_bytes());
        assert_eq!(view.with_exposed_uris(known.upstream.id, &raw), moved);
        assert_eq!(view.task_with_exposed_uris(known.upstream.id, &task(result)), task(moved));
        assert_eq!(view.with_exposed_uris(plain.upstream.id, &raw), raw, "of the other, they are its own");
        assert_eq!(view.task_with_exposed_uris(plain.upstream.id, &task(result)), task(result));
    }

    #[test]
    fn a_tool_goes_out_as_it_came_but_for_its_name_and_how_it_is_run_as_a_task() {
        let plain = r#"{ "name":"t", "annotations": {"x":1.0} }"#;
        assert_eq!(rendered(Kind::Tool, "t", plain), plain);
        assert_eq!(rendered(Kind::Tool, "u", plain), plain.replace(r#""t""#, r#""u""#));
        let task = r#"{"name":"t","execution":{"taskSupport":"optional"},"title":"execution"}"#;
        assert_eq!(rendered(Kind::Tool, "t", task), r#"{"name":"t","title":"execution"}"#);
        // Elsewhere the word means nothing.
        let prompt = r#"{"name":"t","execution":1}"#;
        assert_eq!(rendered(Kind::Prompt, "t", prompt), prompt);
    }
}
