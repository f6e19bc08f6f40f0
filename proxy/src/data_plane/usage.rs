//! What keys used of their quotas, to the store and back.
//!
//! Added up there every [`WRITE_INTERVAL`] and at the end; the sums that come back hold what the key used at
//! other replicas. A store that is lost loses no count: it is added when the store is back. A replica that
//! is killed loses what it counted since the last time.

use std::sync::Arc;
use std::time::Duration;

use sql::{Store, StoreError, key_usage};

use super::Parts;
use crate::access::Keys;

/// How often counts are written: what replicas together may pass a quota by is what comes in that time.
const WRITE_INTERVAL: Duration = Duration::from_secs(2);

/// How long they are kept: the month before this one, whole, for whoever wonders what a key was charged.
const KEPT: Duration = Duration::from_hours(24 * 62);

/// Keys whose counts go in one transaction: SQLite has one writer, and a save in the console waits for it.
const KEYS_PER_TRANSACTION: usize = 1000;

/// Takes in what was used before this process started.
pub(super) async fn load(store: &Store, keys: &Keys) -> Result<(), StoreError> {
    let now = store.clock().now();
    let mut tx = store.read().await?;
    keys.usage_stored(&key_usage::current(&mut tx, now).await?, now);
    Ok(())
}

impl Parts {
    pub(super) async fn write_usage_regularly(self: Arc<Self>) {
        let stopping = self.tasks.stopping().clone();
        let mut write = tokio::time::interval(WRITE_INTERVAL);
        loop {
            tokio::select! {
                _ = write.tick() => self.write_usage().await,
                () = stopping.cancelled() => return,
            }
        }
    }

    pub(super) async fn write_usage(&self) {
        let now = self.store.clock().now();
        let used = self.keys.take_usage(now);
        for part in used.chunks(KEYS_PER_TRANSACTION) {
            let written = async {
                let mut tx = self.store.begin().await?;
                let sums = key_usage::add(&mut tx, part).await?;
                tx.commit().await?;
                Ok::<_, StoreError>(sums)
            };
            match written.await {
                Ok(sums) => self.keys.usage_stored(&sums, now),
                Err(error) => {
                    self.keys.return_usage(part);
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "what keys used could not be written"
                    );
                }
            }
        }
    }

    pub(super) async fn sweep_usage(&self) -> Result<(), StoreError> {
        loop {
            let mut tx = self.store.begin().await?;
            let swept = key_usage::sweep(&mut tx, self.store.clock().now().minus(KEPT)).await?;
            tx.commit().await?;
            if swept == 0 {
                return Ok(());
            }
        }
    }
}
