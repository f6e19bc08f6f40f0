//! The call records: written in batches, together with their sums, and dropped when they are old or too many.
//!
//! A record is six numbers; what it has in common with others is its kind (`call_kinds`).
//! A writer that doesn't know whether its commit took effect repeats the batch by [`insert_again`], which adds
//! only what isn't there. How many records there are is kept beside them, month by month.

mod page;
mod partitions;

use std::collections::HashSet;

pub use self::page::{COUNTED_MAX, page};
pub use self::partitions::tend;
use crate::call_kinds;
use crate::db::{Cell, Dialect, Row, cells, placeholders};
use crate::error::StoreError;
use crate::model::call_batch::{CallBatch, CallKind, MeasuredCall};
use crate::model::call_record::{CallRecord, CallRecordId};
use crate::model::time::Timestamp;
use crate::rollups;
use crate::sweeping::DELETED_AT_ONCE;
use crate::tx::Tx;

const TABLE: &str = "call_records";
const MONTHS: &str = "call_months";

/// What is written of a record.
const WRITTEN: &str = "at, id, kind, latency_us, bytes_in, bytes_out";
/// How many columns those are.
const WRITTEN_COLUMNS: usize = 6;

/// Records with their kinds.
const WITH_KINDS: &str = "call_records JOIN call_kinds USING (kind)";
/// What is read of a record.
const COLUMNS: &str = "at, id, method, upstream_id, upstream_name, exposed_name, key_id, transport, era, mode, \
    outcome, latency_us, bytes_in, bytes_out";

/// The most bytes of a name that are kept: twice what any name that is listed has. URIs of resources
/// may be longer, and are cut.
pub const NAME_BYTES_MAX: usize = 512;

/// What is kept if the settings don't say: a file on a small machine, and a server.
const RECORDS_MAX: (u64, u64) = (2_000_000, 200_000_000);

/// Records in one statement that says which of them are new: a few hundred parameters, which either database takes.
const CHECKED_AT_ONCE: usize = 100;

/// What is kept: nothing older, and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Nothing before this moment.
    pub from: Timestamp,
    /// No more records than this; none = as many as suit the database.
    pub records_max: Option<u64>,
}

/// What one step of dropping old records did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Records that were older than is kept.
    pub expired: u64,
    /// The oldest of more records than are kept.
    pub surplus: u64,
    /// Whether there is more to drop: do it again, in another transaction.
    pub more: bool,
}

/// Writes records that were never written, and adds them to the sums. Names that are too long are cut, and what no
/// database can hold in them is replaced.
pub async fn insert(tx: &mut Tx, batch: &CallBatch) -> Result<(), StoreError> {
    let numbers = call_kinds::store(tx, batch).await?;
    let cells = cells_of(batch.calls(), &numbers);
    let head = format!("INSERT INTO call_records ({WRITTEN}) VALUES");
    tx.insert_rows(TABLE, (&head, ""), WRITTEN_COLUMNS, cells).await?;
    add_to_sums(tx, batch).await
}

/// Writes records of which some or all may be there, or be written by another replica at this moment: those are
/// passed over, and count once. Says how many were new.
pub async fn insert_again(tx: &mut Tx, batch: &CallBatch) -> Result<u64, StoreError> {
    let numbers = call_kinds::store(tx, batch).await?;
    let mut new: HashSet<(i64, i64)> = HashSet::new();
    for part in batch.calls().chunks(CHECKED_AT_ONCE) {
        let sql = format!(
            "INSERT INTO call_records ({WRITTEN}) VALUES {} ON CONFLICT (at, id) DO NOTHING RETURNING at, id",
            placeholders(part.len(), WRITTEN_COLUMNS)
        );
        for row in tx.query(TABLE, &sql, cells_of(part, &numbers)).await? {
            new.insert((row.get("at")?, row.get("id")?));
        }
    }
    let is_new = |call: &MeasuredCall| new.remove(&(call.at.millis(), call.id.get()));
    let new = batch.filtered(is_new);
    add_to_sums(tx, &new).await?;
    Ok(new.len() as u64)
}

async fn add_to_sums(tx: &mut Tx, batch: &CallBatch) -> Result<(), StoreError> {
    for month in batch.by_span(Timestamp::next_month_start) {
        let Some(first) = month.first() else { continue };
        let sql = "INSERT INTO call_months (month, records) VALUES ($1, $2)
            ON CONFLICT (month) DO UPDATE SET records = call_months.records + excluded.records";
        tx.execute(MONTHS, sql, cells![first.at.month_start(), month.len() as u64]).await?;
    }
    rollups::add(tx, batch).await
}

fn cells_of(calls: &[MeasuredCall], numbers: &[i64]) -> Vec<Cell> {
    let mut cells = Vec::with_capacity(calls.len() * WRITTEN_COLUMNS);
    for call in calls {
        let number = numbers.get(call.kind).copied().unwrap_or_default();
        let row: [Cell; WRITTEN_COLUMNS] = [
            call.at.into(),
            call.id.get().into(),
            number.into(),
            call.latency_us.into(),
            call.bytes_in.into(),
            call.bytes_out.into(),
        ];
        cells.extend(row);
    }
    cells
}

