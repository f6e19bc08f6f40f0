//! The upstreams, and what each said of itself.
//!
//! Secrets are sealed when a row is written and unsealed when it is read: `credential` as a whole, and
//! each secret value inside `conn_params`.

mod conn_params;

use bytes::Bytes;

use crate::changes::ChangeKind;
use crate::db::{Cell, Row, cells};
use crate::error::StoreError;
use crate::keyset::{self, Filter, Listing, Sort};
use crate::model::definition::UpstreamInfo;
use crate::model::ids::UpstreamId;
use crate::model::page::{Page, PageRequest};
use crate::model::rule::RuleOwner;
use crate::model::secret::Secret;
use crate::model::upstream::{SyncSwitches, Transport, Upstream};
use crate::rules;
use crate::seal::{DoesNotOpen, Place, Sealer};
use crate::tx::Tx;

const TABLE: &str = "upstreams";
const INFO: &str = "upstream_info";

const COLUMNS: &str = "id, name, transport, conn_params, credential, enabled, sort_order, auto_sync, \
    name_prefix, isolation, protocol, call_timeout_s, tags, on_tool_change, sanitize, sync_tools, \
    sync_prompts, sync_resources, version, created_at, updated_at";

const LISTING: Listing = Listing {
    table: TABLE,
    columns: COLUMNS,
    key: "id",
    key_is_number: false,
    sorts: &[
        Sort { name: "sortOrder", expression: "sort_order", is_number: true },
        Sort { name: "name", expression: "name", is_number: false },
        Sort { name: "createdAt", expression: "created_at", is_number: true },
        Sort { name: "updatedAt", expression: "updated_at", is_number: true },
    ],
    descending_by_default: false,
    searched: &["name", "tags"],
};

/// Which upstreams a page shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamFilter {
    /// Only those that are, or aren't, enabled.
    pub enabled: Option<bool>,
    /// Only those of this transport.
    pub transport: Option<Transport>,
}

/// Inserts an upstream. A name that exists is a conflict with `upstreams.name`.
pub async fn insert(tx: &mut Tx, upstream: &Upstream) -> Result<(), StoreError> {
    let sql = "INSERT INTO upstreams (id, name, transport, conn_params, credential, enabled, sort_order,
        auto_sync, name_prefix, isolation, protocol, call_timeout_s, tags, on_tool_change, sanitize,
        sync_tools, sync_prompts, sync_resources, updated_at, version, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)";
    let mut cells = values(&tx.sealer(), upstream);
    cells.extend(cells![upstream.version, upstream.created_at]);
    tx.execute(TABLE, sql, cells).await?;
    tx.changed(ChangeKind::Upstream, upstream.id.uuid());
    Ok(())
}

/// Writes an upstream over its `expected_version`; the stored one is then one higher. False: it is
/// gone or was changed meanwhile. Its `version` and `created_at` are passed over.
pub async fn update(tx: &mut Tx, upstream: &Upstream, expected_version: i64) -> Result<bool, StoreError> {
    let sql = "UPDATE upstreams SET name = $2, transport = $3, conn_params = $4, credential = $5,
        enabled = $6, sort_order = $7, auto_sync = $8, name_prefix = $9, isolation = $10, protocol = $11,
        call_timeout_s = $12, tags = $13, on_tool_change = $14, sanitize = $15, sync_tools = $16,
        sync_prompts = $17, sync_resources = $18, updated_at = $19, version = version + 1
        WHERE id = $1 AND version = $20";
    let mut cells = values(&tx.sealer(), upstream);
    cells.extend(cells![expected_version]);
    let written = tx.execute(TABLE, sql, cells).await? == 1;
    if written {
        tx.changed(ChangeKind::Upstream, upstream.id.uuid());
    }
    Ok(written)
}

/// Deletes an upstream with its lists, claims, findings and rules. False: there is none.
pub async fn delete(tx: &mut Tx, id: UpstreamId) -> Result<bool, StoreError> {
    rules::forget(tx, RuleOwner::Upstream(id)).await?;
    let deleted = tx.execute(TABLE, "DELETE FROM upstreams WHERE id = $1", cells![id]).await? == 1;
    if deleted {
        tx.changed(ChangeKind::Upstream, id.uuid());
    }
    Ok(deleted)
}

