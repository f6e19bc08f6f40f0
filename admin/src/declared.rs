//! Bodies that come from a file instead of a request: read by the same parsers, audited alike.
//!
//! Whoever applies such a file asks the data plane's policy, and writes the audit events in the
//! transaction that does what the file says.

use serde_json::Value;
use sql::Sealer;
use sql::model::{
    AliasRule, ApiKey, FieldError, FilterRule, NewUpstream, RuleId, RuleOwner, Settings, Timestamp, Upstream,
    XiaozhiEndpoint,
};

use crate::api::{keys, rules, upstreams, xiaozhi};
use crate::audit::{self, Fingerprint};
use crate::error::ApiError;

/// Reads an upstream, as `POST /api/admin/upstreams` does; its place is 0 if the body says none.
pub fn parse_upstream(body: Value) -> Result<NewUpstream, Vec<FieldError>> {
    upstreams::declared(body).map_err(field_errors)
}

/// Reads what `POST /api/admin/keys` takes, and lays it over `key`. An expiry may have passed: a file
/// outlives it.
pub fn parse_key(body: Value, key: ApiKey) -> Result<ApiKey, Vec<FieldError>> {
    keys::declared(body, key).map_err(field_errors)
}

/// Reads what `POST /api/admin/rules/aliases` takes but for `owner`, which a file names otherwise, and says
/// whether it gives the rule a place.
pub fn parse_alias(
    body: Value,
    owner: RuleOwner,
    id: RuleId,
    now: Timestamp,
) -> Result<(AliasRule, bool), Vec<FieldError>> {
    rules::declared_alias(body, owner, id, now).map_err(field_errors)
}

/// The same for a filter rule.
pub fn parse_filter(
    body: Value,
    owner: RuleOwner,
    id: RuleId,
    now: Timestamp,
) -> Result<(FilterRule, bool), Vec<FieldError>> {
    rules::declared_filter(body, owner, id, now).map_err(field_errors)
}

/// What the audit log keeps of a change to an alias rule.
pub fn alias_diff(before: Option<&AliasRule>, after: &AliasRule) -> Value {
    rules::alias_diff(before, after)
}

/// What the audit log keeps of a change to a filter rule.
pub fn filter_diff(before: Option<&FilterRule>, after: &FilterRule) -> Value {
    rules::filter_diff(before, after)
}

/// What the audit log keeps of a change to an upstream.
pub fn upstream_diff(before: Option<&Upstream>, after: &Upstream, sealer: &Sealer) -> Value {
    let fingerprint = Fingerprint::new(sealer);
    let audited = |upstream: &Upstream| upstreams::audited(upstream, &fingerprint);
    audit::diff(before.map(audited).as_ref(), Some(&audited(after)))
}

/// What the audit log keeps of a change to a key.
pub fn key_diff(before: Option<&ApiKey>, after: &ApiKey) -> Value {
    audit::diff(before.map(keys::audited).as_ref(), Some(&keys::audited(after)))
}

/// Reads what `POST /api/admin/xiaozhi` takes, and lays it over `endpoint`.
pub fn parse_xiaozhi(body: Value, endpoint: &XiaozhiEndpoint) -> Result<XiaozhiEndpoint, Vec<FieldError>> {
    xiaozhi::declared(body, endpoint).map_err(field_errors)
}

/// What the audit log keeps of a change to a XiaoZhi endpoint.
pub fn xiaozhi_diff(before: Option<&XiaozhiEndpoint>, after: &XiaozhiEndpoint, sealer: &Sealer) -> Value {
    let fingerprint = Fingerprint::new(sealer);
    let audited = |endpoint: &XiaozhiEndpoint| xiaozhi::audited(endpoint, &fingerprint);
    audit::diff(before.map(audited).as_ref(), Some(&audited(after)))
}

/// What the audit log keeps of a change to the settings.
pub fn settings_diff(before: &Settings, after: &Settings) -> Value {
    audit::diff(Some(&before.document()), Some(&after.document()))
}

/// A parser of bodies has nothing else to say than which fields are wrong.
fn field_errors(error: ApiError) -> Vec<FieldError> {
    match error {
        ApiError::Invalid(errors) => errors,
        error => vec![FieldError::new("", error.to_string())],
    }
}
