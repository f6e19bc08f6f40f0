//! Pages of a list, as chains of ready-made slices.
//!
//! A page copies no definition: it is the rendered bytes of its items with commas between them. Whole pages aren't
//! kept: to gather the slices of 1,000 tools takes some 30 µs, and a policy has pages of its own, so that what a
//! bounded cache saved its few frequent views it would cost all others. The
//! cursor names the last item that was given, so a walk meets every item that was there all along
//! exactly once, though others come and go before it; should that very item be gone, its place tells
//! where to go on.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use sql::model::{Kind, UpstreamId};
use uuid::Uuid;

use super::{Audience, Item, Place, View};

/// Items on a page: below it a client needs one request, and a page stays within what clients read.
pub const PAGE_ITEMS_MAX: usize = 500;

/// One page: slices of definitions, commas included, and the cursor of the next page.
pub struct Page {
    /// The inside of the JSON array.
    pub slices: Vec<Bytes>,
    /// Where the next page begins; absent on the last page.
    pub next_cursor: Option<String>,
}

/// The cursor is not one that this gateway has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is not valid; start again without one")]
pub struct BadCursor;

/// The page of `kind` that begins after `cursor`.
pub fn page(view: &View, kind: Kind, audience: Audience, cursor: Option<&str>) -> Result<Page, BadCursor> {
    let Items { items, next_cursor } = some(view, kind, audience, cursor, PAGE_ITEMS_MAX)?;
    let mut slices = Vec::with_capacity(2 * items.len());
    for (_, rendered) in items {
        if !slices.is_empty() {
            slices.push(Bytes::from_static(b","));
        }
        slices.push(rendered.clone());
    }
    Ok(Page { slices, next_cursor })
}

/// Some items of a list, with their definitions as an audience gets them.
pub struct Items<'a> {
    /// In order.
    pub items: Vec<(&'a Arc<Item>, &'a Bytes)>,
    /// Where the rest begins; absent if there is none.
    pub next_cursor: Option<String>,
}

/// At most `max` items of `kind` after `cursor`.
pub fn some<'a>(
    view: &'a View,
    kind: Kind,
    audience: Audience,
    cursor: Option<&str>,
    max: usize,
) -> Result<Items<'a>, BadCursor> {
    let cursor = cursor.map(Cursor::decode).transpose()?;
    let after = cursor.as_ref().map(|cursor| cursor.place_in(view, kind));
    let shown = view.items(kind).filter_map(|item| Some((item, item.rendered_for(audience)?)));
    let mut rest = shown.skip_while(|(item, _)| after.is_some_and(|after| item.place() <= after)).peekable();
    let items: Vec<_> = rest.by_ref().take(max).collect();
    let last = items.last().filter(|_| rest.peek().is_some());
    let next_cursor = last.map(|(item, _)| Cursor::of(item).encode());
    Ok(Items { items, next_cursor })
}

/// A [`Place`] of one's own, to be carried by a client.
struct Cursor {
    upstream: (i64, UpstreamId),
    item: (i64, i64),
    name: String,
}

impl Cursor {
    fn of(item: &Item) -> Self {
        let place = item.place();
        Self { upstream: place.upstream, item: place.item, name: place.name.to_owned() }
    }

    /// Where its item stands now: what came and went before it has moved it. Where it stood, if it is gone.
    fn place_in<'a>(&'a self, view: &'a View, kind: Kind) -> Place<'a> {
        let stands = view.route(kind, &self.name).map(|item| item.place());
        let same = stands.filter(|place| place.upstream.1 == self.upstream.1);
        same.unwrap_or(Place { upstream: self.upstream, item: self.item, name: &self.name })
    }

    fn encode(&self) -> String {
        let (sort, id) = self.upstream;
        let (order, position) = self.item;
        URL_SAFE_NO_PAD.encode(format!("{sort} {} {order} {position} {}", id.uuid().simple(), self.name))
    }

    fn decode(text: &str) -> Result<Self, BadCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadCursor)?;
        let plain = String::from_utf8(bytes).map_err(|_| BadCursor)?;
        let mut parts = plain.splitn(5, ' ');
        let mut number = || parts.next().ok_or(BadCursor);
        let sort = number()?.parse().map_err(|_| BadCursor)?;
        let id = number()?.parse::<Uuid>().map_err(|_| BadCursor)?;
        let order = number()?.parse().map_err(|_| BadCursor)?;
        let position = number()?.parse().map_err(|_| BadCursor)?;
        let name = number()?.to_owned();
        Ok(Self { upstream: (sort, UpstreamId::from_uuid(id)), item: (order, position), name })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use sql::model::OwnerRules;

    use super::*;
    use crate::catalog::testing::{catalog, upstream_with};
    use crate::catalog::{Catalog, Policy, Snapshot, UpstreamLists};

    fn view(catalog: Catalog) -> Arc<View> {
        let everything = Policy::new(None, OwnerRules::default());
        Snapshot::new(catalog, crate::catalog::testing::NOW).view(&everything)
    }

    fn tools(prefix: &str, count: usize) -> Arc<UpstreamLists> {
        upstream_with(&(0..count).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>())
    }

    fn names(page: &Page) -> Vec<String> {
        let inside: Vec<u8> = page.slices.concat();
        let array: Value = serde_json::from_slice(&[b"[", &inside[..], b"]"].concat()).expect("a JSON array");
        let name = |item: &Value| item["name"].as_str().expect("a name").to_owned();
        array.as_array().expect("an array").iter().map(name).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn a_walk_meets_every_item_once_whatever_comes_meanwhile(
            counts in prop::collection::vec(0usize..700, 1..4),
            late in 0usize..3,
        ) {
            let mut upstreams: Vec<_> =
                counts.iter().enumerate().map(|(n, count)| tools(&format!("u{n}_"), *count)).collect();
            let mut met = Vec::new();
            let mut cursor: Option<String> = None;
            loop {
                let page = page(&view(catalog(&upstreams)), Kind::Tool, Audience::Plain, cursor.as_deref()).expect("its own cursor");
                prop_assert!(page.slices.len() <= 2 * PAGE_ITEMS_MAX);
                met.extend(names(&page));
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
                upstreams.push(tools(&format!("late{}_", upstreams.len()), late));
            }
            let mut once = met.clone();
            once.sort();
            once.dedup();
            prop_assert_eq!(once.len(), met.len(), "none twice");
            let total: usize = counts.iter().sum();
            prop_assert_eq!(met.iter().filter(|name| name.starts_with('u')).count(), total);
        }

        #[test]
        fn no_cursor_of_a_clients_own_making_breaks_a_list(text in any::<String>(), raw in any::<Vec<u8>>()) {
            let view = view(catalog(&[tools("t", 3)]));
            let _ = page(&view, Kind::Tool, Audience::Plain, Some(&text));
            let encoded = URL_SAFE_NO_PAD.encode(raw);
            if let Ok(page) = page(&view, Kind::Tool, Audience::Plain, Some(&encoded)) {
                prop_assert!(names(&page).len() <= 3);
            }
        }
    }

    #[test]
    fn a_cursor_that_is_none_is_refused() {
        let view = view(catalog(&[tools("t", 3)]));
        for cursor in ["", "x", "%", &URL_SAFE_NO_PAD.encode("1 2 3")] {
            assert_eq!(
                page(&view, Kind::Tool, Audience::Plain, Some(cursor)).err(),
                Some(BadCursor),
                "{cursor}"
            );
        }
    }
}
