//! A change makes anew what it concerns and nothing else.

use sql::model::{FilterAction, Kind};

use super::*;
use crate::catalog::testing::{filter, tool, upstream};

fn source(name: &str) -> Source {
    let upstream = upstream();
    let definitions = vec![Arc::new(tool(&upstream, name, 0))];
    Source {
        upstream: Arc::new(upstream),
        info: None,
        definitions,
        states: Vec::new(),
        claims: Vec::new(),
        held: HashSet::new(),
    }
}

fn deny(owner: RuleOwner, pattern: &str) -> News {
    let rules = OwnerRules { aliases: Vec::new(), filters: vec![filter(owner, FilterAction::Deny, pattern)] };
    News { rules: vec![(owner, rules)], ..News::default() }
}

fn names(known: &Known) -> Vec<String> {
    let catalog = known.catalog(Arc::default());
    let mut names: Vec<String> =
        catalog.items(Kind::Tool).map(|item| item.exposed_name.to_string()).collect();
    names.sort();
    names
}

#[test]
fn rules_of_one_upstream_leave_the_others_as_they_are() {
    let (a, b) = (source("a"), source("b"));
    let (id, other) = (a.upstream.id, b.upstream.id);
    let upstreams = BTreeMap::from([(id, Some(a)), (other, Some(b))]);
    let known = Known::default().with(News { upstreams, ..News::default() });
    assert_eq!(names(&known), ["a", "b"]);
    let before = Arc::clone(&known.upstreams[&other].lists);
    let news = deny(RuleOwner::Upstream(id), ".*");
    assert!(known.is_concerned_by(&news));
    let known = known.with(news);
    assert_eq!(names(&known), ["b"]);
    assert!(Arc::ptr_eq(&before, &known.upstreams[&other].lists));
    // Those of all concern all.
    assert_eq!(names(&known.clone().with(deny(RuleOwner::All, "b"))), [""; 0]);
    // One that comes later has the rules that were there before it.
    let known = known.with(deny(RuleOwner::All, "c"));
    let c = source("c");
    let upstreams = BTreeMap::from([(c.upstream.id, Some(c)), (other, None)]);
    let known = known.with(News { upstreams, ..News::default() });
    assert_eq!(names(&known), [""; 0]);
    // And rules that are gone are gone.
    let news = News { rules: vec![(RuleOwner::Upstream(id), OwnerRules::default())], ..News::default() };
    assert_eq!(names(&known.with(news)), ["a"]);
}

#[test]
fn an_upstream_that_can_be_read_later_comes_with_its_rules() {
    let (a, b) = (source("a"), source("b"));
    let (id, other) = (a.upstream.id, b.upstream.id);
    // Rules that were read with all the rest, and rules that came while the upstream couldn't be read.
    let known = Known::default().with(deny(RuleOwner::Upstream(id), ".*"));
    let news = deny(RuleOwner::Upstream(other), ".*");
    assert!(known.is_concerned_by(&news));
    let known = known.with(news);
    let upstreams = BTreeMap::from([(id, Some(a)), (other, Some(b))]);
    let known = known.with(News { upstreams, ..News::default() });
    assert_eq!(names(&known), [""; 0]);
}

#[test]
fn rules_of_a_key_concern_nothing_here() {
    let known = Known::default().with(News::default());
    let key = UpstreamId::from_uuid(uuid::Uuid::from_u128(7));
    let news = News { rules: vec![(RuleOwner::Upstream(key), OwnerRules::default())], ..News::default() };
    assert!(!known.is_concerned_by(&news));
    assert!(known.with(news).own.is_empty());
    assert!(!Known::default().is_concerned_by(&News::default()));
}
