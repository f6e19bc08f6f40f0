//! What a modern request repeats in headers, and the lists of tools that say so for arguments.
//!
//! A client on stdio has no headers to send, so they are made here: from the request itself, and for
//! `Mcp-Param-*` from the definitions of tools that have come by.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::HeaderValue;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::remote::Extra;
use crate::wire::envelope::Params;
use crate::wire::headers::{MCP_METHOD, MCP_NAME, MCP_PROTOCOL_VERSION, ParamHeaders, encode_value, name_of};
use crate::wire::meta::RequestMeta;

/// Tools whose arguments are mirrored; a gateway with more has other problems.
const TOOLS_MAX: usize = 10_000;

/// The tools that mirror arguments, by name.
#[derive(Default)]
pub(super) struct Mirror {
    tools: Mutex<HashMap<String, ParamHeaders>>,
}

/// A page of a list of tools, as far as it matters here.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    tools: Vec<Tool<'a>>,
    #[serde(borrow, rename = "nextCursor")]
    next_cursor: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "inputSchema")]
    input_schema: Option<&'a RawValue>,
}

impl Mirror {
    /// The headers of a modern message.
    pub(super) fn headers(&self, method: &str, params: Option<&Params>) -> Extra {
        let mut extra = Extra::new();
        // Without a version, or with a method no header can have, the gateway will say what is wrong.
        let version = RequestMeta::of(params).ok().and_then(|meta| meta.protocol_version);
        if let Some(version) = version.and_then(|version| HeaderValue::from_str(&version).ok()) {
            extra.push((MCP_PROTOCOL_VERSION, version));
        }
        if let Ok(method) = HeaderValue::from_str(method) {
            extra.push((MCP_METHOD, method));
        }
        let Some(name) = name_of(method, params) else { return extra };
        extra.push((MCP_NAME, encode_value(&name)));
        if method == "tools/call" {
            let tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(headers) = tools.get(name.as_str()) {
                extra.extend(headers.extract(params.and_then(Params::arguments).as_ref()));
            }
        }
        extra
    }

    /// Takes note of a page of tools; where the next one begins.
    pub(super) fn learn(&self, result: &Bytes) -> Option<String> {
        let page: Page<'_> = serde_json::from_slice(result).ok()?;
        let mut tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        for tool in page.tools {
            let schema = tool.input_schema.map_or("{}", RawValue::get);
            match ParamHeaders::of_schema(schema.as_bytes()) {
                Ok(headers) if !headers.is_empty() && tools.len() < TOOLS_MAX => {
                    tools.insert(tool.name.into_owned(), headers);
                }
                // None, or one that can't be right: the tool is called without.
                _ => drop(tools.remove(&*tool.name)),
            }
        }
        page.next_cursor.map(Cow::into_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::envelope::{self, Message};

    fn headers(mirror: &Mirror, method: &str, params: &str) -> Vec<String> {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let Message::Request(request) = envelope::parse(body.into()).unwrap() else { panic!("a request") };
        let extra = mirror.headers(method, request.params.as_ref());
        extra.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;

    #[test]
    fn a_request_is_mirrored_by_version_method_and_name() {
        let mirror = Mirror::default();
        assert_eq!(
            headers(&mirror, "tools/list", &format!("{{{META}}}")),
            ["mcp-protocol-version: 2026-07-28", "mcp-method: tools/list"]
        );
        let read = headers(&mirror, "resources/read", &format!(r#"{{"uri":"x:é",{META}}}"#));
        assert_eq!(read[2], "mcp-name: =?base64?eDrDqQ==?=");
    }

    #[test]
    fn arguments_are_mirrored_once_a_list_has_said_so_and_no_longer_when_it_has_not() {
        let mirror = Mirror::default();
        let call = format!(r#"{{"name":"t","arguments":{{"region":"eu","n":1}},{META}}}"#);
        assert_eq!(headers(&mirror, "tools/call", &call).len(), 3);
        let page = |schema: &str| {
            let tool = format!(r#"{{"name":"t","inputSchema":{schema},"other":1}}"#);
            Bytes::from(format!(r#"{{"tools":[{tool}],"nextCursor":"2"}}"#))
        };
        let marked = r#"{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}"#;
        assert_eq!(mirror.learn(&page(marked)).as_deref(), Some("2"));
        assert_eq!(headers(&mirror, "tools/call", &call)[3], "mcp-param-region: eu");
        mirror.learn(&page(r#"{"type":"object"}"#));
        assert_eq!(headers(&mirror, "tools/call", &call).len(), 3);
        assert_eq!(mirror.learn(&Bytes::from_static(b"{}")), None);
    }
}
