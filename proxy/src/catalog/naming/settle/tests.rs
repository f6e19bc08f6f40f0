//! Names in a store: whatever is added, removed, disabled, lost, renamed or reordered, in whatever order, each
//! name is unique, fits, leads back to its definition, and stays while what it is made of stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use sql::clock::Clock;
use sql::model::{AliasRule, DefinitionId, ListDiff, ListState};
use sql::seal::MasterKey;
use sql::{Database, Store, StoreOptions};

use super::*;
use crate::catalog::testing::{NOW, alias, tool, upstream};

const KINDS: [Kind; 2] = [Kind::Tool, Kind::Prompt];
const NAMES: [&str; 7] = ["a", "b", "ab", "a b", "a_b", "读文件", "a-very-long-name-that-has-to-be-cut"];
const UPSTREAMS: usize = 3;

/// Something that happens. Upstreams are told by number.
#[derive(Debug, Clone)]
enum Event {
    /// An upstream lists these of the names, as tools and as prompts.
    Listed(usize, Vec<usize>),
    Prefixed(usize, &'static str),
    Switched(usize),
    Removed(usize),
    Reordered(Vec<usize>),
    /// An alias of an upstream, or of all, is added.
    Aliased(Option<usize>, &'static str, &'static str),
    /// All aliases of an upstream, or of all, are removed.
    Unaliased(Option<usize>),
    Shortened(u32),
    Released(usize, usize),
}

fn event() -> impl Strategy<Value = Event> {
    let one = || 0..UPSTREAMS;
    let owner = || prop::option::of(0..UPSTREAMS);
    let all: Vec<usize> = (0..NAMES.len()).collect();
    let patterns =
        prop::sample::select(vec![("a", "b"), ("(.*)b", "$1x"), (".*", "same"), ("(.)(.*)", "$2 $1")]);
    prop_oneof![
        6 => (one(), prop::sample::subsequence(all, 0..=NAMES.len()).prop_shuffle())
            .prop_map(|(upstream, names)| Event::Listed(upstream, names)),
        2 => (one(), prop::sample::select(vec!["", "a", "p_", "中-"])).prop_map(|(upstream, prefix)| Event::Prefixed(upstream, prefix)),
        1 => one().prop_map(Event::Switched),
        1 => one().prop_map(Event::Removed),
        1 => Just((0..UPSTREAMS).collect::<Vec<_>>()).prop_shuffle().prop_map(Event::Reordered),
        2 => (owner(), patterns).prop_map(|(owner, (pattern, target))| Event::Aliased(owner, pattern, target)),
        1 => owner().prop_map(Event::Unaliased),
        1 => prop::sample::select(vec![16, 20, 64]).prop_map(Event::Shortened),
        1 => (one(), 0..NAMES.len()).prop_map(|(upstream, name)| Event::Released(upstream, name)),
    ]
}

struct Scene {
    store: Store,
    /// The upstreams that are there, by number.
    ids: Vec<Option<UpstreamId>>,
    length_max: u32,
}

impl Scene {
    async fn new() -> Self {
        let key = MasterKey::from_env_text(MasterKey::generate_hex().expose()).expect("a fresh key").0;
        let options = StoreOptions {
            database: Database::SqliteMemory,
            master_key: key,
            previous_keys: Vec::new(),
            clock: Clock::system(),
            start_timeout: Duration::from_secs(5),
        };
        let store = Store::open(options).await.expect("a store in memory");
        Self { store, ids: vec![None; UPSTREAMS], length_max: 64 }
    }

    fn owner(&self, upstream: Option<usize>) -> Option<(RuleOwner, Scope)> {
        match upstream {
            None => Some((RuleOwner::All, Scope::All)),
            Some(number) => self.ids[number].map(|id| (RuleOwner::Upstream(id), Scope::Upstream(id))),
        }
    }

    /// The upstream with a number; made if it isn't there.
    async fn upstream(&mut self, tx: &mut Tx, number: usize) -> Upstream {
        if let Some(id) = self.ids[number] {
            return upstreams::get(tx, id).await.unwrap().expect("it is there");
        }
        let mut made = upstream();
        (made.id, made.name) = (UpstreamId::new(self.store.clock()), format!("u{number}"));
        upstreams::insert(tx, &made).await.unwrap();
        self.ids[number] = Some(made.id);
        upstreams::get(tx, made.id).await.unwrap().expect("it was made")
    }

