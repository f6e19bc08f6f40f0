//! One transaction: what the functions of the table modules take.
//!
//! Dropping it rolls everything back. After a statement failed it can only be dropped: Postgres would
//! refuse the rest anyway, and SQLite would quietly commit the other half.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use uuid::Uuid;

use crate::call_kinds::{KnownKinds, Noted};
use crate::changes::{self, ChangeKind, Hints, Ledger};
use crate::clock::Clock;
use crate::db::{Access, Cell, Dialect, Outcome, Row, Transaction};
use crate::error::StoreError;
use crate::seal::Sealer;

/// What every transaction of a store shares.
pub(crate) struct Context {
    pub(crate) sealer: Sealer,
    pub(crate) clock: Clock,
    pub(crate) instance_id: Uuid,
    pub(crate) hints: Hints,
    pub(crate) ledger: Ledger,
    /// Events that could not be written into the audit log.
    pub(crate) audit_failures: AtomicU64,
    pub(crate) call_kinds: KnownKinds,
}

/// A transaction.
pub struct Tx {
    transaction: Transaction,
    context: Arc<Context>,
    failed: bool,
    changed: Vec<(ChangeKind, Uuid)>,
    call_kinds: Vec<Noted>,
    unreadable: Vec<UnreadableRow>,
}

/// A stored row that isn't what this release writes: it was altered, or sealed elsewhere. Says where it
/// is, never what it holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnreadableRow {
    /// Which table.
    pub table: &'static str,
    /// The value of its first column, or what else tells it apart.
    pub row: String,
    /// The first column that can't be read.
    pub column: String,
}

impl UnreadableRow {
    /// The row that an error is about, if it is about one.
    pub fn of(error: &StoreError) -> Option<Self> {
        let StoreError::Corrupt { table, column, row } = error else { return None };
        Some(Self { table, row: row.clone(), column: column.clone() })
    }
}

impl Tx {
    pub(crate) fn new(transaction: Transaction, context: Arc<Context>) -> Self {
        let (changed, call_kinds, unreadable) = (Vec::new(), Vec::new(), Vec::new());
        Self { transaction, context, failed: false, changed, call_kinds, unreadable }
    }

