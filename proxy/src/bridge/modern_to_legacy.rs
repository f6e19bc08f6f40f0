//! A modern client's call at a legacy upstream.
//!
//! The per-request fields of 2026-07-28 mean nothing to an upstream that had a handshake and are
//! taken off; its results get what the modern era requires of every result.

use bytes::Bytes;

use super::{ErrorObject, implementation};
use crate::upstream::call::Answer;
use crate::wire::edit::Object;
use crate::wire::meta;

/// Codes that 2026-07-28 reserves; from a legacy upstream they mean something else.
const RESERVED_CODES: std::ops::RangeInclusive<i64> = -32099..=-32020;
const RESOURCE_NOT_FOUND: i64 = -32002;
const URL_ELICITATION_REQUIRED: i64 = -32042;
const INVALID_PARAMS: i64 = -32602;
const INTERNAL_ERROR: i64 = -32603;

/// Params as the legacy upstream takes them: without the per-request protocol fields and without
/// what belongs to a multi round-trip retry.
pub fn params(params: &Bytes) -> Bytes {
    let Ok(mut object) = Object::parse(params) else { return params.clone() };
    if let Some(mut meta) = object.get("_meta").and_then(|raw| Object::parse(&raw).ok()) {
        for key in [meta::PROTOCOL_VERSION, meta::CLIENT_INFO, meta::CLIENT_CAPABILITIES, meta::LOG_LEVEL] {
            meta.remove(key);
        }
        if meta.is_empty() {
            object.remove("_meta");
        } else {
            object.set("_meta", meta.into_bytes());
        }
    }
    // In 2025-11-25 it is the client that makes a call a task; a modern one means nothing by the word.
    object.remove("task");
    object.remove("inputResponses");
    object.remove("requestState");
    object.into_bytes()
}

/// The answer as the modern client takes it.
pub fn answer(answer: Answer, method: &str) -> Answer {
    match answer {
        Answer::Result(raw) => Answer::Result(result(&raw, method)),
        Answer::Error(raw) => Answer::Error(error(raw)),
    }
}

fn result(raw: &Bytes, method: &str) -> Bytes {
    let Ok(mut object) = Object::parse(raw) else { return raw.clone() };
    object.set("resultType", Bytes::from_static(br#""complete""#));
    if method == "resources/read" {
        // A legacy upstream promises nothing of how long a content stays true, nor to whom it may be shown.
        object.set("ttlMs", Bytes::from_static(b"0"));
        object.set("cacheScope", Bytes::from_static(br#""private""#));
    }
    let mut meta = object.get("_meta").and_then(|raw| Object::parse(&raw).ok()).unwrap_or_else(Object::empty);
    meta.set(meta::SERVER_INFO, implementation());
    object.set("_meta", meta.into_bytes());
    object.into_bytes()
}

fn error(raw: Bytes) -> Bytes {
    let Some(mut object) = ErrorObject::read(&raw) else { return raw };
    object.code = match object.code {
        RESOURCE_NOT_FOUND => INVALID_PARAMS,
        URL_ELICITATION_REQUIRED => INTERNAL_ERROR,
        code if RESERVED_CODES.contains(&code) => INTERNAL_ERROR,
        _ => return raw.clone(),
    };
    object.to_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn takes_off_what_a_handshake_has_said() {
        let raw = bytes(
            r#"{"name":"echo", "arguments":{"a": 1.0},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":7,"io.modelcontextprotocol/clientCapabilities":{}}}"#,
        );
        assert_eq!(params(&raw), r#"{"name":"echo", "arguments":{"a": 1.0},"_meta":{"progressToken":7}}"#);
        let only =
            bytes(r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"},"name":"echo"}"#);
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&params(&only)).unwrap(),
            serde_json::json!({"name": "echo"})
        );
    }

    #[test]
    fn a_modern_client_makes_no_task_at_a_legacy_upstream() {
        let raw = bytes(r#"{"name":"t","task":{"ttl":1},"arguments":{"task":1}}"#);
        assert_eq!(params(&raw), r#"{"name":"t","arguments":{"task":1}}"#);
    }

    #[test]
    fn says_that_a_result_is_complete_and_who_served_it() {
        let Answer::Result(raw) = answer(Answer::Result(bytes(r#"{"content":[],"x":1e0}"#)), "tools/call")
        else {
            panic!("a result stays one")
        };
        let value: serde_json::Value = serde_json::from_slice(&raw).unwrap();
        assert_eq!(value["resultType"], "complete");
        assert_eq!(value["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "mcp-proxy-gateway");
        assert!(std::str::from_utf8(&raw).unwrap().contains(r#""x":1e0"#), "the rest stays as it came");
    }

    #[test]
    fn never_lets_a_code_through_that_means_something_else() {
        for (theirs, ours) in
            [(-32002, -32602), (-32042, -32603), (-32021, -32603), (-32602, -32602), (-32000, -32000), (7, 7)]
        {
            let raw = bytes(&format!(r#"{{"code":{theirs},"message":"m","data":{{"k":1}}}}"#));
            let Answer::Error(raw) = answer(Answer::Error(raw), "tools/call") else {
                panic!("an error stays one")
            };
            let object = ErrorObject::read(&raw).unwrap();
            assert_eq!((object.code, object.data.map(RawValue::get)), (ours, Some(r#"{"k":1}"#)));
        }
    }
}
