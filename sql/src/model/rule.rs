//! Rules: who sees which tools, prompts and resources, and under which name.
//!
//! Nothing here looks into a pattern: what it means and whether it is valid is the proxy's to say.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::closed_set::closed_set;
use super::definition::Kind;
use super::ids::{ApiKeyId, RuleId, UpstreamId};
use super::time::Timestamp;

/// Alias rules, and filter rules, that one owner may have: each name of a list is held against all of them.
pub const RULES_PER_OWNER_MAX: usize = 200;
/// Bytes of a pattern: what bounds the work of compiling it (threat T32).
pub const PATTERN_BYTES_MAX: usize = 1_024;

/// Whose rule it is, and so where it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleOwner {
    /// The lists of one upstream, for every caller.
    Upstream(UpstreamId),
    /// The lists of every upstream, for every caller.
    All,
    /// What one key's caller sees.
    Key(ApiKeyId),
}

impl RuleOwner {
    /// The id of the upstream or key; nil for all. Changes are noted under it.
    pub fn id(self) -> Uuid {
        match self {
            Self::Upstream(id) => id.uuid(),
            Self::All => Uuid::nil(),
            Self::Key(id) => id.uuid(),
        }
    }

    /// What kind of owner it is, in a word.
    pub fn kind(self) -> OwnerKind {
        match self {
            Self::Upstream(_) => OwnerKind::Upstream,
            Self::All => OwnerKind::All,
            Self::Key(_) => OwnerKind::Key,
        }
    }
}

impl fmt::Display for RuleOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(id) => write!(f, "upstream {id}"),
            Self::All => f.write_str("all"),
            Self::Key(id) => write!(f, "key {id}"),
        }
    }
}

closed_set! {
    /// The kinds of [`RuleOwner`].
    pub enum OwnerKind {
        /// One upstream.
        Upstream = "upstream",
        /// Everything.
        All = "all",
        /// One key.
        Key = "key",
    }
}

closed_set! {
    /// Which name a pattern is held against.
    pub enum MatchOn {
        /// The upstream's own, which no alias changes.
        Upstream = "upstream",
        /// The one that clients know it by. Only rules of a key may say so.
        Exposed = "exposed",
    }
}

closed_set! {
    /// What a filter rule does with what it matches.
    pub enum FilterAction {
        /// Removes it.
        Deny = "deny",
        /// Keeps it, and removes what no such rule of the owner matches.
        Allow = "allow",
    }
}

closed_set! {
    /// What a rule can apply to.
    pub enum RuleKind {
        /// Tools.
        Tool = "tool",
        /// Prompts.
        Prompt = "prompt",
        /// Resources and resource templates.
        Resource = "resource",
    }
}

impl From<Kind> for RuleKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Tool => Self::Tool,
            Kind::Prompt => Self::Prompt,
            Kind::Resource | Kind::ResourceTemplate => Self::Resource,
        }
    }
}

/// What a rule applies to: at least one kind. In JSON an array of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleKinds(u8);

impl RuleKinds {
    /// Everything.
    pub const ALL: Self = Self(0b111);

    /// These kinds; `None` if there is none.
    pub fn of(kinds: impl IntoIterator<Item = RuleKind>) -> Option<Self> {
        let bits = kinds.into_iter().fold(0, |bits, kind| bits | bit(kind));
        (bits != 0).then_some(Self(bits))
    }

    /// Whether a rule with these kinds applies to items of that list.
    pub fn has(self, kind: Kind) -> bool {
        self.0 & bit(kind.into()) != 0
    }

    /// The kinds, in the order of declaration.
    pub fn iter(self) -> impl Iterator<Item = RuleKind> {
        RuleKind::ALL.iter().copied().filter(move |kind| self.0 & bit(*kind) != 0)
    }
}

fn bit(kind: RuleKind) -> u8 {
    match kind {
        RuleKind::Tool => 0b001,
        RuleKind::Prompt => 0b010,
        RuleKind::Resource => 0b100,
    }
}

impl Default for RuleKinds {
    fn default() -> Self {
        Self::ALL
    }
}

impl Serialize for RuleKinds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for RuleKinds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let kinds = Vec::<RuleKind>::deserialize(deserializer)?;
        Self::of(kinds).ok_or_else(|| serde::de::Error::custom("must name at least one kind"))
    }
}

/// Gives what it matches another name or description. Of an owner's, the first enabled match counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasRule {
    /// Which.
    pub id: RuleId,
    /// Whose.
    pub owner: RuleOwner,
    /// A name, or a regular expression for a whole name; at most [`PATTERN_BYTES_MAX`].
    pub pattern: String,
    /// Whether the pattern is a regular expression.
    pub is_regex: bool,
    /// Which name it is held against.
    pub match_on: MatchOn,
    /// The new name; `$1` and `${name}` stand for groups of the pattern. None: the name stays.
    pub target_name: Option<String>,
    /// The new description. None: it stays.
    pub target_description: Option<String>,
    /// Whether it counts.
    pub enabled: bool,
    /// Its place among the owner's; equal ones stand in the order of their ids.
    pub sort_order: i64,
    /// What it applies to.
    pub kinds: RuleKinds,
    /// Grows by 1 with each write; the ETag.
    pub version: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

/// Removes what it matches, or what it doesn't match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRule {
    /// Which.
    pub id: RuleId,
    /// Whose.
    pub owner: RuleOwner,
    /// A name, or a regular expression for a whole name; at most [`PATTERN_BYTES_MAX`].
    pub pattern: String,
    /// Whether the pattern is a regular expression.
    pub is_regex: bool,
    /// Which name it is held against.
    pub match_on: MatchOn,
    /// What it does.
    pub action: FilterAction,
    /// Whether it counts.
    pub enabled: bool,
    /// Its place in lists and explanations; what it does doesn't depend on it.
    pub sort_order: i64,
    /// What it applies to.
    pub kinds: RuleKinds,
    /// Grows by 1 with each write; the ETag.
    pub version: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

/// All rules of one owner, each list in its order, switched-off ones included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerRules {
    /// Its alias rules.
    pub aliases: Vec<AliasRule>,
    /// Its filter rules.
    pub filters: Vec<FilterRule>,
}

/// A stored rule that can't be read, because its row was altered. It doesn't count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DamagedRule {
    /// Its table.
    pub table: &'static str,
    /// Its id as it is stored.
    pub id: String,
    /// What of it can't be read.
    pub column: String,
    /// Whose it is, if that can be read.
    pub owner: Option<RuleOwner>,
}

impl fmt::Display for DamagedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, id, column, .. } = self;
        write!(f, "the stored value of {table}.{column} in row {id} can't be read")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_cover_templates_and_no_kinds_are_refused() {
        let kinds = RuleKinds::of([RuleKind::Resource, RuleKind::Resource]).expect("one kind");
        let covered: Vec<Kind> = Kind::ALL.iter().copied().filter(|kind| kinds.has(*kind)).collect();
        assert_eq!(covered, [Kind::Resource, Kind::ResourceTemplate]);
        assert_eq!(RuleKinds::of([]), None);
        assert!(Kind::ALL.iter().all(|kind| RuleKinds::default().has(*kind)));
    }

    #[test]
    fn kinds_are_an_array_of_words() {
        let kinds: RuleKinds = serde_json::from_str(r#"["resource","tool"]"#).expect("two kinds");
        assert_eq!(serde_json::to_string(&kinds).expect("words"), r#"["tool","resource"]"#);
        for text in ["[]", r#"["server"]"#, "7"] {
            serde_json::from_str::<RuleKinds>(text).expect_err(text);
        }
    }
}
