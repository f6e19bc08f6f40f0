//! A body as a strict value: JSON with comments, or TOML; nothing named twice.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{Language, Unreadable};

/// Reads the body in its language.
pub(super) fn parse(bytes: &[u8], language: Language) -> Result<Value, Unreadable> {
    // Editors of one system put it there; it says nothing.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|_| Unreadable::Syntax("not UTF-8".into()))?;
    let json = match language {
        Language::Json => true,
        Language::Toml => false,
        Language::Guess => matches!(text.trim_start().as_bytes().first(), Some(b'{' | b'/')),
    };
    if json { strict_json(without_comments(text).as_bytes()).map_err(Unreadable::Syntax) } else { toml(text) }
}

fn toml(text: &str) -> Result<Value, Unreadable> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..at].split(|byte| *byte == b'\n').count();
        Unreadable::Syntax(format!("not TOML at line {line}"))
    })?;
    serde_json::to_value(table).map_err(|_| Unreadable::Syntax("not TOML that JSON could say".into()))
}

/// JSON in which no object names a member twice: of two, another reader might take the other one.
pub(super) fn strict_json(bytes: &[u8]) -> Result<Value, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = Strict.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    read.map_err(|error| {
        let what = if error.to_string().starts_with(TWICE) { TWICE } else { "not JSON" };
        // Where, but not what: the text of the error may quote the body.
        format!("{what} at line {}, column {}", error.line(), error.column())
    })
}

const TWICE: &str = "a member stands twice in one object";

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Self)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom(TWICE));
            }
        }
        Ok(Value::Object(object))
    }
}

/// The text with comments, and commas that nothing follows, replaced by spaces, so that lines stay lines.
fn without_comments(text: &str) -> String {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    // Where in `out` a comma stands that nothing has followed yet.
    let mut comma = None;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        let length = if byte == b'"' {
            string_length(rest)
        } else if rest.starts_with(b"//") {
            rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            rest.windows(2).skip(2).position(|end| end == b"*/").map_or(rest.len(), |end| end + 4)
        } else {
            1
        };
        let piece = &rest[..length];
        if byte == b'/' && length > 1 {
            out.extend(piece.iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
        } else {
            match (byte, comma) {
                (b']' | b'}', Some(place)) => {
                    if let Some(byte) = out.get_mut::<usize>(place) {
                        *byte = b' ';
                    }
                    comma = None;
                }
                (b',', _) => comma = Some(out.len()),
                _ if byte.is_ascii_whitespace() => {}
                _ => comma = None,
            }
            out.extend_from_slice(piece);
        }
        at += length;
    }
    // What was left out are whole characters, and what stands in their place is ASCII.
    String::from_utf8(out).unwrap_or_default()
}

/// How long the string is that begins here, quotes and all.
fn string_length(rest: &[u8]) -> usize {
    let mut escaped = false;
    for (index, byte) in rest.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn comments_and_last_commas_are_passed_over_outside_texts() {
        let text = "{ // one\n \"a\": \"x // y /* z */ ,}\", /* two\n */ \"b\": [1, 2, /**/ ], \"ü\": \"\\\"//\",\n}";
        let read = parse(text.as_bytes(), Language::Json).unwrap();
        assert_eq!(read, json!({"a": "x // y /* z */ ,}", "b": [1, 2], "ü": "\"//"}));
    }

    #[test]
    fn what_stands_twice_is_refused() {
        let refused = parse(b"{\"a\": {\"b\": 1,\n \"b\": 2}}", Language::Json).unwrap_err();
        let Unreadable::Syntax(said) = refused else { panic!("{refused:?}") };
        assert!(said.starts_with("a member stands twice in one object at line 2"), "{said}");
    }

    #[test]
    fn the_language_is_told_by_the_first_character() {
        assert_eq!(parse(b"a = 1", Language::Guess).unwrap(), json!({"a": 1}));
        assert_eq!(parse(b"\xEF\xBB\xBF {\"a\": 1}", Language::Guess).unwrap(), json!({"a": 1}));
        assert!(parse(b"[mcp_servers.x]\nurl = 1", Language::Guess).is_ok());
    }

    /// T19: where, never what.
    #[test]
    fn complaints_quote_nothing() {
        let long = "[".repeat(100_000);
        for (text, language) in [
            ("{\"a\": CANARY}", Language::Json),
            ("{\"a\": \"CANARY", Language::Json),
            ("{\"a\": 1} CANARY", Language::Json),
            ("/* CANARY", Language::Json),
            ("a = 1\nb = CANARY", Language::Toml),
            ("a = 1\na = \"CANARY\"", Language::Toml),
            (long.as_str(), Language::Json),
        ] {
            let refused = parse(text.as_bytes(), language).unwrap_err();
            assert!(!format!("{refused:?}").contains("CANARY"), "{refused:?}");
        }
    }
}
