//! The API keys: who may call, and what.

use std::net::IpAddr;

use crate::changes::ChangeKind;
use crate::db::{Cell, Row, cells};
use crate::error::StoreError;
use crate::keyset::{self, Filter, Listing, Sort};
use crate::model::api_key::{ApiKey, PreviousSecret, RateLimit};
use crate::model::ids::ApiKeyId;
use crate::model::page::{Page, PageRequest};
use crate::model::rule::RuleOwner;
use crate::model::time::Timestamp;
use crate::rules;
use crate::tx::Tx;

const TABLE: &str = "api_keys";

const COLUMNS: &str = "id, name, prefix, hash, previous_hash, previous_until, enabled, expires_at, mode, \
    upstream_ids, allowed_cidrs, rate_limit, rate_window_s, quota_per_day, quota_per_month, last_used_at, \
    last_ip, version, created_at, updated_at";

const LISTING: Listing = Listing {
    table: TABLE,
    columns: COLUMNS,
    key: "id",
    key_is_number: false,
    sorts: &[
        Sort { name: "name", expression: "name", is_number: false },
        Sort { name: "createdAt", expression: "created_at", is_number: true },
        Sort { name: "updatedAt", expression: "updated_at", is_number: true },
        Sort { name: "lastUsedAt", expression: "COALESCE(last_used_at, 0)", is_number: true },
    ],
    descending_by_default: false,
    searched: &["name", "prefix"],
};

/// Which keys a page shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiKeyFilter {
    /// Only those that are, or aren't, enabled.
    pub enabled: Option<bool>,
}

/// Inserts a key. A name that exists is a conflict with `api_keys.name`.
pub async fn insert(tx: &mut Tx, key: &ApiKey) -> Result<(), StoreError> {
    let sql = "INSERT INTO api_keys (id, name, prefix, hash, previous_hash, previous_until, enabled,
        expires_at, mode, upstream_ids, allowed_cidrs, rate_limit, rate_window_s, quota_per_day,
        quota_per_month, updated_at, version, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
    let mut cells = values(key);
    cells.extend(cells![key.version, key.created_at]);
    tx.execute(TABLE, sql, cells).await?;
    tx.changed(ChangeKind::ApiKey, key.id.uuid());
    Ok(())
}

/// Writes a key over its `expected_version`; the stored one is then one higher. False: it is gone or
/// was changed meanwhile. Its version, creation and last use are passed over.
pub async fn update(tx: &mut Tx, key: &ApiKey, expected_version: i64) -> Result<bool, StoreError> {
    let sql = "UPDATE api_keys SET name = $2, prefix = $3, hash = $4, previous_hash = $5,
        previous_until = $6, enabled = $7, expires_at = $8, mode = $9, upstream_ids = $10,
        allowed_cidrs = $11, rate_limit = $12, rate_window_s = $13, quota_per_day = $14,
        quota_per_month = $15, updated_at = $16, version = version + 1
        WHERE id = $1 AND version = $17";
    let mut cells = values(key);
    cells.extend(cells![expected_version]);
    let written = tx.execute(TABLE, sql, cells).await? == 1;
    if written {
        tx.changed(ChangeKind::ApiKey, key.id.uuid());
    }
    Ok(written)
}

/// Deletes a key with its rules. False: there is none.
pub async fn delete(tx: &mut Tx, id: ApiKeyId) -> Result<bool, StoreError> {
    rules::forget(tx, RuleOwner::Key(id)).await?;
    let deleted = tx.execute(TABLE, "DELETE FROM api_keys WHERE id = $1", cells![id]).await? == 1;
    if deleted {
        tx.changed(ChangeKind::ApiKey, id.uuid());
    }
    Ok(deleted)
}

/// The key with this id.
pub async fn get(tx: &mut Tx, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM api_keys WHERE id = $1");
    tx.query_opt(TABLE, &sql, cells![id]).await?.as_ref().map(read).transpose()
}