/// The upstream with this id.
pub async fn get(tx: &mut Tx, id: UpstreamId) -> Result<Option<Upstream>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM upstreams WHERE id = $1");
    let row = tx.query_opt(TABLE, &sql, cells![id]).await?;
    row.map(|row| read(&tx.sealer(), &row)).transpose()
}

/// The upstream with this name.
pub async fn by_name(tx: &mut Tx, name: &str) -> Result<Option<Upstream>, StoreError> {
    if name.contains('\0') {
        return Ok(None);
    }
    let sql = format!("SELECT {COLUMNS} FROM upstreams WHERE name = $1");
    let row = tx.query_opt(TABLE, &sql, cells![name]).await?;
    row.map(|row| read(&tx.sealer(), &row)).transpose()
}

/// Every upstream that can be read, by `sort_order`, then by id.
pub async fn list(tx: &mut Tx) -> Result<Vec<Upstream>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM upstreams ORDER BY sort_order, id");
    let rows = tx.query(TABLE, &sql, cells![]).await?;
    let sealer = tx.sealer();
    tx.readable(&rows, |row| read(&sealer, row))
}

/// One page, by `sortOrder` unless the request says `name`, `createdAt` or `updatedAt`.
pub async fn page(
    tx: &mut Tx,
    request: &PageRequest,
    filter: &UpstreamFilter,
) -> Result<Page<Upstream>, StoreError> {
    let conditions = Filter::default()
        .and("enabled = ?", filter.enabled)
        .and("transport = ?", filter.transport.map(Transport::as_str));
    let sealer = tx.sealer();
    keyset::page(tx, &LISTING, request, conditions, |row| read(&sealer, row)).await
}

/// Puts the upstreams into this order. False, and nothing is changed: `ids` isn't exactly all of them.
pub async fn reorder(tx: &mut Tx, ids: &[UpstreamId]) -> Result<bool, StoreError> {
    let rows = tx.query(TABLE, "SELECT id FROM upstreams", cells![]).await?;
    let mut known: Vec<UpstreamId> = rows.iter().map(|row| row.get("id")).collect::<Result<_, _>>()?;
    let mut wanted = ids.to_vec();
    known.sort_unstable();
    wanted.sort_unstable();
    if known != wanted {
        return Ok(false);
    }
    let now = tx.clock().now();
    let sql = "UPDATE upstreams SET sort_order = $2, version = version + 1, updated_at = $3
        WHERE id = $1 AND sort_order <> $2";
    for (place, id) in (0_i64..).zip(ids) {
        if tx.execute(TABLE, sql, cells![*id, place, now]).await? == 1 {
            tx.changed(ChangeKind::Upstream, id.uuid());
        }
    }
    Ok(true)
}

