//! What `_meta` says about a request, the versions of the protocol, and which era a message belongs to.
//!
//! The keys under `io.modelcontextprotocol/` are the specification's, those under
//! `io.github.mcp-proxy-gateway/` our own. `traceparent`, `tracestate` and `baggage` have no prefix.

use std::fmt;

use bytes::Bytes;
use http::HeaderMap;

use super::edit::ObjectError;
use super::envelope::{Message, Params};
use super::headers::{MCP_METHOD, MCP_PROTOCOL_VERSION, MCP_SESSION_ID};
use super::ids::Id;
use super::scan::{Fault, Kind, Scanner, Seen, Value};
use super::text::Text;

/// The version a request is written in; required on every modern request.
pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// What the client can do for this request; required on every modern request.
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// Who the client says it is.
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// The least severe log message that the client wants for this request.
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Who the server says it is, on modern results.
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// The id of the listen request that a notification belongs to.
pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
/// The extension for tasks, among the `extensions` of capabilities.
pub const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";
/// The task that a message belongs to (2025-11-25, tasks).
pub const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";
/// The token that progress notifications of a request carry.
pub const PROGRESS_TOKEN: &str = "progressToken";
/// W3C Trace Context.
pub const TRACEPARENT: &str = "traceparent";
/// W3C Trace Context.
pub const TRACESTATE: &str = "tracestate";
/// W3C Baggage.
pub const BAGGAGE: &str = "baggage";

/// The reserved prefix of the specification and its extensions.
pub const MCP_PREFIX: &str = "io.modelcontextprotocol/";
/// The prefix of what the gateway itself adds.
pub const GATEWAY_PREFIX: &str = "io.github.mcp-proxy-gateway/";
/// Why a call failed in the gateway: `{code, upstream, retryable}`.
pub const GATEWAY_ERROR: &str = "io.github.mcp-proxy-gateway/error";
/// What got lost between two eras.
pub const GATEWAY_DEGRADED: &str = "io.github.mcp-proxy-gateway/degraded";
/// What an upstream answered, in the data of an error that stands in its place.
pub const GATEWAY_UPSTREAM_RESULT: &str = "io.github.mcp-proxy-gateway/upstreamResult";
/// The upstream's own `serverInfo`, where the gateway's stands in its place.
pub const GATEWAY_UPSTREAM_INFO: &str = "io.github.mcp-proxy-gateway/upstreamServerInfo";

/// A revision of the protocol; a later one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP+SSE.
    V2024_11_05,
    /// Streamable HTTP, batches.
    V2025_03_26,
    /// The version header, elicitation; no more batches.
    V2025_06_18,
    /// The last with sessions.
    V2025_11_25,
    /// Stateless.
    V2026_07_28,
}

/// The versions with a handshake and sessions, oldest first.
pub const LEGACY_VERSIONS: [Version; 4] =
    [Version::V2024_11_05, Version::V2025_03_26, Version::V2025_06_18, Version::V2025_11_25];

/// What an `initialize` with an unknown version is answered with.
pub const LEGACY_LATEST: Version = Version::V2025_11_25;

/// The stateless version.
pub const MODERN_VERSION: Version = Version::V2026_07_28;

impl Version {
    /// The version of that date; `None` if the gateway doesn't speak it.
    pub fn parse(text: &str) -> Option<Self> {
        LEGACY_VERSIONS.into_iter().chain([MODERN_VERSION]).find(|version| version.as_str() == text)
    }

    /// The date, as it stands in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Whether it has neither handshake nor sessions.
    pub fn is_modern(self) -> bool {
        self >= MODERN_VERSION
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The severity of a log message, as in RFC 5424; a more severe one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Detail for debugging.
    Debug,
    /// General information.
    Info,
    /// Normal but significant.
    Notice,
    /// A warning.
    Warning,
    /// An error.
    Error,
    /// A critical condition.
    Critical,
    /// Action is needed at once.
    Alert,
    /// Unusable.
    Emergency,
}

impl LogLevel {
    const ALL: [Self; 8] = [
        Self::Debug,
        Self::Info,
        Self::Notice,
        Self::Warning,
        Self::Error,
        Self::Critical,
        Self::Alert,
        Self::Emergency,
    ];

    /// The level at that place among all, the least severe first.
    pub fn at(place: u8) -> Option<Self> {
        Self::ALL.get(usize::from(place)).copied()
    }

    /// The level of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }

