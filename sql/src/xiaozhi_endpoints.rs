//! The XiaoZhi endpoints, and how those that are held fare.

use crate::changes::ChangeKind;
use crate::db::{Cell, Row, cells};
use crate::error::StoreError;
use crate::keyset::{self, Filter, Listing, Sort};
use crate::leases;
use crate::model::ids::XiaozhiEndpointId;
use crate::model::page::{Page, PageRequest};
use crate::model::secret::Secret;
use crate::model::xiaozhi_endpoint::{XiaozhiEndpoint, XiaozhiReport};
use crate::seal::{Place, Sealer};
use crate::tx::Tx;

const TABLE: &str = "xiaozhi_endpoints";
const STATES: &str = "xiaozhi_states";

/// What the names of the endpoints' leases begin with, before a colon and the id.
pub const LEASES: &str = "xiaozhi";

const COLUMNS: &str = "id, name, url, enabled, key_id, mode, tools_max, description_max, deadline_s, \
    reconnects, version, created_at, updated_at";

const LISTING: Listing = Listing {
    table: TABLE,
    columns: COLUMNS,
    key: "id",
    key_is_number: false,
    sorts: &[
        Sort { name: "name", expression: "name", is_number: false },
        Sort { name: "createdAt", expression: "created_at", is_number: true },
        Sort { name: "updatedAt", expression: "updated_at", is_number: true },
    ],
    descending_by_default: false,
    searched: &["name"],
};

/// Which endpoints a page shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct XiaozhiFilter {
    /// Only those that are, or aren't, enabled.
    pub enabled: Option<bool>,
}

/// The lease of an endpoint: who has it may dial, nobody else.
pub fn lease(id: XiaozhiEndpointId) -> String {
    format!("{LEASES}:{id}")
}

/// Inserts an endpoint. A name that exists is a conflict with `xiaozhi_endpoints.name`.
pub async fn insert(tx: &mut Tx, endpoint: &XiaozhiEndpoint) -> Result<(), StoreError> {
    let sql = "INSERT INTO xiaozhi_endpoints (id, name, url, enabled, key_id, mode, tools_max,
        description_max, deadline_s, reconnects, updated_at, version, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    let mut cells = values(&tx.sealer(), endpoint);
    cells.extend(cells![endpoint.version, endpoint.created_at]);
    tx.execute(TABLE, sql, cells).await?;
    tx.changed(ChangeKind::XiaozhiEndpoint, endpoint.id.uuid());
    Ok(())
}

/// Writes an endpoint over its `expected_version`; the stored one is then one higher. False: it is gone or
/// was changed meanwhile. Its version and creation are passed over.
pub async fn update(
    tx: &mut Tx,
    endpoint: &XiaozhiEndpoint,
    expected_version: i64,
) -> Result<bool, StoreError> {
    let sql = "UPDATE xiaozhi_endpoints SET name = $2, url = $3, enabled = $4, key_id = $5, mode = $6,
        tools_max = $7, description_max = $8, deadline_s = $9, reconnects = $10, updated_at = $11,
        version = version + 1 WHERE id = $1 AND version = $12";
    let mut cells = values(&tx.sealer(), endpoint);
    cells.extend(cells![expected_version]);
    let written = tx.execute(TABLE, sql, cells).await? == 1;
    if written {
        tx.changed(ChangeKind::XiaozhiEndpoint, endpoint.id.uuid());
    }
    Ok(written)
}

/// Has whoever holds an endpoint connect anew. Its version stays. False: there is no such endpoint.
pub async fn reconnect(tx: &mut Tx, id: XiaozhiEndpointId) -> Result<bool, StoreError> {
    let sql = "UPDATE xiaozhi_endpoints SET reconnects = reconnects + 1 WHERE id = $1";
    let asked = tx.execute(TABLE, sql, cells![id]).await? == 1;
    if asked {
        tx.changed(ChangeKind::XiaozhiEndpoint, id.uuid());
    }
    Ok(asked)
}

/// Deletes an endpoint. False: there is none.
pub async fn delete(tx: &mut Tx, id: XiaozhiEndpointId) -> Result<bool, StoreError> {
    let deleted = tx.execute(TABLE, "DELETE FROM xiaozhi_endpoints WHERE id = $1", cells![id]).await? == 1;
    if deleted {
        tx.changed(ChangeKind::XiaozhiEndpoint, id.uuid());
    }
    Ok(deleted)
}

/// The endpoint with this id.
pub async fn get(tx: &mut Tx, id: XiaozhiEndpointId) -> Result<Option<XiaozhiEndpoint>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM xiaozhi_endpoints WHERE id = $1");
    let row = tx.query_opt(TABLE, &sql, cells![id]).await?;
    row.map(|row| read(&tx.sealer(), &row)).transpose()
}

/// The endpoint with this name.
pub async fn by_name(tx: &mut Tx, name: &str) -> Result<Option<XiaozhiEndpoint>, StoreError> {
    if name.contains('\0') {
        return Ok(None);
    }
    let sql = format!("SELECT {COLUMNS} FROM xiaozhi_endpoints WHERE name = $1");
    let row = tx.query_opt(TABLE, &sql, cells![name]).await?;
    row.map(|row| read(&tx.sealer(), &row)).transpose()
}

