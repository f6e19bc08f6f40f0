//! How an upstream looks on the wire and in the audit log.
//!
//! A secret value is answered as `{"secret": true}`. Sent back in a PATCH, that placeholder keeps
//! what is stored in its place: for headers and environment by name; for arguments in order, and
//! only if there are as many placeholders as secrets.

use std::collections::BTreeMap;

use proxy::bridge::degraded::Reason;
use proxy::bridge::matrix::{self, CapabilityMatrix};
use proxy::control::{ConnectionState, OAuthState, OAuthStatus, UpstreamStatus};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use sql::model::{
    ConnParams, Era, Isolation, OnToolChange, Protocol, SyncSwitches, Timestamp, Transport, Upstream,
    UpstreamId, Value,
};
use utoipa::ToSchema;

use crate::audit::{Fingerprint, redact_url};
use crate::doc;

/// An upstream and how it fares.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Upstream)]
#[expect(clippy::struct_excessive_bools, reason = "as many switches as an upstream has")]
pub(crate) struct UpstreamView {
    /// Which.
    #[schema(value_type = uuid::Uuid)]
    id: UpstreamId,
    /// Unique.
    name: String,
    /// How it is spoken to.
    #[schema(schema_with = doc::transport)]
    transport: Transport,
    /// How it is reached, with `{"secret": true}` for each secret.
    #[schema(value_type = super::input::ConnParamsBody)]
    conn_params: Json,
    /// Whether a credential is stored.
    credential_set: bool,
    /// Whether it is connected and its lists are shown.
    enabled: bool,
    /// Its place among the upstreams.
    sort_order: i64,
    /// Whether the schedule syncs it.
    auto_sync: bool,
    /// What stands before its exposed names.
    name_prefix: String,
    /// Who shares a session.
    #[schema(schema_with = doc::isolation)]
    isolation: Isolation,
    /// Which era of the protocol it is spoken to in.
    #[schema(schema_with = doc::protocol)]
    protocol: Protocol,
    /// The longest silence of a call, instead of the setting.
    call_timeout_s: Option<u32>,
    /// Words to find it by.
    tags: Vec<String>,
    /// What happens when a definition changes.
    #[schema(schema_with = doc::on_tool_change)]
    on_tool_change: OnToolChange,
    /// Whether invisible characters, comments and words for models alone are stripped from its definitions.
    sanitize: bool,
    /// Which lists are fetched.
    #[schema(value_type = super::input::SyncBody)]
    sync: SyncSwitches,
    /// Where its connection stands.
    #[schema(schema_with = doc::connection_state)]
    state: ConnectionState,
    /// When that state began.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Why the last attempt failed.
    last_error: Option<String>,
    /// How its authorisation stands; null if it neither has one nor asks for one.
    oauth: Option<OAuthView>,
    /// `legacy` or `modern`, once known.
    #[schema(value_type = Option<String>)]
    era: Option<Era>,
    /// The version both sides agreed on.
    protocol_version: Option<String>,
    /// What it says of itself.
    #[schema(value_type = Option<Object>)]
    server_info: Option<Json>,
    /// What it can do.
    #[schema(value_type = Option<Object>)]
    capabilities: Option<Json>,
    /// Calls that wait for its answer.
    calls_in_flight: u64,
    /// Its requests and log messages that belonged to no one client.
    unattributed: u64,
    /// What it sent that was no message.
    dropped_lines: u64,
    /// What its clients could not be given: how often, by the letter of the reason.
    #[schema(value_type = BTreeMap<String, u64>)]
    degraded: BTreeMap<Reason, u64>,
    /// What clients of each era get of it, once its era is known.
    #[schema(value_type = Option<super::matrix::MatrixBody>)]
    capability_matrix: Option<CapabilityMatrix>,
    /// Grows with each change; the ETag.
    version: i64,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// How an upstream's authorisation stands. No token is ever shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UpstreamOAuth)]
pub(crate) struct OAuthView {
    /// In one word.
    #[schema(schema_with = doc::oauth_state)]
    state: OAuthState,
    /// Who granted the token, if there is one.
    issuer: Option<String>,
    /// What the token allows.
    scopes: Vec<String>,
    /// When the token ends, if its end is known; it is renewed before.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// The scopes that the upstream asked for last and the token lacks.
    missing_scope: Option<String>,
}

impl From<OAuthStatus> for OAuthView {
    fn from(status: OAuthStatus) -> Self {
        Self {
            state: status.state,
            issuer: status.issuer,
            scopes: status.scopes,
            expires_at: status.expires_at,
            missing_scope: status.missing_scope,
        }
    }
}

/// The answer for `upstream`.
pub(super) fn view(upstream: &Upstream, status: Option<UpstreamStatus>) -> UpstreamView {
    // Just stored, or just switched: the data plane follows within moments.
    let followed = status.filter(|status| (status.state == ConnectionState::Disabled) != upstream.enabled);
    let unheard = if upstream.enabled { ConnectionState::Connecting } else { ConnectionState::Disabled };
    let status = followed.as_ref();
    UpstreamView {
        id: upstream.id,
        name: upstream.name.clone(),
        transport: upstream.transport,
        conn_params: conn_params(&upstream.conn_params, &|_| placeholder()),
        credential_set: upstream.credential.is_some(),
        enabled: upstream.enabled,
        sort_order: upstream.sort_order,
        auto_sync: upstream.auto_sync,
        name_prefix: upstream.name_prefix.clone(),
        isolation: upstream.isolation,
        protocol: upstream.protocol,
        call_timeout_s: upstream.call_timeout_s,
        tags: upstream.tags.clone(),
        on_tool_change: upstream.on_tool_change,
        sanitize: upstream.sanitize,
        sync: upstream.sync,
        state: status.map_or(unheard, |status| status.state),
        since: status.map(|status| status.since),
        last_error: status.and_then(|status| status.last_error.clone()),
        oauth: status.and_then(|status| status.oauth.clone()).map(OAuthView::from),
        era: status.and_then(|status| status.era),
        protocol_version: status.and_then(|status| status.protocol_version.clone()),
        server_info: status.and_then(|status| status.server_info.clone()),
        capabilities: status.and_then(|status| status.capabilities.clone()),
        calls_in_flight: status.map_or(0, |status| status.calls_in_flight),
        unattributed: status.map_or(0, |status| status.unattributed),
        dropped_lines: status.map_or(0, |status| status.dropped_lines),
        degraded: status.map(|status| status.degraded.clone()).unwrap_or_default(),
        capability_matrix: status.and_then(|status| matrix_of(upstream, status)),
        version: upstream.version,
        created_at: upstream.created_at,
        updated_at: upstream.updated_at,
    }
}

/// What clients get of an upstream that has been spoken with.
fn matrix_of(upstream: &Upstream, status: &UpstreamStatus) -> Option<CapabilityMatrix> {
    Some(matrix::matrix(matrix::Facts {
        era: status.era?,
        protocol_version: status.protocol_version.as_deref()?,
        transport: upstream.transport,
        isolation: upstream.isolation,
        capabilities: status.capabilities.as_ref()?,
    }))
}

/// What a client may set, as it would write it: what a merge patch is applied to.
pub(super) fn settable(upstream: &Upstream) -> Json {
    fields(upstream, &|_| placeholder(), str::to_owned)
}

/// The same for the audit log: secrets as fingerprints, the URL without tokens.
pub(super) fn audited(upstream: &Upstream, fingerprint: &Fingerprint) -> Json {
    fields(upstream, &|secret| fingerprint.of(secret), redact_url)
}

/// What is answered in the place of a secret.
pub(super) fn placeholder() -> Json {
    json!({ "secret": true })
}

type OfSecret<'a> = &'a dyn Fn(&str) -> Json;

fn fields(upstream: &Upstream, of_secret: OfSecret<'_>, of_url: fn(&str) -> String) -> Json {
    let mut conn_params = conn_params(&upstream.conn_params, of_secret);
    if let Some(url) = conn_params.get_mut("url") {
        *url = of_url(url.as_str().unwrap_or_default()).into();
    }
    json!({
        "name": upstream.name,
        "transport": upstream.transport,
        "connParams": conn_params,
        "credential": upstream.credential.as_ref().map(|credential| of_secret(credential.expose())),
        "enabled": upstream.enabled,
        "sortOrder": upstream.sort_order,
        "autoSync": upstream.auto_sync,
        "namePrefix": upstream.name_prefix,
        "isolation": upstream.isolation,
        "protocol": upstream.protocol,
        "callTimeoutS": upstream.call_timeout_s,
        "tags": upstream.tags,
        "onToolChange": upstream.on_tool_change,
        "sanitize": upstream.sanitize,
        "sync": upstream.sync,
    })
}

fn conn_params(params: &ConnParams, of_secret: OfSecret<'_>) -> Json {
    let value = |value: &Value| match value {
        Value::Plain(text) => Json::from(text.as_str()),
        Value::Secret(secret) => of_secret(secret.expose()),
    };
    let named = |values: &BTreeMap<String, Value>| -> Map<String, Json> {
        values.iter().map(|(name, one)| (name.clone(), value(one))).collect()
    };
    match params {
        ConnParams::Stdio { command, args, env, cwd } => json!({
            "command": command,
            "args": args.iter().map(value).collect::<Vec<Json>>(),
            "env": named(env),
            "cwd": cwd,
        }),
        ConnParams::Http { url, headers } => json!({ "url": url, "headers": named(headers) }),
    }
}
