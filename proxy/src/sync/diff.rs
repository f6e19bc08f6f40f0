//! How a fetched list differs from the stored one. Pure.

use std::collections::HashMap;

use ring::digest::{SHA256, digest};
use sql::clock::Clock;
use sql::model::{Definition, DefinitionId, Kind, ListDiff, UpstreamId};

use super::fetch::FetchedItem;

/// Whose list it is, and the clock that dates what is new.
pub(super) struct Source<'a> {
    pub(super) upstream_id: UpstreamId,
    pub(super) kind: Kind,
    pub(super) clock: &'a Clock,
}

/// The difference. `exposed_name` settles the name of an item; it is asked for every item, because a
/// new prefix renames items whose definition is the same.
pub(super) fn diff(
    source: &Source<'_>,
    stored: &[Definition],
    fetched: Vec<FetchedItem>,
    mut exposed_name: impl FnMut(&str) -> String,
) -> ListDiff {
    let mut known: HashMap<&str, &Definition> =
        stored.iter().map(|item| (item.upstream_name.as_str(), item)).collect();
    let mut difference = ListDiff::none(source.upstream_id, source.kind);
    for (position, item) in (0i64..).zip(fetched) {
        let exposed_name = exposed_name(&item.name);
        let former = known.remove(item.name.as_str());
        let new = definition(source, former, item, exposed_name, position);
        match former {
            None => difference.added.push(new),
            Some(former) if former.hash != new.hash || former.exposed_name != new.exposed_name => {
                difference.changed.push(new);
            }
            Some(former) if former.position != position => difference.moved.push((former.id, position)),
            Some(_) => {}
        }
    }
    difference.removed = known.values().map(|item| item.id).collect();
    difference.removed.sort_unstable();
    difference
}

fn definition(
    source: &Source<'_>,
    former: Option<&Definition>,
    item: FetchedItem,
    exposed_name: String,
    position: i64,
) -> Definition {
    let now = source.clock.now();
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &item.body).as_ref());
    let changed_at = former.filter(|former| former.hash == hash).map_or(now, |former| former.changed_at);
    Definition {
        id: former.map_or_else(|| DefinitionId::new(source.clock), |former| former.id),
        upstream_id: source.upstream_id,
        kind: source.kind,
        upstream_name: item.name,
        exposed_name,
        body: item.body,
        hash,
        position,
        enabled: former.is_none_or(|former| former.enabled),
        sort_order: former.and_then(|former| former.sort_order),
        first_seen_at: former.map_or(now, |former| former.first_seen_at),
        changed_at,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn item(name: &str, body: &'static str) -> FetchedItem {
        FetchedItem { name: name.into(), body: Bytes::from_static(body.as_bytes()) }
    }

    fn run(
        clock: &Clock,
        upstream_id: UpstreamId,
        stored: &[Definition],
        fetched: Vec<FetchedItem>,
    ) -> ListDiff {
        diff(&Source { upstream_id, kind: Kind::Tool, clock }, stored, fetched, str::to_owned)
    }

    #[test]
    fn an_equal_list_differs_in_nothing() {
        let clock = Clock::system();
        let id = UpstreamId::new(&clock);
        let stored = run(&clock, id, &[], vec![item("a", "{}"), item("b", "{}")]).added;
        assert!(run(&clock, id, &stored, vec![item("a", "{}"), item("b", "{}")]).is_empty());
    }

    #[test]
    fn tells_new_changed_moved_and_gone_apart() {
        let clock = Clock::system();
        let id = UpstreamId::new(&clock);
        let mut stored = run(&clock, id, &[], vec![item("a", "{}"), item("b", "{}"), item("c", "{}")]).added;
        stored[0].enabled = false;
        let difference =
            run(&clock, id, &stored, vec![item("b", "{}"), item("a", r#"{"x":1}"#), item("d", "{}")]);
        assert_eq!(difference.added.iter().map(|d| d.upstream_name.as_str()).collect::<Vec<_>>(), ["d"]);
        assert_eq!(difference.changed.len(), 1);
        let changed = &difference.changed[0];
        assert_eq!(
            (changed.id, changed.enabled, changed.first_seen_at),
            (stored[0].id, false, stored[0].first_seen_at)
        );
        assert_eq!(difference.moved, [(stored[1].id, 0)]);
        assert_eq!(difference.removed, [stored[2].id]);
    }
}
