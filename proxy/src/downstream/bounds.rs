//! How long a call may take, and how much it may answer.

use std::time::Duration;

use sql::model::Upstream;

use super::dispatch::Asked;

/// What bounds a call.
pub(super) struct Bounds {
    pub(super) idle: Duration,
    pub(super) total: Duration,
    pub(super) response_bytes_max: usize,
}

/// The bounds of a call at an upstream, by the settings in force.
pub(super) fn of(asked: &Asked, upstream: &Upstream) -> Bounds {
    let settings = asked.view.settings();
    let idle_s = upstream.call_timeout_s.unwrap_or(settings.aggregation.upstream_call_timeout_s);
    Bounds {
        idle: Duration::from_secs(u64::from(idle_s)),
        total: Duration::from_secs(u64::from(settings.aggregation.call_total_timeout_s)),
        response_bytes_max: settings.mcp_api.response_body_max_mib as usize * 1024 * 1024,
    }
}
