//! What is known of one upstream's lists, as every caller meets it.
//!
//! Made when something of the upstream changes, and shared between catalogs: a change of one upstream renders
//! nothing of another. The rules of the upstream and of all are applied here, once; those of keys are applied to
//! what is left ([`Shown`]), and what comes of them is kept for as long as any view has it, so that a view that
//! is built anew for a new catalog looks only at what changed.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sql::model::{
    Claim, Definition, DefinitionId, Finding, Kind, ListState, Upstream, UpstreamId, UpstreamInfo,
};

use super::item::{Item, Look, name_field};
use super::moved_uris::MovedUris;
use super::per_kind::PerKind;
use super::rules::{CompiledRules, SharedRules, Verdict};
use super::shown::Shown;
use super::{Freshness, Policy};
use crate::poison;
use crate::upstream::offers::Offers;

/// Entries of what is shared that are kept before those that nobody has any more are dropped.
const SHARED_MIN: usize = 1024;

/// What the store has of one upstream.
pub struct Source {
    /// Its configuration.
    pub upstream: Arc<Upstream>,
    /// What it said of itself when it was last connected.
    pub info: Option<UpstreamInfo>,
    /// Its lists, switched-off items included.
    pub definitions: Vec<Arc<Definition>>,
    /// What is known of each list as a whole.
    pub states: Vec<ListState>,
    /// The names it holds, for items that are gone as well.
    pub claims: Vec<Claim>,
    /// What is held back until an admin approves it.
    pub held: HashSet<DefinitionId>,
}

/// The lists of one upstream, rendered.
pub struct UpstreamLists {
    /// The upstream's configuration.
    pub upstream: Arc<Upstream>,
    /// What the upstream said of itself when it was last connected.
    pub info: Option<UpstreamInfo>,
    pub(super) offers: Offers,
    pub(super) items: PerKind<Vec<Arc<Item>>>,
    /// Names that are held for what isn't among the items: switched off, hidden by a rule, damaged, or gone.
    pub(super) held: PerKind<Vec<Arc<str>>>,
    /// What the upstream calls the resources that are switched off or that a rule hides: no template may bring
    /// them back.
    pub(super) hidden_uris: HashSet<Box<str>>,
    pub(super) moved_uris: Arc<MovedUris>,
    /// What a key without rules sees.
    pub(super) whole: Arc<Shown>,
    /// How many definitions are held back until an admin approves them.
    pub(super) held_back: usize,
    states: Vec<ListState>,
    findings: Vec<Finding>,
    /// The definitions that can't be read, and so are left out.
    pub(super) left_out: Vec<DefinitionId>,
    shared: Mutex<Shared>,
}

/// What views have in common. It lives as long as one of them.
#[derive(Default)]
struct Shared {
    shown: Pool<([u8; 32], usize), Shown>,
    items: Pool<u64, Item>,
}

