//! Who the gateway is and what it can do: `initialize` for the legacy era, `server/discover` for the
//! modern one. Declared is what the caller's view really has and the gateway really forwards.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use sql::model::{Kind, Mode};

use super::smart_mode;
use crate::bridge;
use crate::catalog::View;
use crate::poison;
use crate::wire::meta::{self, Version};

/// Most of the upstreams' own instructions that a client is given: it goes into a model's context.
const INSTRUCTIONS_BYTES_MAX: usize = 16 * 1024;

/// What `initialize` says of the client.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeParams {
    /// The version the client would like.
    pub protocol_version: String,
    /// What the client can be asked.
    pub capabilities: Box<RawValue>,
    /// The client's name and version.
    pub client_info: Option<Box<RawValue>>,
}

/// The version of a session: the one asked for where it is a legacy one that is served, else the
/// latest legacy one (2025-11-25, version negotiation).
pub fn negotiate(asked: &str) -> Version {
    Version::parse(asked).filter(|version| !version.is_modern()).unwrap_or(meta::LEGACY_LATEST)
}

/// Every version that is served, the newest first.
pub fn supported_versions() -> Vec<&'static str> {
    let legacy = meta::LEGACY_VERSIONS.iter().rev();
    std::iter::once(&meta::MODERN_VERSION).chain(legacy).map(|version| version.as_str()).collect()
}

/// The result of `initialize`.
pub fn initialize(view: &View, version: Version, mode: Mode) -> Bytes {
    let mut result = json!({
        "protocolVersion": version.as_str(),
        "capabilities": with_tasks(capabilities(view), view, version),
        "serverInfo": server_info(),
    });
    add_instructions(view, mode, &mut result);
    Bytes::from(result.to_string())
}

/// The result of `server/discover`; what every modern result carries is added where it is sent.
pub fn discover(view: &View, mode: Mode) -> Bytes {
    let mut result = json!({
        "resultType": "complete",
        "supportedVersions": supported_versions(),
        "capabilities": with_tasks(capabilities(view), view, meta::MODERN_VERSION),
        // What a view holds changes with upstreams and rules at any time, and belongs to one key.
        "ttlMs": 0,
        "cacheScope": "private",
    });
    add_instructions(view, mode, &mut result);
    Bytes::from(result.to_string())
}

/// Tools always, so that a client that came before its tools hears of them; the rest where there is any.
fn capabilities(view: &View) -> Value {
    let mut capabilities = Map::new();
    capabilities.insert("tools".into(), json!({ "listChanged": true }));
    if view.has(Kind::Prompt) {
        capabilities.insert("prompts".into(), json!({ "listChanged": true }));
    }
    let offered = view.offered();
    if has_resources(view) {
        let mut resources = json!({ "listChanged": true });
        if offered.subscribe {
            resources["subscribe"] = true.into();
        }
        capabilities.insert("resources".into(), resources);
    }
    if offered.completions {
        capabilities.insert("completions".into(), json!({}));
    }
    capabilities.insert("logging".into(), json!({}));
    Value::Object(capabilities)
}

/// Tasks in the form that a version has, where an upstream of that version has them.
fn with_tasks(mut capabilities: Value, view: &View, version: Version) -> Value {
    let offered = view.offered();
    if version == meta::MODERN_VERSION && offered.tasks_extension {
        capabilities["extensions"] = json!({ (meta::TASKS_EXTENSION): {} });
    }
    if version == Version::V2025_11_25 && offered.task_calls {
        capabilities["tasks"] = json!({ "list": {}, "requests": { "tools": { "call": {} } } });
        if offered.task_cancel {
            capabilities["tasks"]["cancel"] = json!({});
        }
    }
    capabilities
}

/// Whether the methods of resources are served to this view.
pub fn has_resources(view: &View) -> bool {
    view.has(Kind::Resource) || view.has(Kind::ResourceTemplate)
}

fn server_info() -> Value {
    serde_json::from_slice(&bridge::implementation()).expect("a literal of ours is valid JSON")
}

fn add_instructions(view: &View, mode: Mode, result: &mut Value) {
    let mut text = match mode {
        Mode::Smart => format!("{}\n\n", smart_mode::USE),
        Mode::Full => String::new(),
    };
    for lists in view.upstreams() {
        let Some(instructions) = lists.info.as_ref().and_then(|info| info.instructions.as_deref()) else {
            continue;
        };
        let instructions = if lists.upstream.sanitize {
            Cow::Owned(poison::stripped_text(instructions))
        } else {
            Cow::Borrowed(instructions)
        };
        let section = format!("# {}\n{instructions}\n\n", lists.upstream.name);
        if text.len() + section.len() <= INSTRUCTIONS_BYTES_MAX {
            text.push_str(&section);
        }
    }
    if !text.is_empty() {
        result["instructions"] = text.trim_end().into();
    }
}
