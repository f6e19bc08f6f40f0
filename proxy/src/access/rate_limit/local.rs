//! The budget of one process, by governor: on the monotonic clock, so that the wall's may jump.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use sql::model::RateLimit;

use crate::refusal::Refusal;

/// The budget of one key.
#[derive(Debug)]
pub(in crate::access) struct Local<C: Clock = DefaultClock> {
    budget: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    limit: RateLimit,
}

impl Local {
    /// A full budget.
    pub(super) fn new(limit: RateLimit) -> Self {
        Self::with_clock(limit, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Local<C> {
    pub(super) fn with_clock(limit: RateLimit, clock: C) -> Self {
        // Zero is refused where keys are written; here it is the strictest limit that there is.
        let burst = NonZeroU32::new(limit.limit).unwrap_or(NonZeroU32::MIN);
        let window = Duration::from_secs(limit.window_s.max(1).into());
        let period = (window / burst.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(period).expect("it is longer than zero").allow_burst(burst);
        Self { budget: RateLimiter::direct_with_clock(quota, clock.clone()), clock, limit }
    }

    /// What it is the budget of.
    pub(super) fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Takes units, all or none.
    pub(super) fn take(&self, messages: NonZeroU32) -> Result<(), Refusal> {
        let retry_after = match self.budget.check_n(messages) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(early)) => early.wait_time_from(self.clock.now()),
            // More than the whole budget: it won't be covered at any time, but say so in the same way.
            Err(_) => Duration::from_secs(self.limit.window_s.into()),
        };
        let RateLimit { limit, window_s } = self.limit;
        Err(Refusal::RateLimited { retry_after, limit, window_s })
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn limiter(limit: u32, window_s: u32) -> (Local<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Local::with_clock(RateLimit { limit, window_s }, clock.clone()), clock)
    }

    fn passes<C: Clock + Clone>(limiter: &Local<C>, messages: u32) -> bool {
        limiter.take(NonZeroU32::new(messages).unwrap()).is_ok()
    }

    #[test]
    fn a_burst_is_the_limit_and_refills_evenly() {
        let (limiter, clock) = limiter(10, 60);
        assert!((0..10).all(|_| passes(&limiter, 1)));
        assert!(!passes(&limiter, 1));
        clock.advance(Duration::from_secs(6));
        assert!(passes(&limiter, 1));
        assert!(!passes(&limiter, 1));
        clock.advance(Duration::from_mins(1));
        assert_eq!((0..20).filter(|_| passes(&limiter, 1)).count(), 10);
    }

    #[test]
    fn a_refusal_says_when_the_next_message_is_allowed() {
        let (limiter, clock) = limiter(1, 10);
        assert!(passes(&limiter, 1));
        clock.advance(Duration::from_secs(4));
        let refusal = limiter.take(NonZeroU32::MIN).unwrap_err();
        let retry_after = Duration::from_secs(6);
        assert_eq!(refusal, Refusal::RateLimited { retry_after, limit: 1, window_s: 10 });
        clock.advance(retry_after);
        assert!(passes(&limiter, 1));
    }

    #[test]
    fn a_batch_is_covered_whole_or_not_at_all() {
        let (limiter, _clock) = limiter(10, 60);
        assert!(passes(&limiter, 8));
        assert!(!passes(&limiter, 3));
        assert!(passes(&limiter, 2));
        assert!(!passes(&limiter, 11));
    }

    #[test]
    fn the_largest_and_the_smallest_limits_work() {
        for (limit, window_s) in [(u32::MAX, 1), (1, u32::MAX), (0, 0)] {
            let (limiter, _clock) = limiter(limit, window_s);
            assert!(passes(&limiter, 1));
        }
    }
}
