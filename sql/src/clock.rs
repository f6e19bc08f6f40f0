//! The time, as a parameter: the system's, or one that a test moves by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::ids::{
    AdminUserId, ApiKeyId, AuditEventId, DefinitionId, RuleId, TokenId, UpstreamId, XiaozhiEndpointId,
};
use crate::model::time::Timestamp;

/// Where the time comes from. Clones of a manual clock show the same time.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is advanced.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(start.millis()))))
    }

    /// Whether this is the system's clock, which the system's administrator may set at any time.
    pub(crate) fn is_system(&self) -> bool {
        matches!(self.0, Source::System)
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => system_now(),
            Source::Manual(millis) => Timestamp::from_millis(millis.load(Ordering::SeqCst)),
        }
    }

    /// Sets a manual clock back, as an operator may the system's.
    pub fn set_back(&self, duration: Duration) {
        if let Source::Manual(millis) = &self.0 {
            let step = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
            millis.fetch_sub(step, Ordering::SeqCst);
        }
    }

    /// Moves a manual clock on. The system's clock goes by itself and takes no notice.
    pub fn advance(&self, duration: Duration) {
        if let Source::Manual(millis) = &self.0 {
            let step = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
            millis.fetch_add(step, Ordering::SeqCst);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
fn system_now() -> Timestamp {
    let millis = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
    };
    Timestamp::from_millis(millis)
}

macro_rules! new_ids {
    ($($name:ident)+) => {$(
        impl $name {
            /// A new id, made now.
            pub fn new(clock: &Clock) -> Self {
                Self::at(clock.now())
            }
        }
    )+};
}
new_ids! { UpstreamId ApiKeyId AdminUserId DefinitionId RuleId AuditEventId TokenId XiaozhiEndpointId }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_by_hand_for_all_its_clones() {
        let clock = Clock::manual(Timestamp::from_millis(1_000));
        let other = clock.clone();
        clock.advance(Duration::from_secs(1));
        assert_eq!(other.now(), Timestamp::from_millis(2_000));
        assert!(Clock::system().now() > Timestamp::from_millis(1_700_000_000_000));
    }
}
