//! Which sessions the clients of keys have opened: for an admin to see, and to end. Nothing is served from here.

use uuid::Uuid;

use crate::db::{Row, cells};
use crate::error::StoreError;
use crate::keyset::{self, Filter, Listing, Sort};
use crate::model::ids::ApiKeyId;
use crate::model::page::{Page, PageRequest};
use crate::model::session::ClientSession;
use crate::model::time::Timestamp;
use crate::sweeping::delete_some;
use crate::tx::Tx;

const TABLE: &str = "client_sessions";
const COLUMNS: &str = "rid, key_id, path, version, client, address, created_at, expires_at";
const NOT_ENDED: &str =
    "NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.rid = client_sessions.rid AND ended = 1)";

const LISTING: Listing = Listing {
    table: TABLE,
    columns: COLUMNS,
    key: "rid",
    key_is_number: false,
    sorts: &[Sort { name: "createdAt", expression: "created_at", is_number: true }],
    descending_by_default: true,
    searched: &["client"],
};

/// Rows that are kept; more are of clients that open sessions and leave them.
const ROWS_MAX: i64 = 100_000;

/// Notes sessions that were opened.
pub async fn insert(tx: &mut Tx, sessions: &[ClientSession]) -> Result<(), StoreError> {
    if sessions.is_empty() {
        return Ok(());
    }
    let row = |session: &ClientSession| {
        cells![
            session.rid,
            session.key_id,
            &session.path,
            &session.version,
            session.client.as_ref(),
            session.address,
            session.created_at,
            session.expires_at,
        ]
    };
    let head = format!("INSERT INTO client_sessions ({COLUMNS}) VALUES");
    let around = (head.as_str(), "ON CONFLICT (rid) DO NOTHING");
    let columns = COLUMNS.split(',').count();
    tx.insert_rows(TABLE, around, columns, sessions.iter().flat_map(row).collect()).await.map(drop)
}

/// One page of the sessions of a key that were opened after `since` and that nobody ended; the newest first,
/// unless the request says otherwise.
pub async fn page(
    tx: &mut Tx,
    request: &PageRequest,
    key: ApiKeyId,
    since: Timestamp,
) -> Result<Page<ClientSession>, StoreError> {
    let goes_on = format!("created_at > ? AND {NOT_ENDED}");
    let conditions = Filter::default().and("key_id = ?", Some(key)).and(&goes_on, Some(since));
    keyset::page(tx, &LISTING, request, conditions, read).await
}

/// A session that was opened after `since` and that nobody ended.
pub async fn get(tx: &mut Tx, rid: Uuid, since: Timestamp) -> Result<Option<ClientSession>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM client_sessions WHERE rid = $1 AND created_at > $2 AND {NOT_ENDED}");
    tx.query_opt(TABLE, &sql, cells![rid, since]).await?.as_ref().map(read).transpose()
}

/// Forgets some of the sessions that have expired, and of the oldest of too many. Says how many; none: nothing is left
/// to forget.
pub async fn sweep(tx: &mut Tx, now: Timestamp) -> Result<u64, StoreError> {
    let expired = delete_some(tx, (TABLE, "rid"), "expires_at <= $1", cells![now]).await?;
    let oldest =
        "created_at < (SELECT created_at FROM client_sessions ORDER BY created_at DESC LIMIT 1 OFFSET $1)";
    Ok(expired + delete_some(tx, (TABLE, "rid"), oldest, cells![ROWS_MAX]).await?)
}

fn read(row: &Row) -> Result<ClientSession, StoreError> {
    Ok(ClientSession {
        rid: row.get("rid")?,
        key_id: row.get("key_id")?,
        path: row.get("path")?,
        version: row.get("version")?,
        client: row.get("client")?,
        address: row.get("address")?,
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
    })
}
