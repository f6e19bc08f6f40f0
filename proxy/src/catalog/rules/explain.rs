//! Why an item is what it is: each step, and the rule that decided it.
//!
//! The same decisions as those a catalog and its views are made by, from the same functions, told step by step:
//! for stored rules, or for a draft put in their place. Names are settled as saving the draft would settle them,
//! on a copy of the claims. Pure; for many items and costly rules it takes a second, and belongs on the blocking
//! pool.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use sql::model::{
    ApiKey, Claim, Definition, DefinitionId, Kind, OwnerRules, RuleId, RuleOwner, Upstream, UpstreamId,
};

use super::{CompiledRules, SharedRules, Subject, Verdict};
use crate::catalog::item::order;
use crate::catalog::naming::{Claims, Naming, wanted_by_key};

/// All that decides what a caller sees.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// Every upstream, disabled ones included.
    pub upstreams: Vec<Upstream>,
    /// Every definition of theirs, switched-off ones included.
    pub definitions: Vec<Definition>,
    /// Those of them that are held back until an admin approves them.
    pub held: HashSet<DefinitionId>,
    /// Every claim.
    pub claims: Vec<Claim>,
    /// The rules of each owner that has some: the stored ones, or a draft in place of an owner's.
    pub rules: BTreeMap<RuleOwner, OwnerRules>,
    /// `naming.length_max` in force. Characters.
    pub length_max: u32,
    /// Whose view it is; `None`: what the catalog has, before the rules of any key.
    pub key: Option<ApiKey>,
}

/// What becomes of one definition, and by which steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The definition.
    pub id: DefinitionId,
    /// Whose it is.
    pub upstream_id: UpstreamId,
    /// Of which list.
    pub kind: Kind,
    /// What its upstream calls it.
    pub upstream_name: String,
    /// What decided, in order. The last step is the one that hides it, if something does.
    pub steps: Vec<Step>,
    /// What the caller calls it; `None`: the caller doesn't see it.
    pub exposed_name: Option<String>,
    /// The description that an alias gives it.
    pub description: Option<Arc<str>>,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Hidden: its upstream is disabled.
    UpstreamDisabled,
    /// Hidden: the key may not use its upstream.
    UpstreamNotOfKey,
    /// Hidden: an admin switched it off.
    SwitchedOff,
    /// Hidden: it changed, and waits for an admin's approval.
    Held,
    /// Hidden: a rule denies it.
    Denied {
        /// Whose rule.
        owner: RuleOwner,
        /// Which.
        rule: RuleId,
    },
    /// Hidden: an owner has rules that allow, and none of them matches.
    NotAllowed {
        /// Whose rules.
        owner: RuleOwner,
    },
    /// An alias matches.
    Alias {
        /// Whose rule.
        owner: RuleOwner,
        /// Which.
        rule: RuleId,
        /// The name that it gives, before it is made to fit.
        name: Option<String>,
        /// The description that it gives.
        description: Option<Arc<str>>,
    },
    /// It has a claim.
    Named {
        /// What it would be called, had nobody else the name.
        wanted: String,
        /// What it is called.
        exposed: String,
    },
    /// The name that an alias of the key gives isn't applied.
    NameNotApplied {
        /// The rule.
        rule: RuleId,
        /// The name.
        name: String,
        /// Why.
        reason: NotApplied,
    },
}

/// Why a name that an alias of a key gives isn't applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotApplied {
    /// Another item holds it, whether this key sees that or not.
    Held,
    /// Another item of this view has it by an alias of the key.
    Taken,
    /// Resources are known to every key by the same URI.
    IsUri,
}

/// What becomes of every definition, in the order of lists.
pub fn preview(scene: &Scene) -> Vec<Explained> {
    let mut upstreams: Vec<&Upstream> = scene.upstreams.iter().collect();
    upstreams.sort_by_key(|upstream| (upstream.sort_order, upstream.id));
    let compiled = |owner| scene.rules.get(&owner).map(CompiledRules::of).unwrap_or_default();
    let all = Arc::new(compiled(RuleOwner::All));
    let shared = |upstream: &&Upstream| SharedRules {
        own: Arc::new(compiled(RuleOwner::Upstream(upstream.id))),
        all: Arc::clone(&all),
    };
    let shared: Vec<SharedRules> = upstreams.iter().map(shared).collect();
    let key = scene.key.as_ref().map(|key| (key, compiled(RuleOwner::Key(key.id))));
    let mut explained = Vec::with_capacity(scene.definitions.len());
    for kind in Kind::ALL {
        let claims = settled(scene, *kind, &upstreams, &shared);
        let mut taken = HashSet::new();
        for (upstream, rules) in upstreams.iter().zip(&shared) {
            let mut items = of_list(scene, upstream.id, *kind);
            items.sort_by_key(|item| order(item));
            for item in items {
                let is_held = scene.held.contains(&item.id);
                let mut steps = Telling { kind: *kind, item, is_held, steps: Vec::new(), description: None };
                let name = steps.shared(upstream, rules, &claims);
                let name = match (&key, name) {
                    (Some((key, rules)), Some(name)) => {
                        steps.of_key(key, rules, name, &claims, &mut taken, scene)
                    }
                    (_, name) => name,
                };
                explained.push(Explained {
                    id: item.id,
                    upstream_id: upstream.id,
                    kind: *kind,
                    upstream_name: item.upstream_name.clone(),
                    steps: steps.steps,
                    description: steps.description.filter(|_| name.is_some()),
                    exposed_name: name,
                });
            }
        }
    }
    explained
}

