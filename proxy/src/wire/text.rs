//! A piece of text that shares the bytes of the message it came in.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

use super::scan::{Kind, Scanner, Value};

/// UTF-8 text, cheap to clone. It keeps the whole message it was cut from alive: [`Text::detached`] copies it
/// out where it outlives the message.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Bytes);

impl Text {
    /// The text that a raw JSON string stands for; `None` if `raw` isn't exactly one string.
    pub fn read(raw: &Bytes) -> Option<Self> {
        let mut scanner = Scanner::new(raw).ok()?;
        let value = scanner.value(0).ok()?;
        scanner.end().ok()?;
        Self::cut(raw, &scanner, value)
    }

    /// The text of a string in `raw`, which the scanner has read; `None` if it is another value.
    pub(super) fn cut(raw: &Bytes, scanner: &Scanner<'_>, value: Value) -> Option<Self> {
        match value.kind {
            Kind::String(true) => Some(Self::from(scanner.decode(value).into_owned())),
            Kind::String(false) => {
                let range = value.span.range();
                Some(Self(raw.slice(range.start + 1..range.end - 1)))
            }
            _ => None,
        }
    }

    /// A raw number, `true`, `false` or `null` as the text it is.
    pub(super) fn read_bare(raw: &Bytes) -> Option<Self> {
        std::str::from_utf8(raw).ok().map(|_| Self(raw.clone()))
    }

    /// As a `str`.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("cut from checked text at ASCII bytes")
    }

    /// A copy of its own.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
