//! The `params` of a message: which of the members that decide something it has, and where they lie.

use bytes::{BufMut, Bytes, BytesMut};

use super::differs_by_case;
use crate::wire::edit::{Object, ObjectError};
use crate::wire::ids::Id;
use crate::wire::scan::{Fault, Kind, Scanner, Seen, Span, Value};
use crate::wire::text::Text;

/// The members of `params` that the gateway looks at, in any method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `name` of a tool or prompt.
    Name,
    /// `uri` of a resource.
    Uri,
    /// `arguments` of a tool or prompt.
    Arguments,
    /// `_meta`.
    Meta,
    /// `cursor` of a list.
    Cursor,
    /// `requestState` of a repeated request.
    RequestState,
    /// `inputResponses` of a repeated request.
    InputResponses,
    /// `requestId` of a cancellation.
    RequestId,
    /// `progressToken` of a progress notification.
    ProgressToken,
    /// `level` of logging.
    Level,
    /// `ref` of a completion.
    Ref,
    /// `taskId` of the tasks methods.
    TaskId,
    /// `task` of a call that is to be one (2025-11-25).
    Task,
}

const FIELDS: [&str; 13] = [
    "name",
    "uri",
    "arguments",
    "_meta",
    "cursor",
    "requestState",
    "inputResponses",
    "requestId",
    "progressToken",
    "level",
    "ref",
    "taskId",
    "task",
];

impl Field {
    fn of(key: &str) -> Option<Self> {
        Some(match key {
            "name" => Self::Name,
            "uri" => Self::Uri,
            "arguments" => Self::Arguments,
            "_meta" => Self::Meta,
            "cursor" => Self::Cursor,
            "requestState" => Self::RequestState,
            "inputResponses" => Self::InputResponses,
            "requestId" => Self::RequestId,
            "progressToken" => Self::ProgressToken,
            "level" => Self::Level,
            "ref" => Self::Ref,
            "taskId" => Self::TaskId,
            "task" => Self::Task,
            _ => return None,
        })
    }

    fn key(self) -> &'static str {
        FIELDS[self as usize]
    }
}

/// Where the fields lie, counted from the start of `params`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fields {
    spans: [Span; FIELDS.len()],
    members: u32,
}

/// Reads `params`, an object at which the scanner stands. The inner error is a flaw in valid JSON.
pub(super) fn scan(
    scanner: &mut Scanner<'_>,
    depth: usize,
) -> Result<(Value, Result<Fields, &'static str>), Fault> {
    let start = scanner.position();
    let origin = scanner.span_from(start);
    let mut fields = Fields::default();
    let mut flaw = None;
    let mut others = Seen::default();
    scanner.open(depth)?;
    while let Some(key) = scanner.next_key(&mut fields.members)? {
        let key = scanner.decode(key);
        let value = scanner.value(depth + 1)?;
        if let Some(field) = Field::of(&key) {
            let span = &mut fields.spans[field as usize];
            if !span.is_empty() {
                flaw.get_or_insert("a key of `params` stands twice");
            }
            *span = value.span.relative_to(origin);
        } else if differs_by_case(&key, &FIELDS) {
            flaw.get_or_insert("a key of `params` differs from a known one only by case");
        } else if !others.insert(key) {
            flaw.get_or_insert("a key of `params` stands twice");
        }
    }
    let value = Value { span: scanner.span_from(start), kind: Kind::Object };
    Ok((value, flaw.map_or(Ok(fields), Err)))
}

/// The object of `params`, checked and with its fields found.
#[derive(Debug, Clone)]
pub struct Params {
    raw: Bytes,
    fields: Fields,
}

impl Params {
    pub(super) fn new(raw: Bytes, fields: Fields) -> Self {
        Self { raw, fields }
    }

    /// Reads params that are no part of a message. `None`: they would not be let in with one.
    pub fn read(raw: &Bytes) -> Option<Self> {
        let mut scanner = Scanner::new(raw).ok()?;
        if scanner.peek().ok()? != b'{' {
            return None;
        }
        let (value, fields) = scan(&mut scanner, 1).ok()?;
        scanner.end().ok()?;
        let fields = fields.ok()?;
        Some(Self::new(raw.slice(value.span.range()), fields))
    }

    /// The raw object.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The raw value of a field.
    pub fn get(&self, field: Field) -> Option<Bytes> {
        let span = self.fields.spans[field as usize];
        if span.is_empty() { None } else { Some(self.raw.slice(span.range())) }
    }

    /// A field that is a string; `None` also if it is something else.
    pub fn text(&self, field: Field) -> Option<Text> {
        Text::read(&self.get(field)?)
    }

    /// A field that is a string or an integer; `None` also if it is something else.
    pub fn id(&self, field: Field) -> Option<Id> {
        Id::read(&self.get(field)?)
    }

    /// `name`, if it is a string.
    pub fn name(&self) -> Option<Text> {
        self.text(Field::Name)
    }

    /// `uri`, if it is a string.
    pub fn uri(&self) -> Option<Text> {
        self.text(Field::Uri)
    }

    /// `cursor`, if it is a string.
    pub fn cursor(&self) -> Option<Text> {
        self.text(Field::Cursor)
    }

    /// The raw value of `arguments`, of whatever type.
    pub fn arguments(&self) -> Option<Bytes> {
        self.get(Field::Arguments)
    }

    /// The raw value of `_meta`, of whatever type: [`crate::wire::meta::RequestMeta::read`] checks it.
    pub fn meta(&self) -> Option<Bytes> {
        self.get(Field::Meta)
    }

    /// All members, for those that have no [`Field`].
    pub fn object(&self) -> Result<Object, ObjectError> {
        Object::parse(&self.raw)
    }

    /// The object with other values (raw JSON) for some fields, each named once; a field that is absent is
    /// added at the end. All else stays byte for byte.
    pub fn with(&self, changes: &[(Field, &[u8])]) -> Bytes {
        let mut changes: Vec<_> = changes
            .iter()
            .map(|(field, value)| (self.fields.spans[*field as usize], *field, *value))
            .collect();
        changes.sort_by_key(|(span, ..)| span.range().start);
        let added: usize = changes.iter().map(|(_, field, value)| value.len() + field.key().len() + 4).sum();
        let mut out = BytesMut::with_capacity(self.raw.len() + added);
        let mut copied = 0;
        for (span, _, value) in changes.iter().filter(|(span, ..)| !span.is_empty()) {
            let range = span.range();
            out.put_slice(&self.raw[copied..range.start]);
            out.put_slice(value);
            copied = range.end;
        }
        let close = self.raw.len() - 1;
        out.put_slice(&self.raw[copied..close]);
        let mut comma: &[u8] = if self.fields.members > 0 { b"," } else { b"" };
        for (_, field, value) in changes.iter().filter(|(span, ..)| span.is_empty()) {
            out.put_slice(comma);
            comma = b",";
            out.put_u8(b'"');
            out.put_slice(field.key().as_bytes());
            out.put_slice(b"\":");
            out.put_slice(value);
        }
        out.put_u8(b'}');
        out.freeze()
    }
}
