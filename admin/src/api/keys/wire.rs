//! How a key looks on the wire and in the audit log: never its secret, never its hash.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use serde_json::{Value, json};
use sql::model::{ApiKey, ApiKeyId, KeyMode, RateLimit, Timestamp, UpstreamId};
use utoipa::ToSchema;

use crate::doc;

/// A key, without its secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKey)]
pub(crate) struct KeyView {
    /// Which.
    #[schema(value_type = uuid::Uuid)]
    id: ApiKeyId,
    /// Unique.
    name: String,
    /// The first 12 characters of the secret.
    prefix: String,
    /// Whether it works.
    enabled: bool,
    /// When it stops working.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// What its caller sees.
    #[schema(schema_with = doc::key_mode)]
    mode: KeyMode,
    /// The upstreams it may use; null = all.
    #[schema(value_type = Option<Vec<uuid::Uuid>>)]
    upstream_ids: Option<Vec<UpstreamId>>,
    /// Where calls may come from; empty = anywhere.
    #[schema(value_type = Vec<String>)]
    allowed_cidrs: Vec<IpNet>,
    /// How fast calls may come.
    rate_limit: Option<RateLimitView>,
    /// Calls a day.
    quota_per_day: Option<u64>,
    /// Calls a month.
    quota_per_month: Option<u64>,
    /// Until when the secret before the last rotation works, if it does.
    #[schema(value_type = Option<String>, format = DateTime)]
    previous_until: Option<Timestamp>,
    /// When it was last used.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    /// From where it was last used.
    #[schema(value_type = Option<String>)]
    last_ip: Option<IpAddr>,
    /// Grows with each change; the ETag.
    version: i64,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// So many client messages in a window, with a burst of the same size.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RateLimit)]
pub(crate) struct RateLimitView {
    /// Messages, 1 to 1,000,000.
    limit: u32,
    /// In so many seconds, 1 to 86,400.
    window_s: u32,
}

/// A key and its secret, which is shown this once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewKeyView {
    /// The key.
    #[serde(flatten)]
    pub(super) key: KeyView,
    /// The secret. It can't be shown again.
    pub(super) plaintext_key: String,
}

/// The answer for `key`.
pub(super) fn view(key: &ApiKey) -> KeyView {
    KeyView {
        id: key.id,
        name: key.name.clone(),
        prefix: key.prefix.clone(),
        enabled: key.enabled,
        expires_at: key.expires_at,
        mode: key.mode,
        upstream_ids: key.upstream_ids.clone(),
        allowed_cidrs: key.allowed_cidrs.clone(),
        rate_limit: key.rate_limit.map(rate_limit),
        quota_per_day: key.quota_per_day,
        quota_per_month: key.quota_per_month,
        previous_until: key.previous.as_ref().map(|previous| previous.until),
        last_used_at: key.last_used_at,
        last_ip: key.last_ip,
        version: key.version,
        created_at: key.created_at,
        updated_at: key.updated_at,
    }
}

/// What a client may set, as it would write it: what a merge patch is applied to.
pub(super) fn settable(key: &ApiKey) -> Value {
    json!({
        "name": key.name,
        "enabled": key.enabled,
        "expiresAt": key.expires_at,
        "mode": key.mode,
        "upstreamIds": key.upstream_ids,
        "allowedCidrs": key.allowed_cidrs,
        "rateLimit": key.rate_limit.map(rate_limit),
        "quotaPerDay": key.quota_per_day,
        "quotaPerMonth": key.quota_per_month,
    })
}

/// The same for the audit log, with what tells secrets apart.
pub(super) fn audited(key: &ApiKey) -> Value {
    let mut value = settable(key);
    value["prefix"] = json!(key.prefix);
    value["previousUntil"] = json!(key.previous.as_ref().map(|previous| previous.until));
    value
}

fn rate_limit(limit: RateLimit) -> RateLimitView {
    RateLimitView { limit: limit.limit, window_s: limit.window_s }
}
