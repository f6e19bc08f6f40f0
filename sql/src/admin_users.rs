//! The administrators, and the tokens that are in force.

use crate::db::{Row, cells};
use crate::error::StoreError;
use crate::model::admin_user::{AdminToken, AdminUser};
use crate::model::ids::{AdminUserId, TokenId};
use crate::model::secret::Secret;
use crate::model::time::Timestamp;
use crate::tx::Tx;

const TABLE: &str = "admin_users";
const TOKENS: &str = "admin_tokens";

/// How many there are.
pub async fn count(tx: &mut Tx) -> Result<u64, StoreError> {
    tx.query_one(TABLE, "SELECT COUNT(*) AS total FROM admin_users", cells![]).await?.get("total")
}

/// Inserts the first administrator. False, and nothing is changed: there is one already. Of any
/// number of registrations at once, one succeeds.
pub async fn insert_first(tx: &mut Tx, admin: &AdminUser) -> Result<bool, StoreError> {
    // Locks the one row of the installation, so that a second registration waits here for the end of
    // the first, and then sees its row. (SQLite's writer is alone anyway.)
    tx.execute("installation", "UPDATE installation SET id = id WHERE id = 1", cells![]).await?;
    let sql = "INSERT INTO admin_users (id, username, password_hash, created_at, updated_at)
        SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS BIGINT), CAST($5 AS BIGINT)
        WHERE NOT EXISTS (SELECT 1 FROM admin_users)";
    let cells =
        cells![admin.id, &admin.username, admin.password_hash.expose(), admin.created_at, admin.updated_at,];
    Ok(tx.execute(TABLE, sql, cells).await? == 1)
}

/// The administrator with this name.
pub async fn by_username(tx: &mut Tx, username: &str) -> Result<Option<AdminUser>, StoreError> {
    if username.contains('\0') {
        return Ok(None);
    }
    let sql =
        "SELECT id, username, password_hash, created_at, updated_at FROM admin_users WHERE username = $1";
    tx.query_opt(TABLE, sql, cells![username]).await?.as_ref().map(read).transpose()
}

/// The administrator with this id.
pub async fn get(tx: &mut Tx, id: AdminUserId) -> Result<Option<AdminUser>, StoreError> {
    let sql = "SELECT id, username, password_hash, created_at, updated_at FROM admin_users WHERE id = $1";
    tx.query_opt(TABLE, sql, cells![id]).await?.as_ref().map(read).transpose()
}

/// Sets a password. False: there is no such administrator. Ending the tokens is the caller's to do.
pub async fn set_password(
    tx: &mut Tx,
    id: AdminUserId,
    password_hash: &Secret<String>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE admin_users SET password_hash = $2, updated_at = $3 WHERE id = $1";
    Ok(tx.execute(TABLE, sql, cells![id, password_hash.expose(), now]).await? == 1)
}

/// Puts a token in force, and forgets those that have ended by themselves.
pub async fn insert_token(tx: &mut Tx, token: &AdminToken) -> Result<(), StoreError> {
    let sweep = "DELETE FROM admin_tokens WHERE admin_id = $1 AND expires_at <= $2";
    tx.execute(TOKENS, sweep, cells![token.admin_id, token.issued_at]).await?;
    let sql = "INSERT INTO admin_tokens (id, admin_id, issued_at, expires_at, address, user_agent)
        VALUES ($1, $2, $3, $4, $5, $6)";
    let cells = cells![
        token.id,
        token.admin_id,
        token.issued_at,
        token.expires_at,
        token.address,
        &token.user_agent,
    ];
    tx.execute(TOKENS, sql, cells).await.map(drop)
}

/// A token that is in force. One past its `expires_at` may still be found: the caller checks the time.
pub async fn token(tx: &mut Tx, id: TokenId) -> Result<Option<AdminToken>, StoreError> {
    let sql =
        "SELECT id, admin_id, issued_at, expires_at, address, user_agent FROM admin_tokens WHERE id = $1";
    tx.query_opt(TOKENS, sql, cells![id]).await?.as_ref().map(read_token).transpose()
}

/// The tokens of one administrator, the newest first.
pub async fn tokens_of(tx: &mut Tx, admin: AdminUserId) -> Result<Vec<AdminToken>, StoreError> {
    let sql = "SELECT id, admin_id, issued_at, expires_at, address, user_agent FROM admin_tokens
        WHERE admin_id = $1 ORDER BY issued_at DESC, id DESC";
    tx.query(TOKENS, sql, cells![admin]).await?.iter().map(read_token).collect()
}

/// Ends a token. False: it wasn't in force.
pub async fn delete_token(tx: &mut Tx, id: TokenId) -> Result<bool, StoreError> {
    Ok(tx.execute(TOKENS, "DELETE FROM admin_tokens WHERE id = $1", cells![id]).await? == 1)
}

/// Ends the tokens of one administrator, but for one. Says how many.
pub async fn delete_tokens_of(
    tx: &mut Tx,
    admin: AdminUserId,
    except: Option<TokenId>,
) -> Result<u64, StoreError> {
    // No token has an empty id.
    let except = except.map(|id| id.to_string()).unwrap_or_default();
    let sql = "DELETE FROM admin_tokens WHERE admin_id = $1 AND id <> $2";
    tx.execute(TOKENS, sql, cells![admin, except]).await
}

fn read(row: &Row) -> Result<AdminUser, StoreError> {
    Ok(AdminUser {
        id: row.get("id")?,
        username: row.get("username")?,
        password_hash: Secret::new(row.get("password_hash")?),
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

fn read_token(row: &Row) -> Result<AdminToken, StoreError> {
    Ok(AdminToken {
        id: row.get("id")?,
        admin_id: row.get("admin_id")?,
        issued_at: row.get("issued_at")?,
        expires_at: row.get("expires_at")?,
        address: row.get("address")?,
        user_agent: row.get("user_agent")?,
    })
}
