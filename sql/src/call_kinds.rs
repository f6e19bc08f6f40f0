//! What calls have in common: stored once, so that a record is a few numbers.
//!
//! A kind's number is made of what it says, so that replicas need not ask each other. Beside it stands until when
//! calls of it may come, which is put off while they do: the end of the day on which it was stored last. What is
//! known to be stored until then is kept in memory, and a batch stores only what is new in it. A kind goes when its
//! day lies before the month of the oldest record.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::digest::{Context, SHA256};

use crate::call_records::storable;
use crate::db::{Row, cells};
use crate::error::StoreError;
use crate::model::call_batch::{CallBatch, CallKind};
use crate::model::time::Timestamp;
use crate::tx::Tx;

const TABLE: &str = "call_kinds";

/// The columns of what a kind says.
pub(crate) const COLUMNS: &str =
    "method, upstream_id, upstream_name, exposed_name, key_id, transport, era, mode, outcome";

/// Kinds that are known at most: some MiB. Beyond that all are forgotten, and stored once more as they come.
const KNOWN_MAX: usize = 10_000;

/// For how long a kind is stored.
const DAY: Duration = Duration::from_hours(24);

/// A kind that was stored: its number, and until when calls of it may come without its being stored again.
pub(crate) type Noted = (CallKind, (i64, Timestamp));

/// The kinds that this process knows to be stored.
#[derive(Default)]
pub(crate) struct KnownKinds(Mutex<HashMap<CallKind, (i64, Timestamp)>>);

impl KnownKinds {
    /// What a committed transaction has stored.
    pub(crate) fn learn(&self, noted: Vec<Noted>) {
        if noted.is_empty() {
            return;
        }
        let mut known = self.known();
        if known.len() + noted.len() > KNOWN_MAX {
            known.clear();
        }
        known.extend(noted);
    }

    fn number(&self, kind: &CallKind, last: Timestamp) -> Option<i64> {
        self.known().get(kind).filter(|(_, until)| last < *until).map(|(number, _)| *number)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<CallKind, (i64, Timestamp)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stores the kinds of a batch as far as they aren't, and answers their numbers, in the order of the batch.
pub(crate) async fn store(tx: &mut Tx, batch: &CallBatch) -> Result<Vec<i64>, StoreError> {
    // The calls are in the order of time.
    let last = batch.calls().last().map_or(Timestamp::from_millis(0), |call| call.at);
    let mut numbers = Vec::with_capacity(batch.kinds().len());
    let mut new = Vec::new();
    for (place, kind) in batch.kinds().iter().enumerate() {
        if let Some(number) = tx.call_kinds().number(kind, last) {
            numbers.push(number);
        } else {
            let number = number_of(kind);
            numbers.push(number);
            new.push((number, place));
        }
    }
    // Two replicas that store the same ones don't wait for each other crosswise.
    new.sort_unstable();
    let until = last.max(tx.clock().now()).floor_to(DAY).plus(DAY);
    for (number, place) in new {
        let kind = &batch.kinds()[place];
        insert(tx, number, kind, until).await?;
        tx.call_kind_noted((kind.clone(), (number, until)));
    }
    Ok(numbers)
}

async fn insert(tx: &mut Tx, number: i64, kind: &CallKind, until: Timestamp) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO call_kinds (kind, until, {COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (kind) DO UPDATE SET
            until = CASE WHEN call_kinds.until < excluded.until THEN excluded.until ELSE call_kinds.until END"
    );
    let cells = cells![
        number,
        until,
        kind.method.as_str(),
        kind.upstream_id,
        storable(&kind.upstream_name),
        storable(&kind.exposed_name),
        kind.key_id,
        kind.transport.as_str(),
        kind.era.as_str(),
        kind.mode.as_str(),
        kind.outcome.as_str(),
    ];
    tx.execute(TABLE, &sql, cells).await.map(drop)
}

/// Drops kinds of which no record is left.
pub async fn prune(tx: &mut Tx) -> Result<u64, StoreError> {
    let sql = "DELETE FROM call_kinds WHERE until <= (SELECT MIN(month) FROM call_months)";
    tx.execute(TABLE, sql, cells![]).await
}

/// What a kind says, out of a row that has [`COLUMNS`].
pub(crate) fn read(row: &Row) -> Result<CallKind, StoreError> {
    Ok(CallKind {
        method: row.parse("method")?,
        upstream_id: row.get("upstream_id")?,
        upstream_name: row.get("upstream_name")?,
        exposed_name: row.get("exposed_name")?,
        key_id: row.get("key_id")?,
        transport: row.parse("transport")?,
        era: row.parse("era")?,
        mode: row.parse("mode")?,
        outcome: row.parse("outcome")?,
    })
}

/// Of 63 bits: two kinds in a million have the same with a chance of one in ten million.
fn number_of(kind: &CallKind) -> i64 {
    let (upstream, key) = (kind.upstream_id.uuid(), kind.key_id.uuid());
    let words: [&[u8]; 9] = [
        upstream.as_bytes(),
        key.as_bytes(),
        kind.method.as_str().as_bytes(),
        kind.transport.as_str().as_bytes(),
        kind.era.as_str().as_bytes(),
        kind.mode.as_str().as_bytes(),
        kind.outcome.as_str().as_bytes(),
        kind.upstream_name.as_bytes(),
        kind.exposed_name.as_bytes(),
    ];
    let mut digest = Context::new(&SHA256);
    for word in words {
        digest.update(&(word.len() as u64).to_le_bytes());
        digest.update(word);
    }
    let digest = digest.finish();
    let first = digest.as_ref().first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes));
    first & i64::MAX
}
