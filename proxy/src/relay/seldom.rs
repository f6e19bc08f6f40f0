//! What others can cause to be said as often as they like, said at most once in a while.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines of one kind: an operator sees that it goes on, and a log of a day stays readable.
const INTERVAL: Duration = Duration::from_secs(10);

/// One kind of line.
#[derive(Default)]
pub(super) struct Seldom(Mutex<Said>);

#[derive(Default)]
struct Said {
    at: Option<Instant>,
    held_back: u64,
}

impl Seldom {
    /// Whether it is to be said now: how often it was not since the last time that it was.
    pub(super) fn due(&self) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.at.is_some_and(|at| at.elapsed() < INTERVAL) {
            said.held_back += 1;
            return None;
        }
        said.at = Some(Instant::now());
        Some(std::mem::take(&mut said.held_back))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_said_once_in_an_interval_and_then_with_what_was_held_back() {
        let seldom = Seldom::default();
        assert_eq!(seldom.due(), Some(0));
        for _ in 0..1000 {
            assert_eq!(seldom.due(), None);
        }
        advance(INTERVAL).await;
        assert_eq!(seldom.due(), Some(1000));
        assert_eq!(seldom.due(), None);
        advance(INTERVAL).await;
        assert_eq!(seldom.due(), Some(1));
    }
}
