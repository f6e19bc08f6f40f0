//! How many messages keys sent in each day and month: added up over all replicas.

use crate::db::{Cell, Row, cells, placeholders};
use crate::error::StoreError;
use crate::model::key_usage::{KeyUsage, QuotaSpan};
use crate::model::time::Timestamp;
use crate::sweeping::delete_some;
use crate::tx::Tx;

const TABLE: &str = "key_usage";

/// Rows in one statement: a few hundred parameters, which either database takes.
const ROWS_PER_INSERT: usize = 100;

/// Adds messages and answers the sums that are there now, of all replicas. Each key, span and start at most once.
pub async fn add(tx: &mut Tx, used: &[KeyUsage]) -> Result<Vec<KeyUsage>, StoreError> {
    let mut used = used.to_vec();
    // In one order, so that two replicas never wait for each other's rows.
    used.sort_by_key(|usage| (usage.key_id, usage.span.as_str(), usage.starts_at));
    let mut sums = Vec::with_capacity(used.len());
    for part in used.chunks(ROWS_PER_INSERT) {
        let sql = format!(
            "INSERT INTO key_usage (key_id, span, starts_at, messages) VALUES {}
            ON CONFLICT (key_id, span, starts_at) DO UPDATE SET messages = key_usage.messages + excluded.messages
            RETURNING key_id, span, starts_at, messages",
            placeholders(part.len(), 4)
        );
        let cells: Vec<Cell> = part
            .iter()
            .flat_map(|usage| cells![usage.key_id, usage.span.as_str(), usage.starts_at, usage.messages])
            .collect();
        for row in tx.query(TABLE, &sql, cells).await? {
            sums.push(read(&row)?);
        }
    }
    Ok(sums)
}

/// What was used in the day and the month that `now` lies in.
pub async fn current(tx: &mut Tx, now: Timestamp) -> Result<Vec<KeyUsage>, StoreError> {
    let sql = "SELECT key_id, span, starts_at, messages FROM key_usage
        WHERE (span = 'day' AND starts_at = $1) OR (span = 'month' AND starts_at = $2) ORDER BY key_id, span";
    let cells = cells![QuotaSpan::Day.start(now), QuotaSpan::Month.start(now)];
    tx.query(TABLE, sql, cells).await?.iter().map(read).collect()
}

/// Forgets some of what began before `moment`. Says how many rows that were.
pub async fn sweep(tx: &mut Tx, moment: Timestamp) -> Result<u64, StoreError> {
    delete_some(tx, (TABLE, "key_id, span, starts_at"), "starts_at < $1", cells![moment]).await
}

fn read(row: &Row) -> Result<KeyUsage, StoreError> {
    Ok(KeyUsage {
        key_id: row.get("key_id")?,
        span: row.parse("span")?,
        starts_at: row.get("starts_at")?,
        messages: row.get("messages")?,
    })
}
