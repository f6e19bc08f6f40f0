//! One row that a statement returned, read by the names of its columns.

use std::str::FromStr;
use std::sync::Arc;

use super::cell::{Cell, FromCell};
use crate::error::StoreError;

/// A row. Reading a column that holds something else is an error that names it, never a panic.
#[derive(Debug)]
pub(crate) struct Row {
    table: &'static str,
    columns: Arc<[String]>,
    cells: Vec<Cell>,
}

impl Row {
    pub(super) fn new(table: &'static str, columns: Arc<[String]>, cells: Vec<Cell>) -> Self {
        Self { table, columns, cells }
    }

    /// The value of a column.
    pub(crate) fn get<T: FromCell>(&self, column: &str) -> Result<T, StoreError> {
        let at = self.columns.iter().position(|name| name == column);
        at.and_then(|at| T::from_cell(self.cells.get(at)?)).ok_or_else(|| self.corrupt(column))
    }

    /// A word of a closed set, an address, or what else is read from a text.
    pub(crate) fn parse<T: FromStr>(&self, column: &str) -> Result<T, StoreError> {
        self.get::<String>(column)?.parse().map_err(|_| self.corrupt(column))
    }

    /// A value out of a JSON text.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        serde_json::from_str(&self.get::<String>(column)?).map_err(|_| self.corrupt(column))
    }

    /// The error of a column that holds what it shouldn't.
    pub(crate) fn corrupt(&self, column: &str) -> StoreError {
        StoreError::Corrupt { table: self.table, column: column.to_owned(), row: self.name() }
    }

    /// What tells the row apart: its first column, unless that is data of others.
    fn name(&self) -> String {
        match self.cells.first() {
            Some(Cell::Text(text)) => text.chars().take(64).collect(),
            Some(Cell::Integer(number)) => number.to_string(),
            _ => "?".to_owned(),
        }
    }
}
