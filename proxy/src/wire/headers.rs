//! The HTTP headers that mirror a body in the modern era: how a value is written in one, which arguments of a
//! tool have one, and whether a mirror tells the truth.
//!
//! Decisions hang on the body alone. The mirror is checked so that nobody before us could be told another story
//! than the upstream behind us. Values may be confidential: no error here repeats one.

mod params;

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::envelope::{Field, Params};
use super::text::Text;
pub use params::{InvalidParamHeader, ParamHeaders};

/// The version of the protocol.
pub const MCP_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The method.
pub const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// The name or URI that the method is about.
pub const MCP_NAME: HeaderName = HeaderName::from_static("mcp-name");
/// The session, in the legacy era.
pub const MCP_SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// What a header that mirrors an argument starts with.
pub const MCP_PARAM_PREFIX: &str = "mcp-param-";

const SENTINEL_START: &str = "=?base64?";
const SENTINEL_END: &str = "?=";

/// How a mirror and its body disagree: error -32020 to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Header mismatch: {header} {reason}")]
pub struct HeaderMismatch {
    /// Which header.
    pub header: HeaderName,
    /// In which way.
    pub reason: MismatchReason,
}

/// In which way a header is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MismatchReason {
    /// It mirrors something, and isn't there.
    #[error("is missing")]
    Missing,
    /// It is there, and the body has nothing that it could mirror.
    #[error("has no counterpart in the body")]
    Unexpected,
    /// Two of them: readers would differ on which one counts.
    #[error("stands twice")]
    Repeated,
    /// Characters that a header can't have, or broken base64.
    #[error("has invalid characters or an invalid encoding")]
    Unreadable,
    /// It says something else.
    #[error("does not match the body")]
    Different,
}

/// A header value that can't be read: characters that may not be there, or broken base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid characters or an invalid encoding")]
pub struct UnreadableValue;

/// A text as a header value: as it is where that is safe, else in base64 between the sentinels.
pub fn encode_value(text: &str) -> HeaderValue {
    // Streamable HTTP, value encoding: what looks like an encoded value is encoded, too.
    let padded = text.starts_with([' ', '\t']) || text.ends_with([' ', '\t']);
    let ambiguous = text.starts_with(SENTINEL_START) && text.ends_with(SENTINEL_END);
    let plain = text.bytes().all(is_plain) && !padded && !ambiguous;
    let value = if plain {
        HeaderValue::from_str(text)
    } else {
        HeaderValue::try_from(format!("{SENTINEL_START}{}{SENTINEL_END}", STANDARD.encode(text)))
    };
    value.expect("visible ASCII, spaces and tabs only")
}

/// The text behind a header value.
pub fn decode_value(value: &HeaderValue) -> Result<Cow<'_, str>, UnreadableValue> {
    let bytes = value.as_bytes();
    if !bytes.iter().copied().all(is_plain) {
        return Err(UnreadableValue);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| UnreadableValue)?;
    let encoded = text.strip_prefix(SENTINEL_START).and_then(|rest| rest.strip_suffix(SENTINEL_END));
    match encoded {
        None => Ok(Cow::Borrowed(text)),
        Some(encoded) => {
            let decoded = STANDARD.decode(encoded).map_err(|_| UnreadableValue)?;
            String::from_utf8(decoded).map(Cow::Owned).map_err(|_| UnreadableValue)
        }
    }
}

/// The field of `params` that `Mcp-Name` mirrors for a method.
pub fn named_by(method: &str) -> Option<Field> {
    match method {
        "tools/call" | "prompts/get" => Some(Field::Name),
        "resources/read" => Some(Field::Uri),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some(Field::TaskId),
        _ => None,
    }
}

/// The text that `Mcp-Name` mirrors in a request.
pub fn name_of(method: &str, params: Option<&Params>) -> Option<Text> {
    params?.text(named_by(method)?)
}

/// Checks the headers that every modern request has: `MCP-Protocol-Version`, `Mcp-Method`, and `Mcp-Name` where
/// there is a `name` (see [`name_of`]).
pub fn check_standard(
    headers: &HeaderMap,
    method: &str,
    name: Option<&str>,
    version: &str,
) -> Result<(), HeaderMismatch> {
    check_verbatim(headers, &MCP_PROTOCOL_VERSION, version)?;
    check_verbatim(headers, &MCP_METHOD, method)?;
    let Some(name) = name else { return Ok(()) };
    let mirrored = single(headers, &MCP_NAME)?.ok_or(mismatch(&MCP_NAME, MismatchReason::Missing))?;
    let mirrored = decode_value(mirrored).map_err(|_| mismatch(&MCP_NAME, MismatchReason::Unreadable))?;
    if mirrored == name { Ok(()) } else { Err(mismatch(&MCP_NAME, MismatchReason::Different)) }
}

/// These headers have no encoding: methods and versions are plain ASCII.
fn check_verbatim(headers: &HeaderMap, header: &HeaderName, expected: &str) -> Result<(), HeaderMismatch> {
    let value = single(headers, header)?.ok_or(mismatch(header, MismatchReason::Missing))?;
    if value.as_bytes() == expected.as_bytes() {
        Ok(())
    } else {
        Err(mismatch(header, MismatchReason::Different))
    }
}

fn single<'a>(
    headers: &'a HeaderMap,
    header: &HeaderName,
) -> Result<Option<&'a HeaderValue>, HeaderMismatch> {
    let mut values = headers.get_all(header).iter();
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(mismatch(header, MismatchReason::Repeated)),
    }
}

fn mismatch(header: &HeaderName, reason: MismatchReason) -> HeaderMismatch {
    HeaderMismatch { header: header.clone(), reason }
}

/// RFC 9110, field values: visible ASCII, space and tab.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~')
}

#[cfg(test)]
mod tests;
