//! Names are unique, fit, and last.

use std::collections::HashSet;

use proptest::prelude::*;
use sql::clock::Clock;

use super::*;

const LENGTH_MAX: usize = 64;

fn upstream() -> UpstreamId {
    UpstreamId::new(&Clock::system())
}

fn wanted(kind: Kind, prefix: &str, name: &str, length_max: usize) -> String {
    Naming { prefix, rules: &SharedRules::default(), length_max }.wanted(kind, name)
}

fn settle_as(claims: &mut Claims, upstream: UpstreamId, prefix: &str, name: &str) -> Settled {
    let wanted = wanted(claims.kind, prefix, name, LENGTH_MAX);
    claims.settle(upstream, name, &wanted)
}

fn settle(claims: &mut Claims, upstream: UpstreamId, name: &str) -> String {
    settle_as(claims, upstream, "", name).exposed_name().to_owned()
}

#[test]
fn a_plain_name_stays_as_it_is() {
    assert_eq!(wanted(Kind::Tool, "", "read_file", LENGTH_MAX), "read_file");
    assert_eq!(wanted(Kind::Tool, "fs-", "read.file", LENGTH_MAX), "fs-read.file");
}

#[test]
fn a_name_that_fitting_changed_says_so() {
    let chinese = wanted(Kind::Tool, "", "读文件", LENGTH_MAX);
    assert!(chinese.starts_with("___-") && chinese.len() == 12, "{chinese}");
    assert_ne!(chinese, wanted(Kind::Tool, "", "写文件", LENGTH_MAX));
    let long = wanted(Kind::Tool, "", &"x".repeat(200), LENGTH_MAX);
    assert_eq!(long.len(), LENGTH_MAX);
}

#[test]
fn the_first_to_claim_keeps_the_name() {
    let (first, second) = (upstream(), upstream());
    let mut claims = Claims::new(Kind::Tool, LENGTH_MAX, []);
    assert_eq!(settle(&mut claims, first, "search"), "search");
    let other = settle(&mut claims, second, "search");
    assert!(other.starts_with("search__") && other.len() == "search__".len() + HASH_DIGITS, "{other}");
    assert_eq!(settle(&mut claims, first, "search"), "search");
}

#[test]
fn a_new_prefix_is_a_new_claim_and_frees_the_old_name() {
    let (first, second) = (upstream(), upstream());
    let mut claims = Claims::new(Kind::Tool, LENGTH_MAX, []);
    settle(&mut claims, first, "search");
    assert_eq!(settle_as(&mut claims, first, "web-", "search").exposed_name(), "web-search");
    assert_eq!(settle(&mut claims, second, "search"), "search");
}

#[test]
fn a_name_that_a_new_prefix_frees_goes_to_another_of_the_same_list() {
    let id = upstream();
    let mut claims = Claims::new(Kind::Tool, LENGTH_MAX, []);
    let names = ["x", "px"];
    for name in names {
        settle(&mut claims, id, name);
    }
    let wishes = names.map(|name| wanted(Kind::Tool, "p", name, LENGTH_MAX));
    claims.let_go_of_unwanted(id, names.iter().copied().zip(wishes.iter().map(String::as_str)));
    let exposed = names.map(|name| settle_as(&mut claims, id, "p", name).exposed_name().to_owned());
    assert_eq!(exposed, ["px", "ppx"]);
}

#[test]
fn a_contested_uri_gets_a_scheme_of_ours() {
    let (first, second) = (upstream(), upstream());
    let mut claims = Claims::new(Kind::Resource, LENGTH_MAX, []);
    assert_eq!(settle(&mut claims, first, "file:///a"), "file:///a");
    let other = settle(&mut claims, second, "file:///a");
    assert!(other.starts_with("mpg+") && other.ends_with(":file:///a"), "{other}");
}

#[test]
fn a_contested_interface_stays_one() {
    let id = upstream();
    let exposed = contested(Kind::Resource, "ui://clock/a", id, "ui://clock/a", LENGTH_MAX);
    assert!(exposed.starts_with("ui://mpg+") && exposed.ends_with("/clock/a"), "{exposed}");
}

#[test]
fn a_mark_is_put_and_taken() {
    for (upstreams, exposed) in [("t://{id}", "mpg+00:t://{id}"), ("ui://{id}", "ui://mpg+00/{id}")] {
        let mark = Mark::between(upstreams, exposed).expect("they differ");
        assert_eq!((mark.put(upstreams), mark.take(exposed)), (exposed.to_owned(), Some(upstreams.into())));
        assert_eq!(mark.take(upstreams), None);
    }
    assert_eq!(Mark::between("a:b", "a:b"), None);
}

proptest! {
    #[test]
    fn names_are_unique_fit_and_last(names in prop::collection::vec("[a-c ]{1,3}|[a-z]{60,80}|.{1,8}", 1..40)) {
        let upstreams = [upstream(), upstream(), upstream()];
        let mut claims = Claims::new(Kind::Tool, LENGTH_MAX, []);
        let mut stored = HashMap::new();
        for (i, name) in names.iter().enumerate() {
            let id = upstreams[i % upstreams.len()];
            if let Settled::New(claim) = settle_as(&mut claims, id, "p_", name) {
                stored.insert((id, name.clone()), claim);
            }
        }
        let exposed: HashSet<_> = stored.values().map(|claim| claim.exposed_name.clone()).collect();
        prop_assert_eq!(exposed.len(), stored.len());
        prop_assert!(exposed.iter().all(|name| name.len() <= LENGTH_MAX && name.chars().all(is_name_char)));
        // After a restart, in any order, each has the name it had.
        let mut again = Claims::new(Kind::Tool, LENGTH_MAX, stored.values().cloned());
        for ((id, name), claim) in &stored {
            prop_assert_eq!(settle_as(&mut again, *id, "p_", name), Settled::Kept(claim.exposed_name.clone()));
        }
    }
}
