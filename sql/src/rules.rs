//! The alias and filter rules: what each owner has, in order.
//!
//! Both kinds of rule are written and read by the same functions; [`table`] says how they differ. Who
//! serves calls loads rules with [`all`] and [`of_owner_id`], which pass over a row that was damaged and
//! name it, since one bad row must not take every other rule out of force.

mod table;

use std::collections::BTreeMap;

use uuid::Uuid;

pub use self::table::{Rule, Table};
use crate::changes::ChangeKind;
use crate::db::{Cell, Row, cells};
use crate::error::StoreError;
use crate::keyset::{self, Filter};
use crate::model::ids::RuleId;
use crate::model::page::{Page, PageRequest};
use crate::model::rule::{
    AliasRule, DamagedRule, FilterAction, FilterRule, MatchOn, OwnerRules, RuleKinds, RuleOwner,
};
use crate::model::time::Timestamp;
use crate::tx::Tx;

/// The rules that could be read, and those that couldn't.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The rules of each owner that has any.
    pub owners: BTreeMap<RuleOwner, OwnerRules>,
    /// What was passed over.
    pub damaged: Vec<DamagedRule>,
}

/// Every rule of every owner.
pub async fn all(tx: &mut Tx) -> Result<Loaded, StoreError> {
    load(tx, "1 = 1", &[]).await
}

/// The rules of the owner with this id, as [`ChangeKind::Rules`] names it: at most one owner.
pub async fn of_owner_id(tx: &mut Tx, id: Uuid) -> Result<Loaded, StoreError> {
    if id.is_nil() {
        load(tx, "owner = 'all'", &[]).await
    } else {
        load(tx, "(upstream_id = $1 OR key_id = $1)", &[id.into()]).await
    }
}

/// The rules of one owner, but for damaged ones.
pub async fn of_owner(tx: &mut Tx, owner: RuleOwner) -> Result<OwnerRules, StoreError> {
    Ok(of_owner_id(tx, owner.id()).await?.owners.remove(&owner).unwrap_or_default())
}

/// How many rules of a kind an owner has, damaged ones included.
pub async fn count<R: Rule>(tx: &mut Tx, owner: RuleOwner) -> Result<usize, StoreError> {
    let (condition, cells) = owned_by(owner);
    let sql = format!("SELECT COUNT(*) AS total FROM {} WHERE {condition}", R::TABLE.name());
    let total: u64 = tx.query_one(R::TABLE.name(), &sql, cells).await?.get("total")?;
    Ok(usize::try_from(total).unwrap_or(usize::MAX))
}

/// The rule with this id. A damaged one is [`StoreError::Corrupt`].
pub async fn get<R: Rule>(tx: &mut Tx, id: RuleId) -> Result<Option<R>, StoreError> {
    let sql = format!("SELECT {} FROM {} WHERE id = $1", R::TABLE.listing.columns, R::TABLE.name());
    tx.query_opt(R::TABLE.name(), &sql, cells![id]).await?.as_ref().map(R::TABLE.read).transpose()
}

/// Inserts a rule. An owner that is gone is a conflict with [`StoreError::FOREIGN_KEY`].
pub async fn insert<R: Rule>(tx: &mut Tx, rule: &R) -> Result<(), StoreError> {
    let mut cells = vec![Cell::from(rule.id())];
    cells.extend((R::TABLE.cells)(rule));
    cells.extend(cells![rule.version(), (R::TABLE.created_at)(rule)]);
    cells.extend(owner_cells(rule.owner()));
    let places: Vec<String> = (1..=cells.len()).map(|place| format!("${place}")).collect();
    let sql = format!(
        "INSERT INTO {} (id, {}, version, created_at, owner, upstream_id, key_id) VALUES ({})",
        R::TABLE.name(),
        R::TABLE.columns.join(", "),
        places.join(", ")
    );
    tx.execute(R::TABLE.name(), &sql, cells).await?;
    tx.changed(ChangeKind::Rules, rule.owner().id());
    Ok(())
}

