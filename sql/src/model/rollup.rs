//! The calls of a minute or a quarter of an hour, added up: what every chart and count is made of.

use std::time::Duration;

use super::call_record::{CallMethod, CallOutcome};
use super::closed_set::closed_set;
use super::ids::{ApiKeyId, UpstreamId};
use super::latencies::Latencies;
use super::time::Timestamp;

closed_set! {
    /// How long the calls of one rollup span.
    pub enum RollupSpan {
        /// A minute: kept for two days.
        Minute = "minute",
        /// A quarter of an hour, which every time zone's day is made of: kept as long as call records.
        Quarter = "quarter",
    }
}

impl RollupSpan {
    /// Its length.
    pub const fn length(self) -> Duration {
        match self {
            Self::Minute => Duration::from_mins(1),
            Self::Quarter => Duration::from_mins(15),
        }
    }

    /// When the span began that a moment lies in.
    pub fn start(self, at: Timestamp) -> Timestamp {
        at.floor_to(self.length())
    }

    /// When the span begins that doesn't begin before a moment.
    pub fn start_from(self, at: Timestamp) -> Timestamp {
        let start = self.start(at);
        if start < at { start.plus(self.length()) } else { start }
    }
}

/// What is added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many calls.
    pub calls: u64,
    /// What clients sent, in bytes.
    pub bytes_in: u64,
    /// What clients were given, in bytes.
    pub bytes_out: u64,
    /// How long they took together, in microseconds.
    pub latency_us: u64,
    /// How long each of them took.
    pub latencies: Latencies,
}

impl Tally {
    /// Adds another one.
    pub fn merge(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.latency_us = self.latency_us.saturating_add(other.latency_us);
        self.latencies.merge(&other.latencies);
    }
}

/// Calls of one span that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollup {
    /// When the span began in which they came.
    pub starts_at: Timestamp,
    /// At which upstream; it may be gone by now.
    pub upstream_id: UpstreamId,
    /// What was called.
    pub method: CallMethod,
    /// What clients call it.
    pub exposed_name: String,
    /// By whose key; it may be gone by now.
    pub key_id: ApiKeyId,
    /// How they ended.
    pub outcome: CallOutcome,
    /// How many and how long.
    pub tally: Tally,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_begin_on_the_minute_and_the_quarter() {
        let at: Timestamp = "2026-01-02T03:44:05.678Z".parse().expect("a time");
        for (span, start, next) in [
            (RollupSpan::Minute, "2026-01-02T03:44:00.000Z", "2026-01-02T03:45:00.000Z"),
            (RollupSpan::Quarter, "2026-01-02T03:30:00.000Z", "2026-01-02T03:45:00.000Z"),
        ] {
            assert_eq!(
                (span.start(at).to_string(), span.start_from(at).to_string()),
                (start.into(), next.into())
            );
            assert_eq!(span.start_from(span.start(at)), span.start(at));
        }
        let before: Timestamp = "1969-12-31T23:59:59Z".parse().expect("a time");
        assert_eq!(RollupSpan::Quarter.start(before).to_string(), "1969-12-31T23:45:00.000Z");
    }
}
