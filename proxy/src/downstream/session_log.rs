//! What of a legacy session changes and outlives a connection: that it ended, and its log level.
//!
//! Both take effect in memory at once and are then written, so that a restart and other replicas know
//! them. A store that fails or hangs costs no client its answer: the log says so, and the state holds here.
//!
//! What is read from the store may be older than what was said here meanwhile, and must not take its place.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use serde::Deserialize;
use sql::model::{ClientSession, SessionState, Timestamp};
use sql::{Store, StoreError, Tx, changes, client_sessions, idempotent_answers, login_attempts, sessions};
use uuid::Uuid;

use super::live::LiveSessions;
use super::resource_updates::ResourceUpdates;
use super::session::Session;
use super::session_notes::SessionNotes;
use crate::tasks::Tasks;
use crate::wire::meta::LogLevel;

/// How long a client waits for the store; a store that answers does so in milliseconds.
const WRITE_PATIENCE: Duration = Duration::from_secs(1);

/// How long control planes remember guesses of passwords, and answers to creates: nobody looks at older ones.
const ADMIN_STATE_KEPT_MS: i64 = 60 * 60 * 1_000;

/// What a client says of itself.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Implementation {
    name: String,
    version: String,
}

/// Sets and keeps the state of sessions.
#[derive(Clone)]
pub struct SessionLog {
    live: LiveSessions,
    updates: ResourceUpdates,
    store: Store,
    notes: SessionNotes,
    /// The sessions whose level was said here, until the store is read with it.
    said: Arc<DashMap<Uuid, Said>>,
}

/// A level that was said here.
#[derive(Default)]
struct Said {
    /// How many are being written.
    writing: usize,
    /// At which revision the store has the last one that was written.
    revision: i64,
}

/// A level that is being written.
struct Writing<'a> {
    said: &'a DashMap<Uuid, Said>,
    session: Uuid,
    /// None if it could not be written.
    revision: Option<i64>,
}

impl<'a> Writing<'a> {
    fn begin(said: &'a DashMap<Uuid, Said>, session: Uuid) -> Self {
        said.entry(session).or_default().writing += 1;
        Self { said, session, revision: None }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let Entry::Occupied(mut said) = self.said.entry(self.session) else { return };
        let last = said.get_mut();
        last.writing -= 1;
        last.revision = last.revision.max(self.revision.unwrap_or_default());
        if last.writing == 0 && last.revision == 0 {
            said.remove();
        }
    }
}

impl SessionLog {
    /// `live` and `updates` are where the state takes effect.
    pub fn new(live: LiveSessions, updates: ResourceUpdates, store: Store) -> Self {
        Self { live, updates, store, notes: SessionNotes::default(), said: Arc::default() }
    }

    /// Has an admin see a session that was opened.
    pub(super) fn opened(&self, session: &Session, address: IpAddr) {
        let info: Option<Implementation> =
            session.client_info.as_ref().and_then(|info| serde_json::from_str(info.get()).ok());
        self.notes.opened(ClientSession {
            rid: session.id,
            key_id: session.key,
            path: session.face.to_string(),
            version: session.version.to_string(),
            client: info.map(|info| format!("{} {}", info.name, info.version).trim().to_owned()),
            address: Some(address),
            created_at: session.created_at,
            expires_at: session.forgotten_at(),
        });
    }

    /// Takes note of what is opened until the tasks stop.
    pub(crate) fn run(&self, tasks: &Tasks) {
        self.notes.run(self.store.clone(), tasks);
    }

    /// Ends a session; its row may go after `ends_at`, when no setting could make its token
    /// valid any more.
    pub async fn end(&self, session: Uuid, ends_at: Timestamp) {
        self.live.end(session, ends_at);
        self.updates.end(session);
        Self::kept("an ended session could not be kept", self.write_end(session, ends_at)).await;
    }

    /// Sets the least severe log message that a session wants.
    pub async fn set_level(&self, session: Uuid, level: LogLevel, ends_at: Timestamp) {
        let mut writing = Writing::begin(&self.said, session);
        self.live.set_level(session, level, ends_at);
        let write = async {
            writing.revision = self.write_level(session, level, ends_at).await?;
            Ok(())
        };
        Self::kept("a session's log level could not be kept", write).await;
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
        let revision = changes::revision(&mut tx).await?;
        for state in sessions::load(&mut tx).await? {
            self.take(&state, revision);
        }
        Ok(())
    }

    /// Takes over what the store has of one session, which this or another replica wrote; `revision` is
    /// that of the transaction.
    pub async fn follow(&self, tx: &mut Tx, session: Uuid, revision: i64) -> Result<(), StoreError> {
        if let Some(state) = sessions::get(tx, session).await? {
            self.take(&state, revision);
        }
        Ok(())
    }

    /// Forgets here the sessions whose lifetime is over.
    pub fn forget_expired(&self) {
        self.live.forget_expired(self.store.clock().now());
    }

