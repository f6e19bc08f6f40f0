//! Postgres keeps call records by the month, so that a month that is over goes at once.
//!
//! Partitions are made ahead: for this month and the next. A record for which none is there, because the
//! job didn't run or the clock was set, falls to the default partition, and is moved when its month's is
//! made. SQLite has no partitions and needs none.

use super::{MONTHS, TABLE};
use crate::db::{Dialect, cells};
use crate::error::StoreError;
use crate::model::time::Timestamp;
use crate::tx::Tx;

/// Makes the partitions of the month of `now` and of the one after, and drops those that have nothing to
/// keep: those that ended before `keep_from`, and those of months past without a record. How many
/// records went with them.
pub async fn tend(tx: &mut Tx, now: Timestamp, keep_from: Timestamp) -> Result<u64, StoreError> {
    match tx.dialect() {
        Dialect::Sqlite => return Ok(0),
        Dialect::Postgres => {}
    }
    let this_month = now.month_start();
    let there = partitions(tx).await?;
    let wanted = [this_month, now.next_month_start()];
    if wanted.iter().any(|month| !there.contains(&name(*month))) {
        // Nobody inserts meanwhile: a record that falls to the default partition would stand in the way.
        tx.execute(TABLE, "LOCK TABLE call_records IN SHARE ROW EXCLUSIVE MODE", cells![]).await?;
        // Another replica may have made them while this one waited.
        let there = partitions(tx).await?;
        for month in wanted {
            if !there.contains(&name(month)) {
                make(tx, month).await?;
            }
        }
    }
    let mut dropped = 0;
    for partition in there {
        let Some(month) = month_of(&partition) else { continue };
        let sql = "SELECT records FROM call_months WHERE month = $1";
        let row = tx.query_opt(MONTHS, sql, cells![month]).await?;
        let records: u64 = row.map(|row| row.get("records")).transpose()?.unwrap_or_default();
        let is_over = month.next_month_start() <= keep_from || (records == 0 && month < this_month);
        if is_over {
            tx.execute(TABLE, &format!("DROP TABLE IF EXISTS {partition}"), cells![]).await?;
            tx.execute(MONTHS, "DELETE FROM call_months WHERE month = $1", cells![month]).await?;
            dropped += records;
        }
    }
    Ok(dropped)
}

/// The names of the partitions, without the default one.
async fn partitions(tx: &mut Tx) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT CAST(pg_class.relname AS TEXT) AS name FROM pg_inherits
        JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = CAST('call_records' AS REGCLASS) AND pg_class.relname <> 'call_records_default'";
    tx.query(TABLE, sql, cells![]).await?.iter().map(|row| row.get("name")).collect()
}

/// Makes a month's partition with what the default one has of it.
async fn make(tx: &mut Tx, month: Timestamp) -> Result<(), StoreError> {
    let (name, from, to) = (name(month), month.millis(), month.next_month_start().millis());
    for sql in [
        format!("CREATE TABLE {name} (LIKE call_records INCLUDING ALL)"),
        format!(
            "WITH moved AS (DELETE FROM call_records_default WHERE at >= {from} AND at < {to} RETURNING *)
            INSERT INTO {name} SELECT * FROM moved"
        ),
        format!("ALTER TABLE call_records ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({to})"),
    ] {
        tx.execute(TABLE, &sql, cells![]).await?;
    }
    Ok(())
}

fn name(month: Timestamp) -> String {
    let (year, month) = month.year_and_month();
    format!("call_records_{year:04}_{month:02}")
}

/// The month of a partition that we named.
fn month_of(partition: &str) -> Option<Timestamp> {
    let (year, month) = partition.strip_prefix("call_records_")?.split_once('_')?;
    format!("{year}-{month}-01T00:00:00Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_called_by_its_month() {
        let month = Timestamp::from_millis(1_767_323_045_678).month_start();
        assert_eq!(name(month), "call_records_2026_01");
        assert_eq!(month_of("call_records_2026_01"), Some(month));
        for other in ["call_records_default", "call_records_2026", "other_2026_01"] {
            assert_eq!(month_of(other), None, "{other}");
        }
    }
}
