//! Why an item is what it is, on the wire: each step with the rule that decided it.

use std::collections::HashMap;

use proxy::catalog::rules::explain::{Explained, NotApplied, Scene, Step};
use serde::Serialize;
use sql::model::{Definition, DefinitionId, Kind, RuleId, RuleOwner, Upstream, UpstreamId};
use utoipa::ToSchema;

use super::Shown;
use crate::api::rules::OwnerView;
use crate::doc;

/// What becomes of an item, and by which steps.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ExplainedItem)]
pub(crate) struct ExplainedView {
    /// The stored definition.
    #[schema(value_type = uuid::Uuid)]
    id: DefinitionId,
    /// Of which list.
    #[schema(schema_with = doc::kind)]
    kind: Kind,
    /// Whose it is.
    #[schema(value_type = uuid::Uuid)]
    upstream_id: UpstreamId,
    /// That upstream's name.
    upstream_name: String,
    /// Its name, URI or URI template at its upstream.
    name: String,
    /// Whether the caller sees it.
    visible: bool,
    /// What the caller calls it; null: the caller doesn't see it.
    exposed_name: Option<String>,
    /// What the caller reads that it does.
    description: Option<String>,
    /// What decided, in order. The last step is the one that hides it, if something does.
    steps: Vec<StepView>,
}

/// One decision.
#[derive(Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Step)]
pub(crate) struct StepView {
    /// `upstreamDisabled`, `upstreamNotOfKey`, `switchedOff`, `denied` and `notAllowed` hide the item;
    /// `alias`, `named` and `nameNotApplied` name it.
    step: &'static str,
    /// The same for a person.
    message: String,
    /// Whose rule decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<OwnerView>,
    /// Which rule decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<RuleView>,
    /// The name that it would have, or that an alias gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The name that it has by its claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    exposed_name: Option<String>,
}

/// A rule, as a step refers to it.
#[derive(Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StepRule)]
pub(crate) struct RuleView {
    /// A stored rule's id; of a draft that has none, null.
    #[schema(value_type = Option<uuid::Uuid>)]
    pub(crate) id: Option<RuleId>,
    /// A drafted rule's place in its list of the request.
    pub(crate) draft: Option<usize>,
    /// Its pattern.
    pub(crate) pattern: String,
}

/// Turns explanations into answers.
pub(crate) struct Teller<'a> {
    upstreams: HashMap<UpstreamId, &'a Upstream>,
    definitions: HashMap<DefinitionId, &'a Definition>,
    rules: HashMap<RuleId, RuleView>,
}

impl<'a> Teller<'a> {
    /// Tells of what is in `scene`. `drafts`: the rules that aren't stored, or not so.
    pub(crate) fn new(scene: &'a Scene, drafts: HashMap<RuleId, RuleView>) -> Self {
        let mut rules = HashMap::new();
        let stored = |id, pattern: &str| RuleView { id: Some(id), draft: None, pattern: pattern.to_owned() };
        for owned in scene.rules.values() {
            rules.extend(owned.aliases.iter().map(|rule| (rule.id, stored(rule.id, &rule.pattern))));
            rules.extend(owned.filters.iter().map(|rule| (rule.id, stored(rule.id, &rule.pattern))));
        }
        rules.extend(drafts);
        Self {
            upstreams: scene.upstreams.iter().map(|upstream| (upstream.id, upstream)).collect(),
            definitions: scene.definitions.iter().map(|item| (item.id, item)).collect(),
            rules,
        }
    }

    /// The name of the upstream that an item is of.
    pub(crate) fn upstream(&self, explained: &Explained) -> &str {
        self.upstreams.get(&explained.upstream_id).map_or("", |upstream| &upstream.name)
    }

    /// The answer.
    pub(crate) fn view(&self, explained: &Explained) -> ExplainedView {
        let said = || Shown::of(self.definitions.get(&explained.id)?).description;
        ExplainedView {
            id: explained.id,
            kind: explained.kind,
            upstream_id: explained.upstream_id,
            upstream_name: self.upstream(explained).to_owned(),
            name: explained.upstream_name.clone(),
            visible: explained.exposed_name.is_some(),
            exposed_name: explained.exposed_name.clone(),
            description: explained.description.as_deref().map(str::to_owned).or_else(said),
            steps: explained.steps.iter().map(|step| self.step(step)).collect(),
        }
    }

    fn step(&self, step: &Step) -> StepView {
        let plain = |step, message: &str| StepView { step, message: message.into(), ..StepView::default() };
        match step {
            Step::UpstreamDisabled => plain("upstreamDisabled", "its upstream is disabled"),
            Step::UpstreamNotOfKey => plain("upstreamNotOfKey", "the key may not use its upstream"),
            Step::SwitchedOff => plain("switchedOff", "an admin switched it off"),
            Step::Held => plain("held", "it changed, and waits for an admin's approval"),
            Step::Denied { owner, rule } => {
                self.ruled("denied", format!("a filter rule of {} denies it", whose(*owner)), *owner, *rule)
            }
            Step::NotAllowed { owner } => StepView {
                step: "notAllowed",
                message: format!("none of the filter rules of {} that allow matches it", whose(*owner)),
                owner: Some((*owner).into()),
                ..StepView::default()
            },
            Step::Alias { owner, rule, name, .. } => StepView {
                name: name.clone(),
                ..self.ruled("alias", format!("an alias rule of {} matches it", whose(*owner)), *owner, *rule)
            },
            Step::Named { wanted, exposed } => StepView {
                step: "named",
                message: if wanted == exposed {
                    "it holds the name that it wants".into()
                } else {
                    "another item holds the name that it wants".into()
                },
                name: Some(wanted.clone()),
                exposed_name: Some(exposed.clone()),
                ..StepView::default()
            },
            Step::NameNotApplied { rule, name, reason } => StepView {
                step: "nameNotApplied",
                message: match reason {
                    NotApplied::Held => "another item holds the name that the key's alias gives",
                    NotApplied::Taken => "an alias of the key gives the same name to an item before it",
                    NotApplied::IsUri => "resources have the same URI for every key",
                }
                .into(),
                rule: self.rules.get(rule).cloned(),
                name: Some(name.clone()),
                ..StepView::default()
            },
        }
    }

    fn ruled(&self, step: &'static str, message: String, owner: RuleOwner, rule: RuleId) -> StepView {
        let (owner, rule) = (Some(owner.into()), self.rules.get(&rule).cloned());
        StepView { step, message, owner, rule, ..StepView::default() }
    }
}

fn whose(owner: RuleOwner) -> &'static str {
    match owner {
        RuleOwner::Upstream(_) => "its upstream",
        RuleOwner::All => "all upstreams",
        RuleOwner::Key(_) => "the key",
    }
}
