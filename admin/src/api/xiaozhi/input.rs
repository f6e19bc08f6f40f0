//! Reading a XiaoZhi endpoint from a body: a whole one, or a merge patch on a stored one.

use serde_json::Value;
use sql::model::{ApiKeyId, KeyMode, Secret, XiaozhiEndpoint};
use utoipa::ToSchema;

use super::wire;
use crate::doc;
use crate::error::ApiError;
use crate::fields::{self, Fields, Problems, flag, integer, parsed};
use crate::merge::merge;

/// Characters of an address: tokens of the official service have some hundred.
const URL_CHARS_MAX: usize = 4_096;
/// What fits in one list that robots take.
const TOOLS_MAX: u32 = 256;
/// Below it a description says nothing, above it a robot's model is at its end.
const DESCRIPTION_CHARS: std::ops::RangeInclusive<u32> = 16..=4_096;
/// Nobody waits longer for an answer that is to be spoken.
const DEADLINE_S_MAX: u32 = 120;

/// A XiaoZhi endpoint as a client writes it.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewXiaozhiEndpoint, example = json!({
    "name": "living room",
    "url": "wss://api.xiaozhi.me/mcp/?token=eyJ...",
    "keyId": "01890000-0000-7000-8000-000000000002",
}))]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct XiaozhiBody {
    /// Unique, 1 to 100 characters.
    name: String,
    /// The address with its token, as the XiaoZhi console shows it. It is never shown again.
    url: String,
    /// Whether it is dialled; true if not said.
    enabled: Option<bool>,
    /// The key it acts as: what that sees, it sees, and its limits are that key's.
    key_id: uuid::Uuid,
    /// What it is shown; `inherit` if not said, which is what its key says.
    #[schema(schema_with = doc::key_mode)]
    mode: Option<KeyMode>,
    /// Tools it is shown at most, 1 to 256; 32 if not said.
    tools_max: Option<u32>,
    /// Characters of a tool's description at most, 16 to 4096; 512 if not said.
    description_max: Option<u32>,
    /// Seconds after which a call is answered that it took too long, 1 to 120; 9 if not said.
    deadline_s: Option<u32>,
}

/// A merge patch (RFC 7396) on a XiaoZhi endpoint: absent fields stay, `null` brings back the default.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = XiaozhiEndpointPatch, example = json!({"toolsMax": 16, "mode": "smart"}))]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct XiaozhiPatch {
    /// Unique, 1 to 100 characters.
    name: Option<String>,
    /// The address with its token; leave it out to keep it.
    url: Option<String>,
    /// Whether it is dialled.
    enabled: Option<bool>,
    /// The key it acts as.
    key_id: Option<uuid::Uuid>,
    /// What it is shown.
    #[schema(schema_with = doc::key_mode)]
    mode: Option<KeyMode>,
    /// Tools it is shown at most.
    tools_max: Option<u32>,
    /// Characters of a tool's description at most.
    description_max: Option<u32>,
    /// Seconds after which a call is answered that it took too long.
    deadline_s: Option<u32>,
}

/// What a client says of an endpoint.
pub(super) struct Input {
    name: String,
    url: Secret<String>,
    enabled: bool,
    pub(super) key_id: ApiKeyId,
    mode: KeyMode,
    tools_max: u32,
    description_max: u32,
    deadline_s: u32,
}

impl Input {
    /// `endpoint` with what the client says of it.
    pub(super) fn apply(self, endpoint: &XiaozhiEndpoint) -> XiaozhiEndpoint {
        XiaozhiEndpoint {
            name: self.name,
            url: self.url,
            enabled: self.enabled,
            key_id: self.key_id,
            mode: self.mode,
            tools_max: self.tools_max,
            description_max: self.description_max,
            deadline_s: self.deadline_s,
            ..endpoint.clone()
        }
    }
}

/// Reads a whole endpoint.
pub(super) fn parse(value: Value) -> Result<Input, ApiError> {
    let mut problems = Problems::default();
    let input = read(value, &mut problems);
    problems.unless_any(input)
}

/// Reads a merge patch on `stored`.
pub(super) fn parse_patch(patch: Value, stored: &XiaozhiEndpoint) -> Result<Input, ApiError> {
    if !patch.is_object() {
        return Err(ApiError::field("", "must be an object"));
    }
    let mut whole = wire::settable(stored);
    merge(&mut whole, patch);
    parse(whole)
}

fn read(value: Value, problems: &mut Problems) -> Option<Input> {
    let mut fields = Fields::open(value, "", problems)?;
    let name = fields.required("name", problems, fields::name(1..=100));
    let url = fields.required("url", problems, url);
    let key_id = fields.required("keyId", problems, |value| {
        parsed::<ApiKeyId>(value).map_err(|_| "is not the id of a key".to_owned())
    });
    let enabled = fields.optional("enabled", problems, flag).unwrap_or(true);
    let mode = fields.optional("mode", problems, parsed).unwrap_or(KeyMode::Inherit);
    let tools_max = fields.optional("toolsMax", problems, integer(1..=TOOLS_MAX));
    let description_max = fields.optional("descriptionMax", problems, integer(DESCRIPTION_CHARS));
    let deadline_s = fields.optional("deadlineS", problems, integer(1..=DEADLINE_S_MAX));
    fields.close(problems);
    Some(Input {
        name: name?,
        url: url?,
        enabled,
        key_id: key_id?,
        mode,
        tools_max: tools_max.unwrap_or(XiaozhiEndpoint::TOOLS_MAX_DEFAULT),
        description_max: description_max.unwrap_or(XiaozhiEndpoint::DESCRIPTION_MAX_DEFAULT),
        deadline_s: deadline_s.unwrap_or(XiaozhiEndpoint::DEADLINE_S_DEFAULT),
    })
}

/// An address as the XiaoZhi console shows it. What may be dialled is the data plane's to say.
fn url(value: Value) -> Result<Secret<String>, String> {
    let text = fields::text(1..=URL_CHARS_MAX)(value)?;
    let is_websocket = ["ws://", "wss://"]
        .iter()
        .any(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    if !is_websocket {
        return Err("must begin with ws:// or wss://".into());
    }
    if text.contains("***") {
        return Err("is the masked form; give the whole address, or leave it out to keep it".into());
    }
    Ok(Secret::new(text))
}
