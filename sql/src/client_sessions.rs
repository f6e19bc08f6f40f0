//! Which sessions the clients of keys have opened: for an admin to see, and to end. Nothing is served from here.

use uuid::Uuid;

use crate::db::{Row, cells};
use crate::error::StoreError;
use crate::model::ids::ApiKeyId;
use crate::model::session::ClientSession;
use crate::model::time::Timestamp;
use crate::tx::Tx;

const TABLE: &str = "client_sessions";
const COLUMNS: &str = "rid, key_id, path, version, client, address, created_at, expires_at";
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
    let rows = sessions.iter().map(row).collect();
    tx.insert_rows(TABLE, &head, "ON CONFLICT (rid) DO NOTHING", rows).await.map(drop)
}

/// The sessions of a key that go on, the newest first, at most `limit`.
pub async fn of_key(
    tx: &mut Tx,
    key: ApiKeyId,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<ClientSession>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM client_sessions WHERE key_id = $1 AND expires_at > $2
         AND NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.rid = client_sessions.rid AND ended = 1)
         ORDER BY created_at DESC, rid DESC LIMIT $3"
    );
    let rows = tx.query(TABLE, &sql, cells![key, now, limit]).await?;
    tx.readable(&rows, read)
}

/// A session that goes on.
pub async fn get(tx: &mut Tx, rid: Uuid, now: Timestamp) -> Result<Option<ClientSession>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM client_sessions WHERE rid = $1 AND expires_at > $2
         AND NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.rid = client_sessions.rid AND ended = 1)"
    );
    tx.query_opt(TABLE, &sql, cells![rid, now]).await?.as_ref().map(read).transpose()
}

/// Forgets sessions that have expired, and the oldest of too many.
pub async fn sweep(tx: &mut Tx, now: Timestamp) -> Result<(), StoreError> {
    tx.execute(TABLE, "DELETE FROM client_sessions WHERE expires_at <= $1", cells![now]).await?;
    let oldest = "DELETE FROM client_sessions WHERE created_at < (SELECT created_at FROM client_sessions
        ORDER BY created_at DESC LIMIT 1 OFFSET $1)";
    tx.execute(TABLE, oldest, cells![ROWS_MAX]).await.map(drop)
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
