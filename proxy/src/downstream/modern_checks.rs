//! What 2026-07-28 asks a server to check of every request before anything acts on it: the protocol
//! fields in `_meta`, and that the headers say what the body says. Policy and routing use the body;
//! the headers only have to agree.

use http::{HeaderMap, StatusCode};
use sql::model::{Kind, Mode};

use super::dispatch::Answered;
use super::initialize;
use crate::catalog::View;
use crate::wire::compose;
use crate::wire::envelope::{Params, Request};
use crate::wire::headers::{self, HeaderMismatch};
use crate::wire::ids::Id;
use crate::wire::meta::{self, RequestMeta};
use crate::wire::text::Text;

const INVALID_PARAMS: i64 = -32602;
const HEADER_MISMATCH: i64 = -32020;
const UNSUPPORTED_VERSION: i64 = -32022;

/// Why a modern request is refused, always with status 400.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// `_meta` lacks a required field or has one of a wrong type.
    #[error("{0}")]
    Meta(String),
    /// The version is not served.
    #[error("Unsupported protocol version")]
    Version {
        /// As the client wrote it.
        requested: String,
    },
    /// A header is missing, malformed or says something else than the body.
    #[error("Header mismatch: {0}")]
    Header(#[from] HeaderMismatch),
}

/// Checks a request over HTTP; the answer is what its `_meta` says. In smart mode the tool that is called
/// is one of the gateway's four, which mark no parameters.
pub fn check(
    headers: &HeaderMap,
    request: &Request,
    view: &View,
    mode: Mode,
) -> Result<RequestMeta, Refused> {
    let (meta, version) = required(request)?;
    let subject = headers::name_of(&request.method, request.params.as_ref());
    headers::check_standard(headers, &request.method, subject.as_deref(), &version)?;
    served(&version)?;
    if mode == Mode::Full {
        check_params(headers, request, view)?;
    }
    Ok(meta)
}

/// The same on a transport where a message has no headers.
pub fn check_message(request: &Request) -> Result<RequestMeta, Refused> {
    let (meta, version) = required(request)?;
    served(&version)?;
    Ok(meta)
}

/// What `_meta` says, and the version in it.
fn required(request: &Request) -> Result<(RequestMeta, Text), Refused> {
    let raw = request.params.as_ref().and_then(Params::meta);
    let raw = raw.ok_or_else(|| Refused::Meta("params._meta is required".into()))?;
    let meta = RequestMeta::read(&raw).map_err(|bad| Refused::Meta(bad.to_string()))?;
    let Some(version) = meta.protocol_version.clone() else {
        return Err(Refused::Meta(format!("_meta.{} is required", meta::PROTOCOL_VERSION)));
    };
    if meta.client_capabilities.is_none() {
        return Err(Refused::Meta(format!("_meta.{} is required", meta::CLIENT_CAPABILITIES)));
    }
    Ok((meta, version))
}

fn served(version: &Text) -> Result<(), Refused> {
    if version.as_str() == meta::MODERN_VERSION.as_str() {
        return Ok(());
    }
    Err(Refused::Version { requested: version.to_string() })
}

/// `Mcp-Param-*` against the arguments, for a tool that marks parameters.
fn check_params(headers: &HeaderMap, request: &Request, view: &View) -> Result<(), HeaderMismatch> {
    if request.method.as_str() != "tools/call" {
        return Ok(());
    }
    let Some(params) = request.params.as_ref() else { return Ok(()) };
    let Some(item) = params.name().and_then(|name| view.route(Kind::Tool, &name)) else { return Ok(()) };
    if item.param_headers.is_empty() {
        return Ok(());
    }
    item.param_headers.check(headers, params.arguments().as_ref())
}

impl Refused {
    /// The answer that says so.
    pub fn into_answer(self, id: &Id) -> Answered {
        let (code, data) = match &self {
            Self::Meta(_) => (INVALID_PARAMS, None),
            Self::Header(_) => (HEADER_MISMATCH, None),
            Self::Version { requested } => {
                let data = serde_json::json!({ "supported": initialize::supported_versions(), "requested": requested });
                (UNSUPPORTED_VERSION, Some(data.to_string()))
            }
        };
        let message = compose::error(Some(id), code, &self.to_string(), data.as_deref().map(str::as_bytes));
        Answered { status: StatusCode::BAD_REQUEST, message: vec![message] }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderName, HeaderValue};
    use serde_json::{Value, json};

    use super::*;
    use crate::access::keys::tests::policy_of;
    use crate::catalog::Snapshot;
    use crate::catalog::testing::{NOW, catalog, upstream_with};
    use crate::wire::envelope::{self, Message};