    /// The name, as it stands in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The members of a request's `_meta` that mean something to the gateway. All are optional here: what a modern
/// request must carry, the one who knows the era checks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestMeta {
    /// As the client wrote it, known or not.
    pub protocol_version: Option<Text>,
    /// The raw object.
    pub client_capabilities: Option<Bytes>,
    /// The raw object.
    pub client_info: Option<Bytes>,
    /// Asked for with this request.
    pub log_level: Option<LogLevel>,
    /// The raw token of the client.
    pub progress_token: Option<Id>,
}

/// Why a `_meta` can't be used; an invalid parameter (-32602) to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// Not an object with each key once.
    #[error("`_meta` is not usable: {0}")]
    Unusable(#[source] ObjectError),
    /// A reserved key of the wrong type.
    #[error("`_meta[\"{key}\"]` must be {expected}")]
    WrongType {
        /// Which one.
        key: &'static str,
        /// In words.
        expected: &'static str,
    },
}

impl RequestMeta {
    /// Reads the raw object of `_meta`.
    pub fn read(raw: &Bytes) -> Result<Self, MetaError> {
        let mut scanner = Scanner::new(raw).map_err(unusable)?;
        let [version, capabilities, info, level, token] =
            reserved(&mut scanner).map_err(MetaError::Unusable)?;
        let object = |value: Value| {
            if value.kind == Kind::Object { Some(raw.slice(value.span.range())) } else { None }
        };
        Ok(Self {
            protocol_version: typed(PROTOCOL_VERSION, "a string", version, |value| {
                Text::cut(raw, &scanner, value)
            })?,
            client_capabilities: typed(CLIENT_CAPABILITIES, "an object", capabilities, object)?,
            client_info: typed(CLIENT_INFO, "an object", info, object)?,
            log_level: typed(LOG_LEVEL, "a log level", level, |value| {
                LogLevel::parse(&Text::cut(raw, &scanner, value)?)
            })?,
            progress_token: typed(PROGRESS_TOKEN, "a string or an integer", token, |value| {
                Id::cut(raw, value)
            })?,
        })
    }

    /// Reads the `_meta` of a message; a message without one says nothing.
    pub fn of(params: Option<&Params>) -> Result<Self, MetaError> {
        match params.and_then(Params::meta) {
            Some(raw) => Self::read(&raw),
            None => Ok(Self::default()),
        }
    }
}

/// The values of the keys in [`RESERVED`], in that order.
fn reserved(scanner: &mut Scanner<'_>) -> Result<[Option<Value>; RESERVED.len()], ObjectError> {
    let mut values = [None; RESERVED.len()];
    let mut others = Seen::default();
    let mut repeated = false;
    let mut members = 0;
    if scanner.peek()? != b'{' {
        return Err(ObjectError::NotAnObject);
    }
    scanner.open(0)?;
    while let Some(key) = scanner.next_key(&mut members)? {
        let key = scanner.decode(key);
        let value = scanner.value(1)?;
        repeated |= match RESERVED.iter().position(|reserved| *reserved == key) {
            Some(index) => values[index].replace(value).is_some(),
            None => !others.insert(key),
        };
    }
    scanner.end()?;
    if repeated { Err(ObjectError::RepeatedKey) } else { Ok(values) }
}

const RESERVED: [&str; 5] = [PROTOCOL_VERSION, CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL, PROGRESS_TOKEN];

fn typed<T>(
    key: &'static str,
    expected: &'static str,
    value: Option<Value>,
    read: impl FnOnce(Value) -> Option<T>,
) -> Result<Option<T>, MetaError> {
    let Some(value) = value else { return Ok(None) };
    read(value).map(Some).ok_or(MetaError::WrongType { key, expected })
}

fn unusable(fault: Fault) -> MetaError {
    MetaError::Unusable(fault.into())
}

/// Which rules a message is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EraDecision {
    /// Stateless, everything in `_meta`; whether what it carries is right is yet to be checked.
    Modern,
    /// With a handshake.
    Legacy {
        /// What the version header says, if it is there.
        version: Option<Version>,
    },
}

/// Decides the era of one message on an endpoint that serves both, from its body first and its headers then.
pub fn detect_era(headers: &HeaderMap, message: &Message) -> EraDecision {
    let (method, params) = match message {
        Message::Request(request) => (Some(&request.method), request.params.as_ref()),
        Message::Notification(notification) => (Some(&notification.method), notification.params.as_ref()),
        Message::Response(_) | Message::Batch(_) => (None, None),
    };
    // Versioning, protocol version negotiation: a modern request names its version in the body.
    if params.and_then(Params::meta).is_some_and(|meta| names_a_version(&meta)) {
        return EraDecision::Modern;
    }
    match method.map(Text::as_str) {
        Some("initialize") => return EraDecision::Legacy { version: None },
        // Exists in the modern era only, so its errors are modern ones, never those of a session.
        Some("server/discover") => return EraDecision::Modern,
        _ => {}
    }
    let mut values = headers.get_all(MCP_PROTOCOL_VERSION).iter();
    let value = values.next();
    // Two values are no version at all: the modern check refuses them.
    let is_single = values.next().is_none();
    let version = value.filter(|_| is_single).and_then(|value| Version::parse(value.to_str().ok()?));
    let version = version.filter(|version| !version.is_modern());
    if version.is_some() || headers.contains_key(MCP_SESSION_ID) {
        return EraDecision::Legacy { version };
    }
    if value.is_some() || headers.contains_key(MCP_METHOD) {
        return EraDecision::Modern;
    }
    EraDecision::Legacy { version: None }
}

/// Whether a `_meta` has the key of the version, even twice or with a value of the wrong type.
fn names_a_version(meta: &Bytes) -> bool {
    let search = || -> Result<bool, Fault> {
        let mut scanner = Scanner::new(meta)?;
        if scanner.peek()? != b'{' {
            return Ok(false);
        }
        scanner.open(0)?;
        let mut members = 0;
        while let Some(key) = scanner.next_key(&mut members)? {
            if scanner.decode(key) == PROTOCOL_VERSION {
                return Ok(true);
            }
            scanner.value(1)?;
        }
        Ok(false)
    };
    search().unwrap_or(false)
}

#[cfg(test)]
mod tests;
