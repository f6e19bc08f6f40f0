//! Which arguments of a tool are mirrored in `Mcp-Param-*` headers, by the `x-mcp-header` of its input schema.
//!
//! A schema is read when a tool is taken over from its upstream, never for a call.

use std::collections::HashSet;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::{HeaderMismatch, MCP_PARAM_PREFIX, MismatchReason, decode_value, encode_value, mismatch, single};
use crate::wire::edit::Object;
use crate::wire::scan::{Kind, Scanner};
use crate::wire::text::Text;

const ANNOTATION: &str = "x-mcp-header";

/// Keywords whose members are named by the author: a name isn't an annotation.
const NAMED_SCHEMAS: [&str; 5] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// Keywords whose values are data, not schemas.
const DATA: [&str; 5] = ["default", "const", "enum", "examples", "example"];

/// JavaScript's largest safe integer: the specification allows no greater one in a header.
const SAFE_INTEGER_MAX: i64 = (1 << 53) - 1;

/// The headers that mirror arguments of one tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParamHeaders {
    params: Vec<Param>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Param {
    header: HeaderName,
    /// From the arguments inwards, by the names of properties.
    path: Vec<String>,
}

/// Why the annotations of a schema are invalid, and the tool with them.
#[derive(Debug, thiserror::Error)]
pub enum InvalidParamHeader {
    /// The schema can't be read at all.
    #[error("the input schema is not readable")]
    Schema(#[source] serde_json::Error),
    /// Not a token of RFC 9110, or not even a string.
    #[error("`x-mcp-header` at {path} is not a header name")]
    Name {
        /// Where, as a JSON pointer.
        path: String,
    },
    /// Two of one name, upper and lower case being the same.
    #[error("`x-mcp-header` at {path} stands for a header that another property has")]
    Repeated {
        /// Where, as a JSON pointer.
        path: String,
    },
    /// Only strings, integers and booleans have a text in a header.
    #[error("`x-mcp-header` at {path} is on a property that is no string, integer or boolean")]
    Type {
        /// Where, as a JSON pointer.
        path: String,
    },
    /// Not reachable from the root through `properties` alone, so the argument has no fixed place.
    #[error("`x-mcp-header` at {path} is not on a property with a fixed place")]
    Place {
        /// Where, as a JSON pointer.
        path: String,
    },
}

impl ParamHeaders {
    /// Reads the annotations of a raw input schema. Streamable HTTP, schema extension.
    pub fn of_schema(input_schema: &[u8]) -> Result<Self, InvalidParamHeader> {
        // Nearly all tools have none; an escape could spell one differently.
        let mentioned = memchr::memmem::find(input_schema, ANNOTATION.as_bytes()).is_some()
            || memchr::memmem::find(input_schema, b"\\u").is_some();
        if !mentioned {
            return Ok(Self::default());
        }
        let schema: Value = serde_json::from_slice(input_schema).map_err(InvalidParamHeader::Schema)?;
        let mut reader = Reader::default();
        if let Value::Object(schema) = &schema {
            if schema.contains_key(ANNOTATION) {
                return Err(reader.place());
            }
            reader.schema(schema)?;
        }
        Ok(Self { params: reader.params })
    }

    /// Whether no argument is mirrored.
    pub fn is_empty(&self) -> bool {
        self.params.is_empty()
    }

    /// The headers for a call with these raw arguments. Arguments that aren't there or are null have none.
    pub fn extract(&self, arguments: Option<&Bytes>) -> Vec<(HeaderName, HeaderValue)> {
        let Some(arguments) = self.object(arguments) else { return Vec::new() };
        let value =
            |param: &Param| Some((param.header.clone(), encode_value(&param.mirrored(&arguments)?.text())));
        self.params.iter().filter_map(value).collect()
    }

    /// Checks the headers of a call against its raw arguments.
    pub fn check(&self, headers: &HeaderMap, arguments: Option<&Bytes>) -> Result<(), HeaderMismatch> {
        let arguments = self.object(arguments);
        self.params.iter().try_for_each(|param| param.check(headers, arguments.as_ref()))
    }

    fn object(&self, arguments: Option<&Bytes>) -> Option<Object> {
        if self.params.is_empty() { None } else { Object::parse(arguments?).ok() }
    }
}

impl Param {
    fn check(&self, headers: &HeaderMap, arguments: Option<&Object>) -> Result<(), HeaderMismatch> {
        let wrong = |reason| Err(mismatch(&self.header, reason));
        let value = single(headers, &self.header)?;
        let mirrored = arguments.and_then(|arguments| self.mirrored(arguments));
        match (value, mirrored) {
            (None, None) => Ok(()),
            (None, Some(_)) => wrong(MismatchReason::Missing),
            (Some(_), None) => wrong(MismatchReason::Unexpected),
            (Some(value), Some(mirrored)) => match decode_value(value) {
                Err(_) => wrong(MismatchReason::Unreadable),
                Ok(text) if mirrored.is(&text) => Ok(()),
                Ok(_) => wrong(MismatchReason::Different),
            },
        }
    }

