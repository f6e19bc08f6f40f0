//! How a XiaoZhi endpoint looks on the wire and in the audit log: never the token in its address.

use serde::Serialize;
use serde_json::{Value, json};
use sql::model::{
    ApiKeyId, KeyMode, Timestamp, XiaozhiEndpoint, XiaozhiEndpointId, XiaozhiFault, XiaozhiReport,
    XiaozhiState,
};
use utoipa::ToSchema;

use crate::audit::Fingerprint;
use crate::doc;

/// A XiaoZhi endpoint and how it fares.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = XiaozhiEndpoint, example = json!({
    "id": "01890000-0000-7000-8000-000000000001",
    "name": "living room",
    "urlMasked": "wss://api.xiaozhi.me/mcp/?token=***",
    "enabled": true,
    "keyId": "01890000-0000-7000-8000-000000000002",
    "mode": "inherit",
    "toolsMax": 32,
    "descriptionMax": 512,
    "deadlineS": 9,
    "state": "connected",
    "since": "2026-01-01T00:00:00Z",
    "fault": null,
    "closeCode": null,
    "lastError": null,
    "nextAttemptAt": null,
    "toolsShown": 12,
    "toolsTotal": 12,
    "version": 1,
    "createdAt": "2026-01-01T00:00:00Z",
    "updatedAt": "2026-01-01T00:00:00Z",
}))]
pub(crate) struct XiaozhiView {
    /// Which.
    #[schema(value_type = uuid::Uuid)]
    id: XiaozhiEndpointId,
    /// Unique.
    name: String,
    /// Where it is dialled, without the token.
    url_masked: String,
    /// Whether it is dialled.
    enabled: bool,
    /// The key it acts as. It may be gone.
    #[schema(value_type = uuid::Uuid)]
    key_id: ApiKeyId,
    /// What it is shown; `inherit` is what its key says.
    #[schema(schema_with = doc::key_mode)]
    mode: KeyMode,
    /// Tools it is shown at most.
    tools_max: u32,
    /// Characters of a tool's description at most.
    description_max: u32,
    /// Seconds after which a call is answered that it took too long.
    deadline_s: u32,
    /// `connected` (there is a live socket), `connecting`, `unavailable` (see `lastError`), `waiting` (no
    /// replica holds it at the moment; one will within seconds), `disabled`.
    #[schema(schema_with = doc::xiaozhi_state)]
    state: &'static str,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// What went wrong last, while it matters: a word that a console has text for.
    #[schema(schema_with = doc::xiaozhi_fault)]
    fault: Option<XiaozhiFault>,
    /// The code that the broker closed the connection with.
    close_code: Option<u32>,
    /// The same in plain words.
    last_error: Option<String>,
    /// When it is dialled next, if that waits.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// Tools that it is shown, once connected.
    tools_shown: Option<u32>,
    /// Tools that its key sees.
    tools_total: Option<u32>,
    /// Grows with each change; the ETag.
    version: i64,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// The words for where an endpoint stands: those of its holder, and those for one that has none.
pub(crate) const STATES: [&str; 5] = ["connecting", "connected", "unavailable", "waiting", "disabled"];

/// The answer for `endpoint`, with what its holder says of it.
pub(super) fn view(endpoint: &XiaozhiEndpoint, reports: &[XiaozhiReport]) -> XiaozhiView {
    let report = reports.iter().find(|report| report.endpoint_id == endpoint.id && endpoint.enabled);
    XiaozhiView {
        id: endpoint.id,
        name: endpoint.name.clone(),
        url_masked: endpoint.masked_url(),
        enabled: endpoint.enabled,
        key_id: endpoint.key_id,
        mode: endpoint.mode,
        tools_max: endpoint.tools_max,
        description_max: endpoint.description_max,
        deadline_s: endpoint.deadline_s,
        state: match report.map(|report| report.state) {
            _ if !endpoint.enabled => "disabled",
            Some(state) => XiaozhiState::as_str(state),
            None => "waiting",
        },
        since: report.map(|report| report.since),
        fault: report.and_then(|report| report.fault),
        close_code: report.and_then(|report| report.close_code),
        last_error: report.and_then(|report| report.last_error.clone()),
        next_attempt_at: report.and_then(|report| report.next_attempt_at),
        tools_shown: report.and_then(|report| report.tools_shown),
        tools_total: report.and_then(|report| report.tools_total),
        version: endpoint.version,
        created_at: endpoint.created_at,
        updated_at: endpoint.updated_at,
    }
}

/// What a client may set, as it would write it: what a merge patch is applied to. Its own use only: the
/// address is in it.
pub(super) fn settable(endpoint: &XiaozhiEndpoint) -> Value {
    let mut value = shown(endpoint);
    value["url"] = endpoint.url.expose().as_str().into();
    value
}

/// The same for the audit log: the address without its token, and what tells tokens apart.
pub(super) fn audited(endpoint: &XiaozhiEndpoint, fingerprint: &Fingerprint) -> Value {
    let mut value = shown(endpoint);
    value["url"] = endpoint.masked_url().into();
    value["token"] = fingerprint.of(endpoint.url.expose());
    value
}

fn shown(endpoint: &XiaozhiEndpoint) -> Value {
    json!({
        "name": endpoint.name,
        "enabled": endpoint.enabled,
        "keyId": endpoint.key_id,
        "mode": endpoint.mode,
        "toolsMax": endpoint.tools_max,
        "descriptionMax": endpoint.description_max,
        "deadlineS": endpoint.deadline_s,
    })
}
