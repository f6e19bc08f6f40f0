//! The lists of upstreams: each definition as it came, and the state of each list.

use crate::changes::ChangeKind;
use crate::db::{Cell, Row, cells, placeholders};
use crate::error::StoreError;
use crate::model::definition::{Definition, Kind, ListDiff, ListState, is_storable_name};
use crate::model::ids::{DefinitionId, UpstreamId};
use crate::tx::Tx;

const TABLE: &str = "definitions";
const STATES: &str = "list_states";

const COLUMNS: &str = "id, upstream_id, kind, upstream_name, exposed_name, body, hash, position, enabled, \
    sort_order, first_seen_at, changed_at";
/// How many columns these are.
const COLUMN_COUNT: usize = 12;
/// Definitions in one INSERT. What doesn't fill one goes one by one, so that only two statements are prepared.
const ROWS_PER_INSERT: usize = 50;

/// One definition.
pub async fn get(tx: &mut Tx, id: DefinitionId) -> Result<Option<Definition>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM definitions WHERE id = $1");
    tx.query_opt(TABLE, &sql, cells![id]).await?.as_ref().map(read).transpose()
}

/// One list, in the upstream's order.
pub async fn of_upstream(tx: &mut Tx, id: UpstreamId, kind: Kind) -> Result<Vec<Definition>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM definitions WHERE upstream_id = $1 AND kind = $2 ORDER BY position, id"
    );
    let rows = tx.query(TABLE, &sql, cells![id, kind.as_str()]).await?;
    tx.readable(&rows, read)
}

/// What one item of a list is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The item.
    pub id: DefinitionId,
    /// Its name at the upstream.
    pub upstream_name: String,
    /// The name that clients know it by.
    pub exposed_name: String,
}

/// The names of one list, in the upstream's order.
pub async fn names_of_upstream(tx: &mut Tx, id: UpstreamId, kind: Kind) -> Result<Vec<Named>, StoreError> {
    let sql = "SELECT id, upstream_name, exposed_name FROM definitions
        WHERE upstream_id = $1 AND kind = $2 ORDER BY position, id";
    let rows = tx.query(TABLE, sql, cells![id, kind.as_str()]).await?;
    let named = |row: &Row| {
        Ok(Named {
            id: row.get("id")?,
            upstream_name: row.get("upstream_name")?,
            exposed_name: row.get("exposed_name")?,
        })
    };
    rows.iter().map(named).collect()
}

/// The id of what an upstream exposes under a name.
pub async fn id_of(
    tx: &mut Tx,
    upstream_id: UpstreamId,
    kind: Kind,
    exposed_name: &str,
) -> Result<Option<DefinitionId>, StoreError> {
    let sql = "SELECT id FROM definitions WHERE upstream_id = $1 AND kind = $2 AND exposed_name = $3";
    let row = tx.query_opt(TABLE, sql, cells![upstream_id, kind.as_str(), exposed_name]).await?;
    row.map(|row| row.get("id")).transpose()
}

/// Every list of a kind, of every upstream.
pub async fn of_kind(tx: &mut Tx, kind: Kind) -> Result<Vec<Definition>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM definitions WHERE kind = $1 ORDER BY upstream_id, position, id");
    tx.query(TABLE, &sql, cells![kind.as_str()]).await?.iter().map(read).collect()
}

/// Every list of every upstream, each in its own order.
pub async fn all(tx: &mut Tx) -> Result<Vec<Definition>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM definitions ORDER BY upstream_id, kind, position, id");
    let rows = tx.query(TABLE, &sql, cells![]).await?;
    tx.readable(&rows, read)
}

/// Writes how a list differs, and its new state. Followers are told only if something they show
/// differs: a list that was fetched again and is the same doesn't bump the revision.
///
/// An upstream that was deleted meanwhile is a conflict with [`StoreError::FOREIGN_KEY`].
pub async fn apply(tx: &mut Tx, diff: &ListDiff, state: &ListState) -> Result<(), StoreError> {
    let storable = |definition: &Definition| {
        is_storable_name(&definition.upstream_name) && is_storable_name(&definition.exposed_name)
    };
    if !diff.added.iter().chain(&diff.changed).all(storable) {
        return Err(StoreError::Unstorable { table: TABLE });
    }
    // Removed first: a name that goes from one item to another must be free again.
    for id in &diff.removed {
        let sql = "DELETE FROM definitions WHERE id = $1 AND upstream_id = $2";
        tx.execute(TABLE, sql, cells![*id, diff.upstream_id]).await?;
    }
    for definition in &diff.changed {
        change(tx, definition).await?;
    }
    let (whole, rest) = diff.added.as_chunks::<ROWS_PER_INSERT>();
    for definitions in whole {
        insert(tx, definitions).await?;
    }
    for definition in rest {
        insert(tx, std::slice::from_ref(definition)).await?;
    }
    for (id, position) in &diff.moved {
        let sql = "UPDATE definitions SET position = $3 WHERE id = $1 AND upstream_id = $2";
        tx.execute(TABLE, sql, cells![*id, diff.upstream_id, *position]).await?;
    }
    let shows_the_same = save_state(tx, state).await?;
    if !diff.is_empty() || !shows_the_same {
        tx.changed(ChangeKind::List, diff.upstream_id.uuid());
    }
    Ok(())
}

/// The state of every list.
pub async fn states(tx: &mut Tx) -> Result<Vec<ListState>, StoreError> {
    let sql = "SELECT upstream_id, kind, synced_at, ttl_ms, cache_scope_public, findings
        FROM list_states ORDER BY upstream_id, kind";
    let rows = tx.query(STATES, sql, cells![]).await?;
    tx.readable(&rows, read_state)
}

