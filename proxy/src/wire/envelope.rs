//! The JSON-RPC envelope: one strict pass over a body that says what it is and where its parts lie.
//!
//! The whole body is checked as strict JSON, so that no later parser can see another message in it. At the
//! levels decisions hang on, the envelope and its `params`, a key may stand once only, and a key that differs
//! from a known one only by case is refused. What is accepted is handed on as slices of the body.
//!
//! It must never build a tree, recurse, or look into arguments.

mod params;

use bytes::Bytes;

use super::ids::Id;
use super::scan::{Fault, Kind, Scanner, Seen, Value};
use super::text::Text;
pub use params::{Field, Params};

/// Messages in a batch: each costs work of its own, whatever its size.
pub const BATCH_MESSAGES_MAX: usize = 100;

/// One body or frame.
#[derive(Debug, Clone)]
pub enum Message {
    /// Wants an answer.
    Request(Request),
    /// Wants none.
    Notification(Notification),
    /// Answers a request of ours.
    Response(Response),
    /// A top-level array, whose elements are yet to be parsed one by one. Whether it is legal, the caller knows.
    Batch(Vec<Bytes>),
}

/// A method to be carried out and answered.
#[derive(Debug, Clone)]
pub struct Request {
    /// Goes back as it came.
    pub id: Id,
    /// For example `tools/call`.
    pub method: Text,
    /// Absent if the message has none.
    pub params: Option<Params>,
    /// The whole message.
    pub raw: Bytes,
}

/// A method without an answer.
#[derive(Debug, Clone)]
pub struct Notification {
    /// For example `notifications/progress`.
    pub method: Text,
    /// Absent if the message has none.
    pub params: Option<Params>,
    /// The whole message.
    pub raw: Bytes,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct Response {
    /// Absent only in an error about a message whose id could not be read.
    pub id: Option<Id>,
    /// Raw.
    pub body: ResponseBody,
}

/// What an answer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseBody {
    /// The raw value of `result`; an object by the specification, which isn't checked here.
    Result(Bytes),
    /// The raw object of `error`.
    Error(Bytes),
}

/// Why a body isn't a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
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
    /// JSON, but not a JSON-RPC message that MCP allows.
    #[error("not a JSON-RPC message: {reason}")]
    NotAMessage {
        /// In words.
        reason: &'static str,
        /// The id, where the message has exactly one valid.
        id: Option<Id>,
    },
}

impl EnvelopeError {
    /// The JSON-RPC error code.
    pub fn code(&self) -> i64 {
        match self {
            Self::NotJson { .. } | Self::TooDeep { .. } => -32700,
            Self::NotAMessage { .. } => -32600,
        }
    }

    /// What the error answer can be addressed to.
    pub fn id(&self) -> Option<&Id> {
        match self {
            Self::NotAMessage { id, .. } => id.as_ref(),
            Self::NotJson { .. } | Self::TooDeep { .. } => None,
        }
    }
}

impl From<Fault> for EnvelopeError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Syntax { at, reason } => Self::NotJson { at, reason },
            Fault::TooDeep => Self::TooDeep { limit: super::scan::DEPTH_MAX },
        }
    }
}

/// Reads one body or frame.
#[expect(clippy::needless_pass_by_value, reason = "the message takes the body over")]
pub fn parse(body: Bytes) -> Result<Message, EnvelopeError> {
    let mut scanner = Scanner::new(&body)?;
    match scanner.peek()? {
        b'{' => {
            let parts = Parts::scan(&mut scanner, &body)?;
            scanner.end()?;
            parts.into_message(&body)
        }
        b'[' => batch(&mut scanner, &body),
        _ => {
            scanner.value(0)?;
            scanner.end()?;
            Err(not_a_message("it is neither an object nor an array"))
        }
    }
}

fn batch(scanner: &mut Scanner<'_>, body: &Bytes) -> Result<Message, EnvelopeError> {
    scanner.open(0)?;
    let mut messages = Vec::new();
    let mut elements = 0;
    while scanner.next_element(elements)? {
        if messages.len() == BATCH_MESSAGES_MAX {
            return Err(not_a_message("a batch of more than 100 messages"));
        }
        messages.push(body.slice(scanner.value(1)?.span.range()));
        elements += 1;
    }
    scanner.end()?;
    if messages.is_empty() {
        return Err(not_a_message("an empty batch"));
    }
    Ok(Message::Batch(messages))
}

fn not_a_message(reason: &'static str) -> EnvelopeError {
    EnvelopeError::NotAMessage { reason, id: None }
}

/// The keys of an envelope.
#[derive(Clone, Copy)]
enum Part {
    Jsonrpc,
    Id,
    Method,
    Params,
    Result,
    Error,
}

const PARTS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

impl Part {
    fn of(key: &str) -> Option<Self> {
        Some(match key {
            "jsonrpc" => Self::Jsonrpc,
            "id" => Self::Id,
            "method" => Self::Method,
            "params" => Self::Params,
            "result" => Self::Result,
            "error" => Self::Error,
            _ => return None,
        })
    }
}

/// The known members of an envelope, and the first thing wrong with it. The scan goes on past a flaw, so that
/// broken JSON is called so and the id is found wherever it stands.
#[derive(Default)]
struct Parts {
    values: [Option<Value>; PARTS.len()],
    params: Option<params::Fields>,
    version_right: bool,
    method: Option<Text>,
    flaw: Option<&'static str>,
    id_repeated: bool,
}