/// The key with this name.
pub async fn by_name(tx: &mut Tx, name: &str) -> Result<Option<ApiKey>, StoreError> {
    if name.contains('\0') {
        return Ok(None);
    }
    let sql = format!("SELECT {COLUMNS} FROM api_keys WHERE name = $1");
    tx.query_opt(TABLE, &sql, cells![name]).await?.as_ref().map(read).transpose()
}

/// Every key that can be read, by id.
pub async fn list(tx: &mut Tx) -> Result<Vec<ApiKey>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM api_keys ORDER BY id");
    let rows = tx.query(TABLE, &sql, cells![]).await?;
    tx.readable(&rows, read)
}

/// One page, by `name` unless the request says `createdAt`, `updatedAt` or `lastUsedAt`.
pub async fn page(
    tx: &mut Tx,
    request: &PageRequest,
    filter: &ApiKeyFilter,
) -> Result<Page<ApiKey>, StoreError> {
    let conditions = Filter::default().and("enabled = ?", filter.enabled);
    keyset::page(tx, &LISTING, request, conditions, read).await
}

/// Notes when keys were last used, and from where. It never bumps the revision nor a key's version,
/// goes only forward in time, and a key that is gone is passed over.
pub async fn touch(tx: &mut Tx, uses: Vec<(ApiKeyId, Timestamp, Option<IpAddr>)>) -> Result<(), StoreError> {
    let sql = "UPDATE api_keys SET last_used_at = $2, last_ip = $3
        WHERE id = $1 AND COALESCE(last_used_at, 0) < $2";
    for (id, at, ip) in uses {
        tx.execute(TABLE, sql, cells![id, at, ip]).await?;
    }
    Ok(())
}

/// The columns that both insert and update write, from `id` to `updated_at`.
fn values(key: &ApiKey) -> Vec<Cell> {
    let upstream_ids =
        key.upstream_ids.as_ref().map(|ids| serde_json::to_string(ids).expect("ids are texts"));
    cells![
        key.id,
        &key.name,
        &key.prefix,
        &key.hash,
        key.previous.as_ref().map(|previous| &previous.hash),
        key.previous.as_ref().map(|previous| previous.until),
        key.enabled,
        key.expires_at,
        key.mode.as_str(),
        upstream_ids,
        serde_json::to_string(&key.allowed_cidrs).expect("networks are texts"),
        key.rate_limit.map(|rate| rate.limit),
        key.rate_limit.map(|rate| rate.window_s),
        key.quota_per_day,
        key.quota_per_month,
        key.updated_at,
    ]
}

fn read(row: &Row) -> Result<ApiKey, StoreError> {
    let upstream_ids = match row.get::<Option<String>>("upstream_ids")? {
        Some(_) => Some(row.json("upstream_ids")?),
        None => None,
    };
    Ok(ApiKey {
        id: row.get("id")?,
        name: row.get("name")?,
        prefix: row.get("prefix")?,
        hash: row.get("hash")?,
        previous: read_previous(row)?,
        enabled: row.get("enabled")?,
        expires_at: row.get("expires_at")?,
        mode: row.parse("mode")?,
        upstream_ids,
        allowed_cidrs: row.json("allowed_cidrs")?,
        rate_limit: read_rate_limit(row)?,
        quota_per_day: row.get("quota_per_day")?,
        quota_per_month: row.get("quota_per_month")?,
        last_used_at: row.get("last_used_at")?,
        last_ip: row.get("last_ip")?,
        version: row.get("version")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

fn read_previous(row: &Row) -> Result<Option<PreviousSecret>, StoreError> {
    match (row.get("previous_hash")?, row.get("previous_until")?) {
        (Some(hash), Some(until)) => Ok(Some(PreviousSecret { hash, until })),
        (None, None) => Ok(None),
        _ => Err(row.corrupt("previous_hash")),
    }
}

/// Half a limit is no limit: rather an error than a key without one.
fn read_rate_limit(row: &Row) -> Result<Option<RateLimit>, StoreError> {
    match (row.get("rate_limit")?, row.get("rate_window_s")?) {
        (Some(limit), Some(window_s)) => Ok(Some(RateLimit { limit, window_s })),
        (None, None) => Ok(None),
        _ => Err(row.corrupt("rate_limit")),
    }
}
