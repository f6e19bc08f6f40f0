//! The catalog as one policy shows it.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use ring::digest::{Context, SHA256};
use sql::model::{Kind, Settings, UpstreamId};

use super::item::Look;
use super::moved_uris::MovedUris;
use super::per_kind::PerKind;
use super::rules::CompiledRules;
use super::shown::Shown;
use super::{Catalog, Freshness, Item, Policy, UpstreamLists, uri_template};
use crate::upstream::offers::Offers;

/// The catalog as one policy shows it.
pub struct View {
    catalog: Arc<Catalog>,
    policy: Policy,
    /// What is shown of each upstream of the catalog; `None`: it isn't visible at all.
    shown: Box<[Option<Arc<Shown>>]>,
    /// Items by the names that aliases of the key give them: sorted by name, each an upstream and a place.
    renamed: PerKind<Box<[(u32, u32)]>>,
    /// Items whose alias meets a name that is held, and isn't applied: by kind, upstream and place.
    refused: BTreeMap<(Kind, u32, u32), Arc<Item>>,
    fingerprints: PerKind<[u8; 32]>,
    bytes: usize,
}

impl View {
    /// Applies a policy. With rules, that takes up to a second for the largest catalogs and most costly rules:
    /// not for a thread that others wait for.
    pub(super) fn new(catalog: Arc<Catalog>, policy: &Policy) -> Self {
        let compiled = OnceCell::new();
        let rules = || -> &CompiledRules {
            // Only if something has to be looked at anew. They aren't kept: a view needs them no more.
            compiled.get_or_init(|| {
                policy.rules().map(|rules| CompiledRules::of(&rules.rules)).unwrap_or_default()
            })
        };
        let length_max = catalog.settings.naming.length_max as usize;
        let mut bytes = 0;
        let shown = catalog.upstreams.iter().map(|lists| {
            policy.admits(lists.upstream.id).then(|| {
                let (shown, made) = lists.shown_to(policy, length_max, rules);
                bytes += made;
                shown
            })
        });
        let shown: Box<[_]> = shown.collect();
        let mut view = Self {
            policy: policy.clone(),
            shown,
            renamed: PerKind::default(),
            refused: BTreeMap::new(),
            fingerprints: PerKind::default(),
            bytes: 0,
            catalog,
        };
        if policy.rules().is_some() {
            view.settle_aliases();
        }
        view.fingerprints = PerKind::of(|kind| view.fingerprint_of(kind));
        let renamed: usize = view.renamed.iter().map(|(_, renamed)| size_of_val(&**renamed)).sum();
        view.bytes = bytes + size_of::<Self>() + size_of_val(&*view.shown) + renamed;
        view
    }

    /// Which aliases of the key are applied: those to a name that nothing holds, the first in order of several.
    fn settle_aliases(&mut self) {
        for kind in Kind::ALL.iter().copied() {
            let mut taken: HashSet<Arc<str>> = HashSet::new();
            let mut renamed: Vec<(u32, u32)> = Vec::new();
            let mut refused = Vec::new();
            for (at, lists, shown) in self.parts() {
                for (place, dressed) in shown.dressed(kind) {
                    let Some(item) = lists.items.get(kind).get(*place as usize) else { continue };
                    if dressed.exposed_name == item.exposed_name {
                        continue;
                    }
                    let is_held = self.catalog.holds(kind, &dressed.exposed_name);
                    if !is_held && taken.insert(Arc::clone(&dressed.exposed_name)) {
                        renamed.push((at, *place));
                        continue;
                    }
                    // The description is given all the same.
                    let look = Look { name: Arc::clone(&item.exposed_name), ..dressed.look.clone() };
                    let own = if look == item.look { None } else { lists.dressed(item, look) };
                    let own = own.map_or_else(|| Arc::clone(item), |(own, _)| own);
                    refused.push(((kind, at, *place), own));
                }
            }
            self.refused.extend(refused);
            renamed.sort_by(|a, b| self.name_at(kind, *a).cmp(&self.name_at(kind, *b)));
            *self.renamed.get_mut(kind) = renamed.into();
        }
    }

