//! What changes about legacy MCP sessions: that one has ended, and its log level. Everything else
//! lies sealed in the session's id, so a session that never said anything has no row.

use uuid::Uuid;

use crate::changes::ChangeKind;
use crate::db::{Row, cells};
use crate::error::StoreError;
use crate::model::session::SessionState;
use crate::model::time::Timestamp;
use crate::sweeping::delete_some;
use crate::tx::Tx;

const TABLE: &str = "sessions";
/// Rows that are kept, those that go last: as many as a process remembers.
const ROWS_MAX: i64 = 200_000;

/// Ends a session for good: remembered until its token would be invalid whatever the settings
/// become.
pub async fn end(tx: &mut Tx, rid: Uuid, expires_at: Timestamp) -> Result<(), StoreError> {
    let sql = "INSERT INTO sessions (rid, ended, log_level, expires_at) VALUES ($1, 1, NULL, $2)
        ON CONFLICT (rid) DO UPDATE SET ended = 1, expires_at = excluded.expires_at";
    tx.execute(TABLE, sql, cells![rid, expires_at]).await?;
    tx.changed(ChangeKind::Session, rid);
    Ok(())
}

/// Sets a session's log level. An ended session stays ended.
pub async fn set_level(
    tx: &mut Tx,
    rid: Uuid,
    level: Option<String>,
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO sessions (rid, ended, log_level, expires_at) VALUES ($1, 0, $2, $3)
        ON CONFLICT (rid) DO UPDATE SET log_level = excluded.log_level, expires_at = excluded.expires_at";
    tx.execute(TABLE, sql, cells![rid, level, expires_at]).await?;
    tx.changed(ChangeKind::Session, rid);
    Ok(())
}

/// Every session that said something.
pub async fn load(tx: &mut Tx) -> Result<Vec<SessionState>, StoreError> {
    let sql = "SELECT rid, ended, log_level, expires_at FROM sessions ORDER BY rid";
    let rows = tx.query(TABLE, sql, cells![]).await?;
    tx.readable(&rows, read)
}

/// One session, if it said something.
pub async fn get(tx: &mut Tx, rid: Uuid) -> Result<Option<SessionState>, StoreError> {
    let sql = "SELECT rid, ended, log_level, expires_at FROM sessions WHERE rid = $1";
    tx.query_opt(TABLE, sql, cells![rid]).await?.as_ref().map(read).transpose()
}

/// Forgets some of the sessions whose tokens have expired, and of the oldest of too many. Says how many; none: nothing
/// is left to forget.
pub async fn sweep(tx: &mut Tx, now: Timestamp) -> Result<u64, StoreError> {
    let expired = delete_some(tx, (TABLE, "rid"), "expires_at <= $1", cells![now]).await?;
    let oldest = "expires_at < (SELECT expires_at FROM sessions ORDER BY expires_at DESC LIMIT 1 OFFSET $1)";
    Ok(expired + delete_some(tx, (TABLE, "rid"), oldest, cells![ROWS_MAX]).await?)
}

fn read(row: &Row) -> Result<SessionState, StoreError> {
    Ok(SessionState {
        rid: row.get("rid")?,
        ended: row.get("ended")?,
        log_level: row.get("log_level")?,
        expires_at: row.get("expires_at")?,
    })
}
