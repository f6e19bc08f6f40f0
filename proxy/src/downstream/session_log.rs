//! What of a legacy session changes and outlives a connection: that it ended, and its log level.
//!
//! Both take effect in memory at once and are then written, so that a restart and other replicas know
//! them. A store that fails or hangs costs no client its answer: the log says so, and the state holds here.

use std::future::Future;
use std::time::Duration;

use sql::model::{SessionState, Timestamp};
use sql::{Store, StoreError, Tx, sessions};
use uuid::Uuid;

use super::live::LiveSessions;
use super::resource_updates::ResourceUpdates;
use crate::wire::meta::LogLevel;

/// How long a client waits for the store; a store that answers does so in milliseconds.
const WRITE_PATIENCE: Duration = Duration::from_secs(1);

/// Sets and keeps the state of sessions.
#[derive(Clone)]
pub struct SessionLog {
    live: LiveSessions,
    updates: ResourceUpdates,
    store: Store,
}

impl SessionLog {
    /// `live` and `updates` are where the state takes effect.
    pub fn new(live: LiveSessions, updates: ResourceUpdates, store: Store) -> Self {
        Self { live, updates, store }
    }

    /// Ends a session; its row may go after `ends_at`, when its token is no longer valid anyway.
    pub async fn end(&self, session: Uuid, ends_at: Timestamp) {
        self.live.end(session, ends_at);
        self.updates.end(session);
        Self::kept("an ended session could not be kept", self.write_end(session, ends_at)).await;
    }

    /// Sets the least severe log message that a session wants.
    pub async fn set_level(&self, session: Uuid, level: LogLevel, ends_at: Timestamp) {
        self.live.set_level(session, level, ends_at);
        Self::kept("a session's log level could not be kept", self.write_level(session, level, ends_at))
            .await;
    }

    /// Waits for a write, since what is acknowledged should outlive the process, but not for a store
    /// that hangs: no client waits longer than a moment for it.
    async fn kept(failed: &'static str, write: impl Future<Output = Result<(), StoreError>>) {
        match tokio::time::timeout(WRITE_PATIENCE, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = &error as &dyn std::error::Error, "{failed}"),
            Err(_) => tracing::warn!(patience_ms = WRITE_PATIENCE.as_millis(), "{failed}: the store is slow"),
        }
    }

    /// Takes over what the store has: at start, and where changes were missed.
    pub async fn load(&self) -> Result<(), StoreError> {
        let mut tx = self.store.read().await?;
        for state in sessions::load(&mut tx).await? {
            self.take(&state);
        }
        Ok(())
    }

    /// Takes over what the store has of one session, which this or another replica wrote.
    pub async fn follow(&self, tx: &mut Tx, session: Uuid) -> Result<(), StoreError> {
        if let Some(state) = sessions::get(tx, session).await? {
            self.take(&state);
        }
        Ok(())
    }

    /// Forgets sessions whose lifetime is over, here and in the store.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let now = self.store.clock().now();
        self.live.forget_expired(now);
        let mut tx = self.store.begin().await?;
        sessions::sweep(&mut tx, now).await?;
        tx.commit().await
    }

    fn take(&self, state: &SessionState) {
        if state.expires_at <= self.store.clock().now() {
            return;
        }
        if state.ended {
            if !self.live.is_ended(state.rid) {
                self.live.end(state.rid, state.expires_at);
                self.updates.end(state.rid);
            }
        } else if let Some(level) = state.log_level.as_deref().and_then(LogLevel::parse) {
            self.live.set_level(state.rid, level, state.expires_at);
        }
    }

    async fn write_end(&self, session: Uuid, ends_at: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        sessions::end(&mut tx, session, ends_at).await?;
        tx.commit().await
    }

    async fn write_level(
        &self,
        session: Uuid,
        level: LogLevel,
        ends_at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        sessions::set_level(&mut tx, session, Some(level.as_str().to_owned()), ends_at).await?;
        tx.commit().await
    }
}
