//! When an upstream fails so often that calls no longer wait for it.
//!
//! A call on an upstream that isn't connected wakes it and waits for the attempt. When that keeps
//! failing, waiting only ties up callers: the breaker opens and calls fail at once, until the failures
//! lie far enough back for one more try.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How long a failure counts.
pub(crate) const WINDOW: Duration = Duration::from_secs(30);

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// An attempt to connect.
    Attempt,
    /// A connection that stood.
    Lost,
}

/// The failures that still count.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: VecDeque<(Instant, Failure)>,
}

impl Breaker {
    /// Counts a failure; no more are kept than are needed to decide.
    pub(crate) fn failed(&mut self, failure: Failure, now: Instant, threshold: usize) {
        self.failures.push_back((now, failure));
        while self.failures.len() > threshold.max(1) {
            self.failures.pop_front();
        }
    }

    /// A handshake went through. Lost connections go on counting, so that an upstream that connects
    /// and dies at its first call is seen for what it is.
    pub(crate) fn connected(&mut self) {
        self.failures.retain(|(_, failure)| *failure == Failure::Lost);
    }

    /// A call was answered: all is well.
    pub(crate) fn answered(&mut self) {
        self.failures.clear();
    }

    /// Whether `threshold` failures lie within the window.
    pub(crate) fn is_open(&self, now: Instant, threshold: usize) -> bool {
        let counting = self.failures.iter().filter(|(at, _)| now.saturating_duration_since(*at) < WINDOW);
        counting.count() >= threshold.max(1)
    }

    /// Whether anything is counted: spares the path of a call the clearing.
    pub(crate) fn is_clear(&self) -> bool {
        self.failures.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_on_repeated_failures_and_lets_one_through_later() {
        let (start, mut breaker) = (Instant::now(), Breaker::default());
        for second in 0..5 {
            assert!(!breaker.is_open(start + Duration::from_secs(second), 5));
            breaker.failed(Failure::Attempt, start + Duration::from_secs(second), 5);
        }
        assert!(breaker.is_open(start + Duration::from_secs(29), 5));
        assert!(!breaker.is_open(start + Duration::from_secs(30), 5));
    }

    #[test]
    fn a_crash_loop_is_not_cleared_by_its_handshakes_but_by_an_answer() {
        let (start, mut breaker) = (Instant::now(), Breaker::default());
        for _ in 0..3 {
            breaker.failed(Failure::Attempt, start, 3);
        }
        breaker.connected();
        assert!(!breaker.is_open(start, 3));
        for _ in 0..3 {
            breaker.failed(Failure::Lost, start, 3);
            breaker.connected();
        }
        assert!(breaker.is_open(start, 3));
        breaker.answered();
        assert!(!breaker.is_open(start, 3) && breaker.is_clear());
    }
}
