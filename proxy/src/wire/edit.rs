//! Changing members of a JSON object while every other byte stays as it came.
//!
//! An [`Object`] is a list of places in the raw text. Values are replaced, members removed or added at the end;
//! what isn't touched, down to whitespace, order and the spelling of numbers, is copied. An object without
//! changes is handed back as the same bytes.

use std::ops::Range;

use bytes::Bytes;

use super::compose;
use super::scan::{Fault, Scanner, Seen};
use super::text::Text;

/// A JSON object as its members.
#[derive(Debug, Clone)]
pub struct Object {
    raw: Bytes,
    members: Vec<Member>,
    added: Vec<(String, Bytes)>,
    /// Where the opening bracket ends.
    opened: usize,
    changed: bool,
}

#[derive(Debug, Clone)]
struct Member {
    key: Text,
    /// From the quote of the key to the end of the value.
    start: usize,
    value: Range<usize>,
    change: Change,
}

#[derive(Debug, Clone)]
enum Change {
    Kept,
    Set(Bytes),
    Removed,
}

/// Why a text can't be taken as an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// Not strict JSON.
    #[error("not valid JSON at byte {at}: {reason}")]
    NotJson {
        /// Where it was noticed.
        at: usize,
        /// In words.
        reason: &'static str,
    },
    /// Nested deeper than anything here reads.
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// Levels.
        limit: usize,
    },
    /// JSON of another type.
    #[error("not an object")]
    NotAnObject,
    /// Readers would differ on which of two equal keys counts.
    #[error("a key stands twice")]
    RepeatedKey,
}

impl From<Fault> for ObjectError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Syntax { at, reason } => Self::NotJson { at, reason },
            Fault::TooDeep => Self::TooDeep { limit: super::scan::DEPTH_MAX },
        }
    }
}

impl Object {
    /// Finds the members of a raw object, which is checked whole.
    pub fn parse(raw: &Bytes) -> Result<Self, ObjectError> {
        let mut scanner = Scanner::new(raw)?;
        if scanner.peek()? != b'{' {
            scanner.value(0)?;
            scanner.end()?;
            return Err(ObjectError::NotAnObject);
        }
        scanner.open(0)?;
        let opened = scanner.position();
        let mut members = Vec::new();
        let mut seen = Seen::default();
        let mut count = 0;
        let mut repeated = false;
        while let Some(key) = scanner.next_key(&mut count)? {
            let decoded = scanner.decode(key);
            let value = scanner.value(1)?.span.range();
            let text = Text::cut(raw, &scanner, key).expect("a key is a string");
            repeated |= !seen.insert(decoded);
            members.push(Member { key: text, start: key.span.range().start, value, change: Change::Kept });
        }
        scanner.end()?;
        if repeated {
            return Err(ObjectError::RepeatedKey);
        }
        Ok(Self { raw: raw.clone(), members, added: Vec::new(), opened, changed: false })
    }

    /// An object without members.
    pub fn empty() -> Self {
        let raw = Bytes::from_static(b"{}");
        Self { raw, members: Vec::new(), added: Vec::new(), opened: 1, changed: false }
    }

    /// The raw value of a member.
    pub fn get(&self, key: &str) -> Option<Bytes> {
        if let Some((_, value)) = self.added.iter().find(|(added, _)| added == key) {
            return Some(value.clone());
        }
        let member = self.members.iter().find(|member| member.key == *key)?;
        self.value(member)
    }

    /// A member that is a string.
    pub fn text(&self, key: &str) -> Option<Text> {
        Text::read(&self.get(key)?)
    }

