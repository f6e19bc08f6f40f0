//! How rules look on the wire.

use serde::Serialize;
use sql::model::{
    AliasRule, DamagedRule, FilterAction, FilterRule, MatchOn, Page, RuleId, RuleKinds, Timestamp,
};
use utoipa::ToSchema;

use super::OwnerView;
use crate::doc;

/// A rule that gives another name or description.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AliasRule)]
pub(crate) struct AliasView {
    /// Which.
    #[schema(value_type = uuid::Uuid)]
    id: RuleId,
    /// Whose.
    owner: OwnerView,
    /// A name, or a regular expression that a whole name must match.
    pattern: String,
    /// Whether the pattern is a regular expression.
    is_regex: bool,
    /// Which name is looked at.
    #[schema(schema_with = doc::match_on)]
    match_on: MatchOn,
    /// The new name; null: it stays.
    target_name: Option<String>,
    /// The new description; null: it stays.
    target_description: Option<String>,
    /// Whether the rule counts.
    enabled: bool,
    /// Its place among the owner's.
    sort_order: i64,
    /// What it applies to.
    #[schema(schema_with = doc::rule_kinds)]
    kinds: RuleKinds,
    /// Grows with each change; the ETag.
    version: i64,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<&AliasRule> for AliasView {
    fn from(rule: &AliasRule) -> Self {
        Self {
            id: rule.id,
            owner: rule.owner.into(),
            pattern: rule.pattern.clone(),
            is_regex: rule.is_regex,
            match_on: rule.match_on,
            target_name: rule.target_name.clone(),
            target_description: rule.target_description.clone(),
            enabled: rule.enabled,
            sort_order: rule.sort_order,
            kinds: rule.kinds,
            version: rule.version,
            created_at: rule.created_at,
            updated_at: rule.updated_at,
        }
    }
}

/// A rule that removes items.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FilterRule)]
pub(crate) struct FilterView {
    /// Which.
    #[schema(value_type = uuid::Uuid)]
    id: RuleId,
    /// Whose.
    owner: OwnerView,
    /// A name, or a regular expression that a whole name must match.
    pattern: String,
    /// Whether the pattern is a regular expression.
    is_regex: bool,
    /// Which name is looked at.
    #[schema(schema_with = doc::match_on)]
    match_on: MatchOn,
    /// What it does.
    #[schema(schema_with = doc::filter_action)]
    action: FilterAction,
    /// Whether the rule counts.
    enabled: bool,
    /// Its place among the owner's.
    sort_order: i64,
    /// What it applies to.
    #[schema(schema_with = doc::rule_kinds)]
    kinds: RuleKinds,
    /// Grows with each change; the ETag.
    version: i64,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<&FilterRule> for FilterView {
    fn from(rule: &FilterRule) -> Self {
        Self {
            id: rule.id,
            owner: rule.owner.into(),
            pattern: rule.pattern.clone(),
            is_regex: rule.is_regex,
            match_on: rule.match_on,
            action: rule.action,
            enabled: rule.enabled,
            sort_order: rule.sort_order,
            kinds: rule.kinds,
            version: rule.version,
            created_at: rule.created_at,
            updated_at: rule.updated_at,
        }
    }
}

/// One page of rules.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuleList<T> {
    /// The rules, in order.
    items: Vec<T>,
    /// Where the next page begins; null on the last.
    next_cursor: Option<String>,
    /// How many rules match in all, damaged ones included.
    total: u64,
    /// Rules of this page that can't be read and don't count. Delete them and write them anew.
    damaged: Vec<DamagedView>,
}

impl<T> RuleList<T> {
    /// The answer for a page, and what of it can't be read.
    pub(super) fn of(page: Page<T>, damaged: Vec<DamagedRule>) -> Self {
        let damaged = damaged.into_iter().map(DamagedView::from).collect();
        Self { items: page.items, next_cursor: page.next_cursor, total: page.total, damaged }
    }
}

/// A stored rule that can't be read.
#[derive(Serialize, ToSchema)]
#[schema(as = DamagedRule)]
pub(crate) struct DamagedView {
    /// Its id, as it is stored.
    id: String,
    /// Whose it is, if that can be read.
    owner: Option<OwnerView>,
    /// What is wrong.
    message: String,
}

impl From<DamagedRule> for DamagedView {
    fn from(damaged: DamagedRule) -> Self {
        let message = format!("what is stored as its {} can't be read", damaged.column);
        Self { id: damaged.id, owner: damaged.owner.map(OwnerView::from), message }
    }
}
