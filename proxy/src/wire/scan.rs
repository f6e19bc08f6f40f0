//! The JSON grammar: a strict scanner that checks every byte and builds nothing.
//!
//! It accepts what RFC 8259 accepts, and less: no byte order mark, no lone surrogate escape, no more than
//! [`DEPTH_MAX`] open brackets. Nesting is kept in a bit field and never on the stack of the thread. A number may
//! have any size, since it is passed on as text.

use std::borrow::Cow;
use std::collections::HashSet;

/// Objects and arrays that may be open at once: more than any schema or argument needs, and what common
/// parsers behind the gateway can follow.
pub(super) const DEPTH_MAX: usize = 128;

/// Keys compared one by one; from there on a set is cheaper, and safe against a body made of keys.
const KEYS_COMPARED_MAX: usize = 16;

/// Why a text isn't strict JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not the grammar.
    Syntax {
        /// The byte where it was noticed.
        at: usize,
        /// In words.
        reason: &'static str,
    },
    /// More than [`DEPTH_MAX`] open brackets.
    TooDeep,
}

/// A part of the scanned text, in bytes. Half the size of a range, because messages carry many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

/// What a value is, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    /// `true` if it has escapes.
    String(bool),
    /// `true` if it has neither a fraction nor an exponent.
    Number(bool),
    Boolean,
    Null,
}

/// A checked value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) span: Span,
    pub(super) kind: Kind,
}

/// Reads one text from front to back.
pub(super) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

/// The keys of one object seen so far.
#[derive(Default)]
pub(super) struct Seen<'a> {
    few: Vec<Cow<'a, str>>,
    many: HashSet<Cow<'a, str>>,
}

impl Span {
    /// Absent values are kept as the empty span: no JSON value is empty.
    pub(super) fn is_empty(self) -> bool {
        self.start == self.end
    }

    pub(super) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The same place, counted from `origin`, which lies at or before it.
    pub(super) fn relative_to(self, origin: Span) -> Span {
        Span { start: self.start - origin.start, end: self.end - origin.start }
    }
}

