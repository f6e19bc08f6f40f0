//! A YAML file as strict JSON, which still knows on which line everything stands.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// One thing that is wrong with a file: `file:line: field: message`, and never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileProblem {
    file: PathBuf,
    line: Option<usize>,
    field: String,
    message: String,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(formatter, "{line}:")?;
        }
        if !self.field.is_empty() {
            write!(formatter, " {}:", self.field)?;
        }
        write!(formatter, " {}", self.message)
    }
}

impl FileProblem {
    /// The line, counted from 1, if one is to blame.
    pub(super) fn line(&self) -> Option<usize> {
        self.line
    }

    /// Of the file as a whole.
    pub(super) fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, field: String::new(), message: message.into() }
    }
}

/// A file that is YAML.
pub(crate) struct Document {
    file: PathBuf,
    text: String,
    value: Value,
}

impl Document {
    /// Reads YAML that could have been JSON: text as keys, no tags, nothing named twice.
    pub(crate) fn parse(file: &Path, bytes: Vec<u8>) -> Result<Self, FileProblem> {
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.split(|byte| *byte == b'\n').count();
            FileProblem { line: Some(line), ..FileProblem::of_file(file, "not UTF-8") }
        })?;
        let yaml: serde_yaml::Value = serde_yaml::from_str(&text).map_err(|error| FileProblem {
            line: error.location().map(|location| location.line()),
            ..FileProblem::of_file(file, syntax_message(&error))
        })?;
        let mut document = Self { file: file.to_owned(), text, value: Value::Null };
        document.value =
            to_json(yaml, "").map_err(|(pointer, message)| document.problem(&pointer, message))?;
        Ok(document)
    }

    /// The content.
    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// Says that what stands at a JSON pointer is wrong; what isn't there is told where it belongs.
    pub(crate) fn problem(&self, pointer: &str, message: impl Into<String>) -> FileProblem {
        FileProblem {
            file: self.file.clone(),
            line: self.line_of(pointer),
            field: field(pointer),
            message: message.into(),
        }
    }

    /// The parser tells where it was when somebody objected. So this reads the text once more, and
    /// objects as soon as it is there. Slow, but only done for what is wrong.
    fn line_of(&self, pointer: &str) -> Option<usize> {
        let tokens: Vec<String> = tokens(pointer);
        let objection =
            Objector(&tokens).deserialize(serde_yaml::Deserializer::from_str(&self.text)).err()?;
        objection.location().map(|location| location.line())
    }
}

/// The parser's own words, but for those that may quote the file.
fn syntax_message(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    if text.contains("duplicate entry") {
        return "a key stands twice in one mapping".to_owned();
    }
    if text.contains("invalid") {
        return "not YAML: a value isn't of the type that its tag says".to_owned();
    }
    format!("not YAML: {text}")
}

/// The value, or the pointer of what JSON can't say and why.
fn to_json(yaml: serde_yaml::Value, pointer: &str) -> Result<Value, (String, &'static str)> {
    match yaml {
        serde_yaml::Value::Null => Ok(Value::Null),
        serde_yaml::Value::Bool(value) => Ok(Value::Bool(value)),
        serde_yaml::Value::String(text) => Ok(Value::String(text)),
        serde_yaml::Value::Number(number) => serde_json::to_value(&number)
            .ok()
            .filter(Value::is_number)
            .ok_or_else(|| (pointer.to_owned(), "not a finite number")),
        serde_yaml::Value::Sequence(items) => items
            .into_iter()
            .enumerate()
            .map(|(index, item)| to_json(item, &format!("{pointer}/{index}")))
            .collect(),
        serde_yaml::Value::Mapping(members) => {
            let mut object = serde_json::Map::new();
            for (key, value) in members {
                let serde_yaml::Value::String(key) = key else {
                    return Err((pointer.to_owned(), "a key that isn't text; quote it"));
                };
                let value = to_json(value, &format!("{pointer}/{}", escape(&key)))?;
                object.insert(key, value);
            }
            Ok(Value::Object(object))
        }
        serde_yaml::Value::Tagged(_) => Err((pointer.to_owned(), "tags aren't supported")),
    }
}

/// A member's name as a token of a JSON pointer (RFC 6901).
pub(super) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn tokens(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect()
}