/// Writes a rule over its `expected_version`; the stored one is then one higher. False: it is gone or was
/// changed meanwhile. Its owner, version and creation are passed over: a rule stays its owner's.
pub async fn update<R: Rule>(tx: &mut Tx, rule: &R, expected_version: i64) -> Result<bool, StoreError> {
    let mut cells = vec![Cell::from(rule.id())];
    cells.extend((R::TABLE.cells)(rule));
    cells.push(expected_version.into());
    let sets: Vec<String> =
        (2..).zip(R::TABLE.columns).map(|(place, column)| format!("{column} = ${place}")).collect();
    let sql = format!(
        "UPDATE {} SET {}, version = version + 1 WHERE id = $1 AND version = ${}",
        R::TABLE.name(),
        sets.join(", "),
        cells.len()
    );
    let written = tx.execute(R::TABLE.name(), &sql, cells).await? == 1;
    if written {
        tx.changed(ChangeKind::Rules, rule.owner().id());
    }
    Ok(written)
}

/// Deletes a rule, a damaged one too. False: there is none.
pub async fn delete<R: Rule>(tx: &mut Tx, id: RuleId) -> Result<bool, StoreError> {
    let sql =
        format!("DELETE FROM {} WHERE id = $1 RETURNING id, owner, upstream_id, key_id", R::TABLE.name());
    let Some(row) = tx.query_opt(R::TABLE.name(), &sql, cells![id]).await? else { return Ok(false) };
    // One whose owner can't be read counted for nobody, and any change makes followers look again.
    tx.changed(ChangeKind::Rules, table::read_owner(&row).map_or(Uuid::nil(), RuleOwner::id));
    Ok(true)
}

/// Puts an owner's rules of a kind into this order. False, and nothing is changed: `ids` isn't exactly all
/// of them.
pub async fn reorder<R: Rule>(tx: &mut Tx, owner: RuleOwner, ids: &[RuleId]) -> Result<bool, StoreError> {
    let (condition, cells) = owned_by(owner);
    let sql = format!("SELECT id FROM {} WHERE {condition}", R::TABLE.name());
    let rows = tx.query(R::TABLE.name(), &sql, cells).await?;
    let mut known: Vec<RuleId> = rows.iter().map(|row| row.get("id")).collect::<Result<_, _>>()?;
    let mut wanted = ids.to_vec();
    known.sort_unstable();
    wanted.sort_unstable();
    if known != wanted {
        return Ok(false);
    }
    let now = tx.clock().now();
    let sql = format!(
        "UPDATE {} SET sort_order = $2, version = version + 1, updated_at = $3
            WHERE id = $1 AND sort_order <> $2",
        R::TABLE.name()
    );
    for (place, id) in (0_i64..).zip(ids) {
        if tx.execute(R::TABLE.name(), &sql, cells![*id, place, now]).await? == 1 {
            tx.changed(ChangeKind::Rules, owner.id());
        }
    }
    Ok(true)
}

/// One page of the rules of one owner or of all owners, by `sortOrder` unless the request says `pattern`,
/// `createdAt` or `updatedAt`. Damaged rules are counted in the total, and named beside the page.
pub async fn page<R: Rule>(
    tx: &mut Tx,
    request: &PageRequest,
    owner: Option<RuleOwner>,
) -> Result<(Page<R>, Vec<DamagedRule>), StoreError> {
    let filter = match owner {
        None => Filter::default(),
        Some(RuleOwner::All) => Filter::default().and("owner = ?", Some("all")),
        Some(RuleOwner::Upstream(id)) => Filter::default().and("upstream_id = ?", Some(id)),
        Some(RuleOwner::Key(id)) => Filter::default().and("key_id = ?", Some(id)),
    };
    let page = keyset::page(tx, &R::TABLE.listing, request, filter, read_or_name::<R>).await?;
    let (mut items, mut damaged) = (Vec::with_capacity(page.items.len()), Vec::new());
    for read in page.items {
        match read {
            Ok(rule) => items.push(rule),
            Err(named) => damaged.push(named),
        }
    }
    Ok((Page { items, next_cursor: page.next_cursor, total: page.total }, damaged))
}

