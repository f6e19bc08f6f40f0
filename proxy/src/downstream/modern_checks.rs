//! What 2026-07-28 asks a server to check of every request before anything acts on it: the protocol
//! fields in `_meta`, and that the headers say what the body says. Policy and routing use the body;
//! the headers only have to agree.

use http::{HeaderMap, StatusCode};
use sql::model::Kind;

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

/// Checks a request over HTTP; the answer is what its `_meta` says.
pub fn check(headers: &HeaderMap, request: &Request, view: &View) -> Result<RequestMeta, Refused> {
    let (meta, version) = required(request)?;
    let subject = headers::name_of(&request.method, request.params.as_ref());
    headers::check_standard(headers, &request.method, subject.as_deref(), &version)?;
    served(&version)?;
    check_params(headers, request, view)?;
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
