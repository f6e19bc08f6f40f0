//! What is found of definitions that change, go, come back, or are of an upstream that moved.

use bytes::Bytes;
use serde_json::json;
use sql::clock::Clock;
use sql::model::{DefinitionId, UpstreamId};

use super::*;
use crate::catalog::testing::{NOW, tool, upstream};

/// One upstream's tools as they are stored and pinned.
struct Scene {
    upstream: Upstream,
    stored: Vec<Definition>,
    pins: Vec<Pin>,
    clock: Clock,
}

impl Scene {
    /// An upstream that was synced once, with these tools.
    fn of(tools: &[(&str, &str)]) -> Self {
        let mut scene =
            Self { upstream: upstream(), stored: Vec::new(), pins: Vec::new(), clock: Clock::manual(NOW) };
        scene.sync(tools);
        scene
    }

    /// Syncs: names and descriptions. What came of it: names and reviews of the pins that are new or changed.
    fn sync(&mut self, tools: &[(&str, &str)]) -> Vec<(String, Option<Review>)> {
        let mut difference = ListDiff::none(self.upstream.id, Kind::Tool);
        let mut after = Vec::new();
        for (position, (name, description)) in (0..).zip(tools) {
            let body = json!({"name": name, "description": description, "inputSchema": {"type": "object"}});
            let former = self.stored.iter().find(|item| item.upstream_name == *name);
            let mut item = tool(&self.upstream, name, position);
            item.body = Bytes::from(body.to_string());
            item.hash = sha256(&item.body);
            item.id = former.map_or_else(|| DefinitionId::new(&self.clock), |former| former.id);
            match former {
                None => difference.added.push(item.clone()),
                Some(former) if former.hash != item.hash => difference.changed.push(item.clone()),
                Some(_) => {}
            }
            after.push(item);
        }
        let is_gone = |item: &&Definition| after.iter().all(|other| other.id != item.id);
        difference.removed = self.stored.iter().filter(is_gone).map(|item| item.id).collect();
        let taken = Taken {
            upstream: &self.upstream,
            kind: Kind::Tool,
            stored: &self.stored,
            difference: &difference,
            now: NOW,
        };
        let pins = repinned(&taken, self.pins.clone());
        self.pins.retain(|old| pins.iter().all(|new| new.upstream_name != old.upstream_name));
        self.pins.extend(pins.iter().cloned());
        self.stored = after;
        let mut told: Vec<_> = pins.into_iter().map(|pin| (pin.upstream_name, pin.review)).collect();
        told.sort();
        told
    }

    fn pin(&self, name: &str) -> &Pin {
        self.pins.iter().find(|pin| pin.upstream_name == name).expect("is pinned")
    }

    fn approve(&mut self, name: &str) {
        let item = self.stored.iter().find(|item| item.upstream_name == name).expect("is there");
        let pin = agreed(&self.upstream, item);
        self.pins.retain(|pin| pin.upstream_name != name);
        self.pins.push(pin);
    }
}

fn of(name: &str, review: impl Into<Option<Review>>) -> (String, Option<Review>) {
    (name.to_owned(), review.into())
}

#[test]
fn a_changed_description_is_found_until_it_is_approved_or_taken_back() {
    let mut scene = Scene::of(&[("a", "adds"), ("b", "subtracts")]);
    assert!(scene.sync(&[("a", "adds"), ("b", "subtracts")]).is_empty());
    assert_eq!(scene.sync(&[("a", "adds; then mails it"), ("b", "subtracts")]), [of("a", Review::Changed)]);
    let approved = scene.pin("a").approved.clone().expect("what it was");
    assert_eq!(changed_fields(Kind::Tool, &approved, &scene.stored[0].body), ["description"]);
    // Another change on top is compared with what was agreed to.
    assert!(scene.sync(&[("a", "adds; then sells it"), ("b", "subtracts")]).is_empty());
    assert_eq!(scene.pin("a").approved.as_ref(), Some(&approved));
    assert_eq!(scene.sync(&[("a", "adds"), ("b", "subtracts")]), [of("a", None)]);
    assert_eq!(scene.sync(&[("a", "multiplies"), ("b", "subtracts")]), [of("a", Review::Changed)]);
    scene.approve("a");
    assert!(scene.sync(&[("a", "multiplies"), ("b", "subtracts")]).is_empty());
}