impl Parts {
    fn scan(scanner: &mut Scanner<'_>, body: &Bytes) -> Result<Self, Fault> {
        let mut parts = Self::default();
        let mut others = Seen::default();
        let mut members = 0;
        scanner.open(0)?;
        while let Some(key) = scanner.next_key(&mut members)? {
            let key = scanner.decode(key);
            if let Some(part) = Part::of(&key) {
                parts.part(scanner, part, body)?;
                continue;
            }
            scanner.value(1)?;
            if differs_by_case(&key, &PARTS) {
                parts.flawed("a key that differs from a known one only by case");
            } else if !others.insert(key) {
                parts.flawed("a key stands twice");
            }
        }
        Ok(parts)
    }

    fn part(&mut self, scanner: &mut Scanner<'_>, part: Part, body: &Bytes) -> Result<(), Fault> {
        let value = if matches!(part, Part::Params) && scanner.peek()? == b'{' {
            let (value, fields) = params::scan(scanner, 1)?;
            match fields {
                Ok(fields) => self.params = Some(fields),
                Err(flaw) => self.flawed(flaw),
            }
            value
        } else {
            scanner.value(1)?
        };
        if self.values[part as usize].replace(value).is_some() {
            self.id_repeated |= matches!(part, Part::Id);
            self.flawed("a key stands twice");
        }
        match (part, value.kind) {
            (Part::Jsonrpc, Kind::String(_)) => self.version_right = scanner.decode(value) == "2.0",
            (Part::Method, _) => self.method = Text::cut(body, scanner, value),
            (Part::Id, Kind::Number(false)) if out_of_range(scanner.text_of(value.span)) => {
                // Common parsers refuse such a number as a number, so the text as a whole is refused.
                return Err(Fault::Syntax { at: value.span.range().start, reason: "a number out of range" });
            }
            _ => {}
        }
        Ok(())
    }

    fn flawed(&mut self, reason: &'static str) {
        self.flaw.get_or_insert(reason);
    }

    fn get(&self, part: Part) -> Option<Value> {
        self.values[part as usize]
    }

    fn raw(&self, part: Part, body: &Bytes) -> Option<Bytes> {
        self.get(part).map(|value| body.slice(value.span.range()))
    }

    fn id(&self, body: &Bytes) -> Option<Id> {
        Id::cut(body, self.get(Part::Id)?)
    }

    fn into_message(self, body: &Bytes) -> Result<Message, EnvelopeError> {
        self.build(body).map_err(|reason| {
            let id = if self.id_repeated { None } else { self.id(body) };
            EnvelopeError::NotAMessage { reason, id }
        })
    }

    fn build(&self, body: &Bytes) -> Result<Message, &'static str> {
        if let Some(flaw) = self.flaw {
            return Err(flaw);
        }
        if !self.version_right {
            return Err("`jsonrpc` must be \"2.0\"");
        }
        match (self.get(Part::Method), self.get(Part::Result), self.get(Part::Error)) {
            (Some(_), None, None) => self.call(body),
            (None, Some(_), Some(_)) => Err("it has both a result and an error"),
            (None, Some(_), None) => match self.id(body) {
                Some(id) => Ok(response(Some(id), self.raw(Part::Result, body).map(ResponseBody::Result))),
                None => Err("the id of a result must be a string or an integer"),
            },
            (None, None, Some(error)) => self.error(body, error),
            (None, None, None) => Err("it has neither a method nor a result nor an error"),
            (Some(_), _, _) => Err("it has a method and an answer"),
        }
    }

    fn call(&self, body: &Bytes) -> Result<Message, &'static str> {
        let method = self.method.clone().ok_or("`method` must be a string")?;
        let params = match (self.get(Part::Params), self.params) {
            (None, _) => None,
            (Some(value), Some(fields)) => Some(Params::new(body.slice(value.span.range()), fields)),
            (Some(_), None) => return Err("`params` must be an object"),
        };
        if self.get(Part::Id).is_none() {
            return Ok(Message::Notification(Notification { method, params, raw: body.clone() }));
        }
        let id = self.id(body).ok_or("the id must be a string or an integer")?;
        Ok(Message::Request(Request { id, method, params, raw: body.clone() }))
    }

    fn error(&self, body: &Bytes, error: Value) -> Result<Message, &'static str> {
        if error.kind != Kind::Object {
            return Err("`error` must be an object");
        }
        let id = match self.get(Part::Id) {
            None | Some(Value { kind: Kind::Null, .. }) => None,
            Some(_) => Some(self.id(body).ok_or("the id must be a string or an integer")?),
        };
        Ok(response(id, self.raw(Part::Error, body).map(ResponseBody::Error)))
    }
}

fn response(id: Option<Id>, body: Option<ResponseBody>) -> Message {
    Message::Response(Response { id, body: body.expect("its member was found") })
}

fn out_of_range(number: &str) -> bool {
    number.parse::<f64>().is_ok_and(f64::is_infinite)
}

/// Whether a lenient parser would take `key`, which isn't known, for a known one. Two letters beyond ASCII fold
/// to ASCII ones in parsers that fold by Unicode: the long s and the Kelvin sign.
fn differs_by_case(key: &str, known: &[&str]) -> bool {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => letter.to_ascii_lowercase(),
    };
    known.iter().any(|known| {
        key.len() >= known.len()
            && key.chars().map(fold).eq(known.chars().map(|letter| letter.to_ascii_lowercase()))
    })
}

#[cfg(test)]
mod tests;
