//! How often passwords were guessed lately, at all replicas together. What follows from it others decide.

use crate::db::{Row, cells};
use crate::error::StoreError;
use crate::leases;
use crate::model::time::Timestamp;
use crate::sweeping::delete_some;
use crate::tx::Tx;

const TABLE: &str = "login_attempts";

/// Whose attempts are counted together.
pub type Account = [u8; 32];

/// Attempts of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// How many.
    pub count: u32,
    /// When the last was; 1970 where there was none.
    pub last_at: Timestamp,
}

/// The attempts of an account, which nobody else counts until the transaction ends. Accounts are to be locked in
/// one order, or two transactions wait for each other.
pub async fn lock(tx: &mut Tx, account: &Account) -> Result<Attempts, StoreError> {
    let sql = "INSERT INTO login_attempts (account, attempts, last_at) VALUES ($1, 0, 0)
        ON CONFLICT (account) DO UPDATE SET account = excluded.account RETURNING attempts, last_at";
    read(&tx.query_one(TABLE, sql, cells![account]).await?)
}

/// Writes the attempts of an account that is locked.
pub async fn save(tx: &mut Tx, account: &Account, attempts: Attempts) -> Result<(), StoreError> {
    let sql = "UPDATE login_attempts SET attempts = $2, last_at = $3 WHERE account = $1";
    tx.execute(TABLE, sql, cells![account, attempts.count, attempts.last_at]).await.map(drop)
}

/// Forgets the attempts of an account.
pub async fn forget(tx: &mut Tx, account: &Account) -> Result<(), StoreError> {
    tx.execute(TABLE, "DELETE FROM login_attempts WHERE account = $1", cells![account]).await.map(drop)
}

/// Forgets some of the accounts that were tried last before that moment. Says how many those were.
pub async fn sweep(tx: &mut Tx, before: Timestamp) -> Result<u64, StoreError> {
    delete_some(tx, (TABLE, "account"), "last_at < $1", cells![before]).await
}

/// The time that all replicas agree on: that of the database, where several machines share it.
pub async fn now(tx: &mut Tx) -> Result<Timestamp, StoreError> {
    leases::now(tx).await
}

fn read(row: &Row) -> Result<Attempts, StoreError> {
    Ok(Attempts { count: row.get("attempts")?, last_at: row.get("last_at")? })
}
