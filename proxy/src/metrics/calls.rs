//! How many calls each upstream had, how they ended and how long they took.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sql::model::{CallOutcome, UpstreamId};

/// The upper bounds of the buckets, in microseconds: those that OpenTelemetry's conventions for MCP ask for, and
/// three below them, where a gateway's own share lies.
pub const BOUNDS_US: [u64; 17] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
];

/// What calls to one upstream came to, since this process started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamCalls {
    /// Calls by how they ended, in the order of [`CallOutcome::ALL`].
    pub outcomes: [u64; CallOutcome::ALL.len()],
    /// Calls in each bucket (not cumulated), the last being what lies beyond all bounds.
    pub buckets: [u64; BOUNDS_US.len() + 1],
    /// How long all of them took, in microseconds.
    pub latency_us: u64,
    /// What clients sent, in bytes.
    pub bytes_in: u64,
    /// What clients were given, in bytes.
    pub bytes_out: u64,
}

/// Calls by upstream. Clones share the counts. Locked by the one that counts, some calls at a time, and by the one
/// that shows them.
#[derive(Clone, Default)]
pub struct CallMeters(Arc<Mutex<HashMap<UpstreamId, UpstreamCalls>>>);

/// The counts, held.
pub struct OpenMeters<'a>(MutexGuard<'a, HashMap<UpstreamId, UpstreamCalls>>);

impl CallMeters {
    /// Holds the counts until the end of what this answers. Nothing may be awaited meanwhile.
    pub fn open(&self) -> OpenMeters<'_> {
        OpenMeters(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl OpenMeters<'_> {
    /// Counts one call: how long it took in microseconds, what came in and what went out in bytes.
    pub fn count(&mut self, id: UpstreamId, outcome: CallOutcome, latency_us: u64, bytes: (u64, u64)) {
        let calls = self.0.entry(id).or_default();
        calls.outcomes[outcome as usize] += 1;
        calls.buckets[BOUNDS_US.partition_point(|bound| *bound < latency_us)] += 1;
        calls.latency_us = calls.latency_us.saturating_add(latency_us);
        calls.bytes_in = calls.bytes_in.saturating_add(bytes.0);
        calls.bytes_out = calls.bytes_out.saturating_add(bytes.1);
    }

    /// What an upstream's calls came to.
    pub fn of(&self, id: UpstreamId) -> UpstreamCalls {
        self.0.get(&id).cloned().unwrap_or_default()
    }

    /// Forgets the upstreams that are gone: those that come and go must not pile up.
    pub fn keep(&mut self, is_there: impl Fn(UpstreamId) -> bool) {
        self.0.retain(|id, _| is_there(*id));
    }

    /// The calls of one upstream.
    #[cfg(test)]
    pub(crate) fn total(&self, id: UpstreamId) -> u64 {
        self.of(id).outcomes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use sql::model::Timestamp;

    use super::*;

    #[test]
    fn a_call_is_counted_by_its_end_and_its_length() {
        let meters = CallMeters::default();
        let id = UpstreamId::at(Timestamp::from_millis(0));
        let mut open = meters.open();
        for (outcome, us) in [
            (CallOutcome::Ok, 0),
            (CallOutcome::Ok, 1_000),
            (CallOutcome::Ok, 1_001),
            (CallOutcome::Timeout, 300_000_001),
        ] {
            open.count(id, outcome, us, (3, 5));
        }
        let calls = open.of(id);
        assert_eq!(
            (calls.outcomes[CallOutcome::Ok as usize], calls.outcomes[CallOutcome::Timeout as usize]),
            (3, 1)
        );
        assert_eq!((calls.buckets[0], calls.buckets[1], calls.buckets[17]), (2, 1, 1));
        assert_eq!((calls.bytes_in, calls.bytes_out, calls.latency_us), (12, 20, 300_002_002));
        open.keep(|_| false);
        assert_eq!(open.of(id), UpstreamCalls::default());
    }
}
