//! What the data plane does by the clock: the last use of keys, expired keys.

use std::sync::Arc;
use std::time::Duration;

use sql::api_keys;

use super::Parts;

/// How often the last use of keys is written: it is shown to an admin, and nothing hangs on it.
const LAST_USED_INTERVAL: Duration = Duration::from_secs(10);

/// How often keys are looked through for expired ones: a stream outlives its key by no more than this.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

impl Parts {
    pub(super) async fn flush_last_used(self: Arc<Self>) {
        let stopping = self.tasks.stopping().clone();
        let mut due = tokio::time::interval(LAST_USED_INTERVAL);
        loop {
            tokio::select! {
                _ = due.tick() => self.write_last_used().await,
                () = stopping.cancelled() => return,
            }
        }
    }

    /// Ends what expired keys have opened; new requests find the expiry by themselves.
    pub(super) async fn end_expired_keys(self: Arc<Self>) {
        let stopping = self.tasks.stopping().clone();
        let mut due = tokio::time::interval(EXPIRY_INTERVAL);
        loop {
            tokio::select! {
                _ = due.tick() => self.keys.end_expired(self.store.clock().now()),
                () = stopping.cancelled() => return,
            }
        }
    }

    pub(super) async fn write_last_used(&self) {
        let used = self.keys.drain_used();
        if used.is_empty() {
            return;
        }
        let written = async {
            let mut tx = self.store.begin().await?;
            api_keys::touch(&mut tx, used).await?;
            tx.commit().await
        };
        if let Err(error) = written.await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the last use of keys could not be written"
            );
        }
    }
}
