//! What two eras of the protocol need of each other, and nothing else.
//!
//! A call has two sides, each of its own era. Where both are the same, what came passes through but
//! for what a gateway must say in its own name. Where they differ, one of the two modules translates:
//! the params on the way to the upstream, the answer on the way back. All of it is on bytes, and
//! untouched members of an object stay as they came.
//!
//! [`parked`] holds what a legacy upstream asks of a modern client until that comes back; [`degraded`]
//! names what can't be carried over, and [`matrix`] says of an upstream what each era of clients gets.

pub mod degraded;
pub mod legacy_to_modern;
pub mod matrix;
pub mod modern_to_legacy;
pub mod parked;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::wire::edit::Object;
use crate::wire::meta;

/// Who the gateway is, as `serverInfo` and `clientInfo` say it: the raw JSON object.
pub fn implementation() -> Bytes {
    Bytes::from_static(
        concat!(
            r#"{"name":"mcp-proxy-gateway","title":"MCP Proxy Gateway","version":""#,
            env!("CARGO_PKG_VERSION"),
            r#""}"#
        )
        .as_bytes(),
    )
}

/// A JSON-RPC error object, as far as it is acted on.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErrorObject<'a> {
    /// The JSON-RPC code.
    pub code: i64,
    /// What the peer says of it.
    #[serde(borrow)]
    pub message: std::borrow::Cow<'a, str>,
    /// Anything more, untouched.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a RawValue>,
}

impl<'a> ErrorObject<'a> {
    /// Reads a raw `error`. One that isn't an object with a code and a message is none.
    pub fn read(raw: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(raw).ok()
    }

    /// The object as raw JSON.
    pub fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("a code, a text and valid JSON").into()
    }
}

/// The result of a modern upstream as a modern client gets it: `serverInfo` names the gateway, the
/// upstream's own moves to a key of ours (2026-07-28, `_meta`).
pub fn modern_to_modern(result: Bytes) -> Bytes {
    let Ok(mut object) = Object::parse(&result) else { return result };
    name_gateway(&mut object);
    object.into_bytes()
}

/// The same for a result that is being edited.
pub fn name_gateway(object: &mut Object) {
    let mut meta = object.get("_meta").and_then(|raw| Object::parse(&raw).ok()).unwrap_or_else(Object::empty);
    if let Some(theirs) = meta.get(meta::SERVER_INFO) {
        meta.set(meta::GATEWAY_UPSTREAM_INFO, theirs);
    }
    meta.set(meta::SERVER_INFO, implementation());
    object.set("_meta", meta.into_bytes());
}
