//! Which replica does a job. A lease belongs to the database alone, and ends by itself.

use std::time::Duration;

use uuid::Uuid;

use crate::db::cells;
use crate::error::StoreError;
use crate::tx::Tx;

const TABLE: &str = "leases";

/// Takes a lease, or renews one's own, from now on for `ttl`. False: another holder has it. It holds
/// once the transaction is committed.
pub async fn acquire(tx: &mut Tx, name: &str, holder: Uuid, ttl: Duration) -> Result<bool, StoreError> {
    let now = tx.clock().now();
    let sql = "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, $3)
        ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
        WHERE leases.holder = excluded.holder OR leases.expires_at <= $4";
    Ok(tx.execute(TABLE, sql, cells![name, holder, now.plus(ttl), now]).await? == 1)
}

/// Gives a lease back. False: the holder doesn't have it.
pub async fn release(tx: &mut Tx, name: &str, holder: Uuid) -> Result<bool, StoreError> {
    let sql = "DELETE FROM leases WHERE name = $1 AND holder = $2";
    Ok(tx.execute(TABLE, sql, cells![name, holder]).await? == 1)
}
