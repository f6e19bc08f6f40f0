//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// The bounds of the wait, from the settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Backoff {
    /// After the first failure.
    pub(crate) initial: Duration,
    /// By how much each further failure lengthens it.
    pub(crate) multiplier: f64,
    /// Never longer than this.
    pub(crate) max: Duration,
}

impl Backoff {
    /// The wait after `failures` failures in a row. `jitter` in 0..1 spreads it over its upper half, so
    /// that upstreams that went down together aren't all called at one moment.
    pub(crate) fn after(&self, failures: u32, jitter: f64) -> Duration {
        let exponent = failures.saturating_sub(1).min(64);
        let factor = self.multiplier.max(1.0).powi(i32::try_from(exponent).unwrap_or(64));
        let whole = (self.initial.as_secs_f64() * factor).min(self.max.as_secs_f64());
        Duration::from_secs_f64(whole * (0.5 + jitter.clamp(0.0, 1.0) / 2.0))
    }

    /// The longest wait, for an upstream that is suspended.
    pub(crate) fn longest(&self, jitter: f64) -> Duration {
        self.max.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

/// A number in 0..1.
pub(crate) fn jitter() -> f64 {
    use ring::rand::SecureRandom;
    let mut bytes = [0; 4];
    // Without randomness the wait is at its middle, which is as good for one upstream.
    if ring::rand::SystemRandom::new().fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backoff() -> Backoff {
        Backoff { initial: Duration::from_secs(1), multiplier: 2.0, max: Duration::from_mins(1) }
    }

    #[test]
    fn doubles_up_to_the_maximum() {
        let whole: Vec<u64> = (1..9).map(|failures| backoff().after(failures, 1.0).as_secs()).collect();
        assert_eq!(whole, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    proptest! {
        #[test]
        fn stays_between_half_and_whole(failures: u32, jitter in 0.0..1.0f64) {
            let wait = backoff().after(failures, jitter);
            prop_assert!(wait >= Duration::from_millis(500) && wait <= backoff().max);
            prop_assert!(wait >= backoff().after(failures, 0.0) && wait <= backoff().after(failures, 1.0));
            prop_assert!((0.0..=1.0).contains(&super::jitter()));
        }
    }
}
