//! Forgetting rows whose time is over: some at a time, since a transaction that deletes holds up other writers of
//! SQLite.

use crate::db::Cell;
use crate::error::StoreError;
use crate::tx::Tx;

/// How many rows are deleted in one transaction.
pub(crate) const DELETED_AT_ONCE: u64 = 10_000;

/// Deletes some of the rows that meet a condition, which `cells` are the parameters of; `key` is what tells the
/// table's rows apart. Says how many those were; none: nothing is left to delete.
pub(crate) async fn delete_some(
    tx: &mut Tx,
    (table, key): (&'static str, &str),
    condition: &str,
    cells: Vec<Cell>,
) -> Result<u64, StoreError> {
    let sql = format!(
        "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {condition} LIMIT {DELETED_AT_ONCE})"
    );
    tx.execute(table, &sql, cells).await
}
