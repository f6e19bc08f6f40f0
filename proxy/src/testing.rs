//! What the tests of several modules need.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Lets time pass on a paused clock: tasks run as they fall due, and nobody waits for it.
pub(crate) async fn pass(time: Duration) {
    sleep_until(Instant::now() + time).await;
}
