//! Reading a JSON object field by field, so that everything wrong with it is said at once.
//!
//! A parser takes each field it knows out of a [`Fields`], and what is left over is refused. Each
//! complaint names its field by JSON pointer and says what is expected, never what came: it may
//! have been a secret in the wrong place.

use std::ops::RangeInclusive;
use std::str::FromStr;

use serde_json::{Map, Value};
use sql::model::FieldError;

use crate::error::ApiError;

/// What is wrong so far.
#[derive(Default)]
pub(crate) struct Problems(Vec<FieldError>);

impl Problems {
    /// One more.
    pub(crate) fn add(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError::new(pointer, message));
    }

    /// Several more.
    pub(crate) fn extend(&mut self, more: impl IntoIterator<Item = FieldError>) {
        self.0.extend(more);
    }

    /// What was read, if nothing is wrong.
    pub(crate) fn unless_any<T>(self, read: Option<T>) -> Result<T, ApiError> {
        match read {
            Some(read) if self.0.is_empty() => Ok(read),
            _ => Err(ApiError::Invalid(self.0)),
        }
    }
}

/// The members of one object that nobody has taken yet.
pub(crate) struct Fields {
    pointer: String,
    members: Map<String, Value>,
}

impl Fields {
    /// The members of `value`, which stands at `pointer`.
    pub(crate) fn open(value: Value, pointer: &str, problems: &mut Problems) -> Option<Self> {
        if let Value::Object(members) = value {
            Some(Self { pointer: pointer.to_owned(), members })
        } else {
            problems.add(pointer, "must be an object");
            None
        }
    }

    /// The pointer to the member `name`.
    pub(crate) fn at(&self, name: &str) -> String {
        pointer_to(&self.pointer, name)
    }

    /// The member as it came; null counts as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    /// A member that must be there.
    pub(crate) fn required<T>(
        &mut self,
        name: &str,
        problems: &mut Problems,
        parse: impl FnOnce(Value) -> Result<T, String>,
    ) -> Option<T> {
        if let Some(value) = self.take(name) {
            kept(parse(value), &self.at(name), problems)
        } else {
            problems.add(self.at(name), "is required");
            None
        }
    }

    /// A member that may be absent or null.
    pub(crate) fn optional<T>(
        &mut self,
        name: &str,
        problems: &mut Problems,
        parse: impl FnOnce(Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(name)?;
        kept(parse(value), &self.at(name), problems)
    }

    /// Refuses what nobody took.
    pub(crate) fn close(self, problems: &mut Problems) {
        for name in self.members.keys() {
            problems.add(self.at(name), "is not a known field");
        }
    }
}

fn kept<T>(parsed: Result<T, String>, pointer: &str, problems: &mut Problems) -> Option<T> {
    match parsed {
        Ok(value) => Some(value),
        Err(message) => {
            problems.add(pointer, message);
            None
        }
    }
}

/// The JSON pointer to `name` within what stands at `parent`.
pub(crate) fn pointer_to(parent: &str, name: &str) -> String {
    format!("{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// A text of so many characters, none of them a control character.
pub(crate) fn text(chars: RangeInclusive<usize>) -> impl FnOnce(Value) -> Result<String, String> {
    move |value| {
        let Value::String(text) = value else { return Err("must be a text".into()) };
        let count = text.chars().count();
        if !chars.contains(&count) {
            return Err(format!("must have {} to {} characters", chars.start(), chars.end()));
        }
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters".into());
        }
        Ok(text)
    }
}

/// A name for people: a text without space at its ends.
pub(crate) fn name(chars: RangeInclusive<usize>) -> impl FnOnce(Value) -> Result<String, String> {
    move |value| {
        let text = text(chars)(value)?;
        if text.trim() == text { Ok(text) } else { Err("must not begin or end with a space".into()) }
    }
}

/// True or false.
#[expect(clippy::needless_pass_by_value, reason = "has the shape of every parser")]
pub(crate) fn flag(value: Value) -> Result<bool, String> {
    match value {
        Value::Bool(flag) => Ok(flag),
        _ => Err("must be true or false".into()),
    }
}

/// A whole number of a range.
pub(crate) fn integer<T>(range: RangeInclusive<T>) -> impl FnOnce(Value) -> Result<T, String>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display,
{
    move |value| {
        let number = value.as_i64().and_then(|number| T::try_from(number).ok());
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
    }
}

/// A text that `T` can read; its own error says what is expected.
pub(crate) fn parsed<T>(value: Value) -> Result<T, String>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    match value {
        Value::String(text) => text.parse().map_err(|error: T::Err| error.to_string()),
        _ => Err("must be a text".into()),
    }
}

/// A list of at most `count_max` items.
pub(crate) fn list<T>(
    value: Value,
    pointer: &str,
    count_max: usize,
    problems: &mut Problems,
    mut item: impl FnMut(Value, &str, &mut Problems) -> Option<T>,
) -> Option<Vec<T>> {
    let Value::Array(values) = value else {
        problems.add(pointer, "must be a list");
        return None;
    };
    if values.len() > count_max {
        problems.add(pointer, format!("must have at most {count_max} items"));
        return None;
    }
    let items: Vec<Option<T>> = values
        .into_iter()
        .enumerate()
        .map(|(index, value)| item(value, &pointer_to(pointer, &index.to_string()), problems))
        .collect();
    items.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_wrong_is_said_at_once() {
        let mut problems = Problems::default();
        let mut fields =
            Fields::open(json!({"name": "", "on": 1, "a/b~c": 2, "n": 7}), "/x", &mut problems).unwrap();
        let read = fields.required("name", &mut problems, name(1..=5));
        assert!(read.is_none());
        assert!(fields.optional("on", &mut problems, flag).is_none());
        assert_eq!(fields.optional("n", &mut problems, integer(1..=9_i64)), Some(7));
        assert!(fields.required("gone", &mut problems, flag).is_none());
        fields.close(&mut problems);
        let Err(ApiError::Invalid(found)) = problems.unless_any(Some(())) else { panic!("not refused") };
        let pointers: Vec<&str> = found.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/x/name", "/x/on", "/x/gone", "/x/a~1b~0c"]);
    }

    #[test]
    fn numbers_keep_to_their_range() {
        for (value, expected) in [
            (json!(1), true),
            (json!(0), false),
            (json!(10), false),
            (json!(1.5), false),
            (json!("1"), false),
        ] {
            assert_eq!(integer(1..=9_u32)(value.clone()).is_ok(), expected, "{value}");
        }
    }

    #[test]
    fn names_have_no_control_characters_and_no_space_around_them() {
        for (value, expected) in [("a b", true), (" a", false), ("a\nFAKE", false), ("äöü", true)] {
            assert_eq!(name(1..=3)(json!(value)).is_ok(), expected, "{value:?}");
        }
    }
}
