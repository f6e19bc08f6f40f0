//! What calls came to: sums, charts, rankings, and the calls themselves.
//!
//! All but the list of calls is made of sums that are written with the records, so that it costs little and holds
//! when the records are gone. A range of time is answered in whole minutes, or, where it began more than two days
//! ago, in whole quarters of an hour: the answer says which range it is about.

pub(crate) mod calls;
mod names;
mod query;
pub(crate) mod ranking;
#[cfg(test)]
mod scene;
pub(crate) mod summary;
pub(crate) mod timeseries;

use serde::Serialize;
use sql::model::{CallOutcome, Tally};
use utoipa::ToSchema;

/// Microseconds in a millisecond.
const US_PER_MS: f64 = 1_000.0;

/// How long calls took. Null: there were none. Off by 3.2 % at most.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct LatencyView {
    /// Half of the calls took no longer, in milliseconds.
    #[serde(rename = "p50Ms")]
    p50: Option<f64>,
    /// 95 of 100 took no longer.
    #[serde(rename = "p95Ms")]
    p95: Option<f64>,
    /// 99 of 100 took no longer.
    #[serde(rename = "p99Ms")]
    p99: Option<f64>,
}

impl LatencyView {
    fn of(tally: &Tally) -> Self {
        let at = |per_mille| tally.latencies.percentile(per_mille).map(millis);
        Self { p50: at(500), p95: at(950), p99: at(990) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a latency in microseconds has fewer than 53 bits")]
fn millis(us: u64) -> f64 {
    us as f64 / US_PER_MS
}

/// Whether a call that ended like this failed. One that its own client withdrew didn't.
fn is_error(outcome: CallOutcome) -> bool {
    match outcome {
        CallOutcome::Ok | CallOutcome::Cancelled => false,
        CallOutcome::ToolError
        | CallOutcome::UpstreamError
        | CallOutcome::Timeout
        | CallOutcome::Unavailable => true,
    }
}