/// What becomes of one definition. `None`: there is no such.
pub fn explain(scene: &Scene, id: DefinitionId) -> Option<Explained> {
    preview(scene).into_iter().find(|explained| explained.id == id)
}

fn of_list(scene: &Scene, upstream: UpstreamId, kind: Kind) -> Vec<&Definition> {
    scene.definitions.iter().filter(|item| item.upstream_id == upstream && item.kind == kind).collect()
}

/// The claims of a kind, settled by the rules as they would be in the store.
pub(in crate::catalog) fn settled(
    scene: &Scene,
    kind: Kind,
    upstreams: &[&Upstream],
    shared: &[SharedRules],
) -> Claims {
    let length_max = scene.length_max as usize;
    let stored = scene.claims.iter().filter(|claim| claim.kind == kind).cloned();
    let mut claims = Claims::new(kind, length_max, stored);
    let mut wishes = Vec::new();
    for (upstream, rules) in upstreams.iter().zip(shared) {
        let naming = Naming { prefix: &upstream.name_prefix, rules, length_max };
        let mut items = of_list(scene, upstream.id, kind);
        items.sort_by_key(|item| (item.position, item.id));
        for item in items {
            wishes.push((upstream.id, &item.upstream_name, naming.wanted(kind, &item.upstream_name)));
        }
    }
    for (upstream, name, wanted) in &wishes {
        claims.let_go_of_unwanted(*upstream, [(&***name, &**wanted)]);
    }
    for (upstream, name, wanted) in &wishes {
        claims.settle(*upstream, name, wanted);
    }
    claims
}

struct Telling<'a> {
    kind: Kind,
    item: &'a Definition,
    is_held: bool,
    steps: Vec<Step>,
    description: Option<Arc<str>>,
}

impl Telling<'_> {
    /// What the catalog has of it: its exposed name, unless it is hidden from everybody.
    fn shared(&mut self, upstream: &Upstream, rules: &SharedRules, claims: &Claims) -> Option<String> {
        if !upstream.enabled {
            self.steps.push(Step::UpstreamDisabled);
            return None;
        }
        if !self.item.enabled {
            self.steps.push(Step::SwitchedOff);
            return None;
        }
        if self.is_held {
            self.steps.push(Step::Held);
            return None;
        }
        let subject = Subject::upstream(self.kind, &self.item.upstream_name);
        let owners = [(RuleOwner::Upstream(upstream.id), &rules.own), (RuleOwner::All, &rules.all)];
        for (owner, rules) in owners {
            self.filtered(owner, rules.verdict(&subject))?;
        }
        let alias = owners.into_iter().find_map(|(owner, rules)| Some((owner, rules.alias(&subject)?)));
        if let Some((owner, alias)) = alias {
            self.description.clone_from(&alias.description);
            let super::Alias { rule, name, description } = alias;
            self.steps.push(Step::Alias { owner, rule, name, description });
        }
        let claim = claims.of(upstream.id, &self.item.upstream_name)?;
        self.steps.push(Step::Named { wanted: claim.wanted.clone(), exposed: claim.exposed_name.clone() });
        Some(claim.exposed_name.clone())
    }

    /// What a key's view makes of it.
    fn of_key(
        &mut self,
        key: &ApiKey,
        rules: &CompiledRules,
        exposed: String,
        claims: &Claims,
        taken: &mut HashSet<String>,
        scene: &Scene,
    ) -> Option<String> {
        let owner = RuleOwner::Key(key.id);
        if key.upstream_ids.as_ref().is_some_and(|ids| !ids.contains(&self.item.upstream_id)) {
            self.steps.push(Step::UpstreamNotOfKey);
            return None;
        }
        let subject =
            Subject { kind: self.kind, upstream_name: &self.item.upstream_name, exposed_name: &exposed };
        self.filtered(owner, rules.verdict(&subject))?;
        let Some(alias) = rules.alias(&subject) else { return Some(exposed) };
        let wanted = wanted_by_key(self.kind, &alias, &self.item.upstream_name, scene.length_max as usize);
        let (rule, name, description) = (alias.rule, alias.name, alias.description);
        if description.is_some() {
            self.description.clone_from(&description);
        }
        self.steps.push(Step::Alias { owner, rule, name: name.clone(), description });
        let not_applied = |name, reason| Step::NameNotApplied { rule, name, reason };
        match (wanted, name) {
            (None, Some(name)) => self.steps.push(not_applied(name, NotApplied::IsUri)),
            (None, None) => {}
            (Some(wanted), _) if wanted == exposed => {}
            (Some(wanted), _) if claims.holder(&wanted).is_some() => {
                self.steps.push(not_applied(wanted, NotApplied::Held));
            }
            (Some(wanted), _) if !taken.insert(wanted.clone()) => {
                self.steps.push(not_applied(wanted, NotApplied::Taken));
            }
            (Some(wanted), _) => return Some(wanted),
        }
        Some(exposed)
    }

    /// `None`: it is hidden.
    fn filtered(&mut self, owner: RuleOwner, verdict: Verdict) -> Option<()> {
        self.steps.push(match verdict {
            Verdict::Shown => return Some(()),
            Verdict::Denied(rule) => Step::Denied { owner, rule },
            Verdict::NotAllowed => Step::NotAllowed { owner },
        });
        None
    }
}
