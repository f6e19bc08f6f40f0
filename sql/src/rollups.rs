//! Writing sums of calls: with the records they are the sums of, and dropping those whose time is over.
//!
//! Replicas add to the same rows. The counts are added by the statement that also locks the row; what it answers
//! has the histogram as it was, which is merged here and written back before anybody else can read it to merge.

use std::collections::{BTreeMap, HashMap};

use super::call_records::storable;
use crate::db::{Cell, Dialect, Row, cells, placeholders};
use crate::error::StoreError;
use crate::model::call_batch::{CallBatch, MeasuredCall};
use crate::model::call_record::{CallMethod, CallOutcome};
use crate::model::ids::{ApiKeyId, UpstreamId};
use crate::model::latencies::Latencies;
use crate::model::rollup::{RollupSpan, Tally};
use crate::model::time::Timestamp;
use crate::sweeping::DELETED_AT_ONCE;
use crate::tx::Tx;

pub(crate) const TABLE: &str = "call_rollups";

/// What tells a rollup apart, in the order of the primary key.
pub(crate) const KEY: &str = "span, starts_at, upstream_id, method, exposed_name, key_id, outcome";

/// Rows in one statement: a few hundred parameters, which either database takes.
const ROWS_PER_STATEMENT: usize = 50;

/// Which calls a rollup is of. Ordered, so that two replicas never wait for each other's rows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Of {
    span: RollupSpan,
    starts_at: Timestamp,
    upstream_id: UpstreamId,
    method: CallMethod,
    exposed_name: String,
    key_id: ApiKeyId,
    outcome: CallOutcome,
}

/// Adds calls to the sums of their minutes and quarters of an hour. Each call once: nothing here knows it again.
pub(crate) async fn add(tx: &mut Tx, batch: &CallBatch) -> Result<(), StoreError> {
    let sums: Vec<_> = sums_of(batch).into_iter().collect();
    for part in sums.chunks(ROWS_PER_STATEMENT) {
        let known = add_counts(tx, part).await?;
        let merged = part.iter().filter_map(|(key, tally)| {
            let mut latencies = known.get(key)?.clone();
            latencies.merge(&tally.latencies);
            Some((key, latencies))
        });
        set_latencies(tx, &merged.collect::<Vec<_>>()).await?;
    }
    Ok(())
}

/// Adds the counts, and answers the histograms of the rows that were there already, as they were.
async fn add_counts(tx: &mut Tx, sums: &[(Of, Tally)]) -> Result<HashMap<Of, Latencies>, StoreError> {
    let sql = format!(
        "INSERT INTO call_rollups ({KEY}, calls, bytes_in, bytes_out, latency_us, latencies) VALUES {}
        ON CONFLICT ({KEY}) DO UPDATE SET calls = call_rollups.calls + excluded.calls,
            bytes_in = call_rollups.bytes_in + excluded.bytes_in,
            bytes_out = call_rollups.bytes_out + excluded.bytes_out,
            latency_us = call_rollups.latency_us + excluded.latency_us
        RETURNING {KEY}, calls, latencies",
        placeholders(sums.len(), 12)
    );
    let row = |(key, tally): &(Of, Tally)| {
        let mut cells = cells_of(key);
        let counts = cells![tally.calls, tally.bytes_in, tally.bytes_out, tally.latency_us];
        cells.extend(counts);
        cells.push(tally.latencies.to_bytes().into());
        cells
    };
    let written: HashMap<&Of, u64> = sums.iter().map(|(key, tally)| (key, tally.calls)).collect();
    let mut known = HashMap::new();
    for row in tx.query(TABLE, &sql, sums.iter().flat_map(row).collect()).await? {
        let key = read_key(&row)?;
        // More calls than were written now: there was a row, whose histogram this is.
        if written.get(&key).is_some_and(|calls| row.get::<u64>("calls").is_ok_and(|sum| sum > *calls)) {
            let bytes: Vec<u8> = row.get("latencies")?;
            // A histogram that was damaged begins anew: it must not stand in the way of what comes.
            known.insert(key, Latencies::from_bytes(&bytes).unwrap_or_default());
        }
    }
    Ok(known)
}