/// Remembers what an upstream said of itself. Followers aren't told: who is connected knows already.
pub async fn save_info(tx: &mut Tx, info: &UpstreamInfo) -> Result<(), StoreError> {
    let sql = "INSERT INTO upstream_info
        (upstream_id, era, protocol_version, server_info, capabilities, instructions, seen_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (upstream_id) DO UPDATE SET era = excluded.era,
        protocol_version = excluded.protocol_version, server_info = excluded.server_info,
        capabilities = excluded.capabilities, instructions = excluded.instructions, seen_at = excluded.seen_at";
    // As bytes: what an upstream writes may hold a NUL.
    let instructions = info.instructions.as_ref().map(|text| text.as_bytes().to_vec());
    let cells = cells![
        info.upstream_id,
        info.era.as_str(),
        &info.protocol_version,
        &info.server_info,
        &info.capabilities,
        instructions,
        info.seen_at,
    ];
    tx.execute(INFO, sql, cells).await.map(drop)
}

/// What an upstream said of itself when it was last connected.
pub async fn info(tx: &mut Tx, id: UpstreamId) -> Result<Option<UpstreamInfo>, StoreError> {
    let sql = "SELECT upstream_id, era, protocol_version, server_info, capabilities, instructions, seen_at
        FROM upstream_info WHERE upstream_id = $1";
    tx.query_opt(INFO, sql, cells![id]).await?.as_ref().map(read_info).transpose()
}

/// The same of all.
pub async fn infos(tx: &mut Tx) -> Result<Vec<UpstreamInfo>, StoreError> {
    let sql = "SELECT upstream_id, era, protocol_version, server_info, capabilities, instructions, seen_at
        FROM upstream_info ORDER BY upstream_id";
    let rows = tx.query(INFO, sql, cells![]).await?;
    tx.readable(&rows, read_info)
}

/// The columns that both insert and update write, from `id` to `updated_at`.
fn values(sealer: &Sealer, upstream: &Upstream) -> Vec<Cell> {
    let row = upstream.id.to_string();
    let credential = upstream
        .credential
        .as_ref()
        .map(|credential| sealer.seal(credential.expose().as_bytes(), credential_place(&row)));
    cells![
        upstream.id,
        &upstream.name,
        upstream.transport.as_str(),
        conn_params::write(sealer, &upstream.conn_params, &row),
        credential,
        upstream.enabled,
        upstream.sort_order,
        upstream.auto_sync,
        &upstream.name_prefix,
        upstream.isolation.as_str(),
        upstream.protocol.as_str(),
        upstream.call_timeout_s,
        serde_json::to_string(&upstream.tags).expect("texts are JSON"),
        upstream.on_tool_change.as_str(),
        upstream.sanitize,
        upstream.sync.tools,
        upstream.sync.prompts,
        upstream.sync.resources,
        upstream.updated_at,
    ]
}

fn read(sealer: &Sealer, row: &Row) -> Result<Upstream, StoreError> {
    let id: UpstreamId = row.get("id")?;
    let id_text = id.to_string();
    let params: String = row.get("conn_params")?;
    Ok(Upstream {
        id,
        name: row.get("name")?,
        transport: row.parse("transport")?,
        conn_params: conn_params::read(sealer, &params, &id_text)
            .ok_or_else(|| row.corrupt("conn_params"))?,
        credential: read_credential(sealer, row, &id_text)?,
        enabled: row.get("enabled")?,
        sort_order: row.get("sort_order")?,
        auto_sync: row.get("auto_sync")?,
        name_prefix: row.get("name_prefix")?,
        isolation: row.parse("isolation")?,
        protocol: row.parse("protocol")?,
        call_timeout_s: row.get("call_timeout_s")?,
        tags: row.json("tags")?,
        on_tool_change: row.parse("on_tool_change")?,
        sanitize: row.get("sanitize")?,
        sync: SyncSwitches {
            tools: row.get("sync_tools")?,
            prompts: row.get("sync_prompts")?,
            resources: row.get("sync_resources")?,
        },
        version: row.get("version")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

fn read_credential(sealer: &Sealer, row: &Row, id: &str) -> Result<Option<Secret<String>>, StoreError> {
    let Some(sealed) = row.get::<Option<String>>("credential")? else { return Ok(None) };
    let opened = sealer.unseal(&sealed, credential_place(id)).ok().as_ref().and_then(conn_params::text);
    opened.map(Some).ok_or_else(|| row.corrupt("credential"))
}

/// `conn_params` of an upstream with its secrets sealed by the present key; `None` if they are.
pub(crate) fn reseal_params(sealer: &Sealer, json: &str, id: &str) -> Result<Option<String>, DoesNotOpen> {
    conn_params::reseal(sealer, json, id)
}

fn credential_place(row: &str) -> Place<'_> {
    Place { table: TABLE, column: "credential", row }
}

fn read_info(row: &Row) -> Result<UpstreamInfo, StoreError> {
    let instructions: Option<Bytes> = row.get("instructions")?;
    let instructions = instructions.map(|bytes| String::from_utf8(bytes.into()));
    Ok(UpstreamInfo {
        upstream_id: row.get("upstream_id")?,
        era: row.parse("era")?,
        protocol_version: row.get("protocol_version")?,
        server_info: row.get("server_info")?,
        capabilities: row.get("capabilities")?,
        instructions: instructions.transpose().map_err(|_| row.corrupt("instructions"))?,
        seen_at: row.get("seen_at")?,
    })
}
