//! The settings that an admin may change while the gateway runs, with their defaults and ranges.
//!
//! A document has one object per group and snake_case keys, in YAML and in JSON. Reading a stored
//! document is lenient (a missing key has its default, a key of a newer release is passed over);
//! taking a change from a person is strict ([`Settings::merge_patch`]).

mod check;
mod cron;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::closed_set::closed_set;
use super::field_error::FieldError;

closed_set! {
    /// What a caller sees whose key and path don't say.
    pub enum Mode {
        /// Four discovery tools.
        Smart = "smart",
        /// Every tool.
        Full = "full",
    }
}

closed_set! {
    /// What becomes of shared limits while Redis is lost.
    pub enum RedisLost {
        /// Each replica limits by itself, at its share.
        Local = "local",
        /// Nothing is limited.
        Open = "open",
        /// Everything is refused.
        Closed = "closed",
    }
}

/// All settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The console's sessions.
    pub auth: Auth,
    /// Fetching the lists of upstreams.
    pub sync: Sync,
    /// Connecting to upstreams.
    pub connection: Connection,
    /// Calling upstreams.
    pub aggregation: Aggregation,
    /// Exposed names.
    pub naming: Naming,
    /// The MCP endpoints.
    pub mcp_api: McpApi,
    /// Call records and charts.
    pub statistics: Statistics,
    /// The audit log.
    pub audit: Audit,
    /// What one caller, and all together, may hold.
    pub limits: Limits,
}

/// The console's sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Auth {
    /// How long an admin token lives.
    pub session_timeout_s: u32,
}

/// Fetching the lists of upstreams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sync {
    /// When: 5 or 6 cron fields, or a descriptor.
    pub cron: String,
    /// How long one sync may take.
    pub timeout_s: u32,
}

/// Connecting to upstreams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connection {
    /// How long one attempt may take.
    pub connect_timeout_s: u32,
    /// The wait after the first failure.
    pub retry_initial_backoff_s: u32,
    /// By how much each wait is longer than the one before.
    pub retry_multiplier: f64,
    /// The longest wait.
    pub retry_max_backoff_s: u32,
    /// After so many failures in a row an upstream is suspended.
    pub failure_threshold: u32,
}

/// Calling upstreams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Aggregation {
    /// The longest silence of a call; progress ends a silence.
    pub upstream_call_timeout_s: u32,
    /// The longest a call may take in all.
    pub call_total_timeout_s: u32,
}

/// Exposed names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Naming {
    /// The longest exposed name, in characters.
    pub length_max: u32,
}

/// The MCP endpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct McpApi {
    /// What a caller sees whose key and path don't say.
    pub mode: Mode,
    /// Items in one answer of smart mode.
    pub smart_discovery_limit: u32,
    /// The largest request.
    pub request_body_max_mib: u32,
    /// The largest answer of an upstream.
    pub response_body_max_mib: u32,
}

/// Call records and charts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Statistics {
    /// Whether calls are recorded at all.
    pub enabled: bool,
    /// How long records and charts are kept.
    pub retention_days: u32,
    /// Lines of a ranking.
    pub top_limit_default: u32,
    /// The most records kept; none = 2 million on SQLite, 200 million on Postgres.
    pub records_max: Option<u64>,
}

/// The audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Audit {
    /// How long events are kept.
    pub retention_days: u32,
    /// Events on one page.
    pub page_size_default: u32,
}

/// What one caller, and all together, may hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Open streams of one key.
    pub streams_per_key: u32,
    /// Connections of all clients.
    pub connections_total: u32,
    /// Calls of one key that wait for an answer.
    pub calls_in_flight_per_key: u32,
    /// Sessions that one upstream is given.
    pub sessions_per_upstream: u32,
    /// How long a legacy session lives.
    pub session_ttl_s: u32,
    /// What becomes of shared limits while Redis is lost.
    pub redis_lost: RedisLost,
}

impl Limits {
    /// The longest that a legacy session can be made to live, in seconds.
    pub const SESSION_TTL_S_MAX: u64 = 2_592_000;
}

impl Default for Auth {
    fn default() -> Self {
        Self { session_timeout_s: 3_600 }
    }
}

impl Default for Sync {
    fn default() -> Self {
        Self { cron: "0 */30 * * * *".into(), timeout_s: 30 }
    }
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            connect_timeout_s: 30,
            retry_initial_backoff_s: 1,
            retry_multiplier: 2.0,
            retry_max_backoff_s: 60,
            failure_threshold: 5,
        }
    }
}

impl Default for Aggregation {
    fn default() -> Self {
        Self { upstream_call_timeout_s: 60, call_total_timeout_s: 3_600 }
    }
}

impl Default for Naming {
    fn default() -> Self {
        Self { length_max: 64 }
    }
}

impl Default for McpApi {
    fn default() -> Self {
        Self {
            mode: Mode::Full,
            smart_discovery_limit: 50,
            request_body_max_mib: 4,
            response_body_max_mib: 64,
        }
    }
}

impl Default for Statistics {
    fn default() -> Self {
        Self { enabled: true, retention_days: 90, top_limit_default: 10, records_max: None }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self { retention_days: 180, page_size_default: 20 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_per_key: 100,
            connections_total: 20_000,
            calls_in_flight_per_key: 256,
            sessions_per_upstream: 64,
            session_ttl_s: 86_400,
            redis_lost: RedisLost::Local,
        }
    }
}

impl Settings {
    /// What lies outside its range; nothing if all is well.
    pub fn validate(&self) -> Vec<FieldError> {
        check::violations(&self.document())
    }

    /// These settings with `patch` (RFC 7396) applied and checked: `null` brings back a default,
    /// and a key that doesn't exist is an error.
    pub fn merge_patch(&self, patch: &Value) -> Result<Self, Vec<FieldError>> {
        check::merge(&self.document(), &Self::default().document(), patch)
    }

    /// The settings as a JSON document.
    pub fn document(&self) -> Value {
        serde_json::to_value(self).expect("settings have text keys and finite numbers")
    }
}

#[cfg(test)]
mod tests;
