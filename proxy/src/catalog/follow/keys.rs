//! How a change of keys, or of their rules, reaches the data plane.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sql::changes::{self, Change, ChangeKind, Entries};
use sql::model::{ApiKeyId, RuleOwner};
use sql::{Store, StoreError, Tx, UnreadableRow, api_keys, rules};
use tokio::time::Instant;
use uuid::Uuid;

use super::unreadable::{Part, unless_unreadable};
use super::{POLL, Published, unreadable_rule};
use crate::access::Keys;
use crate::catalog::Policy;

/// A revision that lies behind every change that is kept: what follows is a gap, and so a full load.
const REVISION_UNKNOWN: i64 = -1;

/// Between two looks for changed keys, so that a burst of changes costs few reads. An admin who makes keys one
/// after the other waits about as long for each.
const KEYS_INTERVAL: Duration = Duration::from_millis(5);

/// Keeps the keys at the newest revision, apart from the catalog: reading the lists of many upstreams
/// takes a while, and what a revoked key has opened ends within a second all the same.
pub struct KeyFollower {
    store: Store,
    keys: Keys,
    published: Published,
    revision: i64,
    read_at: Instant,
    stale_max: Duration,
    /// How often all keys were read: at the start, and after a gap.
    full_loads: u64,
}

impl KeyFollower {
    /// A follower that has read nothing yet.
    pub(super) fn new(store: Store, keys: Keys, published: Published, stale_max: Duration) -> Self {
        Self { store, keys, published, revision: 0, read_at: Instant::now(), stale_max, full_loads: 0 }
    }

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
        let mut loaded = rules::all(tx).await?;
        let mut keys = Vec::new();
        for key in api_keys::list(tx).await? {
            let rules = loaded.owners.remove(&RuleOwner::Key(key.id)).unwrap_or_default();
            let policy = Policy::of(&key, rules);
            keys.push((key, policy));
        }
        self.published.unreadable().replace_keys(tx.take_unreadable());
        let mut damaged: BTreeMap<ApiKeyId, Vec<UnreadableRow>> = BTreeMap::new();
        for rule in &loaded.damaged {
            if let Some(RuleOwner::Key(id)) = rule.owner {
                damaged.entry(id).or_default().push(unreadable_rule(rule));
            }
        }
        for (id, bad) in damaged {
            self.published.unreadable().set(Part::Key(id), bad);
        }
        self.keys.replace_all(keys);
        self.full_loads += 1;
        tracing::info!(keys = self.keys.len(), full_loads = self.full_loads, "all keys were read");
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
        // Whose rules they are is seen when they are read; those of all are no key's.
        let may_be_key = |change: &&Change| {
            matches!(change.kind, ChangeKind::ApiKey | ChangeKind::Rules) && !change.id.is_nil()
        };
        let changed: BTreeSet<Uuid> = entries.iter().filter(may_be_key).map(|change| change.id).collect();
        let mut is_seen = false;
        for id in changed {
            is_seen |= self.follow(&mut tx, ApiKeyId::from_uuid(id)).await?;
        }
        self.caught_up(since.revision);
        if is_seen {
            self.published.remind();
        }
        Ok(())
    }

    /// Takes in one key as it is now. `true`: it was there before, and may see something else now.
    async fn follow(&self, tx: &mut Tx, id: ApiKeyId) -> Result<bool, StoreError> {
        let found = unless_unreadable(api_keys::get(tx, id).await)?;
        let (key, mut bad) = found.map_or_else(|bad| (None, vec![bad]), |key| (key, Vec::new()));
        let Some(key) = key else {
            // Also one that can't be read any more: nobody knows what it may do.
            self.published.unreadable().set(Part::Key(id), bad);
            self.keys.remove(id);
            return Ok(false);
        };
        let owner = RuleOwner::Key(id);
        let mut loaded = rules::of_owner_id(tx, owner.id()).await?;
        bad.extend(loaded.damaged.iter().map(unreadable_rule));
        self.published.unreadable().set(Part::Key(id), bad);
        let policy = Policy::of(&key, loaded.owners.remove(&owner).unwrap_or_default());
        let is_another = self.keys.policy(id).is_some_and(|former| former != policy);
        self.keys.upsert(key, policy);
        Ok(is_another)
    }
}

#[cfg(test)]
mod tests;