    async fn happen(&mut self, event: &Event) {
        let mut tx = self.store.begin().await.unwrap();
        match event {
            Event::Listed(number, names) => {
                let upstream = self.upstream(&mut tx, *number).await;
                let names: Vec<&str> = names.iter().map(|name| NAMES[*name]).collect();
                for kind in KINDS {
                    list(&mut tx, &upstream, kind, &names, self.length_max).await;
                }
            }
            Event::Prefixed(number, prefix) => {
                let mut upstream = self.upstream(&mut tx, *number).await;
                upstream.name_prefix = (*prefix).to_owned();
                assert!(upstreams::update(&mut tx, &upstream, upstream.version).await.unwrap());
                resettle(&mut tx, Scope::Upstream(upstream.id), self.length_max).await.unwrap();
            }
            Event::Switched(number) => {
                let mut upstream = self.upstream(&mut tx, *number).await;
                upstream.enabled = !upstream.enabled;
                assert!(upstreams::update(&mut tx, &upstream, upstream.version).await.unwrap());
            }
            Event::Removed(number) => {
                if let Some(id) = self.ids[*number].take() {
                    assert!(upstreams::delete(&mut tx, id).await.unwrap());
                }
            }
            Event::Reordered(order) => {
                let ids: Vec<_> = order.iter().filter_map(|number| self.ids[*number]).collect();
                assert!(upstreams::reorder(&mut tx, &ids).await.unwrap());
            }
            Event::Aliased(owner, pattern, target) => {
                let Some((owner, scope)) = self.owner(*owner) else { return };
                rules::insert(&mut tx, &alias(owner, pattern, target)).await.unwrap();
                resettle(&mut tx, scope, self.length_max).await.unwrap();
            }
            Event::Unaliased(owner) => {
                let Some((owner, scope)) = self.owner(*owner) else { return };
                for rule in rules::of_owner(&mut tx, owner).await.unwrap().aliases {
                    assert!(rules::delete::<AliasRule>(&mut tx, rule.id).await.unwrap());
                }
                resettle(&mut tx, scope, self.length_max).await.unwrap();
            }
            Event::Shortened(length_max) => {
                self.length_max = *length_max;
                resettle(&mut tx, Scope::All, self.length_max).await.unwrap();
            }
            Event::Released(number, name) => {
                let Some(id) = self.ids[*number] else { return };
                let items = lists::of_upstream(&mut tx, id, Kind::Tool).await.unwrap();
                let Some(item) = items.iter().find(|item| item.upstream_name == NAMES[*name]) else { return };
                release(&mut tx, item, self.length_max).await.unwrap();
            }
        }
        tx.commit().await.unwrap();
    }