impl UpstreamLists {
    /// Renders the definitions of one upstream. Switched-off ones and those that a rule hides are left out; one
    /// that can't be read (a damaged row) is named in the log and among the findings, and left out as well.
    pub fn of(source: &Source, rules: &SharedRules) -> Self {
        let Source { upstream, info, definitions, states, claims, held: held_back } = source;
        let offers =
            info.as_ref().map(|info| Offers::of(&info.capabilities).spoken_in(&info.protocol_version));
        let offers = offers.unwrap_or_default();
        let moved_uris = Arc::new(MovedUris::of(definitions.iter().map(|definition| &**definition)));
        let mut items = PerKind::<Vec<Arc<Item>>>::default();
        let mut held = PerKind::<Vec<Arc<str>>>::default();
        let mut findings = findings_of(upstream.id, rules);
        let mut left_out = Vec::new();
        let mut hidden_uris = HashSet::new();
        for definition in definitions {
            let kind = definition.kind;
            let is_shown = definition.enabled
                && !held_back.contains(&definition.id)
                && rules.verdict(kind, &definition.upstream_name) == Verdict::Shown;
            let alias = rules.alias(kind, &definition.upstream_name).filter(|_| is_shown);
            let look = Look {
                name: definition.exposed_name.as_str().into(),
                description: alias.and_then(|alias| alias.description),
                has_tasks: offers.task_calls,
            };
            let name = Arc::clone(&look.name);
            let Some(clean) = (if is_shown && upstream.sanitize {
                sanitized(definition)
            } else {
                Some(Arc::clone(definition))
            }) else {
                findings.push(unclean(definition));
                left_out.push(definition.id);
                held.get_mut(kind).push(name);
                continue;
            };
            match is_shown.then(|| Item::new(upstream, &clean, &moved_uris, look)) {
                Some(Some(item)) => items.get_mut(kind).push(Arc::new(item)),
                Some(None) => {
                    tracing::error!(definition.id = %definition.id, "stored definition can't be read, left out");
                    findings.push(damaged(definition));
                    left_out.push(definition.id);
                    held.get_mut(kind).push(name);
                }
                None => {
                    held.get_mut(kind).push(name);
                    if kind == Kind::Resource {
                        hidden_uris.insert(definition.upstream_name.as_str().into());
                    }
                }
            }
        }
        let listed: HashSet<(Kind, &str)> =
            definitions.iter().map(|definition| (definition.kind, &*definition.upstream_name)).collect();
        for claim in claims.iter().filter(|claim| !listed.contains(&(claim.kind, &*claim.upstream_name))) {
            held.get_mut(claim.kind).push(claim.exposed_name.as_str().into());
        }
        for kind in Kind::ALL {
            items.get_mut(*kind).sort_by(|a, b| a.place().cmp(&b.place()));
        }
        Self {
            whole: Arc::new(Shown::whole(&items)),
            upstream: Arc::clone(upstream),
            info: info.clone(),
            offers,
            items,
            held,
            hidden_uris,
            moved_uris,
            held_back: held_back.len(),
            states: states.clone(),
            findings,
            left_out,
            shared: Mutex::default(),
        }
    }

    /// Lists without rules, as tests have them.
    #[cfg(test)]
    pub(crate) fn new(
        upstream: Arc<Upstream>,
        info: Option<UpstreamInfo>,
        definitions: Vec<Definition>,
        states: Vec<ListState>,
    ) -> Self {
        let definitions = definitions.into_iter().map(Arc::new).collect();
        let (claims, held) = (Vec::new(), HashSet::new());
        Self::of(&Source { upstream, info, definitions, states, claims, held }, &SharedRules::default())
    }

    /// What is wrong with what the store has of this upstream, for an admin: rows that can't be read.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How long the list of `kind` stays fresh, and whether anybody may share it: what a modern
    /// upstream said of it; an upstream that said nothing promises nothing.
    pub(super) fn freshness(&self, kind: Kind) -> Freshness {
        self.states.iter().find(|state| state.kind == kind).map_or(Freshness::NONE, |state| Freshness {
            ttl_ms: state.ttl_ms.unwrap_or(0),
            public: state.cache_scope_public,
        })
    }

    /// The same without some items, by their places; for a store that has one name twice.
    pub(super) fn without(&self, left_out: &HashSet<(Kind, usize)>) -> Self {
        let items = PerKind::of(|kind| {
            let items = self.items.get(kind).iter().enumerate();
            items
                .filter(|(place, _)| !left_out.contains(&(kind, *place)))
                .map(|(_, item)| Arc::clone(item))
                .collect()
        });
        Self {
            whole: Arc::new(Shown::whole(&items)),
            upstream: Arc::clone(&self.upstream),
            info: self.info.clone(),
            offers: self.offers,
            items,
            held: self.held.clone(),
            held_back: self.held_back,
            hidden_uris: self.hidden_uris.clone(),
            moved_uris: Arc::clone(&self.moved_uris),
            states: self.states.clone(),
            findings: self.findings.clone(),
            left_out: self.left_out.clone(),
            shared: Mutex::default(),
        }
    }