    /// Each visible upstream with its number in the catalog.
    fn parts(&self) -> impl Iterator<Item = (u32, &Arc<UpstreamLists>, &Arc<Shown>)> + use<'_> {
        let parts = (0..).zip(&self.catalog.upstreams).zip(&self.shown);
        parts.filter_map(|((at, lists), shown)| Some((at, lists, shown.as_ref()?)))
    }

    fn fingerprint_of(&self, kind: Kind) -> [u8; 32] {
        let mut hash = Context::new(&SHA256);
        for (_, _, shown) in self.parts().filter(|(_, _, shown)| shown.count(kind) > 0) {
            hash.update(shown.fingerprint(kind));
        }
        for (_, item) in self.refused.iter().filter(|((of, _, _), _)| *of == kind) {
            hash.update(&item.digest);
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(hash.finish().as_ref());
        fingerprint
    }

    /// The item at a place, as this view shows it.
    fn at(&self, kind: Kind, upstream: usize, place: usize) -> Option<&Arc<Item>> {
        let shown = self.shown.get(upstream)?.as_ref()?;
        let item = shown.at(self.catalog.upstreams.get(upstream)?, kind, place)?;
        if self.refused.is_empty() {
            return Some(item);
        }
        let key = (kind, u32::try_from(upstream).ok()?, u32::try_from(place).ok()?);
        Some(self.refused.get(&key).unwrap_or(item))
    }

    fn name_at(&self, kind: Kind, (upstream, place): (u32, u32)) -> Option<&str> {
        self.at(kind, upstream as usize, place as usize).map(|item| &*item.exposed_name)
    }

    /// The item behind an exposed name, if this view shows it under that name.
    pub fn route(&self, kind: Kind, exposed_name: &str) -> Option<&Arc<Item>> {
        let renamed = self.renamed.get(kind);
        let found = renamed.binary_search_by(|at| self.name_at(kind, *at).cmp(&Some(exposed_name)));
        if let Ok((upstream, place)) = found.map(|found| renamed[found]) {
            return self.at(kind, upstream as usize, place as usize);
        }
        let (upstream, place) = self.catalog.find(kind, exposed_name)?;
        // One that has another name here is unknown under its own.
        self.at(kind, upstream, place).filter(|item| *item.exposed_name == *exposed_name)
    }

    /// The resource with this URI, or the template that it is an instance of, if this view shows one. A resource
    /// that is hidden isn't to be had as an instance of a template either.
    pub fn route_uri(&self, uri: &str) -> Option<&Arc<Item>> {
        self.route(Kind::Resource, uri).or_else(|| {
            self.items(Kind::ResourceTemplate).find(|template| {
                uri_template::matches(&template.exposed_name, uri) && !self.hides_instance(template, uri)
            })
        })
    }

    /// Whether an instance of a template is a resource of its upstream that this view doesn't show.
    fn hides_instance(&self, template: &Item, uri: &str) -> bool {
        let theirs = template.subject_upstream(uri);
        let part = self.parts().find(|(_, lists, _)| lists.upstream.id == template.upstream.id);
        let Some((_, lists, shown)) = part else { return true };
        if lists.hidden_uris.contains(&*theirs) {
            return true;
        }
        let resources = lists.items.get(Kind::Resource);
        if shown.count(Kind::Resource) == resources.len() {
            return false;
        }
        let place = resources.iter().position(|item| item.definition.upstream_name == *theirs);
        place.is_some_and(|place| shown.at(lists, Kind::Resource, place).is_none())
    }

    /// The visible items of a kind, in order.
    pub fn items(&self, kind: Kind) -> impl Iterator<Item = &Arc<Item>> {
        self.parts().flat_map(move |(at, lists, shown)| {
            shown.items(lists, kind).map(move |(place, item)| {
                if self.refused.is_empty() {
                    return item;
                }
                let place = u32::try_from(place).unwrap_or(u32::MAX);
                self.refused.get(&(kind, at, place)).unwrap_or(item)
            })
        })
    }

    /// How many items of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.parts().map(|(_, _, shown)| shown.count(kind)).sum()
    }

    /// The items whose alias, one of the key's, isn't applied: the name that it gives is held by another.
    pub fn refused_aliases(&self) -> impl Iterator<Item = &Arc<Item>> {
        self.refused.values()
    }

    /// Changes exactly when the list of a kind, as this view shows it, changes.
    pub fn fingerprint(&self, kind: Kind) -> [u8; 32] {
        *self.fingerprints.get(kind)
    }

    /// About how much memory it takes, beyond what others have as well. Bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The caching hints for a list: the least that any visible upstream promises. A view that a
    /// policy narrows is private.
    pub fn freshness(&self, kind: Kind) -> Freshness {
        let open = Freshness { ttl_ms: i64::MAX, public: self.policy.is_open() };
        let with_some = self.parts().filter(|(_, lists, _)| !lists.items.get(kind).is_empty());
        let least = with_some.map(|(_, lists, _)| lists.freshness(kind)).fold(open, Freshness::and);
        if least.ttl_ms == i64::MAX { Freshness::NONE } else { least }
    }

    /// Whether the view has anything of a kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.parts().any(|(_, _, shown)| shown.count(kind) > 0)
    }

    /// The visible upstreams, in order, with what is known of each.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<UpstreamLists>> {
        self.parts().map(|(_, lists, _)| lists)
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
}

#[cfg(test)]
mod tests;
