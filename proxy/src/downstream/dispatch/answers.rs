//! How a request is answered: with results and errors in the terms of its client's era.
//!
//! The only place where a failed call becomes a JSON-RPC answer.

use std::fmt::Write;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use sql::model::{Kind, Upstream};

use super::{Answered, Asked, Outcome};
use crate::bridge;
use crate::catalog::list_field;
use crate::downstream::verbs::Subject;
use crate::upstream::call::{Answer, CallError};
use crate::wire::compose;
use crate::wire::ids::Id;
use crate::wire::meta;

const METHOD_NOT_FOUND: i64 = -32601;
const INTERNAL_ERROR: i64 = -32603;

/// A call that brought no answer of its own, as a model can act on it: for a tool a result that says
/// what failed and whether to try again, for anything else an internal error with the same as data.
pub(in crate::downstream) fn failed(asked: &Asked, upstream: &Upstream, error: &CallError) -> Answer {
    let (code, retryable) = match error {
        CallError::Unavailable { .. } => ("UPSTREAM_UNAVAILABLE", true),
        CallError::Busy { .. } => ("UPSTREAM_BUSY", true),
        CallError::TimedOut { .. } => ("UPSTREAM_TIMEOUT", false),
        CallError::ClosedMidCall => ("UPSTREAM_CLOSED", false),
        CallError::TooLarge { .. } => ("UPSTREAM_ANSWER_TOO_LARGE", false),
        CallError::Invalid { .. } => ("UPSTREAM_ANSWER_INVALID", false),
        CallError::Refused { .. } => ("UPSTREAM_REFUSED", false),
        CallError::Denied(_) => ("UPSTREAM_UNAUTHORIZED", false),
        CallError::SessionUnknown => ("UPSTREAM_SESSION_LOST", true),
        CallError::Cancelled => ("CANCELLED", false),
    };
    tracing::info!(upstream.id = %upstream.id, error.code = code, "call failed: {error}");
    let data = serde_json::json!({ "code": code, "upstream": upstream.name, "retryable": retryable });
    let text = format!("The upstream \"{}\" did not answer: {error}.", upstream.name);
    if asked.request.method.as_str() != "tools/call" {
        let error = serde_json::json!({ "code": INTERNAL_ERROR, "message": text, "data": data });
        return Answer::Error(Bytes::from(error.to_string()));
    }
    let mut meta = serde_json::json!({ (meta::GATEWAY_ERROR): data });
    let mut result = serde_json::json!({ "content": [{ "type": "text", "text": text }], "isError": true });
    if asked.client.is_modern() {
        result["resultType"] = "complete".into();
        meta[meta::SERVER_INFO] = serde_json::from_slice(&bridge::implementation()).unwrap_or_default();
    }
    result["_meta"] = meta;
    Answer::Result(Bytes::from(result.to_string()))
}

/// A subject that isn't there, or that this key doesn't see: the same answer for both.
pub(in crate::downstream) fn unknown(asked: &Asked, subject: &Subject) -> Answered {
    let (code, message, data) = subject.unknown(asked.client.is_modern());
    let message = compose::error(Some(&asked.request.id), code, &message, data.as_deref().map(str::as_bytes));
    Answered { status: StatusCode::OK, message: vec![message] }
}

/// An upstream's answer under the id that the client gave.
pub(in crate::downstream) fn answered(asked: &Asked, answer: Answer) -> Answered {
    let status = match &answer {
        Answer::Error(raw) if asked.client.is_modern() => modern_status(raw),
        _ => StatusCode::OK,
    };
    Answered { status, message: response(&asked.request.id, answer) }
}

/// The HTTP status that 2026-07-28 gives to an error where it is the whole answer (Streamable HTTP,
/// server validation; versioning).
fn modern_status(error: &[u8]) -> StatusCode {
    match bridge::ErrorObject::read(error).map(|error| error.code) {
        Some(METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
        Some(-32022..=-32020) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

pub(in crate::downstream) fn done_result(asked: &Asked, result: Bytes) -> Outcome {
    Outcome::Done(answered(asked, own_result(asked, result)))
}

/// A result of the gateway's own, with what the client's era asks every result to carry.
pub(in crate::downstream) fn own_result(asked: &Asked, result: Bytes) -> Answer {
    Answer::Result(if asked.client.is_modern() { bridge::modern_to_modern(result) } else { result })
}

pub(in crate::downstream) fn done_error(asked: &Asked, code: i64, message: &str) -> Outcome {
    Outcome::Done(answered(asked, Answer::Error(compose::error_object(code, message, None))))
}

/// An answer under the client's id, in pieces.
pub(crate) fn response(id: &Id, answer: Answer) -> Vec<Bytes> {
    match answer {
        Answer::Result(result) => compose::result_chain(id, result).into(),
        Answer::Error(error) => vec![compose::error_raw(Some(id), &error)],
    }
}

/// What precedes the definitions in the answer to a list.
pub(super) fn list_head(id: &Id, kind: Kind) -> Bytes {
    let mut head = BytesMut::from(&br#"{"jsonrpc":"2.0","id":"#[..]);
    head.extend_from_slice(id.raw());
    head.extend_from_slice(br#","result":{""#);
    head.extend_from_slice(list_field(kind).as_bytes());
    head.extend_from_slice(br#"":["#);
    head.freeze()
}

/// What follows the definitions in the answer to a list.
pub(super) fn list_tail(asked: &Asked, kind: Kind, next_cursor: Option<&str>) -> Bytes {
    let mut tail = String::from("]");
    if let Some(cursor) = next_cursor {
        // A cursor is base64url: nothing in it needs an escape.
        let _ = write!(tail, r#","nextCursor":"{cursor}""#);
    }
    if asked.client.is_modern() {
        let fresh = asked.view.freshness(kind);
        let scope = if fresh.public { "public" } else { "private" };
        let info = bridge::implementation();
        let info = std::str::from_utf8(&info).expect("a literal of ours");
        let _ = write!(
            tail,
            r#","resultType":"complete","ttlMs":{},"cacheScope":"{scope}","_meta":{{"{}":{info}}}"#,
            fresh.ttl_ms,
            meta::SERVER_INFO
        );
    }
    tail.push_str("}}");
    Bytes::from(tail)
}
