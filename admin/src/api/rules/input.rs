//! Reading a rule from a body: a whole one, or a merge patch on a stored one.

use proxy::catalog::rules::{Pattern, Target};
use serde_json::Value;
use sql::model::rule::PATTERN_BYTES_MAX;
use sql::model::{FilterAction, MatchOn, RuleId, RuleKind, RuleKinds, RuleOwner, Timestamp};
use utoipa::ToSchema;

use super::noun::Noun;
use super::{OwnerView, owner};
use crate::doc;
use crate::error::ApiError;
use crate::fields::{self, Fields, Problems, flag, integer, parsed, text};
use crate::merge::merge;

/// Places go to both sides of 0; far from overflow.
const SORT_ORDER_MAX: i64 = 1_000_000_000;

/// Characters of a description; a longer one would fill a model's context at each list.
const DESCRIPTION_CHARS_MAX: usize = 8_192;

/// An alias rule as a client writes it.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewAliasRule)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct AliasBody {
    /// Whose rule it is; it can't be changed later.
    owner: OwnerView,
    /// A name, or a regular expression that a whole name must match; at most 1 KiB.
    pattern: String,
    /// Whether the pattern is a regular expression (RE2 syntax); false if not said.
    is_regex: Option<bool>,
    /// Which name is looked at; `upstream` if not said. Only rules of a key may say `exposed`.
    #[schema(schema_with = doc::match_on)]
    match_on: Option<MatchOn>,
    /// The new name; `$1` to `$9` and `${name}` stand for groups of the pattern. The name stays if not said.
    target_name: Option<String>,
    /// The new description. It stays if not said.
    target_description: Option<String>,
    /// Whether the rule counts; true if not said.
    enabled: Option<bool>,
    /// Its place among the owner's; behind the last if not said. The first match counts.
    sort_order: Option<i64>,
    /// What it applies to; everything if not said.
    #[schema(schema_with = doc::rule_kinds)]
    kinds: Option<Vec<RuleKind>>,
}

/// A filter rule as a client writes it.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewFilterRule)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct FilterBody {
    /// Whose rule it is; it can't be changed later.
    owner: OwnerView,
    /// A name, or a regular expression that a whole name must match; at most 1 KiB.
    pattern: String,
    /// Whether the pattern is a regular expression (RE2 syntax); false if not said.
    is_regex: Option<bool>,
    /// Which name is looked at; `upstream` if not said. Only rules of a key may say `exposed`.
    #[schema(schema_with = doc::match_on)]
    match_on: Option<MatchOn>,
    /// `deny` removes what matches; as soon as an owner has an `allow`, what matches none of them is removed.
    #[schema(schema_with = doc::filter_action)]
    action: FilterAction,
    /// Whether the rule counts; true if not said.
    enabled: Option<bool>,
    /// Its place among the owner's; behind the last if not said.
    sort_order: Option<i64>,
    /// What it applies to; everything if not said.
    #[schema(schema_with = doc::rule_kinds)]
    kinds: Option<Vec<RuleKind>>,
}

/// A merge patch (RFC 7396) on an alias rule: absent fields stay, `null` brings back the default.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AliasRulePatch)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct AliasPatch {
    /// A name, or a regular expression that a whole name must match; at most 1 KiB.
    pattern: Option<String>,
    /// Whether the pattern is a regular expression (RE2 syntax).
    is_regex: Option<bool>,
    /// Which name is looked at. Only rules of a key may say `exposed`.
    #[schema(schema_with = doc::match_on)]
    match_on: Option<MatchOn>,
    /// The new name; `$1` to `$9` and `${name}` stand for groups of the pattern.
    target_name: Option<String>,
    /// The new description.
    target_description: Option<String>,
    /// Whether the rule counts.
    enabled: Option<bool>,
    /// Its place among the owner's. The first match counts.
    sort_order: Option<i64>,
    /// What it applies to.
    #[schema(schema_with = doc::rule_kinds)]
    kinds: Option<Vec<RuleKind>>,
}

/// The same on a filter rule.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FilterRulePatch)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct FilterPatch {
    /// A name, or a regular expression that a whole name must match; at most 1 KiB.
    pattern: Option<String>,
    /// Whether the pattern is a regular expression (RE2 syntax).
    is_regex: Option<bool>,
    /// Which name is looked at. Only rules of a key may say `exposed`.
    #[schema(schema_with = doc::match_on)]
    match_on: Option<MatchOn>,
    /// `deny` removes what matches; as soon as an owner has an `allow`, what matches none of them is removed.
    #[schema(schema_with = doc::filter_action)]
    action: Option<FilterAction>,
    /// Whether the rule counts.
    enabled: Option<bool>,
    /// Its place among the owner's.
    sort_order: Option<i64>,
    /// What it applies to.
    #[schema(schema_with = doc::rule_kinds)]
    kinds: Option<Vec<RuleKind>>,
}

/// What a client doesn't say of a rule.
#[derive(Clone, Copy)]
pub(crate) struct Stamp {
    pub(super) id: RuleId,
    pub(super) version: i64,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
}

