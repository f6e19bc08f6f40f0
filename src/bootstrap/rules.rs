//! The rules of a bootstrap file: whose they are by name, since a file can't know ids.
//!
//! A rule has no name to be matched by. It is the same rule as a stored one if the owner has one with the same
//! pattern that is meant the same way; what else the file says of it is laid over that.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sql::model::{
    AliasRule, ApiKeyId, FieldError, FilterRule, OwnerRules, RuleId, RuleOwner, Timestamp, UpstreamId,
};
use sql::rules::Rule;

use super::{below, bodies, items, refuse_second};

/// Every rule of the file.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) aliases: Vec<RuleItem<AliasRule>>,
    pub(super) filters: Vec<RuleItem<FilterRule>>,
}

/// One rule of the file.
pub(super) struct RuleItem<R> {
    pub(super) pointer: String,
    pub(super) owner: OwnerName,
    /// The fields that the file gives; the others keep what is stored.
    pub(super) said: Map<String, Value>,
    /// What the file says, of an owner of no installation.
    pub(super) new: R,
    /// Whether the file gives it a place.
    pub(super) placed: bool,
}

/// Whose rule it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OwnerName {
    /// That of all upstreams.
    All,
    /// The upstream with this name.
    Upstream(String),
    /// The key with this name.
    Key(String),
}

impl OwnerName {
    /// An owner of the same kind that no installation has.
    fn stand_in(&self) -> RuleOwner {
        match self {
            Self::All => RuleOwner::All,
            Self::Upstream(_) => RuleOwner::Upstream(UpstreamId::at(Timestamp::from_millis(0))),
            Self::Key(_) => RuleOwner::Key(ApiKeyId::at(Timestamp::from_millis(0))),
        }
    }
}

/// A kind of rule, as a file has it.
pub(super) trait Declared: Rule + Clone + PartialEq {
    /// What the audit log calls a new one.
    const CREATE: &'static str;
    /// What it calls a change.
    const UPDATE: &'static str;
    /// Whether it has a say in the names that everybody sees, unless it is a key's.
    const NAMES: bool;

    /// Reads a body without its owner, and says whether it has a place.
    fn parse(body: Value, owner: RuleOwner) -> Result<(Self, bool), Vec<FieldError>>;
    /// What the audit log keeps.
    fn diff(before: Option<&Self>, after: &Self) -> Value;
    /// What tells the rules of an owner apart.
    fn meaning(&self) -> String;
    /// The pattern.
    fn pattern(&self) -> &str;
    /// The place.
    fn sort_order(&self) -> i64;
    /// Those of an owner.
    fn of(rules: OwnerRules) -> Vec<Self>;
    /// A new rule of this owner, at this place.
    fn made(self, owner: RuleOwner, id: RuleId, sort_order: i64, now: Timestamp) -> Self;
    /// The next version.
    fn next(self, now: Timestamp) -> Self;
    /// What is stored, with what the file says laid over.
    fn over(self, item: &RuleItem<Self>) -> Self;
}

/// What no rule has yet.
fn blank() -> (RuleId, Timestamp) {
    (RuleId::at(Timestamp::from_millis(0)), Timestamp::from_millis(0))
}

impl Declared for AliasRule {
    const CREATE: &'static str = "alias_rule.create";
    const UPDATE: &'static str = "alias_rule.update";
    const NAMES: bool = true;

    fn parse(body: Value, owner: RuleOwner) -> Result<(Self, bool), Vec<FieldError>> {
        let (id, now) = blank();
        bodies::alias(body, owner, id, now)
    }

    fn diff(before: Option<&Self>, after: &Self) -> Value {
        bodies::alias_diff(before, after)
    }

    fn meaning(&self) -> String {
        format!("{} {} {}", self.is_regex, self.match_on, self.pattern)
    }

    fn pattern(&self) -> &str {
        &self.pattern
    }

    fn sort_order(&self) -> i64 {
        self.sort_order
    }

    fn of(rules: OwnerRules) -> Vec<Self> {
        rules.aliases
    }

    fn made(self, owner: RuleOwner, id: RuleId, sort_order: i64, now: Timestamp) -> Self {
        Self { id, owner, sort_order, created_at: now, updated_at: now, ..self }
    }

    fn next(self, now: Timestamp) -> Self {
        Self { version: self.version + 1, updated_at: now, ..self }
    }

    fn over(self, item: &RuleItem<Self>) -> Self {
        let new = item.new.clone();
        let said = |field| item.said.contains_key(field);
        Self {
            target_name: if said("targetName") { new.target_name } else { self.target_name },
            target_description: if said("targetDescription") {
                new.target_description
            } else {
                self.target_description
            },
            enabled: if said("enabled") { new.enabled } else { self.enabled },
            sort_order: if item.placed { new.sort_order } else { self.sort_order },
            kinds: if said("kinds") { new.kinds } else { self.kinds },
            ..self
        }
    }
}

