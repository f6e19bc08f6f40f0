//! How the two kinds of rule lie in their tables.

use crate::db::{Cell, Row, cells};
use crate::error::StoreError;
use crate::keyset::{Listing, Sort};
use crate::model::ids::{ApiKeyId, RuleId, UpstreamId};
use crate::model::rule::{AliasRule, FilterRule, MatchOn, OwnerKind, RuleKinds, RuleOwner};
use crate::model::time::Timestamp;

const SORTS: &[Sort] = &[
    Sort { name: "sortOrder", expression: "sort_order", is_number: true },
    Sort { name: "pattern", expression: "pattern", is_number: false },
    Sort { name: "createdAt", expression: "created_at", is_number: true },
    Sort { name: "updatedAt", expression: "updated_at", is_number: true },
];

/// A kind of rule: an [`AliasRule`] or a [`FilterRule`].
pub trait Rule: Sized + Send + Sync + 'static {
    /// Where it is stored.
    const TABLE: Table<Self>;

    /// Which rule it is.
    fn id(&self) -> RuleId;
    /// Whose.
    fn owner(&self) -> RuleOwner;
    /// Its version; the ETag.
    fn version(&self) -> i64;
}

/// How a kind of rule lies in its table.
pub struct Table<R> {
    /// What a page of it selects, sorts by and searches.
    pub(super) listing: Listing,
    /// The columns that both insert and update write.
    pub(super) columns: &'static [&'static str],
    /// The cells of these columns.
    pub(super) cells: fn(&R) -> Vec<Cell>,
    /// When the rule was created, which only an insert writes.
    pub(super) created_at: fn(&R) -> Timestamp,
    /// The rule of a row.
    pub(super) read: fn(&Row) -> Result<R, StoreError>,
}

impl<R> Table<R> {
    /// Its name.
    pub(super) fn name(&self) -> &'static str {
        self.listing.table
    }
}

impl Rule for AliasRule {
    const TABLE: Table<Self> = Table {
        listing: Listing {
            table: "alias_rules",
            columns: "id, owner, upstream_id, key_id, pattern, is_regex, match_on, target_name, \
                target_description, enabled, sort_order, kinds, version, created_at, updated_at",
            key: "id",
            key_is_number: false,
            sorts: SORTS,
            descending_by_default: false,
            searched: &["pattern", "target_name", "target_description"],
        },
        columns: &[
            "pattern",
            "is_regex",
            "match_on",
            "target_name",
            "target_description",
            "enabled",
            "sort_order",
            "kinds",
            "updated_at",
        ],
        cells: alias_cells,
        created_at: |rule| rule.created_at,
        read: read_alias,
    };

    fn id(&self) -> RuleId {
        self.id
    }

    fn owner(&self) -> RuleOwner {
        self.owner
    }

    fn version(&self) -> i64 {
        self.version
    }
}

impl Rule for FilterRule {
    const TABLE: Table<Self> = Table {
        listing: Listing {
            table: "filter_rules",
            columns: "id, owner, upstream_id, key_id, pattern, is_regex, match_on, action, enabled, \
                sort_order, kinds, version, created_at, updated_at",
            key: "id",
            key_is_number: false,
            sorts: SORTS,
            descending_by_default: false,
            searched: &["pattern"],
        },
        columns: &[
            "pattern",
            "is_regex",
            "match_on",
            "action",
            "enabled",
            "sort_order",
            "kinds",
            "updated_at",
        ],
        cells: filter_cells,
        created_at: |rule| rule.created_at,
        read: read_filter,
    };

    fn id(&self) -> RuleId {
        self.id
    }

    fn owner(&self) -> RuleOwner {
        self.owner
    }

    fn version(&self) -> i64 {
        self.version
    }
}

fn alias_cells(rule: &AliasRule) -> Vec<Cell> {
    cells![
        &rule.pattern,
        rule.is_regex,
        rule.match_on.as_str(),
        rule.target_name.as_ref(),
        rule.target_description.as_ref(),
        rule.enabled,
        rule.sort_order,
        kinds_text(rule.kinds),
        rule.updated_at,
    ]
}

fn read_alias(row: &Row) -> Result<AliasRule, StoreError> {
    let owner = read_owner(row)?;
    Ok(AliasRule {
        id: row.get("id")?,
        owner,
        pattern: row.get("pattern")?,
        is_regex: row.get("is_regex")?,
        match_on: read_match_on(row, owner)?,
        target_name: row.get("target_name")?,
        target_description: row.get("target_description")?,
        enabled: row.get("enabled")?,
        sort_order: row.get("sort_order")?,
        kinds: row.json("kinds")?,
        version: row.get("version")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

fn filter_cells(rule: &FilterRule) -> Vec<Cell> {
    cells![
        &rule.pattern,
        rule.is_regex,
        rule.match_on.as_str(),
        rule.action.as_str(),
        rule.enabled,
        rule.sort_order,
        kinds_text(rule.kinds),
        rule.updated_at,
    ]
}

fn read_filter(row: &Row) -> Result<FilterRule, StoreError> {
    let owner = read_owner(row)?;
    Ok(FilterRule {
        id: row.get("id")?,
        owner,
        pattern: row.get("pattern")?,
        is_regex: row.get("is_regex")?,
        match_on: read_match_on(row, owner)?,
        action: row.parse("action")?,
        enabled: row.get("enabled")?,
        sort_order: row.get("sort_order")?,
        kinds: row.json("kinds")?,
        version: row.get("version")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

fn kinds_text(kinds: RuleKinds) -> String {
    serde_json::to_string(&kinds).expect("kinds are words")
}

/// The owner of a row. The word and the ids must agree: a rule of a key that lost its key's id must not
/// become one of all.
pub(super) fn read_owner(row: &Row) -> Result<RuleOwner, StoreError> {
    let upstream_id: Option<UpstreamId> = row.get("upstream_id")?;
    let key_id: Option<ApiKeyId> = row.get("key_id")?;
    match (row.parse("owner")?, upstream_id, key_id) {
        (OwnerKind::All, None, None) => Ok(RuleOwner::All),
        (OwnerKind::Upstream, Some(id), None) => Ok(RuleOwner::Upstream(id)),
        (OwnerKind::Key, None, Some(id)) => Ok(RuleOwner::Key(id)),
        _ => Err(row.corrupt("owner")),
    }
}

/// Rules of upstreams and of all decide the exposed names, so theirs can't look at them.
fn read_match_on(row: &Row, owner: RuleOwner) -> Result<MatchOn, StoreError> {
    match (row.parse("match_on")?, owner) {
        (MatchOn::Exposed, RuleOwner::Upstream(_) | RuleOwner::All) => Err(row.corrupt("match_on")),
        (match_on, _) => Ok(match_on),
    }
}