    /// Every definition with its names, and the name it wants.
    async fn named(&self) -> BTreeMap<(Kind, UpstreamId, String), (String, String)> {
        let mut tx = self.store.read().await.unwrap();
        let mut named = BTreeMap::new();
        for kind in KINDS {
            let claims = claims(&mut tx, kind, self.length_max).await.unwrap();
            for id in self.ids.iter().flatten() {
                for item in lists::of_upstream(&mut tx, *id, kind).await.unwrap() {
                    let claim = claims.of(*id, &item.upstream_name).expect("each has a claim");
                    assert_eq!(claim.exposed_name, item.exposed_name, "the claim is the name");
                    let names = (item.exposed_name, claim.wanted.clone());
                    named.insert((kind, *id, item.upstream_name), names);
                }
            }
        }
        named
    }
}

/// What a sync does with a list.
async fn list(tx: &mut Tx, upstream: &Upstream, kind: Kind, names: &[&str], length_max: u32) {
    let (exposed, _) = settle_list(tx, upstream, kind, names, length_max).await.unwrap();
    let stored = lists::of_upstream(tx, upstream.id, kind).await.unwrap();
    let mut diff = ListDiff::none(upstream.id, kind);
    for (position, name) in (0..).zip(names) {
        let former = stored.iter().find(|item| item.upstream_name == *name);
        let mut item = tool(upstream, name, position);
        item.id = former.map_or_else(|| DefinitionId::new(tx.clock()), |former| former.id);
        (item.kind, item.exposed_name) = (kind, exposed[*name].clone());
        if former.is_some() { diff.changed.push(item) } else { diff.added.push(item) }
    }
    let is_gone = |item: &&Definition| !names.contains(&item.upstream_name.as_str());
    diff.removed = stored.iter().filter(is_gone).map(|item| item.id).collect();
    let state = ListState {
        upstream_id: upstream.id,
        kind,
        synced_at: NOW,
        ttl_ms: None,
        cache_scope_public: false,
        findings: Vec::new(),
    };
    lists::apply(tx, &diff, &state).await.unwrap();
}

fn check(
    event: &Event,
    before: &BTreeMap<(Kind, UpstreamId, String), (String, String)>,
    after: &BTreeMap<(Kind, UpstreamId, String), (String, String)>,
    length_max: u32,
) -> Result<(), TestCaseError> {
    let names: BTreeSet<(Kind, &String)> =
        after.iter().map(|((kind, _, _), (name, _))| (*kind, name)).collect();
    prop_assert_eq!(names.len(), after.len(), "each name leads back to one definition");
    for (_, name) in names {
        prop_assert!(name.len() <= length_max as usize, "{} fits", name);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        prop_assert!(!name.is_empty() && name.chars().all(is_plain), "{} is plain", name);
    }
    if matches!(event, Event::Released(..)) {
        return Ok(());
    }
    for (item, (name, wanted)) in before.iter().filter(|(_, (name, _))| name.len() <= length_max as usize) {
        if let Some((now, wanted_now)) = after.get(item).filter(|(_, now)| now == wanted) {
            prop_assert_eq!(name, now, "{:?} of {:?} wants {} as before", event, item, wanted_now);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn names_are_unique_fit_lead_back_and_last(events in prop::collection::vec(event(), 1..16)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut scene = Scene::new().await;
            let mut before = BTreeMap::new();
            // What an upstream ever listed has its name again when it comes back, if it wants the same.
            let mut known: BTreeMap<(Kind, UpstreamId, String), (String, String)> = BTreeMap::new();
            for event in &events {
                scene.happen(event).await;
                let after = scene.named().await;
                check(event, &before, &after, scene.length_max)?;
                if matches!(event, Event::Listed(..)) {
                    check(event, &known, &after, scene.length_max)?;
                } else {
                    // Names that are wanted otherwise are freed, and what is lost isn't told what it would want.
                    known.clear();
                }
                known.extend(after.clone());
                before = after;
                // Settling again, as another replica or a later sync would, changes nothing.
                let mut tx = scene.store.begin().await.unwrap();
                resettle(&mut tx, Scope::All, scene.length_max).await.unwrap();
                prop_assert_eq!(tx.commit_noted().await.unwrap(), None);
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_released_name_goes_to_who_waits_for_it() {
    let mut scene = Scene::new().await;
    scene.happen(&Event::Listed(0, vec![0])).await;
    scene.happen(&Event::Listed(1, vec![0])).await;
    let name = async |scene: &Scene, number: usize| {
        let id = scene.ids[number].expect("it is there");
        scene.named().await[&(Kind::Tool, id, "a".into())].0.clone()
    };
    assert_eq!(name(&scene, 0).await, "a");
    let contested = name(&scene, 1).await;
    assert!(contested.starts_with("a__"), "{contested}");
    scene.happen(&Event::Released(0, 0)).await;
    assert_eq!(name(&scene, 1).await, "a");
    assert!(name(&scene, 0).await.starts_with("a__"));
    // And back: nobody else wants it.
    scene.happen(&Event::Removed(1)).await;
    scene.happen(&Event::Released(0, 0)).await;
    assert_eq!(name(&scene, 0).await, "a");
}

#[tokio::test]
async fn a_name_held_by_what_is_gone_can_be_released_to_who_wants_it() {
    let mut scene = Scene::new().await;
    scene.happen(&Event::Listed(0, vec![0])).await;
    scene.happen(&Event::Listed(1, vec![0])).await;
    scene.happen(&Event::Listed(0, vec![])).await;
    let second = scene.ids[1].expect("it is there");
    let key = (Kind::Tool, second, "a".to_owned());
    assert!(scene.named().await[&key].0.starts_with("a__"), "a lost tool keeps its name");
    scene.happen(&Event::Released(1, 0)).await;
    assert_eq!(scene.named().await[&key].0, "a");
}

#[tokio::test]
async fn an_alias_renames_at_once_and_gives_back_the_name_when_it_goes() {
    let mut scene = Scene::new().await;
    scene.happen(&Event::Listed(0, vec![0, 1])).await;
    scene.happen(&Event::Prefixed(0, "p_")).await;
    scene.happen(&Event::Aliased(Some(0), "(a)", "$1_x")).await;
    let names = async |scene: &Scene| {
        let named = scene.named().await;
        let tools = named.into_iter().filter(|((kind, _, _), _)| *kind == Kind::Tool);
        tools.map(|(_, (name, _))| name).collect::<Vec<_>>()
    };
    assert_eq!(names(&scene).await, ["p_a_x", "p_b"]);
    // Another upstream can have the name meanwhile, and keeps it.
    scene.happen(&Event::Prefixed(1, "p_")).await;
    scene.happen(&Event::Listed(1, vec![0])).await;
    assert_eq!(names(&scene).await, ["p_a_x", "p_b", "p_a"]);
    scene.happen(&Event::Unaliased(Some(0))).await;
    let after = names(&scene).await;
    assert!(after[0].starts_with("p_a__") && after[2] == "p_a", "{after:?}");
}
