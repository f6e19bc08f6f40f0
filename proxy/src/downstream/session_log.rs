//! What of a legacy session changes and outlives a connection: that it ended, and its log level.
//!
//! Both take effect in memory at once and are then written, so that a restart and other replicas know
//! them. A store that fails costs no client its answer: the log says so, and the state holds here.

use sql::Store;
use sql::model::Timestamp;
use sql::sessions;
use uuid::Uuid;

use super::live::LiveSessions;
use super::resource_updates::ResourceUpdates;
use crate::wire::meta::LogLevel;

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
        self.live.end(session);
        self.updates.end(session);
        if let Err(error) = self.write_end(session, ends_at).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "an ended session could not be kept");
        }
    }

    /// Sets the least severe log message that a session wants.
    pub async fn set_level(&self, session: Uuid, level: LogLevel, ends_at: Timestamp) {
        self.live.set_level(session, level);
        if let Err(error) = self.write_level(session, level, ends_at).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a session's log level could not be kept"
            );
        }
    }

    /// Takes over what the store has: at start, and when another replica wrote.
    pub async fn load(&self) -> Result<(), sql::StoreError> {
        let mut tx = self.store.read().await?;
        let now = self.store.clock().now();
        for state in sessions::load(&mut tx).await? {
            if state.expires_at <= now {
                self.live.forget(state.rid);
            } else if state.ended {
                if !self.live.is_ended(state.rid) {
                    self.live.end(state.rid);
                    self.updates.end(state.rid);
                }
            } else if let Some(level) = state.log_level.as_deref().and_then(LogLevel::parse) {
                self.live.set_level(state.rid, level);
            }
        }
        Ok(())
    }

    async fn write_end(&self, session: Uuid, ends_at: Timestamp) -> Result<(), sql::StoreError> {
        let mut tx = self.store.begin().await?;
        sessions::end(&mut tx, session, ends_at).await?;
        tx.commit().await
    }

    async fn write_level(
        &self,
        session: Uuid,
        level: LogLevel,
        ends_at: Timestamp,
    ) -> Result<(), sql::StoreError> {
        let mut tx = self.store.begin().await?;
        sessions::set_level(&mut tx, session, Some(level.as_str().to_owned()), ends_at).await?;
        tx.commit().await
    }
}
