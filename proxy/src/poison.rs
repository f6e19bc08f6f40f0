//! What a definition may hide from a person and say to a model (threat T23): found for an admin, and stripped where
//! an admin asks for it.
//!
//! A definition goes into a model's context, and an admin who looks at it sees less than the model does: characters
//! without a shape, text that runs the other way, comments, and words in the dress of a system's own. [`scan`] names
//! what it finds; nothing is left out for it. [`stripped`] gives a definition without any of it. Only strings are
//! changed, each token of all else stays as it came.
//!
//! It finds what is written to deceive in known ways. A lie in plain words it doesn't see.

mod signs;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

pub use self::signs::Sign;
use self::signs::{clean, signs_of};
use crate::wire::compose;

/// How deep a definition may be to be looked through: as deep as anything that is parsed whole.
const DEPTH_MAX: usize = 128;

/// What a definition has of it, each sign once, in the order of [`Sign::ALL`].
pub fn scan(definition: &[u8]) -> Vec<Sign> {
    let mut found = [false; Sign::ALL.len()];
    let mut look = |text: &str| {
        for sign in signs_of(text) {
            found[sign as usize] = true;
        }
    };
    if each_text(definition, &mut look, 0).is_none() {
        found[Sign::TooDeep as usize] = true;
    }
    Sign::ALL.into_iter().filter(|sign| found[*sign as usize]).collect()
}

/// The definition without any of it; `None` where that can't be had: it stands in a name of a member, or too deep.
/// `kept` is the member that stays as it is, since it names the definition at its upstream.
pub fn stripped(definition: &Bytes, kept: &str) -> Option<Bytes> {
    if scan(definition).is_empty() {
        return Some(definition.clone());
    }
    let mut clean = Vec::with_capacity(definition.len());
    strip_value(definition, Some(kept), &mut clean, 0)?;
    Some(clean.into())
}

/// A text without any of it.
pub fn stripped_text(text: &str) -> String {
    clean(text)
}

/// Shows `look` every string of a value, names of members among them. `None`: it is too deep, or no JSON.
fn each_text(raw: &[u8], look: &mut impl FnMut(&str), depth: usize) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    match raw.first()? {
        b'"' => look(&serde_json::from_slice::<String>(raw).ok()?),
        b'{' => {
            for (name, value) in serde_json::from_slice::<Members<'_>>(raw).ok()?.0 {
                look(&name);
                each_text(value.get().as_bytes(), look, depth + 1)?;
            }
        }
        b'[' => {
            for value in serde_json::from_slice::<Elements<'_>>(raw).ok()?.0 {
                each_text(value.get().as_bytes(), look, depth + 1)?;
            }
        }
        _ => {}
    }
    Some(())
}

fn strip_value(raw: &[u8], kept: Option<&str>, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    match raw.first()? {
        b'"' => {
            let text = serde_json::from_slice::<String>(raw).ok()?;
            let clean = clean(&text);
            if clean == text {
                out.extend_from_slice(raw);
            } else {
                out.extend_from_slice(&compose::string(&clean));
            }
        }
        b'{' => {
            out.push(b'{');
            for (index, (name, value)) in
                serde_json::from_slice::<Members<'_>>(raw).ok()?.0.iter().enumerate()
            {
                if index > 0 {
                    out.push(b',');
                }
                // Another name of a parameter would be another parameter.
                signs_of(name).next().is_none().then_some(())?;
                out.extend_from_slice(&compose::string(name));
                out.push(b':');
                let value = value.get().as_bytes();
                if kept == Some(name.as_str()) {
                    out.extend_from_slice(value);
                } else {
                    strip_value(value, None, out, depth + 1)?;
                }
            }
            out.push(b'}');
        }
        b'[' => {
            out.push(b'[');
            for (index, value) in serde_json::from_slice::<Elements<'_>>(raw).ok()?.0.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                strip_value(value.get().as_bytes(), None, out, depth + 1)?;
            }
            out.push(b']');
        }
        _ => out.extend_from_slice(raw),
    }
    Some(())
}

/// The members of an object in their order, also those that come twice.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(All).map(Self)
    }
}

/// The elements of an array.
struct Elements<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = array.next_element()? {
                    elements.push(element);
                }
                Ok(elements)
            }
        }

        deserializer.deserialize_seq(All).map(Self)
    }
}
