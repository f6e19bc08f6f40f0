//! The one seam between the SQL of this crate and the two databases.
//!
//! SQL is written once, with `$1` parameters: Postgres numbers them, and SQLite is given them **by
//! name** (it would bind `$2` to whichever comes first). A statement that only one dialect has
//! stands beside its twin in a `match`. What crosses the seam is a [`Cell`]: a 64-bit integer, a
//! text, bytes, or nothing; both schemas know no other type.

mod cell;
mod listen;
mod postgres;
mod row;
mod sqlite;

use std::path::PathBuf;

use futures::future::BoxFuture;

pub(crate) use self::cell::{Cell, Value, cells};
pub(crate) use self::row::Row;
use crate::error::StoreError;
use crate::model::secret::Secret;
use crate::store::PoolState;

/// Rows in one INSERT of many: few different statements, so that each stays prepared, and few of them. Postgres is
/// far away; and of SQLite's work for a row in a statement of its own, 29 % isn't done again for the next in the same.
const ROWS_PER_INSERT: [usize; 3] = [100, 10, 1];

/// Which database.
#[derive(Debug, Clone)]
pub enum Database {
    /// Embedded, in a file.
    Sqlite {
        /// The file; it is made if there is none.
        path: PathBuf,
    },
    /// Embedded, in memory, gone with the store. One connection serves readers and the writer in
    /// turn, so a task must not begin a second transaction while it holds one.
    SqliteMemory,
    /// A server.
    Postgres {
        /// A connection string or URL, with its password.
        dsn: Secret<String>,
    },
}

/// Whether a transaction may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// One consistent snapshot, no writes.
    Read,
    /// Reads and writes.
    Write,
}

/// Which SQL a database speaks, where the two differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// What a statement is run with and answered by.
pub(crate) struct Outcome {
    /// The rows it returned.
    pub(crate) rows: Vec<Row>,
    /// The rows it wrote.
    pub(crate) affected: u64,
}

/// An open database.
pub(crate) enum Db {
    Sqlite(sqlite::Sqlite),
    Postgres(Box<postgres::Postgres>),
}

impl Db {
    /// Opens a database. SQLite's file is made; a Postgres that doesn't answer is an error.
    pub(crate) async fn open(database: &Database) -> Result<Self, StoreError> {
        match database {
            Database::Sqlite { path } => sqlite::Sqlite::open_file(path).await.map(Self::Sqlite),
            Database::SqliteMemory => sqlite::Sqlite::open_memory().await.map(Self::Sqlite),
            Database::Postgres { dsn } => {
                postgres::Postgres::open(dsn).await.map(|postgres| Self::Postgres(Box::new(postgres)))
            }
        }
    }

    /// Begins a transaction; dropping it rolls it back. Boxed, so that not every function that begins one
    /// has the code of both databases in its own.
    pub(crate) fn begin(&self, access: Access) -> BoxFuture<'_, Result<Transaction, StoreError>> {
        Box::pin(async move {
            match self {
                Self::Sqlite(sqlite) => sqlite.begin(access).await.map(Transaction::Sqlite),
                Self::Postgres(postgres) => {
                    postgres.begin(access).await.map(|begun| Transaction::Postgres(Box::new(begun)))
                }
            }
        })
    }

    /// Calls `hint` whenever another process says that it changed something, or may have.
    pub(crate) fn listen(&self, instance: String, hint: impl Fn() + Send + 'static) {
        if let Self::Postgres(postgres) = self {
            postgres.listen(instance, hint);
        }
    }

    /// How the pool of connections fares. SQLite's are few and fixed.
    pub(crate) fn pool(&self) -> Option<PoolState> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(postgres) => Some(postgres.pool()),
        }
    }

    /// Closes every connection and waits for them.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
            Self::Postgres(postgres) => postgres.close().await,
        }
    }
}

/// A transaction of either database.
pub(crate) enum Transaction {
    Sqlite(sqlite::Transaction),
    Postgres(Box<postgres::Transaction>),
}

impl Transaction {
    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs one statement. `table` is the one that errors name.
    pub(crate) async fn run(
        &mut self,
        table: &'static str,
        sql: &str,
        cells: Vec<Cell>,
    ) -> Result<Outcome, StoreError> {
        // Postgres takes no NUL in a text; neither does SQLite here, so that both refuse the same.
        if cells.iter().any(Cell::has_nul) {
            return Err(StoreError::Unstorable { table });
        }
        match self {
            Self::Sqlite(transaction) => transaction.run(table, sql, cells).await,
            Self::Postgres(transaction) => transaction.run(table, sql, cells).await,
        }
    }

    /// Inserts rows of `columns` cells each, which lie one after the other, and says how many were new. `head` ends
    /// in `VALUES`; `tail` is what follows the values, without parameters.
    pub(crate) async fn insert_rows(
        &mut self,
        table: &'static str,
        (head, tail): (&str, &str),
        columns: usize,
        cells: Vec<Cell>,
    ) -> Result<u64, StoreError> {
        if cells.iter().any(Cell::has_nul) {
            return Err(StoreError::Unstorable { table });
        }
        let (mut inserted, mut left) = (0, cells);
        for rows in ROWS_PER_INSERT {
            let per_statement = rows * columns;
            let fewer = left.split_off(left.len() - left.len() % per_statement);
            let whole = std::mem::replace(&mut left, fewer);
            if !whole.is_empty() {
                let sql = format!("{head} {} {tail}", placeholders(rows, columns));
                inserted += self.run_each(table, &sql, per_statement, whole).await?;
            }
        }
        Ok(inserted)
    }

    /// Runs one statement again and again, each time with the next `count` cells as its parameters, which stand in it
    /// in their order; says how many rows it wrote in all.
    async fn run_each(
        &mut self,
        table: &'static str,
        sql: &str,
        count: usize,
        cells: Vec<Cell>,
    ) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(transaction) => transaction.run_each(sql, count, cells).await,
            Self::Postgres(transaction) => {
                let (mut written, mut cells) = (0, cells.into_iter());
                while cells.len() > 0 {
                    let some = cells.by_ref().take(count).collect();
                    written += transaction.run(table, sql, some).await?.affected;
                }
                Ok(written)
            }
        }
    }

    /// Runs several statements without parameters: migrations, and nothing else.
    pub(crate) async fn run_script(&mut self, script: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(transaction) => transaction.run_script(script).await,
            Self::Postgres(transaction) => transaction.run_script(script).await,
        }
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }
}

/// `($1, $2), ($3, $4)`: the parameters of a multi-row VALUES.
pub(crate) fn placeholders(rows: usize, columns: usize) -> String {
    let mut text = String::with_capacity(rows * (columns + 1) * 6);
    // Formatting them in the usual way cost more than a tenth of what writing the rows does.
    let mut number = itoa::Buffer::new();
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 1..=columns {
            text.push_str(if column == 1 { "$" } else { ", $" });
            text.push_str(number.format(row * columns + column));
        }
        text.push(')');
    }
    text
}