impl Declared for FilterRule {
    const CREATE: &'static str = "filter_rule.create";
    const UPDATE: &'static str = "filter_rule.update";
    const NAMES: bool = false;

    fn parse(body: Value, owner: RuleOwner) -> Result<(Self, bool), Vec<FieldError>> {
        let (id, now) = blank();
        bodies::filter(body, owner, id, now)
    }

    fn diff(before: Option<&Self>, after: &Self) -> Value {
        bodies::filter_diff(before, after)
    }

    fn meaning(&self) -> String {
        format!("{} {} {} {}", self.action, self.is_regex, self.match_on, self.pattern)
    }

    fn pattern(&self) -> &str {
        &self.pattern
    }

    fn sort_order(&self) -> i64 {
        self.sort_order
    }

    fn of(rules: OwnerRules) -> Vec<Self> {
        rules.filters
    }

    fn made(self, owner: RuleOwner, id: RuleId, sort_order: i64, now: Timestamp) -> Self {
        Self { id, owner, sort_order, created_at: now, updated_at: now, ..self }
    }

    fn next(self, now: Timestamp) -> Self {
        Self { version: self.version + 1, updated_at: now, ..self }
    }

    fn over(self, item: &RuleItem<Self>) -> Self {
        let new = item.new.clone();
        let said = |field| item.said.contains_key(field);
        Self {
            enabled: if said("enabled") { new.enabled } else { self.enabled },
            sort_order: if item.placed { new.sort_order } else { self.sort_order },
            kinds: if said("kinds") { new.kinds } else { self.kinds },
            ..self
        }
    }
}

/// The rules of the group `rules`.
pub(super) fn read(group: Option<Value>, problems: &mut Vec<FieldError>) -> Rules {
    let mut lists = match group {
        None | Some(Value::Null) => return Rules::default(),
        Some(Value::Object(lists)) => lists,
        Some(_) => {
            problems.push(FieldError::new("/rules", "must be a mapping of `aliases:` and `filters:`"));
            return Rules::default();
        }
    };
    let aliases = read_list(lists.remove("aliases"), "/rules/aliases", problems);
    let filters = read_list(lists.remove("filters"), "/rules/filters", problems);
    for name in lists.keys() {
        let pointer = format!("/rules/{}", super::document::escape(name));
        problems.push(FieldError::new(pointer, "is not a known group"));
    }
    Rules { aliases, filters }
}

fn read_list<R: Declared>(
    list: Option<Value>,
    pointer: &str,
    problems: &mut Vec<FieldError>,
) -> Vec<RuleItem<R>> {
    let mut known = BTreeMap::new();
    let mut rules = Vec::new();
    for (pointer, mut said) in items(list, pointer, problems) {
        let owner = owner(said.remove("owner"));
        // Of what kind the owner is decides on a field; without one, what else is wrong can still be said.
        let stand_in = owner.as_ref().map_or(RuleOwner::All, OwnerName::stand_in);
        match (owner, R::parse(Value::Object(said.clone()), stand_in)) {
            (Ok(owner), Ok((new, placed))) => {
                let claimed = format!("{owner:?} {}", new.meaning());
                refuse_second("pattern", &claimed, &pointer, &mut known, problems);
                rules.push(RuleItem { pointer, owner, said, new, placed });
            }
            (owner, new) => {
                let errors = owner.err().into_iter().chain(new.err()).flatten();
                problems.extend(errors.map(|error| below(&pointer, error)));
            }
        }
    }
    rules
}

/// `{type: upstream, name: ..}`, `{type: key, name: ..}` or `{type: all}`.
fn owner(said: Option<Value>) -> Result<OwnerName, Vec<FieldError>> {
    let refused = |pointer: &str, message: &str| Err(vec![FieldError::new(pointer, message)]);
    let mut owner = match said {
        None | Some(Value::Null) => return refused("/owner", "is required"),
        Some(Value::Object(owner)) => owner,
        Some(_) => return refused("/owner", "must be a mapping such as {type: upstream, name: time}"),
    };
    let (kind, name) = (owner.remove("type"), owner.remove("name"));
    if let Some(other) = owner.keys().next() {
        let pointer = format!("/owner/{}", super::document::escape(other));
        return refused(&pointer, "is not a known field");
    }
    match (kind.as_ref().and_then(Value::as_str), name) {
        (Some("all"), None) => Ok(OwnerName::All),
        (Some("all"), Some(_)) => refused("/owner/name", "stands with all, which has no name"),
        (Some("upstream"), Some(Value::String(name))) => Ok(OwnerName::Upstream(name)),
        (Some("key"), Some(Value::String(name))) => Ok(OwnerName::Key(name)),
        (Some("upstream" | "key"), _) => refused("/owner/name", "is required, as a text"),
        _ => refused("/owner/type", "must be one of upstream, all, key"),
    }
}
