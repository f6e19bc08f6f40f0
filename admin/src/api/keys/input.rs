//! Reading a key from a body: a whole one, or a merge patch on a stored one.

use ipnet::IpNet;
use serde_json::Value;
use sql::model::{ApiKey, KeyMode, RateLimit, Timestamp, UpstreamId};
use sql::{Tx, upstreams};
use utoipa::ToSchema;

use super::wire::{self, RateLimitView};
use crate::doc;
use crate::error::ApiError;
use crate::fields::{self, Fields, Problems, flag, integer, parsed, served};
use crate::merge::merge;

/// Upstreams that one key names; who wants more wants all.
const UPSTREAM_IDS_MAX: usize = 1_000;

/// Networks that one key names; each request is compared with them.
const CIDRS_MAX: usize = 256;

/// The largest rate: beyond it a limit limits nothing.
const RATE_MAX: u32 = 1_000_000;

/// The longest window of a rate: a day. Longer ones are quotas.
const WINDOW_S_MAX: u32 = 86_400;

/// The largest quota; far from overflow.
const QUOTA_MAX: u64 = 1_000_000_000_000;

/// A key as a client writes it.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewApiKey)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct KeyBody {
    /// Unique, 1 to 100 characters.
    name: String,
    /// Whether it works; true if not said.
    enabled: Option<bool>,
    /// When it stops working; never if not said.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// What its caller sees; `inherit` if not said.
    #[schema(schema_with = doc::key_mode)]
    mode: Option<KeyMode>,
    /// The upstreams it may use; all if not said.
    upstream_ids: Option<Vec<uuid::Uuid>>,
    /// Where calls may come from, such as `10.0.0.0/8` or `192.0.2.7`; anywhere if not said.
    allowed_cidrs: Option<Vec<String>>,
    /// How fast calls may come; as fast as they like if not said.
    rate_limit: Option<RateLimitView>,
    /// Calls a day.
    quota_per_day: Option<u64>,
    /// Calls a month.
    quota_per_month: Option<u64>,
}

/// A merge patch (RFC 7396) on a key: absent fields stay, `null` brings back the default.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKeyPatch)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct KeyPatch {
    /// Unique, 1 to 100 characters.
    name: Option<String>,
    /// Whether it works.
    enabled: Option<bool>,
    /// When it stops working.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// What its caller sees.
    #[schema(schema_with = doc::key_mode)]
    mode: Option<KeyMode>,
    /// The upstreams it may use.
    upstream_ids: Option<Vec<uuid::Uuid>>,
    /// Where calls may come from.
    allowed_cidrs: Option<Vec<String>>,
    /// How fast calls may come.
    rate_limit: Option<RateLimitView>,
    /// Calls a day.
    quota_per_day: Option<u64>,
    /// Calls a month.
    quota_per_month: Option<u64>,
}

/// What a client says of a key.
pub(super) struct Input {
    name: String,
    enabled: bool,
    expires_at: Option<Timestamp>,
    mode: KeyMode,
    upstream_ids: Option<Vec<UpstreamId>>,
    allowed_cidrs: Vec<IpNet>,
    rate_limit: Option<RateLimit>,
    quota_per_day: Option<u64>,
    quota_per_month: Option<u64>,
}

impl Input {
    /// `key` with what the client says of it.
    pub(super) fn apply(self, key: ApiKey) -> ApiKey {
        ApiKey {
            name: self.name,
            enabled: self.enabled,
            expires_at: self.expires_at,
            mode: self.mode,
            upstream_ids: self.upstream_ids,
            allowed_cidrs: self.allowed_cidrs,
            rate_limit: self.rate_limit,
            quota_per_day: self.quota_per_day,
            quota_per_month: self.quota_per_month,
            ..key
        }
    }

    /// Refuses upstreams that don't exist; `stored` may name some that were deleted since.
    pub(super) async fn check_upstreams(&self, tx: &mut Tx, stored: Option<&ApiKey>) -> Result<(), ApiError> {
        let known = stored.and_then(|key| key.upstream_ids.as_deref()).unwrap_or_default();
        let mut problems = Problems::default();
        for (index, id) in self.upstream_ids.iter().flatten().enumerate() {
            if !known.contains(id) && upstreams::get(tx, *id).await?.is_none() {
                problems.add(format!("/upstreamIds/{index}"), "is not the id of an upstream");
            }
        }
        problems.unless_any(Some(()))
    }
}

