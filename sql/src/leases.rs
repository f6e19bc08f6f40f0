//! Which replica does a job. A lease belongs to the database alone, and ends by itself.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use crate::db::{Dialect, Row, cells};
use crate::error::StoreError;
use crate::model::time::Timestamp;
use crate::tx::Tx;

const TABLE: &str = "leases";

/// How much later than now a lease may have been taken, by a clock that isn't set: between the reading of the
/// clock and the writing another replica may do both. Beyond what a database lets a transaction wait.
const OVERTAKEN_WITHIN: Duration = Duration::from_mins(1);

/// Takes a lease, or renews one's own, from now on for `ttl`. False: another holder has it. It holds
/// once the transaction is committed.
///
/// Whoever has it ends its job within `ttl` by a clock that isn't set. So if the clock is, two have one
/// lease for `ttl` at most; and a lease that ends later than any that is taken now could, by more than
/// `OVERTAKEN_WITHIN`, was taken before the clock was set back, and stands in nobody's way.
pub async fn acquire(tx: &mut Tx, name: &str, holder: Uuid, ttl: Duration) -> Result<bool, StoreError> {
    let now = now(tx).await?;
    let sql = "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, $3)
        ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
        WHERE leases.holder = excluded.holder OR leases.expires_at <= $4 OR leases.expires_at > $5";
    let (ends, latest) = (now.plus(ttl), now.plus(ttl + OVERTAKEN_WITHIN));
    Ok(tx.execute(TABLE, sql, cells![name, holder, ends, now, latest]).await? == 1)
}

/// The time by which leases are taken: that of the database, where several machines share it.
pub(crate) async fn now(tx: &mut Tx) -> Result<Timestamp, StoreError> {
    if tx.dialect() == Dialect::Sqlite || !tx.clock().is_system() {
        return Ok(tx.clock().now());
    }
    let sql = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now";
    tx.query_one(TABLE, sql, cells![]).await?.get("now")
}

/// Who holds the leases whose names begin with `prefix` and a colon now, by the rest of the name.
pub async fn holders(tx: &mut Tx, prefix: &str) -> Result<HashMap<String, Uuid>, StoreError> {
    let now = now(tx).await?;
    // The semicolon comes after the colon in the order of bytes, which is that of the column.
    let sql = "SELECT name, holder FROM leases WHERE name > $1 AND name < $2 AND expires_at > $3";
    let (from, to) = (format!("{prefix}:"), format!("{prefix};"));
    let rows = tx.query(TABLE, sql, cells![&from, to, now]).await?;
    let read = |row: &Row| Ok((row.get::<String>("name")?[from.len()..].to_owned(), row.get("holder")?));
    rows.iter().map(read).collect()
}

/// Gives a lease back. False: the holder doesn't have it.
pub async fn release(tx: &mut Tx, name: &str, holder: Uuid) -> Result<bool, StoreError> {
    let sql = "DELETE FROM leases WHERE name = $1 AND holder = $2";
    Ok(tx.execute(TABLE, sql, cells![name, holder]).await? == 1)
}

/// Notes that a job is done which was begun at that time, so that others who had the same cause needn't.
pub async fn note_done(tx: &mut Tx, name: &str, holder: Uuid, begun_at: Timestamp) -> Result<(), StoreError> {
    // The same table: a lease of another name that nobody acquires, whose time is that of the beginning.
    let sql = "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, $3)
        ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
        WHERE leases.expires_at < excluded.expires_at";
    tx.execute(TABLE, sql, cells![done(name), holder, begun_at]).await.map(drop)
}

/// Whether a job has been done that was begun at this time or later.
pub async fn is_done_since(tx: &mut Tx, name: &str, time: Timestamp) -> Result<bool, StoreError> {
    let sql = "SELECT expires_at FROM leases WHERE name = $1 AND expires_at >= $2";
    Ok(tx.query_opt(TABLE, sql, cells![done(name), time]).await?.is_some())
}

fn done(name: &str) -> String {
    format!("done:{name}")
}
