//! Writing messages around raw pieces.
//!
//! The pieces are taken as they are: whoever passes one knows that it is valid JSON. The `_chain` forms give
//! the same text in three parts, so that a large result or a large `params` isn't copied.

use std::fmt::{self, Write as _};

use bytes::{BufMut, Bytes, BytesMut};

use super::ids::Id;

/// A request of our own.
pub fn request(id: u64, method: &str, params: Option<&[u8]>) -> Bytes {
    let mut out = call_head(Some(id), method, params.map_or(0, <[u8]>::len));
    call_end(&mut out, params);
    out.freeze()
}

/// A request of our own, in three parts.
pub fn request_chain(id: u64, method: &str, params: Bytes) -> [Bytes; 3] {
    let mut head = call_head(Some(id), method, 0);
    head.put_slice(PARAMS);
    [head.freeze(), params, Bytes::from_static(b"}")]
}

/// A notification.
pub fn notification(method: &str, params: Option<&[u8]>) -> Bytes {
    let mut out = call_head(None, method, params.map_or(0, <[u8]>::len));
    call_end(&mut out, params);
    out.freeze()
}

/// The answer to a request, with the raw value of `result`.
pub fn result(id: &Id, result: &[u8]) -> Bytes {
    answer(Some(id), RESULT, result)
}

/// The answer to a request, in three parts.
pub fn result_chain(id: &Id, result: Bytes) -> [Bytes; 3] {
    let mut head = answer_head(Some(id), RESULT.len());
    head.put_slice(RESULT);
    [head.freeze(), result, Bytes::from_static(b"}")]
}

/// An error answer, with the raw object of `error`.
pub fn error_raw(id: Option<&Id>, error: &[u8]) -> Bytes {
    answer(id, ERROR, error)
}

/// An error answer. Without an id the member is left out: MCP's type of an id has no null.
pub fn error(id: Option<&Id>, code: i64, message: &str, data: Option<&[u8]>) -> Bytes {
    error_raw(id, &error_object(code, message, data))
}

/// The object of `error`.
pub fn error_object(code: i64, message: &str, data: Option<&[u8]>) -> Bytes {
    let mut out = BytesMut::with_capacity(48 + message.len() + data.map_or(0, <[u8]>::len));
    // Writing to a growing buffer can't fail.
    let _ = write!(out, "{{\"code\":{code},\"message\":{}", Quoted(message));
    if let Some(data) = data {
        out.put_slice(b",\"data\":");
        out.put_slice(data);
    }
    out.put_u8(b'}');
    out.freeze()
}

/// A JSON string for a text, quotes included.
pub fn string(text: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(text.len() + 2);
    // Writing to a growing buffer can't fail.
    let _ = write!(out, "{}", Quoted(text));
    out.freeze()
}

/// Displays as a JSON string, quotes included.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        let mut rest = self.0;
        while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)) {
            f.write_str(&rest[..at])?;
            match rest.as_bytes()[at] {
                b'\n' => f.write_str("\\n")?,
                b'\r' => f.write_str("\\r")?,
                b'\t' => f.write_str("\\t")?,
                byte @ ..0x20 => write!(f, "\\u{byte:04x}")?,
                byte => {
                    f.write_char('\\')?;
                    f.write_char(char::from(byte))?;
                }
            }
            rest = &rest[at + 1..];
        }
        f.write_str(rest)?;
        f.write_char('"')
    }
}

const HEAD: &[u8] = b"{\"jsonrpc\":\"2.0\"";
const ID: &[u8] = b",\"id\":";
const PARAMS: &[u8] = b",\"params\":";
const RESULT: &[u8] = b",\"result\":";
const ERROR: &[u8] = b",\"error\":";

/// Bytes of a message that are neither its method nor its body, at most.
const FRAME_BYTES: usize = 96;

fn call_head(id: Option<u64>, method: &str, room: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(FRAME_BYTES + method.len() + room);
    out.put_slice(HEAD);
    // Writing to a growing buffer can't fail.
    let _ = match id {
        Some(id) => write!(out, ",\"id\":{id},\"method\":{}", Quoted(method)),
        None => write!(out, ",\"method\":{}", Quoted(method)),
    };
    out
}

fn call_end(out: &mut BytesMut, params: Option<&[u8]>) {
    if let Some(params) = params {
        out.put_slice(PARAMS);
        out.put_slice(params);
    }
    out.put_u8(b'}');
}

fn answer_head(id: Option<&Id>, room: usize) -> BytesMut {
    let id = id.map(Id::raw);
    let mut out = BytesMut::with_capacity(HEAD.len() + ID.len() + id.map_or(0, Bytes::len) + room);
    out.put_slice(HEAD);
    if let Some(id) = id {
        out.put_slice(ID);
        out.put_slice(id);
    }
    out
}

fn answer(id: Option<&Id>, member: &[u8], value: &[u8]) -> Bytes {
    let mut out = answer_head(id, member.len() + value.len() + 1);
    out.put_slice(member);
    out.put_slice(value);
    out.put_u8(b'}');
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_written_around_raw_pieces() {
        assert_eq!(request(7, "ping", None), "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}");
        let params = Bytes::from_static(b"{ \"a\":1.0 }");
        let text = "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"a\\\"b\",\"params\":{ \"a\":1.0 }}";
        assert_eq!(request(7, "a\"b", Some(&params)), text);
        assert_eq!(request_chain(7, "a\"b", params.clone()).concat(), text.as_bytes());
        assert_eq!(
            notification("n", Some(&params)),
            "{\"jsonrpc\":\"2.0\",\"method\":\"n\",\"params\":{ \"a\":1.0 }}"
        );
        let id = Id::string("é\u{1}");
        let text = "{\"jsonrpc\":\"2.0\",\"id\":\"é\\u0001\",\"result\":{ \"a\":1.0 }}";
        assert_eq!(result(&id, &params), text);
        assert_eq!(result_chain(&id, params).concat(), text.as_bytes());
        assert_eq!(
            error(Some(&id), -32602, "Unknown tool: \\", Some(b"{}")),
            "{\"jsonrpc\":\"2.0\",\"id\":\"é\\u0001\",\"error\":{\"code\":-32602,\"message\":\"Unknown tool: \\\\\",\"data\":{}}}"
        );
        assert_eq!(
            error(None, -32700, "x", None),
            "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32700,\"message\":\"x\"}}"
        );
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_json_string(text in any::<String>()) {
            let read: String = serde_json::from_slice(&string(&text)).expect("valid");
            prop_assert_eq!(&read, &text);
            let own = crate::wire::text::Text::read(&string(&text));
            prop_assert_eq!(own.as_deref(), Some(text.as_str()));
        }
    }
}