    /// What a policy shows of this upstream. `rules` are those of the policy, compiled when they are needed.
    /// The second value is about how many bytes were made for it, and not found.
    pub(super) fn shown_to<'r>(
        &self,
        policy: &Policy,
        length_max: usize,
        rules: impl FnOnce() -> &'r CompiledRules,
    ) -> (Arc<Shown>, usize) {
        let Some(digest) = policy.rules().map(|rules| rules.digest) else {
            return (Arc::clone(&self.whole), 0);
        };
        let key = (digest, length_max);
        if let Some(shown) = self.lock().shown.get(&key) {
            return (shown, 0);
        }
        // Others may make the same meanwhile; they are equal.
        let (shown, bytes) = Shown::of(self, rules(), length_max);
        let Some(shown) = shown.map(Arc::new) else { return (Arc::clone(&self.whole), bytes) };
        self.lock().shown.put(key, &shown);
        (shown, bytes)
    }

    /// An item under another name or description: the one that another view has, or a new one and what it takes.
    pub(super) fn dressed(&self, item: &Item, look: Look) -> Option<(Arc<Item>, usize)> {
        let mut hasher = DefaultHasher::new();
        (item.definition.id, &look).hash(&mut hasher);
        let key = hasher.finish();
        let known = self.lock().items.get(&key);
        if let Some(known) = known.filter(|known| known.has_look(&item.definition, &look)) {
            return Some((known, 0));
        }
        let made = Arc::new(Item::new(&self.upstream, &item.definition, &self.moved_uris, look)?);
        self.lock().items.put(key, &made);
        let bytes = made.bytes();
        Some((made, bytes))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn findings_of(upstream: UpstreamId, rules: &SharedRules) -> Vec<Finding> {
    let finding = |bad: &super::rules::BadRule| {
        tracing::error!(rule.id = %bad.rule, upstream.id = %upstream, "stored rule can't be used, left out: {}", bad.reason);
        Finding {
            kind: Kind::Tool,
            upstream_name: String::new(),
            code: "DAMAGED_RULE".into(),
            message: format!("rule {} is left out: {}", bad.rule, bad.reason),
        }
    };
    rules.own.bad().iter().chain(rules.all.bad()).map(finding).collect()
}

/// The definition without what deceives, as the admin of its upstream asks.
fn sanitized(definition: &Arc<Definition>) -> Option<Arc<Definition>> {
    let body = poison::stripped(&definition.body, name_field(definition.kind))?;
    if body == definition.body {
        return Some(Arc::clone(definition));
    }
    Some(Arc::new(Definition { body, ..Definition::clone(definition) }))
}

fn unclean(definition: &Definition) -> Finding {
    Finding {
        kind: definition.kind,
        upstream_name: definition.upstream_name.clone(),
        code: "NOT_SANITIZED".into(),
        message: "it is left out: what deceives stands in the names of its parameters, or too deep".into(),
    }
}

fn damaged(definition: &Definition) -> Finding {
    Finding {
        kind: definition.kind,
        upstream_name: definition.upstream_name.clone(),
        code: "DAMAGED".into(),
        message: format!("the stored definition {} can't be read; a sync replaces it", definition.id),
    }
}

/// Things that are made once and shared by all who have them.
struct Pool<K, T> {
    known: HashMap<K, Weak<T>>,
    sweep_at: usize,
}

impl<K, T> Default for Pool<K, T> {
    fn default() -> Self {
        Self { known: HashMap::new(), sweep_at: SHARED_MIN }
    }
}

impl<K: Hash + Eq, T> Pool<K, T> {
    fn get(&self, key: &K) -> Option<Arc<T>> {
        self.known.get(key)?.upgrade()
    }

    fn put(&mut self, key: K, made: &Arc<T>) {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, known| known.strong_count() > 0);
            self.sweep_at = SHARED_MIN.max(2 * self.known.len());
        }
        self.known.insert(key, Arc::downgrade(made));
    }
}
