//! What the rules of a key show of one upstream: which of its items, and which of them otherwise than to others.
//!
//! A bit for each item, and the few that an alias of the key gives another name or description. Whether such a
//! name is free is the view's to say, which knows the other upstreams.

use std::sync::Arc;

use ring::digest::{Context, SHA256};

use super::UpstreamLists;
use super::item::{Item, Look};
use super::naming;
use super::per_kind::PerKind;
use super::rules::{CompiledRules, Subject, Verdict};

/// Items in one word of a bitmap.
const WORD: usize = u64::BITS as usize;

/// One upstream under one set of rules.
pub(super) struct Shown {
    kinds: PerKind<ShownKind>,
}

/// One of its lists.
#[derive(Default)]
struct ShownKind {
    /// A bit for each item; `None`: all of them.
    visible: Option<Box<[u64]>>,
    count: usize,
    /// Items that an alias changes, by the place of the item they stand for.
    dressed: Box<[(u32, Arc<Item>)]>,
    fingerprint: [u8; 32],
}

impl Shown {
    /// Everything.
    pub(super) fn whole(items: &PerKind<Vec<Arc<Item>>>) -> Self {
        let kinds = PerKind::of(|kind| {
            let items = items.get(kind);
            ShownKind { count: items.len(), fingerprint: fingerprint(items.iter()), ..ShownKind::default() }
        });
        Self { kinds }
    }

    /// What the rules of a key show, and about how many bytes that takes. `None`: everything, as it is.
    pub(super) fn of(
        lists: &UpstreamLists,
        rules: &CompiledRules,
        length_max: usize,
    ) -> (Option<Self>, usize) {
        let mut bytes = size_of::<Self>();
        let mut is_whole = true;
        let kinds = PerKind::of(|kind| {
            let items = lists.items.get(kind);
            let mut bits = vec![0u64; items.len().div_ceil(WORD)];
            let mut count = 0;
            let mut dressed = Vec::new();
            for (place, item) in items.iter().enumerate() {
                let subject = Subject {
                    kind,
                    upstream_name: &item.definition.upstream_name,
                    exposed_name: &item.exposed_name,
                };
                if rules.verdict(&subject) != Verdict::Shown {
                    continue;
                }
                bits[place / WORD] |= 1 << (place % WORD);
                count += 1;
                let Some(look) = look(item, rules, &subject, length_max) else { continue };
                // What was rendered once can be rendered again.
                let Some((item, made)) = lists.dressed(item, look) else { continue };
                bytes += made;
                dressed.push((place_of(place), item));
            }
            let visible = (count < items.len()).then(|| bits.into_boxed_slice());
            is_whole &= visible.is_none() && dressed.is_empty();
            bytes += visible.as_ref().map_or(0, |bits| size_of_val(&**bits)) + size_of_val(&*dressed);
            let mut shown = ShownKind { visible, count, dressed: dressed.into(), fingerprint: [0; 32] };
            shown.fingerprint = fingerprint(shown.items(items).map(|(_, item)| item));
            shown
        });
        if is_whole { (None, 0) } else { (Some(Self { kinds }), bytes) }
    }

    /// How many items of a kind there are.
    pub(super) fn count(&self, kind: sql::model::Kind) -> usize {
        self.kinds.get(kind).count
    }

    /// Changes exactly when what is shown of a list changes.
    pub(super) fn fingerprint(&self, kind: sql::model::Kind) -> &[u8; 32] {
        &self.kinds.get(kind).fingerprint
    }

    /// The items of a kind with their places, in order.
    pub(super) fn items<'a>(
        &'a self,
        lists: &'a UpstreamLists,
        kind: sql::model::Kind,
    ) -> impl Iterator<Item = (usize, &'a Arc<Item>)> {
        self.kinds.get(kind).items(lists.items.get(kind))
    }

    /// The item that stands at a place, if it is shown.
    pub(super) fn at<'a>(
        &'a self,
        lists: &'a UpstreamLists,
        kind: sql::model::Kind,
        place: usize,
    ) -> Option<&'a Arc<Item>> {
        let shown = self.kinds.get(kind);
        if !shown.is_visible(place) {
            return None;
        }
        let dressed = shown.dressed.binary_search_by_key(&place_of(place), |(place, _)| *place);
        match dressed {
            Ok(found) => Some(&shown.dressed[found].1),
            Err(_) => lists.items.get(kind).get(place),
        }
    }

    /// The items that an alias of the key changes, by place.
    pub(super) fn dressed(&self, kind: sql::model::Kind) -> &[(u32, Arc<Item>)] {
        &self.kinds.get(kind).dressed
    }
}

impl ShownKind {
    fn is_visible(&self, place: usize) -> bool {
        let word = |bits: &[u64]| bits.get(place / WORD).is_some_and(|word| word >> (place % WORD) & 1 == 1);
        self.visible.as_deref().is_none_or(word)
    }

    fn items<'a>(&'a self, items: &'a [Arc<Item>]) -> impl Iterator<Item = (usize, &'a Arc<Item>)> {
        let mut dressed = self.dressed.iter().peekable();
        items.iter().enumerate().filter(|(place, _)| self.is_visible(*place)).map(move |(place, item)| {
            match dressed.next_if(|(of, _)| *of == place_of(place)) {
                Some((_, dressed)) => (place, dressed),
                None => (place, item),
            }
        })
    }
}

/// How an alias of the key has the item look, where that differs.
fn look(item: &Item, rules: &CompiledRules, subject: &Subject<'_>, length_max: usize) -> Option<Look> {
    let alias = rules.alias(subject)?;
    let name = naming::wanted_by_key(subject.kind, &alias, subject.upstream_name, length_max);
    let name = name.map_or_else(|| Arc::clone(&item.exposed_name), Into::into);
    let description = alias.description.or_else(|| item.look.description.clone());
    let look = Look { name, description, ..item.look.clone() };
    (look != item.look).then_some(look)
}

fn fingerprint<'a>(items: impl Iterator<Item = &'a Arc<Item>>) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    for item in items {
        hash.update(&item.digest);
    }
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(hash.finish().as_ref());
    fingerprint
}

/// A place in a list: lists are far shorter than this holds.
fn place_of(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