    /// Forgets in the store the sessions whose lifetime is over.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let now = self.store.clock().now();
        let kept_since = Timestamp::from_millis(now.millis().saturating_sub(ADMIN_STATE_KEPT_MS));
        loop {
            let mut tx = self.store.begin().await?;
            let swept = sessions::sweep(&mut tx, now).await?
                + client_sessions::sweep(&mut tx, now).await?
                + login_attempts::sweep(&mut tx, kept_since).await?
                + idempotent_answers::sweep(&mut tx, kept_since).await?;
            tx.commit().await?;
            if swept == 0 {
                return Ok(());
            }
        }
    }

    fn take(&self, state: &SessionState, revision: i64) {
        let is_expired = state.expires_at <= self.store.clock().now();
        if state.ended || is_expired {
            // Its level is of no use any more, so no old one can take the place of another.
            self.said.remove_if(&state.rid, |_, said| said.writing == 0);
        }
        if is_expired {
            return;
        }
        if state.ended {
            if !self.live.is_ended(state.rid) {
                self.live.end(state.rid, state.expires_at);
                self.updates.end(state.rid);
            }
        } else if let Some(level) = state.log_level.as_deref().and_then(LogLevel::parse) {
            // Held until the level is taken, so that none is said in between.
            let said = self.said.entry(state.rid);
            if let Entry::Occupied(said) = &said
                && (said.get().writing > 0 || said.get().revision > revision)
            {
                return; // What was said here comes by itself, later.
            }
            self.live.set_level(state.rid, level, state.expires_at);
            if let Entry::Occupied(said) = said {
                said.remove();
            }
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
    ) -> Result<Option<i64>, StoreError> {
        let mut tx = self.store.begin().await?;
        sessions::set_level(&mut tx, session, Some(level.as_str().to_owned()), ends_at).await?;
        tx.commit_noted().await
    }
}

#[cfg(test)]
mod tests {
    use sql::seal::MasterKey;
    use sql::{Clock, Database, StoreOptions};

    use super::*;
    use crate::downstream::resource_updates::tests::Asked;

    const SESSION: Uuid = Uuid::from_u128(1);
    const LATER: Timestamp = Timestamp::from_millis(i64::MAX);

    async fn session_log() -> SessionLog {
        let key = MasterKey::from_env_text(MasterKey::generate_hex().expose()).expect("a fresh key").0;
        let options = StoreOptions {
            database: Database::SqliteMemory,
            master_key: key,
            previous_keys: Vec::new(),
            clock: Clock::system(),
            start_timeout: Duration::from_secs(1),
        };
        let store = Store::open(options).await.expect("a store in memory");
        SessionLog::new(LiveSessions::default(), ResourceUpdates::new(Arc::new(Asked::default())), store)
    }

    /// What a follower reads now.
    async fn read(log: &SessionLog) -> (SessionState, i64) {
        let mut tx = log.store.read().await.unwrap();
        let revision = changes::revision(&mut tx).await.unwrap();
        (sessions::get(&mut tx, SESSION).await.unwrap().expect("a state"), revision)
    }

    #[tokio::test]
    async fn what_was_read_before_a_level_was_said_does_not_take_its_place() {
        let log = session_log().await;
        log.set_level(SESSION, LogLevel::Error, LATER).await;
        let (old, before) = read(&log).await;
        log.set_level(SESSION, LogLevel::Info, LATER).await;
        log.take(&old, before);
        assert_eq!(log.live.level(SESSION), Some(LogLevel::Info));
        let writing = Writing::begin(&log.said, SESSION);
        log.live.set_level(SESSION, LogLevel::Debug, LATER);
        let (old, before) = read(&log).await;
        log.take(&old, before);
        assert_eq!(log.live.level(SESSION), Some(LogLevel::Debug), "said, and not yet written");
        drop(writing);
        // It could not be written: the store is right from now on.
        log.take(&old, before);
        assert_eq!(log.live.level(SESSION), Some(LogLevel::Info));
        assert!(log.said.is_empty());
    }

    #[tokio::test]
    async fn another_replicas_word_is_taken_once_ones_own_was_read() {
        let log = session_log().await;
        log.set_level(SESSION, LogLevel::Error, LATER).await;
        let (own, revision) = read(&log).await;
        log.take(&own, revision);
        let theirs = SessionState { log_level: Some("debug".to_owned()), ..own };
        log.take(&theirs, revision + 1);
        assert_eq!(log.live.level(SESSION), Some(LogLevel::Debug));
    }

    #[tokio::test]
    async fn nothing_is_kept_of_what_a_session_said_that_has_ended() {
        let log = session_log().await;
        log.set_level(SESSION, LogLevel::Error, LATER).await;
        log.end(SESSION, LATER).await;
        let (ended, revision) = read(&log).await;
        log.take(&ended, revision);
        assert!(log.said.is_empty());
    }
}