    /// The argument at the exact path. An object or a list can't be mirrored, whatever the schema says.
    fn mirrored(&self, arguments: &Object) -> Option<Mirrored> {
        let (first, rest) = self.path.split_first()?;
        let mut value = arguments.get(first)?;
        for key in rest {
            value = Object::parse(&value).ok()?.get(key)?;
        }
        match value.first()? {
            b'"' => Text::read(&value).map(Mirrored::Text),
            b'{' | b'[' | b'n' => None,
            b't' | b'f' => Text::read_bare(&value).map(Mirrored::Text),
            _ => Text::read_bare(&value).map(Mirrored::Number),
        }
    }
}

/// An argument that a header can carry.
enum Mirrored {
    Text(Text),
    Number(Text),
}

impl Mirrored {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.to_string(),
            // Streamable HTTP, value encoding: an integer in decimal, also if it came as `42.0`.
            Self::Number(number) => {
                integer(number).map_or_else(|| number.to_string(), |integer| integer.to_string())
            }
        }
    }

    /// Numbers are compared as such: `42.0` is `42`.
    fn is(&self, text: &str) -> bool {
        match self {
            Self::Text(own) => own == text,
            Self::Number(own) => own == text || integer(own).is_some_and(|own| integer(text) == Some(own)),
        }
    }
}

/// The integer that a JSON number is exactly, within the safe range.
fn integer(number: &str) -> Option<i64> {
    let mut scanner = Scanner::new(number.as_bytes()).ok()?;
    let value = scanner.value(0).ok()?;
    scanner.end().ok()?;
    if value.span.range() != (0..number.len()) {
        return None;
    }
    let integer = match value.kind {
        Kind::Number(true) => number.parse().ok()?,
        Kind::Number(false) => {
            let float: f64 = number.parse().ok()?;
            #[expect(clippy::cast_precision_loss, reason = "the safe range is the one without loss")]
            let safe = float.abs() <= SAFE_INTEGER_MAX as f64 && float.fract() == 0.0;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "within the safe range and without a fraction"
            )]
            safe.then_some(float as i64)?
        }
        _ => return None,
    };
    (-SAFE_INTEGER_MAX..=SAFE_INTEGER_MAX).contains(&integer).then_some(integer)
}

/// Walks a schema. The depth is bounded by the parser that made the tree.
#[derive(Default)]
struct Reader {
    params: Vec<Param>,
    names: HashSet<HeaderName>,
    /// Names of properties from the root to where the reader is.
    path: Vec<String>,
}

impl Reader {
    /// A schema with a fixed place: the root, or one reached through `properties` alone.
    fn schema(&mut self, schema: &Map<String, Value>) -> Result<(), InvalidParamHeader> {
        for (keyword, value) in schema {
            match (keyword.as_str(), value) {
                (ANNOTATION, _) => {}
                ("properties", Value::Object(properties)) => self.properties(properties)?,
                _ if is_annotated(keyword, value) => return Err(self.place()),
                _ => {}
            }
        }
        Ok(())
    }

    fn properties(&mut self, properties: &Map<String, Value>) -> Result<(), InvalidParamHeader> {
        for (name, property) in properties {
            let Value::Object(property) = property else { continue };
            self.path.push(name.clone());
            if let Some(annotation) = property.get(ANNOTATION) {
                self.property(annotation, property)?;
            }
            self.schema(property)?;
            self.path.pop();
        }
        Ok(())
    }

    fn property(
        &mut self,
        annotation: &Value,
        property: &Map<String, Value>,
    ) -> Result<(), InvalidParamHeader> {
        let name = annotation.as_str().filter(|name| !name.is_empty());
        let header =
            name.and_then(|name| HeaderName::from_bytes(format!("{MCP_PARAM_PREFIX}{name}").as_bytes()).ok());
        let header = header.ok_or_else(|| InvalidParamHeader::Name { path: self.pointer() })?;
        if !is_primitive(property.get("type")) {
            return Err(InvalidParamHeader::Type { path: self.pointer() });
        }
        if !self.names.insert(header.clone()) {
            return Err(InvalidParamHeader::Repeated { path: self.pointer() });
        }
        self.params.push(Param { header, path: self.path.clone() });
        Ok(())
    }

    fn place(&self) -> InvalidParamHeader {
        InvalidParamHeader::Place { path: self.pointer() }
    }

    fn pointer(&self) -> String {
        let steps = self.path.iter().map(|name| name.replace('~', "~0").replace('/', "~1"));
        steps.fold(String::new(), |pointer, name| pointer + "/properties/" + &name)
    }
}

/// One primitive type, alone or beside null (an argument that is null just has no header).
fn is_primitive(types: Option<&Value>) -> bool {
    let primitive = |name: &Value| matches!(name.as_str(), Some("string" | "integer" | "boolean"));
    match types {
        Some(Value::Array(types)) => {
            let mut others = types.iter().filter(|name| name.as_str() != Some("null"));
            others.next().is_some_and(primitive) && others.next().is_none()
        }
        Some(name) => primitive(name),
        None => false,
    }
}

/// Whether a keyword's value has an annotation anywhere in it.
fn is_annotated(keyword: &str, value: &Value) -> bool {
    if DATA.contains(&keyword) {
        return false;
    }
    match value {
        Value::Array(schemas) => schemas.iter().any(|schema| is_annotated("", schema)),
        Value::Object(names) if NAMED_SCHEMAS.contains(&keyword) => {
            names.values().any(|schema| is_annotated("", schema))
        }
        Value::Object(schema) => {
            schema.contains_key(ANNOTATION)
                || schema.iter().any(|(keyword, value)| is_annotated(keyword, value))
        }
        _ => false,
    }
}