/// Every endpoint that can be read, by id.
pub async fn list(tx: &mut Tx) -> Result<Vec<XiaozhiEndpoint>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM xiaozhi_endpoints ORDER BY id");
    let rows = tx.query(TABLE, &sql, cells![]).await?;
    let sealer = tx.sealer();
    tx.readable(&rows, |row| read(&sealer, row))
}

/// One page, by `name` unless the request says `createdAt` or `updatedAt`.
pub async fn page(
    tx: &mut Tx,
    request: &PageRequest,
    filter: &XiaozhiFilter,
) -> Result<Page<XiaozhiEndpoint>, StoreError> {
    let conditions = Filter::default().and("enabled = ?", filter.enabled);
    let sealer = tx.sealer();
    keyset::page(tx, &LISTING, request, conditions, |row| read(&sealer, row)).await
}

/// Keeps how an endpoint fares, in place of what was said before. One that is gone is passed over. Followers
/// aren't told.
pub async fn save_report(tx: &mut Tx, report: &XiaozhiReport) -> Result<(), StoreError> {
    let sql = "INSERT INTO xiaozhi_states (endpoint_id, holder, state, since, fault, close_code, last_error,
        next_attempt_at, tools_shown, tools_total)
        SELECT id, $2, $3, $4, $5, $6, $7, $8, $9, $10 FROM xiaozhi_endpoints WHERE id = $1
        ON CONFLICT (endpoint_id) DO UPDATE SET holder = excluded.holder, state = excluded.state,
        since = excluded.since, fault = excluded.fault, close_code = excluded.close_code,
        last_error = excluded.last_error, next_attempt_at = excluded.next_attempt_at,
        tools_shown = excluded.tools_shown, tools_total = excluded.tools_total";
    let cells = cells![
        report.endpoint_id,
        report.holder,
        report.state.as_str(),
        report.since,
        report.fault.map(|fault| fault.as_str()),
        report.close_code,
        report.last_error.as_deref(),
        report.next_attempt_at,
        report.tools_shown,
        report.tools_total,
    ];
    tx.execute(STATES, sql, cells).await.map(drop)
}

/// How the endpoints fare that somebody holds now, by whoever holds them. The word of one that lost the
/// lease, or died with it, counts no more.
pub async fn reports(tx: &mut Tx) -> Result<Vec<XiaozhiReport>, StoreError> {
    let holders = leases::holders(tx, LEASES).await?;
    let sql = "SELECT endpoint_id, holder, state, since, fault, close_code, last_error, next_attempt_at,
        tools_shown, tools_total FROM xiaozhi_states ORDER BY endpoint_id";
    let rows = tx.query(STATES, sql, cells![]).await?;
    let mut reports = tx.readable(&rows, read_report)?;
    reports.retain(|report| holders.get(&report.endpoint_id.to_string()) == Some(&report.holder));
    Ok(reports)
}

/// The columns that both insert and update write, from `id` to `updated_at`.
fn values(sealer: &Sealer, endpoint: &XiaozhiEndpoint) -> Vec<Cell> {
    let row = endpoint.id.to_string();
    cells![
        endpoint.id,
        &endpoint.name,
        sealer.seal(endpoint.url.expose().as_bytes(), place(&row)),
        endpoint.enabled,
        endpoint.key_id,
        endpoint.mode.as_str(),
        endpoint.tools_max,
        endpoint.description_max,
        endpoint.deadline_s,
        endpoint.reconnects,
        endpoint.updated_at,
    ]
}

fn place(row: &str) -> Place<'_> {
    Place { table: TABLE, column: "url", row }
}

fn read(sealer: &Sealer, row: &Row) -> Result<XiaozhiEndpoint, StoreError> {
    let id: XiaozhiEndpointId = row.get("id")?;
    let sealed: String = row.get("url")?;
    let opened = sealer.unseal(&sealed, place(&id.to_string())).ok();
    let url = opened.and_then(|plain| std::str::from_utf8(plain.expose()).ok().map(Secret::from));
    Ok(XiaozhiEndpoint {
        id,
        name: row.get("name")?,
        url: url.ok_or_else(|| row.corrupt("url"))?,
        enabled: row.get("enabled")?,
        key_id: row.get("key_id")?,
        mode: row.parse("mode")?,
        tools_max: row.get("tools_max")?,
        description_max: row.get("description_max")?,
        deadline_s: row.get("deadline_s")?,
        reconnects: row.get("reconnects")?,
        version: row.get("version")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

fn read_report(row: &Row) -> Result<XiaozhiReport, StoreError> {
    let fault = match row.get::<Option<String>>("fault")? {
        Some(_) => Some(row.parse("fault")?),
        None => None,
    };
    Ok(XiaozhiReport {
        endpoint_id: row.get("endpoint_id")?,
        holder: row.get("holder")?,
        state: row.parse("state")?,
        since: row.get("since")?,
        fault,
        close_code: row.get("close_code")?,
        last_error: row.get("last_error")?,
        next_attempt_at: row.get("next_attempt_at")?,
        tools_shown: row.get("tools_shown")?,
        tools_total: row.get("tools_total")?,
    })
}