/// Writes the histograms of rows that are there, and locked by this transaction.
async fn set_latencies(tx: &mut Tx, merged: &[(&Of, Latencies)]) -> Result<(), StoreError> {
    let row = |(key, latencies): &(&Of, Latencies)| {
        let mut cells = cells_of(key);
        cells.push(latencies.to_bytes().into());
        cells
    };
    match tx.dialect() {
        Dialect::Sqlite => {
            let sql = "UPDATE call_rollups SET latencies = $8 WHERE span = $1 AND starts_at = $2
                AND upstream_id = $3 AND method = $4 AND exposed_name = $5 AND key_id = $6 AND outcome = $7";
            for one in merged {
                tx.execute(TABLE, sql, row(one)).await?;
            }
            Ok(())
        }
        // In one statement, since it is far away.
        Dialect::Postgres if merged.is_empty() => Ok(()),
        Dialect::Postgres => {
            let sql = format!(
                "INSERT INTO call_rollups ({KEY}, latencies, calls, bytes_in, bytes_out, latency_us) VALUES {}
                ON CONFLICT ({KEY}) DO UPDATE SET latencies = excluded.latencies",
                placeholders(merged.len(), 12)
            );
            let whole = |one: &(&Of, Latencies)| {
                let mut cells = row(one);
                cells.extend(cells![0_u64, 0_u64, 0_u64, 0_u64]);
                cells
            };
            tx.execute(TABLE, &sql, merged.iter().flat_map(whole).collect()).await.map(drop)
        }
    }
}

/// Drops some of the rollups of one span that began before a moment, never so many that others wait. Says how many
/// those were; none: nothing is left to drop.
pub async fn prune(tx: &mut Tx, span: RollupSpan, before: Timestamp) -> Result<u64, StoreError> {
    let sql = "SELECT starts_at FROM call_rollups WHERE span = $1 AND starts_at < $2
        ORDER BY starts_at LIMIT 1 OFFSET $3";
    let boundary = tx.query_opt(TABLE, sql, cells![span.as_str(), before, DELETED_AT_ONCE - 1]).await?;
    // All of one moment go at once, however many: it bounds the number of steps, and there are few.
    let until = boundary.map_or(Ok(before), |row| row.get::<Timestamp>("starts_at").map(just_after))?;
    let sql = "DELETE FROM call_rollups WHERE span = $1 AND starts_at < $2";
    tx.execute(TABLE, sql, cells![span.as_str(), until]).await
}

fn just_after(moment: Timestamp) -> Timestamp {
    Timestamp::from_millis(moment.millis().saturating_add(1))
}

fn sums_of(batch: &CallBatch) -> BTreeMap<Of, Tally> {
    let mut sums: BTreeMap<Of, Tally> = BTreeMap::new();
    let minute = RollupSpan::Minute;
    for calls in batch.by_span(|at| minute.start(at).plus(minute.length())) {
        let Some(first) = calls.first() else { continue };
        for (kind, tally) in batch.kinds().iter().zip(tallies_of(calls, batch.kinds().len())) {
            if tally.calls == 0 {
                continue;
            }
            for span in [RollupSpan::Minute, RollupSpan::Quarter] {
                let key = Of {
                    span,
                    starts_at: span.start(first.at),
                    upstream_id: kind.upstream_id,
                    method: kind.method,
                    exposed_name: storable(&kind.exposed_name),
                    key_id: kind.key_id,
                    outcome: kind.outcome,
                };
                sums.entry(key).or_default().merge(&tally);
            }
        }
    }
    sums
}

/// The sums of calls by their kinds.
fn tallies_of(calls: &[MeasuredCall], kinds: usize) -> Vec<Tally> {
    let mut tallies = vec![Tally::default(); kinds];
    for call in calls {
        let Some(tally) = tallies.get_mut(call.kind) else { continue };
        tally.calls += 1;
        tally.bytes_in = tally.bytes_in.saturating_add(call.bytes_in);
        tally.bytes_out = tally.bytes_out.saturating_add(call.bytes_out);
        tally.latency_us = tally.latency_us.saturating_add(call.latency_us);
        tally.latencies.record(call.latency_us);
    }
    tallies
}

fn cells_of(key: &Of) -> Vec<Cell> {
    cells![
        key.span.as_str(),
        key.starts_at,
        key.upstream_id,
        key.method.as_str(),
        &key.exposed_name,
        key.key_id,
        key.outcome.as_str(),
    ]
}

fn read_key(row: &Row) -> Result<Of, StoreError> {
    Ok(Of {
        span: row.parse("span")?,
        starts_at: row.get("starts_at")?,
        upstream_id: row.get("upstream_id")?,
        method: row.parse("method")?,
        exposed_name: row.get("exposed_name")?,
        key_id: row.get("key_id")?,
        outcome: row.parse("outcome")?,
    })
}