impl Stamp {
    /// That of a rule that is created now.
    pub(super) fn new(id: RuleId, now: Timestamp) -> Self {
        Self { id, version: 1, created_at: now, updated_at: now }
    }
}

/// What both kinds of rule say.
pub(crate) struct Common {
    pub(super) owner: RuleOwner,
    pub(super) pattern: String,
    pub(super) is_regex: bool,
    pub(super) match_on: MatchOn,
    pub(super) enabled: bool,
    pub(super) sort_order: i64,
    pub(super) kinds: RuleKinds,
    /// The pattern, if it is one.
    pub(super) compiled: Option<Pattern>,
}

/// Reads a whole rule, and says whether its place was given.
pub(super) fn parse<R: Noun>(value: Value, stamp: Stamp) -> Result<(R, bool), ApiError> {
    let mut problems = Problems::default();
    let read = read(value, "", stamp, &mut problems);
    problems.unless_any(read)
}

/// Reads a merge patch on `stored`. A rule stays its owner's.
pub(super) fn parse_patch<R: Noun>(patch: Value, stored: &R) -> Result<R, ApiError> {
    if !patch.is_object() {
        return Err(ApiError::field("", "must be an object"));
    }
    let mut whole = stored.settable();
    merge(&mut whole, patch);
    let mut problems = Problems::default();
    let read = read::<R>(whole, "", stored.stamp(), &mut problems);
    if read.as_ref().is_some_and(|(rule, _)| rule.owner() != stored.owner()) {
        problems.add("/owner", "can't be changed: create a rule for the other owner");
    }
    problems.unless_any(read.map(|(rule, _)| rule))
}

/// Reads the rule at `pointer`.
pub(super) fn read<R: Noun>(
    value: Value,
    pointer: &str,
    stamp: Stamp,
    problems: &mut Problems,
) -> Option<(R, bool)> {
    let mut fields = Fields::open(value, pointer, problems)?;
    let owner = owner::read(&mut fields, problems);
    let pattern = fields.required("pattern", problems, text(1..=PATTERN_BYTES_MAX));
    let is_regex = fields.optional("isRegex", problems, flag).unwrap_or(false);
    let compiled = pattern.as_ref().and_then(|pattern| {
        let compiled = Pattern::compile(pattern, is_regex);
        compiled.map_err(|error| problems.add(fields.at("pattern"), error.to_string())).ok()
    });
    let match_on = fields.optional("matchOn", problems, parsed).unwrap_or(MatchOn::Upstream);
    if match_on == MatchOn::Exposed && owner.is_some_and(|owner| !matches!(owner, RuleOwner::Key(_))) {
        problems.add(fields.at("matchOn"), "must be upstream: only rules of a key see exposed names");
    }
    let enabled = fields.optional("enabled", problems, flag).unwrap_or(true);
    let sort_order = fields.optional("sortOrder", problems, integer(-SORT_ORDER_MAX..=SORT_ORDER_MAX));
    let kinds = kinds(&mut fields, problems);
    let common = Common {
        // What stands in for a part that is missing never leaves here: then there is a problem.
        owner: owner.unwrap_or(RuleOwner::All),
        pattern: pattern.unwrap_or_default(),
        is_regex,
        match_on,
        enabled,
        sort_order: sort_order.unwrap_or_default(),
        kinds: kinds.unwrap_or_default(),
        compiled,
    };
    let rule = R::read(common, stamp, &mut fields, problems);
    fields.close(problems);
    Some((rule?, sort_order.is_some()))
}

/// The name that an alias gives, with groups that its pattern has.
pub(super) fn target_name(common: &Common, fields: &mut Fields, problems: &mut Problems) -> Option<String> {
    fields.optional("targetName", problems, |value| {
        let name = text(1..=PATTERN_BYTES_MAX)(value)?;
        if let Some(pattern) = &common.compiled {
            Target::compile(&name, pattern).map_err(|error| error.to_string())?;
        }
        Ok(name)
    })
}

/// The description that an alias gives. It may have lines.
pub(super) fn target_description(fields: &mut Fields, problems: &mut Problems) -> Option<String> {
    fields.optional("targetDescription", problems, |value| {
        let Value::String(text) = value else { return Err("must be a text".into()) };
        if text.chars().count() > DESCRIPTION_CHARS_MAX {
            return Err(format!("must have at most {DESCRIPTION_CHARS_MAX} characters"));
        }
        if text.chars().any(|character| character.is_control() && !matches!(character, '\n' | '\t')) {
            return Err("must not contain control characters but tabs and ends of lines".into());
        }
        Ok(text)
    })
}

fn kinds(fields: &mut Fields, problems: &mut Problems) -> Option<RuleKinds> {
    let pointer = fields.at("kinds");
    let value = fields.take("kinds")?;
    let kinds = fields::list(value, &pointer, RuleKind::ALL.len(), problems, |value, at, problems| {
        parsed::<RuleKind>(value).map_err(|message| problems.add(at, message)).ok()
    })?;
    let kinds = RuleKinds::of(kinds);
    if kinds.is_none() {
        problems.add(pointer, "must name at least one kind");
    }
    kinds
}
