//! The only place that spawns: every task has a name, an owner and a way to be told to stop.

use std::future::Future;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument;

/// The owner of a group of tasks, bound to one runtime. Clones share the group.
#[derive(Clone)]
pub struct Tasks {
    runtime: Handle,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// A group whose tasks run on `runtime`.
    pub fn new(runtime: Handle) -> Self {
        Self { runtime, tracker: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// Starts `future`; `name` is what logs call it. The task isn't cut when the group stops: it
    /// watches [`Tasks::stopping`] itself, so that it can end in the way its protocol asks.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let span = tracing::info_span!("task", task.name = name);
        self.runtime.spawn(self.tracker.track_future(future).instrument(span))
    }

    /// Starts `future` on the runtime of the caller instead of the group's own: for what serves one
    /// connection and should stay on the threads that drive it.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn_here<F>(&self, name: &'static str, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let span = tracing::info_span!("task", task.name = name);
        tokio::spawn(self.tracker.track_future(future).instrument(span))
    }

    /// Cancelled when the group is told to stop.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// A token that keeps [`Tasks::stop`] waiting, for work that isn't a task of its own.
    pub fn hold(&self) -> TaskTrackerToken {
        self.tracker.token()
    }

    /// Tells every task to stop and waits until the last has ended.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// How many tasks live, for leak checks.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether no task lives.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }
}