/// How many records there are.
pub async fn count(tx: &mut Tx) -> Result<u64, StoreError> {
    let sql = "SELECT CAST(COALESCE(SUM(records), 0) AS BIGINT) AS records FROM call_months";
    tx.query_one(MONTHS, sql, cells![]).await?.get("records")
}

/// The newest records, the newest first.
pub async fn newest(tx: &mut Tx, limit: u32) -> Result<Vec<CallRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM {WITH_KINDS} ORDER BY at DESC, id DESC LIMIT $1");
    tx.query(TABLE, &sql, cells![limit]).await?.iter().map(read).collect()
}

/// Drops some of what is older than is kept, then some of what is more: the oldest first, and never so
/// many at once that others wait.
pub async fn drop_oldest(tx: &mut Tx, keep: Keep) -> Result<Dropped, StoreError> {
    let Some((month, in_month)) = oldest_month(tx).await? else { return Ok(Dropped::default()) };
    if month < keep.from {
        let until = keep.from.min(month.next_month_start());
        let expired = delete(tx, month, until, DELETED_AT_ONCE).await?;
        // An early part of the month may be gone while the rest is kept.
        if expired > 0 || until == month.next_month_start() {
            return Ok(Dropped { expired, more: true, ..Dropped::default() });
        }
    }
    let surplus = count(tx).await?.saturating_sub(keep.records_max.unwrap_or_else(|| records_max(tx)));
    if surplus == 0 {
        return Ok(Dropped::default());
    }
    let at_once = surplus.min(DELETED_AT_ONCE).min(in_month.max(1));
    let deleted = delete(tx, month, month.next_month_start(), at_once).await?;
    Ok(Dropped { surplus: deleted, more: true, ..Dropped::default() })
}

fn records_max(tx: &Tx) -> u64 {
    match tx.dialect() {
        Dialect::Sqlite => RECORDS_MAX.0,
        Dialect::Postgres => RECORDS_MAX.1,
    }
}

async fn oldest_month(tx: &mut Tx) -> Result<Option<(Timestamp, u64)>, StoreError> {
    let sql = "SELECT month, records FROM call_months ORDER BY month LIMIT 1";
    let row = tx.query_opt(MONTHS, sql, cells![]).await?;
    row.map(|row| Ok((row.get("month")?, row.get("records")?))).transpose()
}

/// Deletes the oldest records of a month that lie before `until`, at most `rows_max` of them, and counts
/// them off. A month of which nothing is left, or was when it had a count, is forgotten.
async fn delete(tx: &mut Tx, month: Timestamp, until: Timestamp, rows_max: u64) -> Result<u64, StoreError> {
    let boundary = "SELECT at, id FROM call_records WHERE at >= $1 AND at < $2
        ORDER BY at, id LIMIT 1 OFFSET $3";
    let rest = tx.query_opt(TABLE, boundary, cells![month, until, rows_max]).await?;
    let deleted = if let Some(first_kept) = rest {
        let (at, id): (i64, i64) = (first_kept.get("at")?, first_kept.get("id")?);
        let sql = "DELETE FROM call_records WHERE at >= $1 AND (at, id) < ($2, $3)";
        tx.execute(TABLE, sql, cells![month, at, id]).await?
    } else {
        let sql = "DELETE FROM call_records WHERE at >= $1 AND at < $2";
        tx.execute(TABLE, sql, cells![month, until]).await?
    };
    let sql = "UPDATE call_months SET records = records - $2 WHERE month = $1";
    tx.execute(MONTHS, sql, cells![month, deleted]).await?;
    let is_whole = until == month.next_month_start();
    let sql = "DELETE FROM call_months WHERE month = $1 AND (records <= 0 OR CAST($2 AS BIGINT) = 1)";
    tx.execute(MONTHS, sql, cells![month, is_whole && deleted < rows_max]).await?;
    Ok(deleted)
}

/// One name must not cost a batch its other records.
pub(crate) fn storable(name: &str) -> String {
    let cut = &name[..name.floor_char_boundary(NAME_BYTES_MAX)];
    if cut.contains('\0') { cut.replace('\0', "\u{FFFD}") } else { cut.to_owned() }
}

fn read(row: &Row) -> Result<CallRecord, StoreError> {
    let CallKind { method, upstream_id, upstream_name, exposed_name, key_id, transport, era, mode, outcome } =
        call_kinds::read(row)?;
    Ok(CallRecord {
        at: row.get("at")?,
        id: CallRecordId::from_i64(row.get("id")?),
        method,
        upstream_id,
        upstream_name,
        exposed_name,
        key_id,
        transport,
        era,
        mode,
        outcome,
        latency_us: row.get("latency_us")?,
        bytes_in: row.get("bytes_in")?,
        bytes_out: row.get("bytes_out")?,
    })
}
