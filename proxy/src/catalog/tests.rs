//! What views show, share and route.

use bytes::Bytes;
use sql::clock::Clock;
use sql::model::{Definition, DefinitionId, OwnerRules, Timestamp};

use super::item::Look;
use super::moved_uris::MovedUris;
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
    let look = Look { name: exposed_name.into(), description: None, has_tasks: false };
    item::render(&definition(kind, exposed_name, body), &MovedUris::default(), &look)
        .expect("it is an object")
}

#[test]
fn what_an_upstream_says_later_has_the_uris_of_its_own_resources() {
    let (plain, known) = (upstream_with(&[]), upstream_with(&[]));
    let contested = definition(Kind::Resource, "mpg+01:t", r#"{"uri":"t","name":"t"}"#);
    let lists = UpstreamLists::new(Arc::clone(&known.upstream), None, vec![contested], Vec::new());
    let both = Arc::new(catalog(&[Arc::clone(&plain), Arc::new(lists)]));
    let sees = |upstream_ids| View::new(Arc::clone(&both), &Policy::new(upstream_ids, OwnerRules::default()));
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

#[test]
fn a_definition_that_can_not_be_read_is_a_finding_and_spoils_no_other() {
    let upstream = crate::catalog::testing::upstream();
    let mut damaged = crate::catalog::testing::tool(&upstream, "damaged", 0);
    damaged.body = Bytes::from_static(b"{\"name\":");
    let (id, good) = (upstream.id, crate::catalog::testing::tool(&upstream, "good", 1));
    let lists = UpstreamLists::new(Arc::new(upstream), None, vec![damaged, good], Vec::new());
    let catalog = catalog(&[Arc::new(lists)]);
    assert_eq!(catalog.items(Kind::Tool).map(|item| &*item.exposed_name).collect::<Vec<_>>(), ["good"]);
    let found: Vec<_> =
        catalog.findings(id).iter().map(|found| (&*found.code, &*found.upstream_name)).collect();
    assert_eq!(found, [("DAMAGED", "damaged")]);
    assert!(catalog.holds(Kind::Tool, "damaged"), "it keeps its name");
}
