//! The id of a request, as the very token that came.

use std::fmt;

use bytes::Bytes;

use super::compose;
use super::scan::{Kind, Scanner, Value};

/// A JSON string or integer, kept as its raw bytes: `"1"` isn't `1`, a large integer stays exact, and what is
/// sent back is what came. Also the form of a progress token, which has the same type.
///
/// It keeps the message it was cut from alive: [`Id::detached`] copies it out where it outlives the message.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Id(Bytes);

impl Id {
    /// A number of our own.
    pub fn number(number: u64) -> Self {
        Self(Bytes::from(number.to_string()))
    }

    /// A string of our own.
    pub fn string(text: &str) -> Self {
        Self(compose::string(text))
    }

    /// Takes a raw JSON value; `None` unless it is exactly one string or integer.
    pub fn read(raw: &Bytes) -> Option<Self> {
        let mut scanner = Scanner::new(raw).ok()?;
        let value = scanner.value(0).ok()?;
        scanner.end().ok()?;
        Self::cut(raw, value)
    }

    /// The token of a value in `raw`, which the scanner has read; `None` if it is of another type.
    pub(super) fn cut(raw: &Bytes, value: Value) -> Option<Self> {
        match value.kind {
            Kind::String(_) | Kind::Number(true) => Some(Self(raw.slice(value.span.range()))),
            _ => None,
        }
    }

    /// The raw token, quotes and escapes included.
    pub fn raw(&self) -> &Bytes {
        &self.0
    }

    /// The number behind a token that [`Id::number`] could have made; `None` for every other.
    pub fn as_u64(&self) -> Option<u64> {
        let token = self.as_str();
        let canonical = token == "0" || token.starts_with(|first: char| matches!(first, '1'..='9'));
        if canonical { token.parse().ok() } else { None }
    }

    /// A copy of its own.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a token of checked text")
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