impl<'a> Scanner<'a> {
    /// Takes a text that is UTF-8 and short enough for [`Span`].
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(Fault::Syntax { at: 0, reason: "longer than 4 GiB" });
        }
        if bytes.starts_with(b"\xef\xbb\xbf") {
            return Err(Fault::Syntax { at: 0, reason: "a byte order mark" });
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Fault::Syntax { at: error.valid_up_to(), reason: "not UTF-8" })?;
        Ok(Self { text, bytes, at: 0 })
    }

    /// The text of a part.
    pub(super) fn text_of(&self, span: Span) -> &'a str {
        &self.text[span.range()]
    }

    /// The first byte of the next value, which is left where it is.
    pub(super) fn peek(&mut self) -> Result<u8, Fault> {
        self.skip_whitespace();
        match self.bytes.get(self.at) {
            Some(byte) => Ok(*byte),
            None => Err(self.fault("ends too early")),
        }
    }

    /// Where the scanner stands, as the start of a span that [`Self::span_from`] ends.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// From `start` to where the scanner stands.
    pub(super) fn span_from(&self, start: usize) -> Span {
        // Fits: `new` refused longer texts.
        #[expect(clippy::cast_possible_truncation, reason = "positions are below the length, which fits")]
        Span { start: start as u32, end: self.at as u32 }
    }

    /// Nothing but whitespace may follow.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        self.skip_whitespace();
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.fault("something follows the value")) }
    }

    /// Steps over the bracket that [`Self::peek`] showed. `depth` brackets are open around it.
    pub(super) fn open(&mut self, depth: usize) -> Result<(), Fault> {
        self.at += 1;
        if depth < DEPTH_MAX { Ok(()) } else { Err(Fault::TooDeep) }
    }

    /// Inside an object: the next key, with the scanner left before its value; `None` past the closing bracket.
    /// `members` counts them and starts at zero.
    pub(super) fn next_key(&mut self, members: &mut u32) -> Result<Option<Value>, Fault> {
        if !self.next_of(b'}', *members)? {
            return Ok(None);
        }
        *members += 1;
        self.key().map(Some)
    }

    /// Inside an array: whether an element follows; `false` past the closing bracket.
    pub(super) fn next_element(&mut self, elements: u32) -> Result<bool, Fault> {
        self.next_of(b']', elements)
    }

    /// Checks one value, whatever it is. `depth` brackets are open around it.
    pub(super) fn value(&mut self, depth: usize) -> Result<Value, Fault> {
        let first = self.peek()?;
        let start = self.at;
        let kind = match first {
            b'{' => {
                self.container(depth)?;
                Kind::Object
            }
            b'[' => {
                self.container(depth)?;
                Kind::Array
            }
            _ => self.scalar(first)?,
        };
        Ok(Value { span: self.span_from(start), kind })
    }

    /// The text a string stands for.
    pub(super) fn decode(&self, string: Value) -> Cow<'a, str> {
        let range = string.span.range();
        let inner = &self.text[range.start + 1..range.end - 1];
        if string.kind == Kind::String(true) { Cow::Owned(unescape(inner)) } else { Cow::Borrowed(inner) }
    }

    fn next_of(&mut self, close: u8, before: u32) -> Result<bool, Fault> {
        let byte = self.peek()?;
        if byte == close {
            self.at += 1;
            return Ok(false);
        }
        if before > 0 {
            if byte != b',' {
                return Err(self.fault("expected a comma or the closing bracket"));
            }
            self.at += 1;
        }
        Ok(true)
    }

    fn key(&mut self) -> Result<Value, Fault> {
        if self.peek()? != b'"' {
            return Err(self.fault("expected a key"));
        }
        let start = self.at;
        let escaped = self.string()?;
        let span = self.span_from(start);
        if self.peek()? != b':' {
            return Err(self.fault("expected a colon"));
        }
        self.at += 1;
        Ok(Value { span, kind: Kind::String(escaped) })
    }

    /// An object or array with all that is in it, without recursion.
    fn container(&mut self, depth: usize) -> Result<(), Fault> {
        let mut open = Open { objects: [0; DEPTH_MAX / 64], depth, base: depth };
        loop {
            // A value follows.
            let first = self.peek()?;
            match first {
                b'{' => {
                    open.push_object()?;
                    self.at += 1;
                    if self.peek()? != b'}' {
                        self.key()?;
                        continue;
                    }
                    self.at += 1;
                    open.depth -= 1;
                }
                b'[' => {
                    open.push_array()?;
                    self.at += 1;
                    if self.peek()? != b']' {
                        continue;
                    }
                    self.at += 1;
                    open.depth -= 1;
                }
                _ => {
                    self.scalar(first)?;
                }
            }
            // A value has ended, and perhaps the brackets around it.
            while open.depth > open.base {
                let in_object = open.in_object();
                match self.peek()? {
                    b',' => {
                        self.at += 1;
                        if in_object {
                            self.key()?;
                        }
                        break;
                    }
                    b'}' if in_object => self.at += 1,
                    b']' if !in_object => self.at += 1,
                    _ => return Err(self.fault("expected a comma or the closing bracket")),
                }
                open.depth -= 1;
            }
            if open.depth == open.base {
                return Ok(());
            }
        }
    }

    fn scalar(&mut self, first: u8) -> Result<Kind, Fault> {
        match first {
            b'"' => self.string().map(Kind::String),
            b'-' | b'0'..=b'9' => self.number().map(Kind::Number),
            b't' => self.literal("true", Kind::Boolean),
            b'f' => self.literal("false", Kind::Boolean),
            b'n' => self.literal("null", Kind::Null),
            _ => Err(self.fault("expected a value")),
        }
    }

    fn literal(&mut self, word: &'static str, kind: Kind) -> Result<Kind, Fault> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.fault("expected a value"));
        }
        self.at += word.len();
        Ok(kind)
    }

    fn number(&mut self) -> Result<bool, Fault> {
        if self.bytes[self.at] == b'-' {
            self.at += 1;
        }
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.fault("expected a digit")),
        }
        let mut integer = true;
        if self.bytes.get(self.at) == Some(&b'.') {
            integer = false;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            integer = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(integer)
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.fault("expected a digit")) }
    }

    /// A string, from its opening to past its closing quote; whether it has escapes.
    fn string(&mut self) -> Result<bool, Fault> {
        self.at += 1;
        let mut escaped = false;
        loop {
            self.at += plain_len(&self.bytes[self.at..]);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.fault("a control character in a string")),
                None => return Err(self.fault("ends inside a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => match self.hex_escape()? {
                0xd800..=0xdbff => match self.hex_escape() {
                    Ok(0xdc00..=0xdfff) => Ok(()),
                    _ => Err(self.fault("a lone surrogate")),
                },
                0xdc00..=0xdfff => Err(self.fault("a lone surrogate")),
                _ => Ok(()),
            },
            _ => Err(self.fault("an unknown escape")),
        }
    }

    fn hex_escape(&mut self) -> Result<u32, Fault> {
        let unit = self.bytes.get(self.at..self.at + 6).and_then(code_unit);
        let unit = unit.ok_or(self.fault("an unknown escape"))?;
        self.at += 6;
        Ok(unit)
    }

    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn fault(&self, reason: &'static str) -> Fault {
        Fault::Syntax { at: self.at, reason }
    }
}