    /// Makes everything permanent. What was noted by [`Tx::changed`] is appended to the changes, the
    /// revision grows, and followers are hinted.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.commit_noted().await.map(|_| ())
    }

    /// [`Tx::commit`], and the revision at which what was noted stands: followers at that revision or a
    /// later one know it. `None`: nothing was noted.
    pub fn commit_noted(mut self) -> BoxFuture<'static, Result<Option<i64>, StoreError>> {
        Box::pin(async move {
            if self.failed {
                return Err(StoreError::Aborted);
            }
            let call_kinds = std::mem::take(&mut self.call_kinds);
            if self.changed.is_empty() {
                self.transaction.commit().await?;
                self.context.call_kinds.learn(call_kinds);
                return Ok(None);
            }
            let changed = std::mem::take(&mut self.changed);
            // Last of all statements: it locks the revision, which every other writer waits for.
            let head = changes::append(&mut self, &changed).await?;
            self.transaction.commit().await?;
            self.context.call_kinds.learn(call_kinds);
            self.context.ledger.enter(&changed, head);
            self.context.hints.give();
            Ok(Some(head))
        })
    }

    /// Notes that something followers know was changed. The functions that write call it themselves.
    pub fn changed(&mut self, kind: ChangeKind, id: Uuid) {
        if !self.changed.contains(&(kind, id)) {
            self.changed.push((kind, id));
        }
    }

    /// The kinds of calls that are known to be stored.
    pub(crate) fn call_kinds(&self) -> &KnownKinds {
        &self.context.call_kinds
    }

    /// Has a kind of calls known once this transaction has stored it.
    pub(crate) fn call_kind_noted(&mut self, noted: Noted) {
        self.call_kinds.push(noted);
    }

    /// The rows that lists of this transaction passed over since this was asked last. The log has named
    /// them already.
    pub fn take_unreadable(&mut self) -> Vec<UnreadableRow> {
        std::mem::take(&mut self.unreadable)
    }

    /// What `read` makes of the rows of a list. One that can't be read is named and passed over: it must
    /// not cost the others.
    pub(crate) fn readable<T>(
        &mut self,
        rows: &[Row],
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut readable = Vec::with_capacity(rows.len());
        for row in rows {
            match read(row) {
                Ok(item) => readable.push(item),
                Err(error) => {
                    let bad = UnreadableRow::of(&error).ok_or(error)?;
                    tracing::error!(
                        table = bad.table,
                        row = bad.row,
                        column = bad.column,
                        "a stored row can't be read and is passed over"
                    );
                    self.unreadable.push(bad);
                }
            }
        }
        Ok(readable)
    }

    /// The store's clock.
    pub fn clock(&self) -> &Clock {
        &self.context.clock
    }

    /// Counts an event that could not be written into the audit log.
    pub(crate) fn count_audit_failure(&self) {
        self.context.audit_failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sealer(&self) -> Sealer {
        self.context.sealer.clone()
    }

    pub(crate) fn instance_id(&self) -> Uuid {
        self.context.instance_id
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.transaction.dialect()
    }

    /// The rows of a statement.
    pub(crate) async fn query(
        &mut self,
        table: &'static str,
        sql: &str,
        cells: Vec<Cell>,
    ) -> Result<Vec<Row>, StoreError> {
        Ok(self.run(table, sql, cells).await?.rows)
    }

    /// The first row of a statement, if it has one.
    pub(crate) async fn query_opt(
        &mut self,
        table: &'static str,
        sql: &str,
        cells: Vec<Cell>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.run(table, sql, cells).await?.rows.into_iter().next())
    }

    /// The row of a statement that always has one.
    pub(crate) async fn query_one(
        &mut self,
        table: &'static str,
        sql: &str,
        cells: Vec<Cell>,
    ) -> Result<Row, StoreError> {
        let row = self.query_opt(table, sql, cells).await?;
        row.ok_or_else(|| StoreError::Corrupt { table, column: "*".into(), row: "none".into() })
    }

    /// How many rows a statement wrote.
    pub(crate) async fn execute(
        &mut self,
        table: &'static str,
        sql: &str,
        cells: Vec<Cell>,
    ) -> Result<u64, StoreError> {
        Ok(self.run(table, sql, cells).await?.affected)
    }

    /// Inserts rows of `columns` cells each, and says how many were new; see [`Transaction::insert_rows`].
    pub(crate) async fn insert_rows(
        &mut self,
        table: &'static str,
        around: (&str, &str),
        columns: usize,
        cells: Vec<Cell>,
    ) -> Result<u64, StoreError> {
        if self.failed {
            return Err(StoreError::Aborted);
        }
        // None is nothing to ask, and a loop over rows without an end.
        if cells.is_empty() {
            return Ok(0);
        }
        self.failed = true;
        let inserted = self.transaction.insert_rows(table, around, columns, cells).await?;
        self.failed = false;
        Ok(inserted)
    }

    /// Boxed, so that not every statement has the code of both databases around it.
    fn run<'a>(
        &'a mut self,
        table: &'static str,
        sql: &'a str,
        cells: Vec<Cell>,
    ) -> BoxFuture<'a, Result<Outcome, StoreError>> {
        Box::pin(async move {
            if self.failed {
                return Err(StoreError::Aborted);
            }
            // Stays true if this future is dropped halfway: nobody knows what the statement did then.
            self.failed = true;
            let outcome = self.transaction.run(table, sql, cells).await?;
            self.failed = false;
            Ok(outcome)
        })
    }
}

impl crate::store::Store {
    pub(crate) async fn transaction(&self, access: Access) -> Result<Tx, StoreError> {
        Ok(Tx::new(self.db().begin(access).await?, Arc::clone(self.context())))
    }
}
