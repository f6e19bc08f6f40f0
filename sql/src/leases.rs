//! Which replica does a job. A lease belongs to the database alone, and ends by itself.

use std::time::Duration;

use uuid::Uuid;

use crate::db::{Dialect, cells};
use crate::error::StoreError;
use crate::model::time::Timestamp;
use crate::tx::Tx;

const TABLE: &str = "leases";

/// Takes a lease, or renews one's own, from now on for `ttl`. False: another holder has it. It holds
/// once the transaction is committed.
///
/// Whoever has it ends its job within `ttl` by a clock that isn't set. So if the clock is, two have one
/// lease for `ttl` at most; and a lease that ends later than any that is taken now could was taken before
/// the clock was set back, and stands in nobody's way.
pub async fn acquire(tx: &mut Tx, name: &str, holder: Uuid, ttl: Duration) -> Result<bool, StoreError> {
    let now = now(tx).await?;
    let sql = "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, $3)
        ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
        WHERE leases.holder = excluded.holder OR leases.expires_at <= $4 OR leases.expires_at > $3";
    Ok(tx.execute(TABLE, sql, cells![name, holder, now.plus(ttl), now]).await? == 1)
}

/// The time by which leases are taken: that of the database, where several machines share it.
async fn now(tx: &mut Tx) -> Result<Timestamp, StoreError> {
    if tx.dialect() == Dialect::Sqlite || !tx.clock().is_system() {
        return Ok(tx.clock().now());
    }
    let sql = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now";
    tx.query_one(TABLE, sql, cells![]).await?.get("now")
}

/// Gives a lease back. False: the holder doesn't have it.
pub async fn release(tx: &mut Tx, name: &str, holder: Uuid) -> Result<bool, StoreError> {
    let sql = "DELETE FROM leases WHERE name = $1 AND holder = $2";
    Ok(tx.execute(TABLE, sql, cells![name, holder]).await? == 1)
}