    /// Keys and raw values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Bytes)> {
        let own = self.members.iter().filter_map(|member| Some((member.key.as_str(), self.value(member)?)));
        own.chain(self.added.iter().map(|(key, value)| (key.as_str(), value.clone())))
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Gives a member another value (raw JSON, which isn't checked); a new one is added at the end.
    pub fn set(&mut self, key: &str, value: impl Into<Bytes>) {
        let value = value.into();
        self.changed = true;
        let own = self.members.iter_mut().find(|member| member.key == *key && !member.is_removed());
        if let Some(member) = own {
            member.change = Change::Set(value);
        } else if let Some((_, added)) = self.added.iter_mut().find(|(added, _)| added == key) {
            *added = value;
        } else {
            self.added.push((key.to_owned(), value));
        }
    }

    /// Takes a member out; its raw value if it was there.
    pub fn remove(&mut self, key: &str) -> Option<Bytes> {
        if let Some(index) = self.added.iter().position(|(added, _)| added == key) {
            return Some(self.added.remove(index).1);
        }
        let index = self.members.iter().position(|member| member.key == *key)?;
        let value = self.value(&self.members[index])?;
        self.members[index].change = Change::Removed;
        self.changed = true;
        Some(value)
    }

    /// The object as text.
    pub fn into_bytes(self) -> Bytes {
        if !self.changed {
            return self.raw;
        }
        let mut out = Vec::with_capacity(self.len_max());
        self.write(|piece| match piece {
            Piece::Raw(range) => out.extend_from_slice(&self.raw[range]),
            Piece::New(bytes) => out.extend_from_slice(bytes),
            Piece::Glue(text) => out.extend_from_slice(text.as_bytes()),
        });
        out.into()
    }

    /// The object as text in pieces, so that a large one isn't copied.
    pub fn into_chain(self) -> Vec<Bytes> {
        if !self.changed {
            return vec![self.raw];
        }
        let mut out = Vec::new();
        let mut run: Option<Range<usize>> = None;
        self.write(|piece| {
            if let (Piece::Raw(next), Some(open)) = (&piece, &mut run)
                && next.start == open.end
            {
                open.end = next.end;
                return;
            }
            out.extend(run.take().map(|range| self.raw.slice(range)));
            match piece {
                Piece::Raw(range) => run = Some(range),
                Piece::New(bytes) => out.push(bytes.clone()),
                Piece::Glue(text) => out.push(Bytes::copy_from_slice(text.as_bytes())),
            }
        });
        out.extend(run.take().map(|range| self.raw.slice(range)));
        out
    }

    fn value(&self, member: &Member) -> Option<Bytes> {
        match &member.change {
            Change::Kept => Some(self.raw.slice(member.value.clone())),
            Change::Set(value) => Some(value.clone()),
            Change::Removed => None,
        }
    }

    fn len_max(&self) -> usize {
        let set: usize = self
            .members
            .iter()
            .map(|member| if let Change::Set(value) = &member.change { value.len() } else { 0 })
            .sum();
        // Six bytes for each byte of a key that needs the longest escape.
        let added: usize = self.added.iter().map(|(key, value)| 6 * key.len() + value.len() + 4).sum();
        self.raw.len() + set + added
    }

    /// A kept member takes the bytes between it and its predecessor with it, whether that one is kept or not;
    /// the first kept one takes those after the bracket instead.
    fn write<'a>(&'a self, mut emit: impl FnMut(Piece<'a>)) {
        emit(Piece::Raw(0..self.opened));
        let first_start = self.members.first().map_or(self.opened, |member| member.start);
        let mut gap_start = self.opened;
        let mut is_first = true;
        for member in &self.members {
            let gap = gap_start..member.start;
            gap_start = member.value.end;
            if member.is_removed() {
                continue;
            }
            emit(Piece::Raw(if is_first { self.opened..first_start } else { gap }));
            is_first = false;
            emit(Piece::Raw(member.start..member.value.start));
            match &member.change {
                Change::Set(value) => emit(Piece::New(value)),
                _ => emit(Piece::Raw(member.value.clone())),
            }
        }
        for (key, value) in &self.added {
            let comma = if is_first { "" } else { "," };
            is_first = false;
            emit(Piece::Glue(format!("{comma}{}:", compose::Quoted(key))));
            emit(Piece::New(value));
        }
        emit(Piece::Raw(gap_start..self.raw.len()));
    }
}

impl Member {
    fn is_removed(&self) -> bool {
        matches!(self.change, Change::Removed)
    }
}

enum Piece<'a> {
    Raw(Range<usize>),
    New(&'a Bytes),
    Glue(String),
}

#[cfg(test)]
mod tests;