#[test]
fn what_goes_and_comes_back_changed_has_changed() {
    let mut scene = Scene::of(&[("a", "adds"), ("b", "subtracts")]);
    assert_eq!(scene.sync(&[("b", "subtracts")]), [of("a", None)]);
    assert_eq!(scene.sync(&[("a", "sells"), ("b", "subtracts")]), [of("a", Review::Changed)]);
    assert!(scene.pin("a").approved.is_some());
    assert_eq!(scene.sync(&[("a", "adds"), ("b", "subtracts")]), [of("a", None)]);
}

#[test]
fn a_rename_is_told_and_a_new_tool_is_none() {
    let mut scene = Scene::of(&[("a", "adds"), ("b", "subtracts")]);
    assert_eq!(
        scene.sync(&[("sum", "adds"), ("b", "subtracts")]),
        [of("a", None), of("sum", Review::Renamed)]
    );
    assert!(scene.sync(&[("sum", "adds"), ("b", "subtracts")]).is_empty(), "until it is approved");
    assert_eq!(scene.sync(&[("sum", "adds"), ("b", "subtracts"), ("c", "new")]), [of("c", None)]);
}

#[test]
fn another_place_has_everything_looked_at_again() {
    let mut scene = Scene::of(&[("a", "adds"), ("b", "subtracts")]);
    let ConnParams::Http { url, .. } = &mut scene.upstream.conn_params else { panic!("has a URL") };
    url.push('2');
    let both = [of("a", Review::Moved), of("b", Review::Moved)];
    assert_eq!(scene.sync(&[("a", "adds"), ("b", "subtracts")]), both);
    scene.approve("a");
    assert!(scene.sync(&[("a", "adds"), ("b", "subtracts")]).is_empty());
    assert_eq!(scene.pin("a").review, None);
}

#[test]
fn what_was_there_before_anybody_looked_is_trusted_as_it_was() {
    let mut scene = Scene::of(&[("a", "adds")]);
    scene.pins.clear();
    assert_eq!(scene.sync(&[("a", "sells")]), [of("a", Review::Changed)]);
    assert!(scene.pin("a").approved.is_some());
}

#[test]
fn a_fingerprint_is_of_what_is_said_and_not_of_how() {
    let same = [
        r#"{"name":"a","inputSchema":{"type":"object","maximum":1.0},"_meta":{"x":1}}"#,
        "{ \"inputSchema\": {\"maximum\": 1, \"type\": \"object\"},\n \"name\": \"\\u0061\" }",
    ];
    assert_eq!(fingerprint(Kind::Tool, same[0].as_bytes()), fingerprint(Kind::Tool, same[1].as_bytes()));
    for other in [
        r#"{"name":"b","inputSchema":{"type":"object","maximum":1}}"#,
        r#"{"name":"a","inputSchema":{"type":"object","maximum":2}}"#,
        r#"{"name":"a","inputSchema":{"type":"object","maximum":1},"annotations":{"readOnlyHint":true}}"#,
        r#"{"name":"a","inputSchema":{"type":"object","maximum":1},"title":""}"#,
        r#"{"name":"a","inputSchema":{"type":["object"],"maximum":1}}"#,
        "not JSON",
    ] {
        assert_ne!(fingerprint(Kind::Tool, same[0].as_bytes()), fingerprint(Kind::Tool, other.as_bytes()));
    }
    let (a, b) = (r#"{"name":"a","title":"t"}"#, r#"{"name":"b","title":"t"}"#);
    assert_eq!(
        nameless_fingerprint(Kind::Tool, a.as_bytes()),
        nameless_fingerprint(Kind::Tool, b.as_bytes())
    );
}

#[test]
fn where_an_upstream_is_are_its_url_or_its_words() {
    let mut one = upstream();
    let there = identity(&one);
    (one.id, one.name) = (UpstreamId::from_uuid(uuid::Uuid::nil()), "other".into());
    assert_eq!(identity(&one), there);
    let stdio = |args: &[&str]| {
        let args = args.iter().map(|arg| sql::model::Value::Plain((*arg).into())).collect();
        let (command, env) = ("npx".into(), std::iter::empty().collect());
        Upstream { conn_params: ConnParams::Stdio { command, args, env, cwd: None }, ..one.clone() }
    };
    assert_ne!(identity(&stdio(&["a", "b"])), identity(&stdio(&["ab"])));
    assert_ne!(identity(&stdio(&["a@1"])), identity(&stdio(&["a@2"])));
}
