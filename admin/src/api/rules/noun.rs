//! How the two kinds of rule differ.

use serde::Serialize;
use serde_json::{Value, json};
use sql::model::{AliasRule, FilterAction, FilterRule};
use sql::rules::Rule;

use super::input::{Common, Stamp, target_description, target_name};
use super::owner;
use super::wire::{AliasView, FilterView};
use crate::fields::{Fields, Problems, parsed};

/// A kind of rule, as the API has it.
pub(crate) trait Noun: Rule + Clone + PartialEq {
    /// What it is called.
    const NAME: &'static str;
    /// Where its kind is administered.
    const PATH: &'static str;
    /// What the audit log calls a new one.
    const CREATE: &'static str;
    /// What it calls a change.
    const UPDATE: &'static str;
    /// What it calls a deletion.
    const DELETE: &'static str;
    /// What it calls a new order.
    const REORDER: &'static str;
    /// Whether it has a say in the names that everybody sees, unless it is a key's.
    const NAMES: bool;
    /// How it is answered.
    type View: Serialize;

    /// The answer.
    fn view(&self) -> Self::View;
    /// What a client may set, as it would write it.
    fn settable(&self) -> Value;
    /// What a client doesn't say of it.
    fn stamp(&self) -> Stamp;
    /// The pattern.
    fn pattern(&self) -> &str;
    /// Puts it at this place.
    fn placed(self, sort_order: i64) -> Self;
    /// The same as another version.
    fn stamped(self, stamp: Stamp) -> Self;
    /// Reads what only this kind has.
    fn read(common: Common, stamp: Stamp, fields: &mut Fields, problems: &mut Problems) -> Option<Self>;
    /// All of one owner, in order.
    fn of(rules: &sql::model::OwnerRules) -> &[Self];
    /// Its place.
    fn sort_order(&self) -> i64;
}

impl Noun for AliasRule {
    const NAME: &'static str = "alias rule";
    const PATH: &'static str = "/api/admin/rules/aliases";
    const CREATE: &'static str = "alias_rule.create";
    const UPDATE: &'static str = "alias_rule.update";
    const DELETE: &'static str = "alias_rule.delete";
    const REORDER: &'static str = "alias_rule.reorder";
    const NAMES: bool = true;
    type View = AliasView;

    fn view(&self) -> AliasView {
        AliasView::from(self)
    }

    fn settable(&self) -> Value {
        json!({
            "owner": owner::settable(self.owner),
            "pattern": self.pattern,
            "isRegex": self.is_regex,
            "matchOn": self.match_on,
            "targetName": self.target_name,
            "targetDescription": self.target_description,
            "enabled": self.enabled,
            "sortOrder": self.sort_order,
            "kinds": self.kinds,
        })
    }

    fn stamp(&self) -> Stamp {
        let Self { id, version, created_at, updated_at, .. } = *self;
        Stamp { id, version, created_at, updated_at }
    }

    fn pattern(&self) -> &str {
        &self.pattern
    }

    fn placed(self, sort_order: i64) -> Self {
        Self { sort_order, ..self }
    }

    fn stamped(self, stamp: Stamp) -> Self {
        let Stamp { id, version, created_at, updated_at } = stamp;
        Self { id, version, created_at, updated_at, ..self }
    }

    fn read(common: Common, stamp: Stamp, fields: &mut Fields, problems: &mut Problems) -> Option<Self> {
        let target_name = target_name(&common, fields, problems);
        let target_description = target_description(fields, problems);
        let Stamp { id, version, created_at, updated_at } = stamp;
        let Common { owner, pattern, is_regex, match_on, enabled, sort_order, kinds, .. } = common;
        Some(Self {
            id,
            owner,
            pattern,
            is_regex,
            match_on,
            target_name,
            target_description,
            enabled,
            sort_order,
            kinds,
            version,
            created_at,
            updated_at,
        })
    }

    fn of(rules: &sql::model::OwnerRules) -> &[Self] {
        &rules.aliases
    }

    fn sort_order(&self) -> i64 {
        self.sort_order
    }
}

impl Noun for FilterRule {
    const NAME: &'static str = "filter rule";
    const PATH: &'static str = "/api/admin/rules/filters";
    const CREATE: &'static str = "filter_rule.create";
    const UPDATE: &'static str = "filter_rule.update";
    const DELETE: &'static str = "filter_rule.delete";
    const REORDER: &'static str = "filter_rule.reorder";
    const NAMES: bool = false;
    type View = FilterView;

    fn view(&self) -> FilterView {
        FilterView::from(self)
    }

    fn settable(&self) -> Value {
        json!({
            "owner": owner::settable(self.owner),
            "pattern": self.pattern,
            "isRegex": self.is_regex,
            "matchOn": self.match_on,
            "action": self.action,
            "enabled": self.enabled,
            "sortOrder": self.sort_order,
            "kinds": self.kinds,
        })
    }

    fn stamp(&self) -> Stamp {
        let Self { id, version, created_at, updated_at, .. } = *self;
        Stamp { id, version, created_at, updated_at }
    }

    fn pattern(&self) -> &str {
        &self.pattern
    }

    fn placed(self, sort_order: i64) -> Self {
        Self { sort_order, ..self }
    }

    fn stamped(self, stamp: Stamp) -> Self {
        let Stamp { id, version, created_at, updated_at } = stamp;
        Self { id, version, created_at, updated_at, ..self }
    }

    fn read(common: Common, stamp: Stamp, fields: &mut Fields, problems: &mut Problems) -> Option<Self> {
        let action = fields.required("action", problems, parsed::<FilterAction>);
        let Stamp { id, version, created_at, updated_at } = stamp;
        let Common { owner, pattern, is_regex, match_on, enabled, sort_order, kinds, .. } = common;
        let action = action?;
        Some(Self {
            id,
            owner,
            pattern,
            is_regex,
            match_on,
            action,
            enabled,
            sort_order,
            kinds,
            version,
            created_at,
            updated_at,
        })
    }

    fn of(rules: &sql::model::OwnerRules) -> &[Self] {
        &rules.filters
    }

    fn sort_order(&self) -> i64 {
        self.sort_order
    }
}