impl<'a> Seen<'a> {
    /// `false` if the key was there before.
    pub(super) fn insert(&mut self, key: Cow<'a, str>) -> bool {
        if !self.many.is_empty() {
            return self.many.insert(key);
        }
        if self.few.contains(&key) {
            return false;
        }
        self.few.push(key);
        if self.few.len() > KEYS_COMPARED_MAX {
            self.many.extend(self.few.drain(..));
        }
        true
    }
}

/// The brackets open inside one container: a bit for each, set for an object.
struct Open {
    objects: [u64; DEPTH_MAX / 64],
    depth: usize,
    base: usize,
}

impl Open {
    fn push_object(&mut self) -> Result<(), Fault> {
        self.check()?;
        self.objects[self.depth / 64] |= 1 << (self.depth % 64);
        self.depth += 1;
        Ok(())
    }

    fn push_array(&mut self) -> Result<(), Fault> {
        self.check()?;
        self.objects[self.depth / 64] &= !(1 << (self.depth % 64));
        self.depth += 1;
        Ok(())
    }

    fn check(&self) -> Result<(), Fault> {
        if self.depth < DEPTH_MAX { Ok(()) } else { Err(Fault::TooDeep) }
    }

    fn in_object(&self) -> bool {
        let innermost = self.depth - 1;
        self.objects[innermost / 64] & (1 << (innermost % 64)) != 0
    }
}

/// Bytes up to the first quote, backslash or control character.
fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut len = 0;
    // Most strings end within a few words.
    for word in bytes.chunks_exact(8).take(4) {
        let word = u64::from_le_bytes(word.try_into().expect("chunks of eight"));
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        // A borrow only ever leaves a byte that is itself a hit, so the lowest hit is exact.
        let hits = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let hits = hits & HIGH;
        if hits != 0 {
            return len + hits.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    // Long ones are looked at in blocks, without a branch inside, which compiles to vector code.
    for block in bytes[len..].chunks_exact(64) {
        if block.iter().fold(false, |hit, byte| hit | is_special(*byte)) {
            break;
        }
        len += 64;
    }
    len + bytes[len..].iter().take_while(|byte| !is_special(**byte)).count()
}

fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | ..0x20)
}

/// The code unit of `\uXXXX`.
fn code_unit(escape: &[u8]) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = escape else { return None };
    digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))
}

/// The text behind the inside of a string whose escapes were checked.
fn unescape(inner: &str) -> String {
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let escape = &rest[at..];
        let (character, len) = match escape.as_bytes()[1] {
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'n' => ('\n', 2),
            b'r' => ('\r', 2),
            b't' => ('\t', 2),
            b'u' => unescape_unicode(escape.as_bytes()),
            other => (char::from(other), 2),
        };
        text.push(character);
        rest = &escape[len..];
    }
    text.push_str(rest);
    text
}

fn unescape_unicode(escape: &[u8]) -> (char, usize) {
    let unit = code_unit(&escape[..6]).expect("checked by the scanner");
    if let Some(character) = char::from_u32(unit) {
        return (character, 6);
    }
    let low = code_unit(&escape[6..12]).expect("checked by the scanner");
    let point = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
    (char::from_u32(point).expect("a pair of surrogates is a character"), 12)
}