/// Deletes every rule of an owner that goes, so that followers drop them too.
pub(crate) async fn forget(tx: &mut Tx, owner: RuleOwner) -> Result<(), StoreError> {
    let (condition, cells) = owned_by(owner);
    for table in [AliasRule::TABLE.name(), FilterRule::TABLE.name()] {
        let sql = format!("DELETE FROM {table} WHERE {condition}");
        if tx.execute(table, &sql, cells.clone()).await? > 0 {
            tx.changed(ChangeKind::Rules, owner.id());
        }
    }
    Ok(())
}

async fn load(tx: &mut Tx, condition: &str, cells: &[Cell]) -> Result<Loaded, StoreError> {
    let mut loaded = Loaded::default();
    for rule in read_all::<AliasRule>(tx, condition, cells, &mut loaded.damaged, |_, _| None).await? {
        loaded.owners.entry(rule.owner).or_default().aliases.push(rule);
    }
    for rule in read_all(tx, condition, cells, &mut loaded.damaged, closed).await? {
        loaded.owners.entry(rule.owner).or_default().filters.push(rule);
    }
    Ok(loaded)
}

async fn read_all<R: Rule>(
    tx: &mut Tx,
    condition: &str,
    cells: &[Cell],
    damaged: &mut Vec<DamagedRule>,
    stand_in: impl Fn(&Row, &DamagedRule) -> Option<R>,
) -> Result<Vec<R>, StoreError> {
    let sql = format!(
        "SELECT {} FROM {} WHERE {condition} ORDER BY sort_order, id",
        R::TABLE.listing.columns,
        R::TABLE.name()
    );
    let rows = tx.query(R::TABLE.name(), &sql, cells.to_vec()).await?;
    let mut rules = Vec::with_capacity(rows.len());
    for row in &rows {
        match read_or_name(row)? {
            Ok(rule) => rules.push(rule),
            Err(named) => {
                rules.extend(stand_in(row, &named));
                damaged.push(named);
            }
        }
    }
    Ok(rules)
}

/// What stands in for a damaged filter rule that let some things through and nothing else: since nobody knows which,
/// it lets nothing through. A damaged rule of the other kind stands for nothing.
fn closed(row: &Row, damaged: &DamagedRule) -> Option<FilterRule> {
    let action: FilterAction = row.parse("action").ok()?;
    let is_allow = action == FilterAction::Allow;
    let is_enabled = row.get("enabled").unwrap_or(true);
    let owner = damaged.owner.filter(|_| is_allow && is_enabled)?;
    let never = Timestamp::from_millis(0);
    Some(FilterRule {
        id: damaged.id.parse().ok()?,
        owner,
        // No name is empty.
        pattern: String::new(),
        is_regex: false,
        match_on: MatchOn::Upstream,
        action: FilterAction::Allow,
        enabled: true,
        sort_order: 0,
        kinds: RuleKinds::default(),
        version: 0,
        created_at: never,
        updated_at: never,
    })
}

/// A rule, or the name of one that is damaged.
fn read_or_name<R: Rule>(row: &Row) -> Result<Result<R, DamagedRule>, StoreError> {
    match (R::TABLE.read)(row) {
        Ok(rule) => Ok(Ok(rule)),
        Err(StoreError::Corrupt { table, column, row: id }) => {
            Ok(Err(DamagedRule { table, id, column, owner: table::read_owner(row).ok() }))
        }
        Err(other) => Err(other),
    }
}

fn owned_by(owner: RuleOwner) -> (&'static str, Vec<Cell>) {
    match owner {
        RuleOwner::All => ("owner = 'all'", cells![]),
        RuleOwner::Upstream(id) => ("upstream_id = $1", cells![id]),
        RuleOwner::Key(id) => ("key_id = $1", cells![id]),
    }
}

/// The columns `owner`, `upstream_id` and `key_id`.
fn owner_cells(owner: RuleOwner) -> Vec<Cell> {
    let (upstream_id, key_id) = match owner {
        RuleOwner::All => (None, None),
        RuleOwner::Upstream(id) => (Some(id), None),
        RuleOwner::Key(id) => (None, Some(id)),
    };
    cells![owner.kind().as_str(), upstream_id, key_id]
}