/// The states of one upstream's lists.
pub async fn states_of(tx: &mut Tx, id: UpstreamId) -> Result<Vec<ListState>, StoreError> {
    let sql = "SELECT upstream_id, kind, synced_at, ttl_ms, cache_scope_public, findings
        FROM list_states WHERE upstream_id = $1 ORDER BY kind";
    let rows = tx.query(STATES, sql, cells![id]).await?;
    tx.readable(&rows, read_state)
}

/// Switches an item on or off. False: there is none.
pub async fn set_enabled(tx: &mut Tx, id: DefinitionId, enabled: bool) -> Result<bool, StoreError> {
    let sql = "UPDATE definitions SET enabled = $2 WHERE id = $1 RETURNING upstream_id";
    note_list(tx, sql, cells![id, enabled]).await
}

/// Gives an item a place, or takes it away again. False: there is none.
pub async fn set_sort_order(
    tx: &mut Tx,
    id: DefinitionId,
    sort_order: Option<i64>,
) -> Result<bool, StoreError> {
    let sql = "UPDATE definitions SET sort_order = $2 WHERE id = $1 RETURNING upstream_id";
    note_list(tx, sql, cells![id, sort_order]).await
}

/// Has clients know an item by another name: the one that its claim has. False: there is no such item.
pub async fn rename(tx: &mut Tx, id: DefinitionId, exposed_name: &str) -> Result<bool, StoreError> {
    if !is_storable_name(exposed_name) {
        return Err(StoreError::Unstorable { table: TABLE });
    }
    let sql = "UPDATE definitions SET exposed_name = $2 WHERE id = $1 RETURNING upstream_id";
    note_list(tx, sql, cells![id, exposed_name]).await
}

/// Runs an update of one item and tells followers of its list.
async fn note_list(tx: &mut Tx, sql: &str, cells: Vec<Cell>) -> Result<bool, StoreError> {
    let Some(row) = tx.query_opt(TABLE, sql, cells).await? else { return Ok(false) };
    let upstream_id: UpstreamId = row.get("upstream_id")?;
    tx.changed(ChangeKind::List, upstream_id.uuid());
    Ok(true)
}

async fn insert(tx: &mut Tx, definitions: &[Definition]) -> Result<(), StoreError> {
    let mut cells = Vec::with_capacity(COLUMN_COUNT * definitions.len());
    for definition in definitions {
        cells.extend(cells![
            definition.id,
            definition.upstream_id,
            definition.kind.as_str(),
            &definition.upstream_name,
            &definition.exposed_name,
            &definition.body,
            &definition.hash,
            definition.position,
            definition.enabled,
            definition.sort_order,
            definition.first_seen_at,
            definition.changed_at,
        ]);
    }
    let values = placeholders(definitions.len(), COLUMN_COUNT);
    tx.execute(TABLE, &format!("INSERT INTO definitions ({COLUMNS}) VALUES {values}"), cells).await.map(drop)
}

/// The switches (`enabled`, `sort_order`) are the admin's: a sync that read them before must not undo them.
async fn change(tx: &mut Tx, definition: &Definition) -> Result<(), StoreError> {
    let sql = "UPDATE definitions SET upstream_name = $3, exposed_name = $4, body = $5, hash = $6,
        position = $7, changed_at = $8 WHERE id = $1 AND upstream_id = $2";
    let cells = cells![
        definition.id,
        definition.upstream_id,
        &definition.upstream_name,
        &definition.exposed_name,
        &definition.body,
        &definition.hash,
        definition.position,
        definition.changed_at,
    ];
    tx.execute(TABLE, sql, cells).await.map(drop)
}

/// Saves a list's state and says whether it shows what the one before did, but for its time.
async fn save_state(tx: &mut Tx, state: &ListState) -> Result<bool, StoreError> {
    let select = "SELECT upstream_id, kind, synced_at, ttl_ms, cache_scope_public, findings
        FROM list_states WHERE upstream_id = $1 AND kind = $2";
    let before = tx.query_opt(STATES, select, cells![state.upstream_id, state.kind.as_str()]).await?;
    let before = before.as_ref().map(read_state).transpose()?;
    let upsert = "INSERT INTO list_states (upstream_id, kind, synced_at, ttl_ms, cache_scope_public, findings)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (upstream_id, kind) DO UPDATE SET synced_at = excluded.synced_at,
        ttl_ms = excluded.ttl_ms, cache_scope_public = excluded.cache_scope_public, findings = excluded.findings";
    let cells = cells![
        state.upstream_id,
        state.kind.as_str(),
        state.synced_at,
        state.ttl_ms,
        state.cache_scope_public,
        serde_json::to_string(&state.findings).expect("findings are texts"),
    ];
    tx.execute(STATES, upsert, cells).await?;
    Ok(before.is_some_and(|before| ListState { synced_at: state.synced_at, ..before } == *state))
}

fn read(row: &Row) -> Result<Definition, StoreError> {
    Ok(Definition {
        id: row.get("id")?,
        upstream_id: row.get("upstream_id")?,
        kind: row.parse("kind")?,
        upstream_name: row.get("upstream_name")?,
        exposed_name: row.get("exposed_name")?,
        body: row.get("body")?,
        hash: row.get("hash")?,
        position: row.get("position")?,
        enabled: row.get("enabled")?,
        sort_order: row.get("sort_order")?,
        first_seen_at: row.get("first_seen_at")?,
        changed_at: row.get("changed_at")?,
    })
}

fn read_state(row: &Row) -> Result<ListState, StoreError> {
    Ok(ListState {
        upstream_id: row.get("upstream_id")?,
        kind: row.parse("kind")?,
        synced_at: row.get("synced_at")?,
        ttl_ms: row.get("ttl_ms")?,
        cache_scope_public: row.get("cache_scope_public")?,
        findings: row.json("findings")?,
    })
}
