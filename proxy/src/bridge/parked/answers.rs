//! What a modern client is answered while its call at a legacy upstream is parked, and when that can't go on.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sql::model::Upstream;

use super::questions;
use crate::bridge::degraded::{self, Reason};
use crate::bridge::{ErrorObject, implementation};
use crate::upstream::call::Answer;
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::meta;

/// Pages that one refusal may name.
const PAGES_MAX: usize = 16;

const INVALID_PARAMS: i64 = -32602;
const INTERNAL_ERROR: i64 = -32603;
const MISSING_CAPABILITY: i64 = -32021;

/// A result that says what its call may have missed.
pub(super) fn annotated(answer: Answer, reasons: &[Reason]) -> Answer {
    match answer {
        Answer::Result(result) => Answer::Result(degraded::annotate(result, reasons)),
        Answer::Error(_) => answer,
    }
}

/// Whether every response says that the client's user went along.
pub(super) fn all_accepted(params: &Object) -> Result<bool, Answer> {
    #[derive(Deserialize)]
    struct Elicited {
        action: String,
    }
    let responses = questions::responses(params).map_err(|bad| invalid(&bad))?;
    let accepted =
        |raw: &Bytes| serde_json::from_slice::<Elicited>(raw).is_ok_and(|one| one.action == "accept");
    Ok(responses.iter().all(|(_, raw)| accepted(&raw)))
}

/// The result that asks the client for input.
pub(super) fn input_required(requests: Bytes, state: &str) -> Bytes {
    let mut own = Object::empty();
    own.set(meta::SERVER_INFO, implementation());
    let mut result = Object::empty();
    result.set("resultType", Bytes::from_static(br#""input_required""#));
    result.set("inputRequests", requests);
    result.set("requestState", compose::string(state));
    result.set("_meta", own.into_bytes());
    result.into_bytes()
}

/// Whether a tool's result says that it failed.
pub(super) fn is_failure(result: &Bytes) -> bool {
    let is_error = Object::parse(result).ok().and_then(|result| result.get("isError"));
    is_error.as_deref() == Some(b"true")
}

/// The request needs what the client hasn't declared; `result` is what the upstream made of that.
pub(super) fn missing_capability(required: &Value, result: Option<&Bytes>) -> Answer {
    let mut data = json!({ "requiredCapabilities": required });
    if let Some(result) = result {
        // Valid, since it was parsed; a result is an object.
        data[meta::GATEWAY_UPSTREAM_RESULT] = serde_json::from_slice(result).unwrap_or_default();
    }
    error(MISSING_CAPABILITY, "Missing required client capability", Some(&data))
}

/// What the client brought can't be taken.
pub(super) fn invalid(why: &impl std::fmt::Display) -> Answer {
    error(INVALID_PARAMS, &why.to_string(), None)
}

/// The client's user did not do what the upstream wants first.
pub(super) fn not_accepted(upstream: &Upstream) -> Answer {
    let data = json!({ "upstream": upstream.name });
    error(INTERNAL_ERROR, "what the upstream wants first was not accepted", Some(&data))
}

fn error(code: i64, message: &str, data: Option<&Value>) -> Answer {
    let data = data.map(Value::to_string);
    Answer::Error(compose::error_object(code, message, data.as_deref().map(str::as_bytes)))
}

/// The pages that an upstream wants visited before it carries out a request, as `inputRequests`; `None`
/// if the error names none that can be asked for.
pub(super) fn pages_first(error: &[u8]) -> Option<Bytes> {
    #[derive(Deserialize)]
    struct Data {
        elicitations: Vec<Box<RawValue>>,
    }
    let data = ErrorObject::read(error)?.data?;
    let pages = serde_json::from_str::<Data>(data.get()).ok()?.elicitations;
    if pages.is_empty() || pages.len() > PAGES_MAX {
        return None;
    }
    let mut requests = Object::empty();
    for (i, page) in pages.iter().enumerate() {
        let mut page = Object::parse(&Bytes::copy_from_slice(page.get().as_bytes())).ok()?;
        page.set("mode", compose::string("url"));
        let request = questions::input_request("elicitation/create", Some(&page.into_bytes()));
        requests.set(&format!("elicitation-{}", i + 1), request);
    }
    Some(requests.into_bytes())
}

/// The call that waited is gone: it is never made again in silence.
pub(super) fn expired(upstream: &Upstream) -> Answer {
    let data = json!({
        "code": "PARKED_CALL_EXPIRED", "upstream": upstream.name, "retryable": false,
        meta::GATEWAY_DEGRADED: degraded::said(&[Reason::ParkedCallGone]),
    });
    error(INTERNAL_ERROR, "requestState has expired: the call that waited for it is gone", Some(&data))
}