    const CALLED: [(&str, &str); 4] = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "deploy"),
        ("mcp-param-region", "eu"),
    ];

    fn meta() -> Value {
        json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        })
    }

    fn call(meta: &Value) -> Value {
        json!({"name": "deploy", "arguments": {"region": "eu"}, "_meta": meta})
    }

    /// The code and the data of the refusal, or none.
    fn checked(method: &str, params: &Value, headers: &[(&str, &str)]) -> Option<(i64, Value)> {
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string();
        let Ok(Message::Request(request)) = envelope::parse(Bytes::from(body)) else { panic!("a request") };
        let snapshot = Snapshot::new(catalog(&[upstream_with(&["deploy".into()])]), NOW);
        let view = snapshot.view(&policy_of(&crate::access::keys::tests::key().0));
        let headers = headers.iter().map(|(name, value)| {
            let name: HeaderName = name.parse().expect("a name");
            (name, HeaderValue::from_str(value).expect("a value"))
        });
        let refused = check(&headers.collect(), &request, &view, Mode::Full).err()?;
        let answered = refused.into_answer(&request.id);
        assert_eq!(answered.status, StatusCode::BAD_REQUEST);
        let answer: Value = serde_json::from_slice(&answered.message.concat()).expect("JSON");
        assert_eq!(answer["id"], 7);
        Some((answer["error"]["code"].as_i64().expect("a code"), answer["error"]["data"].clone()))
    }

    fn code(params: &Value, headers: &[(&str, &str)]) -> Option<i64> {
        checked("tools/call", params, headers).map(|(code, _)| code)
    }

    #[test]
    fn a_request_that_says_everything_twice_passes() {
        assert_eq!(code(&call(&meta()), &CALLED), None);
        let encoded = [CALLED[0], CALLED[1], ("mcp-name", "=?base64?ZGVwbG95?="), CALLED[3]];
        assert_eq!(code(&call(&meta()), &encoded), None);
    }

    #[test]
    fn what_meta_must_say_is_missed() {
        for key in ["protocolVersion", "clientCapabilities"] {
            let mut lacking = meta();
            lacking.as_object_mut().expect("one").remove(&format!("io.modelcontextprotocol/{key}"));
            assert_eq!(code(&call(&lacking), &CALLED), Some(INVALID_PARAMS), "{key}");
        }
        assert_eq!(code(&json!({"name": "deploy"}), &CALLED), Some(INVALID_PARAMS));
        let mut bad = meta();
        bad["io.modelcontextprotocol/logLevel"] = "loud".into();
        assert_eq!(code(&call(&bad), &CALLED), Some(INVALID_PARAMS));
    }

    #[test]
    fn headers_that_say_something_else_are_refused() {
        let others = [
            ("mcp-protocol-version", "2025-11-25"),
            ("mcp-method", "tools/list"),
            ("mcp-name", "other"),
            ("mcp-param-region", "us"),
        ];
        for (n, other) in others.into_iter().enumerate() {
            let mut headers = CALLED;
            headers[n] = other;
            assert_eq!(code(&call(&meta()), &headers), Some(HEADER_MISMATCH), "{other:?}");
            let without: Vec<_> = CALLED.into_iter().filter(|(name, _)| *name != other.0).collect();
            assert_eq!(code(&call(&meta()), &without), Some(HEADER_MISMATCH), "without {}", other.0);
        }
    }

    #[test]
    fn an_unknown_tool_has_no_parameters_to_mirror() {
        let params = json!({"name": "hidden", "arguments": {"region": "eu"}, "_meta": meta()});
        assert_eq!(code(&params, &[CALLED[0], CALLED[1], ("mcp-name", "hidden")]), None);
    }

    #[test]
    fn an_unknown_version_is_told_the_known_ones() {
        let mut future = meta();
        future["io.modelcontextprotocol/protocolVersion"] = "2027-01-01".into();
        let headers = [("mcp-protocol-version", "2027-01-01"), ("mcp-method", "tools/list")];
        let refused = checked("tools/list", &json!({"_meta": future}), &headers);
        let (code, data) = refused.expect("it is refused");
        assert_eq!((code, &data["requested"]), (UNSUPPORTED_VERSION, &json!("2027-01-01")));
        assert!(data["supported"].as_array().is_some_and(|known| known.contains(&json!("2026-07-28"))));
    }

    #[test]
    fn prompts_and_resources_are_named_too() {
        let version = CALLED[0];
        let read = json!({"uri": "file:///ä", "_meta": meta()});
        let named = [version, ("mcp-method", "resources/read"), ("mcp-name", "=?base64?ZmlsZTovLy/DpA==?=")];
        assert_eq!(checked("resources/read", &read, &named), None);
        assert!(checked("resources/read", &read, &named[..2]).is_some());
        let get = json!({"name": "greet", "_meta": meta()});
        assert!(checked("prompts/get", &get, &[version, ("mcp-method", "prompts/get")]).is_some());
    }
}
