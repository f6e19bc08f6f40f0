//! Pages of a list, as chains of ready-made slices.
//!
//! A page copies no definition: it is the rendered bytes of its items with commas between them. The
//! cursor names the last item that was given, so a walk meets every item that was there all along
//! exactly once, though others come and go before it; should that very item be gone, its place tells
//! where to go on.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use sql::model::{Kind, UpstreamId};
use uuid::Uuid;

use super::{Item, Place, View};

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
pub fn page(view: &View, kind: Kind, cursor: Option<&str>) -> Result<Page, BadCursor> {
    let cursor = cursor.map(Cursor::decode).transpose()?;
    let after = cursor.as_ref().map(|cursor| cursor.place_in(view, kind));
    let mut rest =
        view.items(kind).skip_while(|item| after.is_some_and(|after| item.place() <= after)).peekable();
    let mut slices = Vec::new();
    let mut last: Option<&Arc<Item>> = None;
    for item in rest.by_ref().take(PAGE_ITEMS_MAX) {
        if last.is_some() {
            slices.push(Bytes::from_static(b","));
        }
        slices.push(item.rendered.clone());
        last = Some(item);
    }
    let next_cursor = last.filter(|_| rest.peek().is_some()).map(|item| Cursor::of(item).encode());
    Ok(Page { slices, next_cursor })
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