/// Reads a whole key. An expiry lies ahead, unless it is the one that is `stored`.
pub(super) fn parse(value: Value, now: Timestamp, stored: Option<&ApiKey>) -> Result<Input, ApiError> {
    let mut problems = Problems::default();
    let input = read(value, now, stored, &mut problems);
    problems.unless_any(input)
}

/// Reads a merge patch on `stored`.
pub(super) fn parse_patch(patch: Value, now: Timestamp, stored: &ApiKey) -> Result<Input, ApiError> {
    if !patch.is_object() {
        return Err(ApiError::field("", "must be an object"));
    }
    let mut whole = wire::settable(stored);
    merge(&mut whole, patch);
    parse(whole, now, Some(stored))
}

fn read(value: Value, now: Timestamp, stored: Option<&ApiKey>, problems: &mut Problems) -> Option<Input> {
    let mut fields = Fields::open(value, "", problems)?;
    let name = fields.required("name", problems, fields::name(1..=100));
    let kept = stored.and_then(|key| key.expires_at);
    let rest = Input {
        name: name.unwrap_or_default(),
        enabled: fields.optional("enabled", problems, flag).unwrap_or(true),
        expires_at: fields.optional("expiresAt", problems, |value| {
            let at: Timestamp = parsed(value)?;
            if at > now || Some(at) == kept { Ok(at) } else { Err("must lie ahead".into()) }
        }),
        mode: fields.optional("mode", problems, parsed).unwrap_or(KeyMode::Inherit),
        upstream_ids: upstream_ids(&mut fields, problems),
        allowed_cidrs: cidrs(&mut fields, problems).unwrap_or_default(),
        rate_limit: rate_limit(&mut fields, problems),
        quota_per_day: fields.optional("quotaPerDay", problems, served(integer(1..=QUOTA_MAX), |_| false)),
        quota_per_month: fields.optional(
            "quotaPerMonth",
            problems,
            served(integer(1..=QUOTA_MAX), |_| false),
        ),
    };
    fields.close(problems);
    Some(rest)
}

fn upstream_ids(fields: &mut Fields, problems: &mut Problems) -> Option<Vec<UpstreamId>> {
    let value = fields.take("upstreamIds")?;
    let mut ids =
        fields::list(value, &fields.at("upstreamIds"), UPSTREAM_IDS_MAX, problems, |value, at, problems| {
            parsed::<UpstreamId>(value).map_err(|_| problems.add(at, "is not the id of an upstream")).ok()
        })?;
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(*id));
    Some(ids)
}

fn cidrs(fields: &mut Fields, problems: &mut Problems) -> Option<Vec<IpNet>> {
    let value = fields.take("allowedCidrs")?;
    fields::list(value, &fields.at("allowedCidrs"), CIDRS_MAX, problems, |value, at, problems| {
        cidr(value).map_err(|message| problems.add(at, message)).ok()
    })
}

fn cidr(value: Value) -> Result<IpNet, String> {
    let expected = || "must be a network like 10.0.0.0/8, or an address".to_owned();
    let text: String = parsed(value).map_err(|_| expected())?;
    let net = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| expected())?;
    // Callers are compared by their unmapped address, which a mapped network would never hold.
    if let IpNet::V6(v6) = net
        && v6.addr().to_ipv4_mapped().is_some()
    {
        return Err("must be written as IPv4".into());
    }
    Ok(net.trunc())
}

fn rate_limit(fields: &mut Fields, problems: &mut Problems) -> Option<RateLimit> {
    let pointer = fields.at("rateLimit");
    let mut limit = Fields::open(fields.take("rateLimit")?, &pointer, problems)?;
    let messages = limit.required("limit", problems, integer(1..=RATE_MAX));
    let window_s = limit.required("windowS", problems, integer(1..=WINDOW_S_MAX));
    limit.close(problems);
    Some(RateLimit { limit: messages?, window_s: window_s? })
}
