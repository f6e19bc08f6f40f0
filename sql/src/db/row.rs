//! The rows that a statement returned, read by the names of their columns.
//!
//! All values of a statement lie together. What a thread has allocated and others free in small pieces stays
//! with that thread until it allocates again, and the threads that read hardly do; a large piece goes back at once.

use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use super::cell::{FromValue, Value};
use crate::error::StoreError;

/// A row. Reading a column that holds something else is an error that names it, never a panic.
#[derive(Debug)]
pub(crate) struct Row {
    of: Arc<Rows>,
    /// Where its values begin.
    start: usize,
}

/// What a statement returned: row by row, in the order of the columns.
#[derive(Debug)]
pub(super) struct Rows {
    table: &'static str,
    columns: Vec<String>,
    values: Vec<Stored>,
    texts: String,
    bytes: Vec<u8>,
}

/// A value, or where it lies.
#[derive(Debug)]
enum Stored {
    Null,
    Integer(i64),
    Text(Range<usize>),
    Bytes(Range<usize>),
}

impl Rows {
    /// None yet. `table` is the one that errors name.
    pub(super) fn new(table: &'static str, columns: Vec<String>) -> Self {
        Self { table, columns, values: Vec::new(), texts: String::new(), bytes: Vec::new() }
    }

    /// Takes the next value over.
    pub(super) fn push(&mut self, value: Value<'_>) {
        self.values.push(match value {
            Value::Null => Stored::Null,
            Value::Integer(number) => Stored::Integer(number),
            Value::Text(text) => {
                let start = self.texts.len();
                self.texts.push_str(text);
                Stored::Text(start..self.texts.len())
            }
            Value::Bytes(bytes) => {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(bytes);
                Stored::Bytes(start..self.bytes.len())
            }
        });
    }

    /// As many rows as there are values for.
    pub(super) fn finish(self) -> Vec<Row> {
        let (count, width) = (self.values.len(), self.columns.len().max(1));
        let of = Arc::new(self);
        (0..count).step_by(width).map(|start| Row { of: Arc::clone(&of), start }).collect()
    }

    fn value(&self, at: usize) -> Option<Value<'_>> {
        Some(match self.values.get(at)? {
            Stored::Null => Value::Null,
            Stored::Integer(number) => Value::Integer(*number),
            Stored::Text(range) => Value::Text(&self.texts[range.clone()]),
            Stored::Bytes(range) => Value::Bytes(&self.bytes[range.clone()]),
        })
    }
}

impl Row {
    /// The value of a column.
    pub(crate) fn get<T: FromValue>(&self, column: &str) -> Result<T, StoreError> {
        let at = self.of.columns.iter().position(|name| name == column);
        at.and_then(|at| T::from_value(self.of.value(self.start + at)?)).ok_or_else(|| self.corrupt(column))
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
        StoreError::Corrupt { table: self.of.table, column: column.to_owned(), row: self.name() }
    }

    /// What tells the row apart: its first column, unless that is data of others.
    fn name(&self) -> String {
        match self.of.value(self.start) {
            Some(Value::Text(text)) => text.chars().take(64).collect(),
            Some(Value::Integer(number)) => number.to_string(),
            _ => "?".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_its_own_values() {
        let mut rows = Rows::new("t", vec!["id".into(), "name".into(), "body".into()]);
        for (id, name, body) in [(1, "ä", &b"\xff"[..]), (2, "", b""), (3, "c", b"{}")] {
            rows.push(Value::Integer(id));
            rows.push(Value::Text(name));
            rows.push(Value::Bytes(body));
        }
        let rows = rows.finish();
        let names: Vec<String> = rows.iter().map(|row| row.get("name").expect("a text")).collect();
        assert_eq!(names, ["ä", "", "c"]);
        let bodies: Vec<Vec<u8>> = rows.iter().map(|row| row.get("body").expect("bytes")).collect();
        assert_eq!(bodies, [&b"\xff"[..], b"", b"{}"]);
        assert!(rows[2].get::<i64>("name").is_err() && rows[2].get::<i64>("nothing").is_err());
        let StoreError::Corrupt { row, column, .. } = rows[1].corrupt("name") else { panic!("it is") };
        assert_eq!((row.as_str(), column.as_str()), ("2", "name"));
        assert!(Rows::new("t", Vec::new()).finish().is_empty());
    }
}