/// The pointer as a person writes it: `upstreams[0].connParams.url`.
fn field(pointer: &str) -> String {
    tokens(pointer).into_iter().fold(String::new(), |field, token| {
        if token.bytes().all(|byte| byte.is_ascii_digit()) && !token.is_empty() {
            format!("{field}[{token}]")
        } else if field.is_empty() {
            token
        } else {
            format!("{field}.{token}")
        }
    })
}

/// Walks towards a place and fails there, or at the last place on the way to it that exists.
#[derive(Clone, Copy)]
struct Objector<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Objector<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Objector<'_> {
    type Value = ();

    // Scalars need no method: that a visitor doesn't expect one is an objection too.
    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("another place")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Some((token, rest)) = self.0.split_first() {
            while let Some(key) = map.next_key::<String>()? {
                if key == *token {
                    return map.next_value_seed(Objector(rest));
                }
                map.next_value::<IgnoredAny>()?;
            }
        }
        Err(A::Error::custom("here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if let Some((token, rest)) = self.0.split_first()
            && let Ok(index) = token.parse::<usize>()
        {
            for _ in 0..index {
                if items.next_element::<IgnoredAny>()?.is_none() {
                    return Err(A::Error::custom("here"));
                }
            }
            if items.next_element_seed(Objector(rest))?.is_some() {
                return Ok(());
            }
        }
        Err(A::Error::custom("here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Document, String> {
        Document::parse(Path::new("gateway.yaml"), text.as_bytes().to_vec())
            .map_err(|problem| problem.to_string())
    }

    #[test]
    fn a_problem_names_the_line_of_the_field_or_of_where_it_belongs() {
        let document = parse(concat!(
            "settings:\n",
            "  mcp_api: {mode: full}\n",
            "upstreams:\n",
            "  - name: one\n",
            "    connParams:\n",
            "      command: a\n",
            "\n",
            "  - name: two\n",
            "    connParams:\n",
            "      args:\n",
            "        - x\n",
            "        - y/z: 1\n",
        ))
        .unwrap();
        let told = |pointer| document.problem(pointer, "no").to_string();
        assert_eq!(
            told("/upstreams/0/connParams/command"),
            "gateway.yaml:6: upstreams[0].connParams.command: no"
        );
        assert_eq!(told("/upstreams/1"), "gateway.yaml:8: upstreams[1]: no");
        assert_eq!(
            told("/upstreams/1/connParams/args/1/y~1z"),
            "gateway.yaml:12: upstreams[1].connParams.args[1].y/z: no"
        );
        assert_eq!(told("/upstreams/1/transport"), "gateway.yaml:8: upstreams[1].transport: no");
        assert_eq!(told("/settings/mcp_api/mode"), "gateway.yaml:2: settings.mcp_api.mode: no");
        assert_eq!(told("/upstreams/7"), "gateway.yaml:4: upstreams[7]: no");
    }

    #[test]
    fn what_json_cannot_say_is_refused_where_it_stands() {
        let refused = |text| parse(text).err().unwrap();
        assert_eq!(refused("a: 1\nb: !secret x\n"), "gateway.yaml:2: b: tags aren't supported");
        assert_eq!(refused("a:\n  1: x\n"), "gateway.yaml:2: a: a key that isn't text; quote it");
        assert_eq!(refused("a: .nan\n"), "gateway.yaml:1: a: not a finite number");
        assert_eq!(refused("a: 1\nb: 2\na: 3\n"), "gateway.yaml:1: a key stands twice in one mapping");
        assert!(refused("a: [1,\n").starts_with("gateway.yaml:"));
        assert!(refused("a: &x [*x]\n").starts_with("gateway.yaml:"));
        let cut = Document::parse(Path::new("f"), b"a: b\nc: \xc3".to_vec()).err().unwrap();
        assert_eq!(cut.to_string(), "f:2: not UTF-8");
    }

    #[test]
    fn a_tag_that_lies_is_told_without_the_value() {
        let problem = parse("a: !!int hunter2\n").err().unwrap();
        assert!(!problem.contains("hunter2"), "{problem}");
    }

    #[test]
    fn an_empty_file_is_nothing() {
        assert_eq!(parse("").unwrap().value(), &Value::Null);
        assert_eq!(parse("# only a comment\n").unwrap().value(), &Value::Null);
    }
}
