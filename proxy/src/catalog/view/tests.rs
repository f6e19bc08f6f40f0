//! A view shows what the explanation says, routes what it lists and nothing else, and takes little memory.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use proptest::prelude::*;
use sql::model::{
    ApiKey, ApiKeyId, Claim, Definition, DefinitionId, FilterAction, OwnerRules, PlaintextKey, RuleOwner,
    Upstream,
};

use super::*;
use crate::catalog::naming::Claims;
use crate::catalog::rules::SharedRules;
use crate::catalog::rules::explain::{NotApplied, Scene, Step, preview, settled};
use crate::catalog::rules::tests::owner_rules;
use crate::catalog::testing::{NOW, alias, catalog, filter, tool, upstream, upstream_with};
use crate::catalog::{Snapshot, Source};

fn key() -> ApiKey {
    ApiKey::create(ApiKeyId::at(NOW), "k", &PlaintextKey::generate(), NOW)
}

/// One upstream of a scene, as it is drawn: prefix, whether it is enabled, its place, and its items.
type Drawn = (&'static str, bool, i64, Vec<(Kind, String, bool)>);

fn drawn() -> impl Strategy<Value = Drawn> {
    let kind = prop::sample::select(vec![Kind::Tool, Kind::Tool, Kind::Prompt, Kind::Resource]);
    let item = (kind, "[ab_]{1,3}", prop::bool::weighted(0.9));
    (
        prop::sample::select(vec!["", "", "a"]),
        prop::bool::weighted(0.9),
        0i64..3,
        prop::collection::vec(item, 0..6),
    )
}

fn definition(upstream: &Upstream, kind: Kind, name: &str, enabled: bool, position: i64) -> Definition {
    let mut definition = tool(upstream, name, position);
    if kind != Kind::Tool {
        definition.body = Bytes::from(format!(r#"{{"{}":"{name}"}}"#, super::super::name_field(kind)));
    }
    definition.kind = kind;
    definition.enabled = enabled;
    definition
}

/// A scene with every name settled.
fn scene(drawn: Vec<Drawn>, own: Vec<OwnerRules>, all: OwnerRules, of_key: OwnerRules, key: ApiKey) -> Scene {
    let mut scene = Scene { length_max: 16, ..Scene::default() };
    for (n, ((prefix, enabled, sort_order, items), mut rules)) in drawn.into_iter().zip(own).enumerate() {
        let mut upstream = upstream();
        upstream.id = UpstreamId::from_uuid(uuid::Uuid::from_u128(n as u128 + 1));
        (upstream.name_prefix, upstream.enabled, upstream.sort_order) = (prefix.into(), enabled, sort_order);
        let mut names = HashSet::new();
        for (position, (kind, name, enabled)) in (0..).zip(items) {
            if names.insert((kind, name.clone())) {
                scene.definitions.push(definition(&upstream, kind, &name, enabled, position));
            }
        }
        let owner = RuleOwner::Upstream(upstream.id);
        rules.aliases.iter_mut().for_each(|rule| rule.owner = owner);
        scene.rules.insert(owner, rules);
        scene.upstreams.push(upstream);
    }
    scene.rules.insert(RuleOwner::All, all);
    scene.rules.insert(RuleOwner::Key(key.id), of_key);
    scene.key = Some(key);
    settle(&mut scene);
    scene
}

/// Names as the store would have them.
fn settle(scene: &mut Scene) {
    let mut upstreams: Vec<&Upstream> = scene.upstreams.iter().collect();
    upstreams.sort_by_key(|upstream| (upstream.sort_order, upstream.id));
    let shared: Vec<SharedRules> =
        upstreams.iter().map(|upstream| shared_rules(scene, upstream.id)).collect();
    let settled: Vec<Claims> =
        Kind::ALL.iter().map(|kind| settled(scene, *kind, &upstreams, &shared)).collect();
    let claims: Vec<Claim> = settled.iter().flat_map(|claims| claims.iter().cloned()).collect();
    for item in &mut scene.definitions {
        let own = |claim: &&Claim| {
            (claim.kind, claim.upstream_id, &claim.upstream_name)
                == (item.kind, item.upstream_id, &item.upstream_name)
        };
        item.exposed_name = claims.iter().find(own).expect("each has a claim").exposed_name.clone();
    }
    scene.claims = claims;
}

fn shared_rules(scene: &Scene, id: UpstreamId) -> SharedRules {
    let compiled = |owner| Arc::new(scene.rules.get(&owner).map(CompiledRules::of).unwrap_or_default());
    SharedRules { own: compiled(RuleOwner::Upstream(id)), all: compiled(RuleOwner::All) }
}

fn view_of(scene: &Scene) -> View {
    let lists = scene.upstreams.iter().map(|upstream| {
        let mine = |item: &&Definition| item.upstream_id == upstream.id;
        let source = Source {
            upstream: Arc::new(upstream.clone()),
            info: None,
            definitions: scene.definitions.iter().filter(mine).cloned().map(Arc::new).collect(),
            states: Vec::new(),
            claims: scene.claims.iter().filter(|claim| claim.upstream_id == upstream.id).cloned().collect(),
            held: HashSet::new(),
        };
        Arc::new(UpstreamLists::of(&source, &shared_rules(scene, upstream.id)))
    });
    let mut settings = Settings::default();
    settings.naming.length_max = scene.length_max;
    let catalog = Catalog::new(1, Arc::new(settings), lists.collect());
    let key = scene.key.as_ref().expect("it has one");
    let rules = scene.rules.get(&RuleOwner::Key(key.id)).cloned().unwrap_or_default();
    View::new(Arc::new(catalog), &Policy::of(key, rules))
}

/// What a view lists of a kind: definition, name, description given by an alias.
fn listed(view: &View, kind: Kind) -> Vec<(DefinitionId, String, Option<String>)> {
    let text = |item: &Arc<Item>| item.look.description.as_deref().map(str::to_owned);
    view.items(kind).map(|item| (item.definition.id, item.exposed_name.to_string(), text(item))).collect()
}

fn scenes() -> impl Strategy<Value = Scene> {
    (1usize..4).prop_flat_map(|count| {
        let key = key();
        let own = prop::collection::vec(owner_rules(RuleOwner::Upstream(UpstreamId::at(NOW))), count);
        let ids = prop::option::weighted(
            0.3,
            prop::sample::subsequence((1..=count).collect::<Vec<_>>(), 0..=count),
        );
        let drawn = prop::collection::vec(drawn(), count);
        let of_key = owner_rules(RuleOwner::Key(key.id));
        (drawn, own, owner_rules(RuleOwner::All), of_key, ids).prop_map(
            move |(drawn, own, all, of_key, ids)| {
                let id = |n: usize| UpstreamId::from_uuid(uuid::Uuid::from_u128(n as u128));
                let upstream_ids = ids.map(|ids| ids.into_iter().map(id).collect());
                scene(drawn, own, all, of_key, ApiKey { upstream_ids, ..key.clone() })
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_view_lists_what_the_explanation_says_and_routes_exactly_that(scene in scenes()) {
        let (view, explained) = (view_of(&scene), preview(&scene));
        for kind in Kind::ALL.iter().copied() {
            let listed = listed(&view, kind);
            let said: Vec<_> = explained
                .iter()
                .filter(|explained| explained.kind == kind)
                .filter_map(|explained| {
                    let text = explained.description.as_deref().map(str::to_owned);
                    Some((explained.id, explained.exposed_name.clone()?, text))
                })
                .collect();
            prop_assert_eq!(&listed, &said);
            let names: HashSet<&String> = listed.iter().map(|(_, name, _)| name).collect();
            prop_assert_eq!(names.len(), listed.len(), "no name twice");
            prop_assert_eq!(view.count(kind), listed.len());
            prop_assert_eq!(view.has(kind), !listed.is_empty());
            for (id, name, _) in &listed {
                let item = view.route(kind, name).expect("what is listed can be called");
                prop_assert_eq!((&item.definition.id, &*item.exposed_name), (id, name.as_str()));
                if kind == Kind::Tool {
                    prop_assert!(name.len() <= 16);
                }
            }
            let known = scene.definitions.iter().flat_map(|item| [&item.exposed_name, &item.upstream_name]);
            let aliases = explained.iter().flat_map(|explained| &explained.steps).filter_map(|step| match step {
                Step::Alias { name, .. } => name.as_ref(),
                _ => None,
            });
            for name in known.chain(aliases).filter(|name| !names.contains(name)) {
                prop_assert!(view.route(kind, name).is_none(), "{} is not listed", name);
            }
        }
    }

    #[test]
    fn what_has_nothing_to_do_with_an_item_changes_nothing_about_it(scene in scenes()) {
        let before = view_of(&scene);
        let mut more = scene.clone();
        let mut last = upstream();
        (last.id, last.sort_order) = (UpstreamId::from_uuid(uuid::Uuid::from_u128(99)), 9);
        more.definitions.push(definition(&last, Kind::Tool, "unrelated", true, 0));
        more.upstreams.push(last);
        settle(&mut more);
        let after = view_of(&more);
        for kind in Kind::ALL.iter().copied() {
            let mut now = listed(&after, kind);
            now.retain(|(id, _, _)| scene.definitions.iter().any(|item| item.id == *id));
            prop_assert_eq!(listed(&before, kind), now);
        }
        // And the same again, in another order of everything, is the same.
        more.upstreams.reverse();
        more.claims.reverse();
        let again = view_of(&more);
        for kind in Kind::ALL.iter().copied() {
            prop_assert_eq!(after.fingerprint(kind), again.fingerprint(kind));
        }
    }
}

fn with_rules(rules: OwnerRules) -> Policy {
    Policy::new(None, rules)
}

#[test]
fn an_alias_of_a_key_that_meets_a_held_name_is_not_applied() {
    let key = key();
    let owner = RuleOwner::Key(key.id);
    let aliases = vec![alias(owner, "a", "b"), alias(owner, "c|d", "x")];
    let rules = OwnerRules { aliases, filters: vec![filter(owner, FilterAction::Deny, "b")] };
    let names = ["a", "b", "c", "d"].map(str::to_owned);
    let catalog = Arc::new(catalog(&[upstream_with(&names)]));
    let view = View::new(catalog, &with_rules(rules));
    // Though this key doesn't see who holds it.
    let names: Vec<&str> = view.items(Kind::Tool).map(|item| &*item.exposed_name).collect();
    assert_eq!(names, ["a", "x", "d"]);
    let refused: Vec<&str> = view.refused_aliases().map(|item| &*item.exposed_name).collect();
    assert_eq!(refused, ["a", "d"]);
    assert!(view.route(Kind::Tool, "c").is_none() && view.route(Kind::Tool, "b").is_none());
    let body = &view.route(Kind::Tool, "x").expect("it is listed").rendered;
    assert!(body.starts_with(br#"{"inputSchema"#) || String::from_utf8_lossy(body).contains(r#""name":"x""#));
}

#[test]
fn a_name_is_held_for_what_is_switched_off_disabled_or_gone() {
    let mut off = tool(&upstream(), "off", 0);
    off.enabled = false;
    let lists = UpstreamLists::new(Arc::new(upstream()), None, vec![off], Vec::new());
    let mut disabled = upstream();
    disabled.enabled = false;
    let gone = Claim {
        kind: Kind::Tool,
        exposed_name: "gone".into(),
        upstream_id: disabled.id,
        upstream_name: "gone".into(),
        wanted: "gone".into(),
    };
    let source = Source {
        definitions: vec![Arc::new(tool(&disabled, "disabled", 0))],
        upstream: Arc::new(disabled),
        info: None,
        states: Vec::new(),
        claims: vec![gone],
        held: HashSet::new(),
    };
    let disabled = UpstreamLists::of(&source, &SharedRules::default());
    let names = ["a", "b", "c"].map(str::to_owned);
    let lists = [upstream_with(&names), Arc::new(lists), Arc::new(disabled)];
    let owner = RuleOwner::Key(key().id);
    let aliases = vec![alias(owner, "a", "off"), alias(owner, "b", "disabled"), alias(owner, "c", "gone")];
    let view = View::new(Arc::new(catalog(&lists)), &with_rules(OwnerRules { aliases, filters: Vec::new() }));
    let names: Vec<&str> = view.items(Kind::Tool).map(|item| &*item.exposed_name).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn a_description_is_replaced_and_nothing_else() {
    let owner = RuleOwner::Key(key().id);
    let mut rule = alias(owner, "t", "");
    (rule.target_name, rule.target_description) = (None, Some("said \"so\"".into()));
    let rules = OwnerRules { aliases: vec![rule], filters: Vec::new() };
    let catalog = Arc::new(catalog(&[upstream_with(&["t".to_owned()])]));
    let plain = View::new(Arc::clone(&catalog), &with_rules(OwnerRules::default()));
    let view = View::new(catalog, &with_rules(rules));
    let item = view.route(Kind::Tool, "t").expect("it is listed");
    let mut shown: serde_json::Value = serde_json::from_slice(&item.rendered).expect("JSON");
    assert_eq!(
        shown.as_object_mut().and_then(|shown| shown.remove("description")),
        Some("said \"so\"".into())
    );
    let as_it_came: serde_json::Value = serde_json::from_slice(&item.definition.body).expect("JSON");
    assert_eq!(shown, as_it_came);
    assert_ne!(view.fingerprint(Kind::Tool), plain.fingerprint(Kind::Tool));
    assert!(!view.freshness(Kind::Tool).public);
}

#[test]
fn a_resource_keeps_its_uri_whatever_the_alias_of_a_key_says() {
    let key = key();
    let owner = RuleOwner::Key(key.id);
    let upstream = upstream();
    let definitions = vec![definition(&upstream, Kind::Resource, "file:///a", true, 0)];
    let mut scene = Scene { upstreams: vec![upstream], definitions, length_max: 64, ..Scene::default() };
    let rules = OwnerRules { aliases: vec![alias(owner, ".*", "file:///b")], filters: Vec::new() };
    scene.rules = BTreeMap::from([(owner, rules)]);
    scene.key = Some(key);
    settle(&mut scene);
    let explained = preview(&scene).remove(0);
    assert_eq!(explained.exposed_name.as_deref(), Some("file:///a"));
    assert!(
        explained
            .steps
            .iter()
            .any(|step| matches!(step, Step::NameNotApplied { reason: NotApplied::IsUri, .. }))
    );
    assert!(view_of(&scene).route(Kind::Resource, "file:///a").is_some());
}

#[test]
fn keys_with_equal_policies_share_a_view_and_what_did_not_change_is_not_made_again() {
    let [first, second] = [upstream_with(&["a".to_owned()]), upstream_with(&["b".to_owned()])];
    let id = first.upstream.id;
    let snapshot = Snapshot::new(catalog(&[Arc::clone(&first), Arc::clone(&second)]), NOW);
    let deny = |pattern: &str| {
        // Another key, another rule, the same effect.
        let owner = RuleOwner::Key(ApiKeyId::at(NOW));
        with_rules(OwnerRules {
            aliases: Vec::new(),
            filters: vec![filter(owner, FilterAction::Deny, pattern)],
        })
    };
    let view = snapshot.view(&deny("x.*|a"));
    assert!(Arc::ptr_eq(&view, &snapshot.view(&deny("x.*|a"))));
    assert!(!Arc::ptr_eq(&view, &snapshot.view(&deny("x.*|b"))));
    assert_eq!(snapshot.views(), 2);
    // A change of the second upstream.
    let changed = upstream_with(&["b".to_owned(), "c".to_owned()]);
    let next = Snapshot::after(&snapshot, catalog(&[first, changed]), NOW);
    assert!(
        next.prepare(Instant::now() + std::time::Duration::from_mins(1)),
        "all that were in use are made"
    );
    assert_eq!(next.views(), 2);
    let after = next.view(&deny("x.*|a"));
    let shown = |view: &View| {
        let mut parts = view.parts();
        let first = parts.find(|(_, lists, _)| lists.upstream.id == id).expect("it is visible");
        Arc::clone(first.2)
    };
    assert!(Arc::ptr_eq(&shown(&view), &shown(&after)), "the first upstream is as it was");
    assert_eq!(after.count(Kind::Tool), 2);
}

#[test]
fn no_view_is_made_for_a_new_catalog_that_another_would_have_to_go_for() {
    const POLICIES: usize = 64;
    let names: Vec<String> = (0..1000).map(|n| format!("tool_{n}")).collect();
    let owner = RuleOwner::Key(key().id);
    let policy = |n: usize| {
        let filters = vec![filter(owner, FilterAction::Deny, &format!("tool_{n}"))];
        with_rules(OwnerRules { aliases: Vec::new(), filters })
    };
    let scene = || catalog(&[upstream_with(&names)]);
    let alone = Snapshot::new(scene(), NOW);
    alone.view(&policy(0));
    let snapshot = Snapshot::new(scene(), NOW).with_bytes_max(POLICIES / 2 * alone.bytes());
    (0..POLICIES / 2).for_each(|n| drop(snapshot.view(&policy(n))));
    let formers: Vec<_> = (0..POLICIES / 2).map(|n| Arc::downgrade(&snapshot.view(&policy(n)))).collect();
    let next = Snapshot::after(&snapshot, scene(), NOW);
    drop(snapshot);
    assert!(next.prepare(Instant::now() + std::time::Duration::from_mins(1)), "nothing is left to be done");
    let made = next.views();
    assert!((POLICIES / 4..POLICIES / 2).contains(&made), "{made} views");
    assert!(next.prepare(Instant::now() + std::time::Duration::from_mins(1)) && next.views() == made);
    assert!(formers.iter().all(|former| former.strong_count() == 0), "the catalog before is let go");
}

#[test]
fn views_that_nobody_uses_are_dropped_after_ten_minutes() {
    let snapshot = Snapshot::new(catalog(&[upstream_with(&["a".to_owned()])]), NOW);
    let (used, unused) =
        (Policy::new(Some(Vec::new()), OwnerRules::default()), with_rules(OwnerRules::default()));
    snapshot.view(&unused);
    for _ in 0..10 {
        snapshot.view(&used);
        snapshot.sweep();
        assert_eq!(snapshot.views(), 2);
    }
    snapshot.view(&used);
    snapshot.sweep();
    assert_eq!(snapshot.views(), 1);
}

/// Bytes of memory that this process has now.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has one");
    let kilobytes: usize =
        line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
    kilobytes * 1024
}

#[test]
fn a_thousand_policies_over_ten_thousand_tools_take_less_than_400_mb() {
    const TOOLS: usize = 10_000;
    const UPSTREAMS: usize = 20;
    /// Without optimisations a tenth of them, which takes long enough; each takes as much as the other.
    const POLICIES: usize = if cfg!(debug_assertions) { 100 } else { 1_000 };
    /// Each of these policies gives every tool a name of its own.
    const RENAMING: usize = POLICIES / 50;
    let start = resident();
    let lists: Vec<_> = (0..UPSTREAMS)
        .map(|n| {
            upstream_with(&(0..TOOLS / UPSTREAMS).map(|tool| format!("u{n}_tool_{tool}")).collect::<Vec<_>>())
        })
        .collect();
    let snapshot = Snapshot::new(catalog(&lists), NOW);
    let owner = RuleOwner::Key(key().id);
    let before = resident();
    let policy = |n: usize| {
        let (upstream, tool) = (n % UPSTREAMS, n / UPSTREAMS);
        let mut rules = OwnerRules {
            aliases: vec![alias(owner, &format!("u{upstream}_tool_{}", tool + 1), "mine")],
            filters: vec![filter(owner, FilterAction::Deny, &format!("u{upstream}_tool_{tool}"))],
        };
        // As most rules are, and quicker in a debug build.
        rules.aliases[0].is_regex = false;
        rules.filters[0].is_regex = false;
        if n < RENAMING {
            rules.aliases = vec![alias(owner, "(.*)", &format!("k{n}_$1"))];
        }
        with_rules(rules)
    };
    let started = Instant::now();
    let views: Vec<_> = (0..POLICIES).map(|n| snapshot.view(&policy(n))).collect();
    let took = started.elapsed();
    let grown = before.saturating_sub(start) + 1_000 / POLICIES * resident().saturating_sub(before);
    println!("1000 policies over {TOOLS} tools: {} MiB; {POLICIES} made in {took:?}", grown / 1024 / 1024);
    assert!(grown < 400 * 1_000_000, "{grown} bytes");
    assert_eq!(snapshot.views(), POLICIES, "all of them are kept");
    let kept: HashSet<[u8; 32]> = views.iter().map(|view| view.fingerprint(Kind::Tool)).collect();
    assert_eq!(kept.len(), POLICIES, "they differ");
}

#[tokio::test]
async fn who_waits_for_a_view_holds_up_no_thread_and_it_is_made_once() {
    let names: Vec<String> = (0..2000).map(|n| format!("tool_{n}")).collect();
    let snapshot = Snapshot::new(catalog(&[upstream_with(&names)]), NOW);
    let owner = RuleOwner::Key(key().id);
    let filters = (0..20).map(|n| filter(owner, FilterAction::Deny, &format!(".*_{n}\\d"))).collect();
    let policy = with_rules(OwnerRules { aliases: Vec::new(), filters });
    // On one thread: were the view made on it, nothing else could be counted meanwhile.
    let mut turns = 0;
    let both = futures::future::join(snapshot.view_soon(&policy), snapshot.view_soon(&policy));
    tokio::pin!(both);
    let (one, other) = loop {
        tokio::select! {
            biased;
            views = &mut both => break views,
            () = tokio::task::yield_now() => turns += 1,
        }
    };
    assert!(turns > 0 && Arc::ptr_eq(&one, &other));
    assert_eq!(one.count(Kind::Tool), 2000 - 190);
}

#[test]
fn a_template_does_not_bring_back_a_resource_that_is_hidden() {
    let (of, key) = (Arc::new(upstream()), key());
    let resource = |uri: &str, enabled| Arc::new(definition(&of, Kind::Resource, uri, enabled, 0));
    let source = Source {
        upstream: Arc::clone(&of),
        info: None,
        definitions: vec![
            resource("file:///off", false),
            resource("file:///denied", true),
            resource("file:///secret", true),
            resource("file:///open", true),
            Arc::new(definition(&of, Kind::ResourceTemplate, "file:///{name}", true, 1)),
        ],
        states: Vec::new(),
        claims: Vec::new(),
        held: HashSet::new(),
    };
    let deny = |owner, pattern: &str| OwnerRules {
        aliases: Vec::new(),
        filters: vec![filter(owner, FilterAction::Deny, pattern)],
    };
    let own = CompiledRules::of(&deny(RuleOwner::Upstream(of.id), ".*denied"));
    let rules = SharedRules { own: Arc::new(own), all: Arc::default() };
    let catalog = Arc::new(catalog(&[Arc::new(UpstreamLists::of(&source, &rules))]));
    let of_key = Policy::new(None, deny(RuleOwner::Key(key.id), ".*secret"));
    let kind_at = |policy: &Policy, uri: &str| {
        let view = View::new(Arc::clone(&catalog), policy);
        view.route_uri(uri).map(|item| item.definition.kind)
    };
    let open = Policy::new(None, OwnerRules::default());
    for policy in [&open, &of_key] {
        assert_eq!(kind_at(policy, "file:///off"), None);
        assert_eq!(kind_at(policy, "file:///denied"), None);
        assert_eq!(kind_at(policy, "file:///open"), Some(Kind::Resource));
        assert_eq!(kind_at(policy, "file:///unlisted"), Some(Kind::ResourceTemplate));
    }
    assert_eq!(kind_at(&open, "file:///secret"), Some(Kind::Resource));
    assert_eq!(kind_at(&of_key, "file:///secret"), None);
}
