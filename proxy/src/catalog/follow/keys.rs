//! How a change of a key reaches the data plane: apart from all else, and so at once.

use std::collections::BTreeSet;
use std::time::Duration;

use sql::changes::{self, Change, ChangeKind, Entries};
use sql::model::ApiKeyId;
use sql::{Store, StoreError, Tx, api_keys};
use tokio::time::Instant;
use uuid::Uuid;

use super::unreadable::{Part, unless_unreadable};
use super::{POLL, Published};
use crate::access::Keys;

/// A revision that lies behind every change that is kept: what follows is a gap, and so a full load.
const REVISION_UNKNOWN: i64 = -1;

/// Between two looks for changed keys, so that a burst of changes costs few reads. An admin who makes keys one
/// after the other waits about as long for each.
const KEYS_INTERVAL: Duration = Duration::from_millis(5);

/// Keeps the keys at the newest revision, apart from the catalog: reading the lists of many upstreams
/// takes a while, and what a revoked key has opened ends within a second all the same.
pub struct KeyFollower {
    pub(super) store: Store,
    pub(super) keys: Keys,
    pub(super) published: Published,
    pub(super) revision: i64,
    pub(super) read_at: Instant,
    pub(super) stale_max: Duration,
}

impl KeyFollower {
    /// Follows until the task group stops. Keys that can't be read stay as they are until the next poll.
    pub async fn run(mut self, stopping: tokio_util::sync::CancellationToken) {
        let mut hints = self.store.changes();
        loop {
            // At first too: the keys were loaded before there was anybody to take a hint.
            let caught_up = tokio::select! {
                caught_up = self.catch_up() => caught_up,
                () = stopping.cancelled() => return,
            };
            match caught_up {
                Ok(()) => self.read_at = Instant::now(),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "changes of keys could not be read"
                    );
                    self.close_if_stale();
                }
            }
            tokio::time::sleep(KEYS_INTERVAL).await;
            tokio::select! {
                _ = hints.wait(POLL) => {}
                () = stopping.cancelled() => return,
            }
        }
    }

    /// Keys that nobody could revoke for so long are taken as revoked. They are read anew, as after a
    /// gap, when the store is back.
    fn close_if_stale(&mut self) {
        if self.read_at.elapsed() < self.stale_max || self.keys.is_empty() {
            return;
        }
        tracing::error!(
            stale_max_s = self.stale_max.as_secs(),
            "the store has been out of reach for longer than MPG_STALE_MAX, no key is served until it is back"
        );
        self.keys.replace_all(Vec::new());
        self.revision = REVISION_UNKNOWN;
    }

    pub(super) async fn load(&mut self, tx: &mut Tx) -> Result<(), StoreError> {
        let revision = changes::revision(tx).await?;
        let keys = api_keys::list(tx).await?;
        self.published.unreadable().replace_keys(tx.take_unreadable());
        self.keys.replace_all(keys);
        self.caught_up(revision);
        Ok(())
    }

    fn caught_up(&mut self, revision: i64) {
        self.revision = revision;
        self.published.0.applied.send_modify(|applied| applied.keys = revision);
    }

    async fn catch_up(&mut self) -> Result<(), StoreError> {
        let mut tx = self.store.read().await?;
        let since = changes::since(&mut tx, self.revision).await?;
        let Entries::All(entries) = since.entries else {
            self.load(&mut tx).await?;
            self.published.remind();
            return Ok(());
        };
        let is_key = |change: &&Change| change.kind == ChangeKind::ApiKey;
        let changed: BTreeSet<Uuid> = entries.iter().filter(is_key).map(|change| change.id).collect();
        for id in &changed {
            let id = ApiKeyId::from_uuid(*id);
            let found = unless_unreadable(api_keys::get(&mut tx, id).await)?;
            let (key, bad) = found.map_or_else(|bad| (None, vec![bad]), |key| (key, Vec::new()));
            self.published.unreadable().set(Part::Key(id), bad);
            match key {
                Some(key) => self.keys.upsert(key),
                // Also one that can't be read any more: nobody knows what it may do.
                None => self.keys.remove(id),
            }
        }
        self.caught_up(since.revision);
        if !changed.is_empty() {
            self.published.remind();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sql::clock::Clock;
    use sql::model::{ApiKey, PlaintextKey};
    use sql::seal::MasterKey;
    use sql::{Database, StoreOptions};

    use super::*;

    async fn store() -> Store {
        let key = MasterKey::from_env_text(MasterKey::generate_hex().expose()).expect("a fresh key").0;
        let options = StoreOptions {
            database: Database::SqliteMemory,
            master_key: key,
            clock: Clock::system(),
            start_timeout: Duration::from_secs(1),
        };
        Store::open(options).await.expect("a store in memory")
    }

    async fn follower(store: &Store, stale_max: Duration) -> KeyFollower {
        let clock = store.clock().clone();
        let mut tx = store.begin().await.unwrap();
        let key = ApiKey::create(ApiKeyId::new(&clock), "a", &PlaintextKey::generate(), clock.now());
        api_keys::insert(&mut tx, &key).await.unwrap();
        tx.commit().await.unwrap();
        let mut follower = KeyFollower {
            store: store.clone(),
            keys: Keys::default(),
            published: Published::new(clock),
            revision: 0,
            read_at: Instant::now(),
            stale_max,
        };
        follower.catch_up().await.unwrap();
        assert_eq!(follower.keys.len(), 1);
        follower
    }

    #[tokio::test]
    async fn without_the_store_keys_are_served_for_a_while() {
        let store = store().await;
        let mut follower = follower(&store, Duration::from_hours(1)).await;
        store.close().await;
        follower.catch_up().await.expect_err("the store is closed");
        follower.close_if_stale();
        assert_eq!(follower.keys.len(), 1);
    }

    #[tokio::test]
    async fn keys_that_nobody_can_revoke_any_more_are_not_served_until_the_store_is_back() {
        let store = store().await;
        let mut follower = follower(&store, Duration::ZERO).await;
        follower.close_if_stale();
        assert!(follower.keys.is_empty());
        follower.catch_up().await.unwrap();
        assert_eq!(follower.keys.len(), 1, "they are read whole again");
    }
}
