//! The keys that callers may show, in memory.
//!
//! Looked up by the SHA-256 of their secret in a sharded map, apart from the catalog, so that 100,000
//! keys neither rebuild nor slow it. Each secret has a token that is cancelled when it stops being
//! valid; a key in the overlap of a rotation has two secrets, and so two tokens.

mod owner;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use sql::model::{ApiKey, ApiKeyId, KeyUsage, PlaintextKey, Timestamp};
use tokio_util::sync::CancellationToken;

use super::quota::Used;
use super::rate_limit::Limiter;
use super::{Budget, Caller, Sharing};
use crate::catalog::Policy;
use crate::refusal::Refusal;

type Hash = [u8; 32];

/// Uses that may wait to be written; beyond it the newest of keys not yet noted are dropped, since
/// "last used" is a convenience. One write takes them all every few seconds.
const USES_MAX: usize = 100_000;

/// Every key there is. Clones are one set.
#[derive(Clone, Default)]
pub struct Keys(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// What a request looks in.
    secrets: DashMap<Hash, Secret>,
    /// What a change looks in. One at a time, so that two changes of one key don't mix.
    index: Mutex<Index>,
    uses: DashMap<ApiKeyId, (Timestamp, IpAddr)>,
    /// With whom limits are shared; with nobody if unset.
    sharing: Option<Arc<Sharing>>,
}

/// One secret of a key.
struct Secret {
    caller: Caller,
    /// When this secret stops being valid: at the key's end, or before at the end of a rotation's overlap.
    until: Option<Timestamp>,
}

struct Known {
    key: Arc<ApiKey>,
    policy: Policy,
    budget: Arc<Budget>,
}

#[derive(Default)]
struct Index {
    keys: HashMap<ApiKeyId, Known>,
    /// The secrets that end by time, the next one first.
    ends: BTreeSet<(Timestamp, Hash)>,
}

impl Keys {
    /// No keys yet; their limits will be shared with other replicas.
    pub fn sharing(sharing: Option<Arc<Sharing>>) -> Self {
        Self(Arc::new(Inner { sharing, ..Inner::default() }))
    }

    /// Takes in a key that is new or was changed. Callers see it from now on; what its old form opened
    /// goes on, unless it wouldn't be let in again.
    pub fn upsert(&self, key: ApiKey, policy: Policy) {
        self.put(&mut self.index(), key, policy);
    }

    /// Forgets a key and ends what it opened.
    pub fn remove(&self, id: ApiKeyId) {
        self.forget(&mut self.index(), id);
    }

    /// Makes `keys` the whole set, as after a gap in what is known of changes.
    pub fn replace_all(&self, keys: Vec<(ApiKey, Policy)>) {
        let mut index = self.index();
        let stays: std::collections::HashSet<ApiKeyId> = keys.iter().map(|(key, _)| key.id).collect();
        let gone: Vec<ApiKeyId> = index.keys.keys().filter(|id| !stays.contains(id)).copied().collect();
        for id in gone {
            self.forget(&mut index, id);
        }
        for (key, policy) in keys {
            self.put(&mut index, key, policy);
        }
    }

    /// The key with this id.
    pub fn get(&self, id: ApiKeyId) -> Option<Arc<ApiKey>> {
        self.index().keys.get(&id).map(|known| Arc::clone(&known.key))
    }

    /// What the key with this id may see.
    pub fn policy(&self, id: ApiKeyId) -> Option<Policy> {
        self.index().keys.get(&id).map(|known| known.policy.clone())
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.index().keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends what was opened with secrets whose time is over. To be called about once a second; whether a
    /// request is let in doesn't depend on it.
    pub fn end_expired(&self, now: Timestamp) {
        let mut index = self.index();
        while let Some((until, hash)) = index.ends.first().copied().filter(|(until, _)| *until <= now) {
            index.ends.remove(&(until, hash));
            if let Some(secret) = self.0.secrets.get(&hash).filter(|secret| secret.until == Some(until)) {
                secret.caller.revoked.cancel();
            }
        }
    }

    /// The holder of a secret, if it is valid now.
    pub(super) fn caller(&self, shown: &PlaintextKey, now: Timestamp) -> Result<Caller, Refusal> {
        self.holder(&shown.hash(), now)
    }

    /// The caller that somebody is who acts as a key by an admin's word rather than by its secret.
    pub(crate) fn acting(&self, id: ApiKeyId, now: Timestamp) -> Result<Caller, Refusal> {
        let hash = self.index().keys.get(&id).map(|known| known.key.hash);
        self.holder(&hash.ok_or(Refusal::UnknownKey)?, now)
    }

    /// A caller who was let in before, as they are now.
    pub(super) fn again(&self, caller: &Caller, now: Timestamp) -> Result<Caller, Refusal> {
        self.holder(&caller.secret, now)
    }

    fn holder(&self, hash: &Hash, now: Timestamp) -> Result<Caller, Refusal> {
        let secret = self.0.secrets.get(hash).ok_or(Refusal::UnknownKey)?;
        if !secret.caller.key.enabled {
            return Err(Refusal::KeyDisabled);
        }
        if secret.until.is_some_and(|until| until <= now) {
            return Err(Refusal::KeyExpired);
        }
        Ok(secret.caller.clone())
    }

    /// Notes that a key was used, to be written by whoever drains the notes.
    pub fn note_use(&self, id: ApiKeyId, now: Timestamp, address: IpAddr) {
        if let Some(mut noted) = self.0.uses.get_mut(&id) {
            *noted = (now, address);
        } else if self.0.uses.len() < USES_MAX {
            self.0.uses.insert(id, (now, address));
        }
    }

    /// Takes the notes: when and from where each key was last used since the last time.
    pub fn drain_used(&self) -> Vec<(ApiKeyId, Timestamp, Option<IpAddr>)> {
        let noted: Vec<ApiKeyId> = self.0.uses.iter().map(|entry| *entry.key()).collect();
        let take = |id| self.0.uses.remove(&id).map(|(id, (now, address))| (id, now, Some(address)));
        noted.into_iter().filter_map(take).collect()
    }

    /// What a key used of its quotas.
    pub fn used(&self, id: ApiKeyId, now: Timestamp) -> Option<Used> {
        let budget = self.index().keys.get(&id).map(|known| Arc::clone(&known.budget))?;
        Some(budget.usage.used(now))
    }

    /// Takes what keys used and nobody wrote down yet. Who takes it writes it, or brings it back.
    pub fn take_usage(&self, now: Timestamp) -> Vec<KeyUsage> {
        let index = self.index();
        index.keys.iter().flat_map(|(id, known)| known.budget.usage.unwritten(*id, now)).collect()
    }

    /// Takes in what is written down of what keys used, by all replicas.
    pub fn usage_stored(&self, sums: &[KeyUsage], now: Timestamp) {
        let index = self.index();
        for sum in sums {
            if let Some(known) = index.keys.get(&sum.key_id) {
                known.budget.usage.stored(sum, now);
            }
        }
    }

    /// Takes back what could not be written down.
    pub fn return_usage(&self, usage: &[KeyUsage]) {
        let index = self.index();
        for usage in usage {
            if let Some(known) = index.keys.get(&usage.key_id) {
                known.budget.usage.not_written(usage);
            }
        }
    }

    fn put(&self, index: &mut Index, key: ApiKey, policy: Policy) {
        let key = Arc::new(key);
        let old = index.keys.remove(&key.id);
        let budget = self.budget_for(&key, old.as_ref().map(|old| &old.budget));
        let old = old.map(|old| old.key);
        let keeps = old.as_ref().is_some_and(|old| {
            // Who is bound to other addresses has to show again where it is.
            key.enabled && key.allowed_cidrs == old.allowed_cidrs
        });
        let new = secrets_of(&key);
        for (hash, _) in old.iter().flat_map(|old| secrets_of(old)) {
            if !new.iter().any(|(kept, _)| *kept == hash) {
                self.drop_secret(index, hash);
            }
        }
        for (hash, until) in new {
            let revoked = self.token_for(index, hash, keeps);
            if !key.enabled {
                revoked.cancel();
            }
            index.ends.extend(until.map(|until| (until, hash)));
            let caller = Caller {
                key: Arc::clone(&key),
                policy: policy.clone(),
                secret: hash,
                revoked,
                budget: Arc::clone(&budget),
            };
            self.0.secrets.insert(hash, Secret { caller, until });
        }
        index.keys.insert(key.id, Known { key, policy, budget });
    }

    /// The token of a secret that is put in: the one it has, if that may go on.
    fn token_for(&self, index: &mut Index, hash: Hash, keeps: bool) -> CancellationToken {
        let Some(old) = self.0.secrets.get(&hash) else { return CancellationToken::new() };
        if let Some(until) = old.until {
            index.ends.remove(&(until, hash));
        }
        let token = old.caller.revoked.clone();
        if keeps && !token.is_cancelled() {
            return token;
        }
        token.cancel();
        CancellationToken::new()
    }

    /// The key's budget: the one it has, unless its limit changed; what it used stays in any case.
    fn budget_for(&self, key: &ApiKey, old: Option<&Arc<Budget>>) -> Arc<Budget> {
        let is_for = |budget: &Budget| match (&budget.limiter, key.rate_limit) {
            (Some(limiter), Some(limit)) => limiter.is_for(limit),
            (None, None) => true,
            _ => false,
        };
        if let Some(kept) = old.filter(|budget| is_for(budget)) {
            return Arc::clone(kept);
        }
        let limiter = key.rate_limit.map(|limit| Limiter::new(key.id, limit, self.0.sharing.as_ref()));
        let usage = old.map(|budget| Arc::clone(&budget.usage)).unwrap_or_default();
        Arc::new(Budget { limiter, usage })
    }

    fn forget(&self, index: &mut Index, id: ApiKeyId) {
        if let Some(old) = index.keys.remove(&id) {
            for (hash, _) in secrets_of(&old.key) {
                self.drop_secret(index, hash);
            }
        }
    }

    fn drop_secret(&self, index: &mut Index, hash: Hash) {
        if let Some((_, secret)) = self.0.secrets.remove(&hash) {
            if let Some(until) = secret.until {
                index.ends.remove(&(until, hash));
            }
            secret.caller.revoked.cancel();
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.0.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The secrets of a key, each with its end.
fn secrets_of(key: &ApiKey) -> Vec<(Hash, Option<Timestamp>)> {
    let mut secrets = vec![(key.hash, key.expires_at)];
    if let Some(previous) = key.previous.as_ref().filter(|previous| previous.hash != key.hash) {
        let until = key.expires_at.map_or(previous.until, |end| end.min(previous.until));
        secrets.push((previous.hash, Some(until)));
    }
    secrets
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use sql::model::{PreviousSecret, RateLimit};

    use super::*;

    pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    /// A key that may do everything, and its secret.
    pub(crate) fn key() -> (ApiKey, sql::model::Secret<String>) {
        let secret = PlaintextKey::generate();
        let key = ApiKey::create(ApiKeyId::at(NOW), "test", &secret, NOW);
        (key, sql::model::Secret::from(secret.expose()))
    }

    /// The policy of a key without rules.
    pub(crate) fn policy_of(key: &ApiKey) -> Policy {
        Policy::of(key, sql::model::OwnerRules::default())
    }

    fn later(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    struct Scene {
        keys: Keys,
        key: ApiKey,
        secret: PlaintextKey,
    }

    fn scene() -> Scene {
        let secret = PlaintextKey::generate();
        let key = ApiKey::create(ApiKeyId::at(NOW), "test", &secret, NOW);
        let keys = Keys::default();
        keys.upsert(key.clone(), policy_of(&key));
        Scene { keys, key, secret }
    }

    impl Scene {
        fn caller(&self) -> Result<Caller, Refusal> {
            self.keys.caller(&self.secret, NOW)
        }

        fn change(&mut self, change: impl FnOnce(&mut ApiKey)) {
            change(&mut self.key);
            self.keys.upsert(self.key.clone(), policy_of(&self.key));
        }
    }

    #[test]
    fn a_change_is_seen_and_leaves_what_is_open() {
        let mut scene = scene();
        let open = scene.caller().unwrap();
        scene.change(|key| key.name = "renamed".into());
        assert!(!open.revoked().is_cancelled());
        assert_eq!(scene.caller().unwrap().key().name, "renamed");
        scene.keys.replace_all(vec![(scene.key.clone(), policy_of(&scene.key))]);
        assert!(!open.revoked().is_cancelled());
    }

    #[test]
    fn removing_a_key_ends_what_it_opened() {
        let scene = scene();
        let open = scene.caller().unwrap();
        scene.keys.remove(scene.key.id);
        assert!(open.revoked().is_cancelled());
        assert_eq!(scene.caller().unwrap_err(), Refusal::UnknownKey);
        scene.keys.upsert(scene.key.clone(), policy_of(&scene.key));
        let open = scene.caller().unwrap();
        scene.keys.replace_all(vec![]);
        assert!(open.revoked().is_cancelled());
        assert!(scene.keys.is_empty() && scene.keys.0.secrets.is_empty());
    }

    #[test]
    fn disabling_a_key_ends_what_it_opened_and_enabling_starts_anew() {
        let mut scene = scene();
        let open = scene.caller().unwrap();
        scene.change(|key| key.enabled = false);
        assert!(open.revoked().is_cancelled());
        assert_eq!(scene.caller().unwrap_err(), Refusal::KeyDisabled);
        scene.change(|key| key.enabled = true);
        assert!(!scene.caller().unwrap().revoked().is_cancelled());
    }

    #[test]
    fn binding_a_key_to_other_addresses_ends_what_it_opened() {
        let mut scene = scene();
        let open = scene.caller().unwrap();
        scene.change(|key| key.allowed_cidrs = vec!["10.0.0.0/8".parse().unwrap()]);
        assert!(open.revoked().is_cancelled());
        assert!(!scene.caller().unwrap().revoked().is_cancelled());
    }

    #[test]
    fn an_expired_key_is_refused_and_what_it_opened_ends() {
        let mut scene = scene();
        scene.change(|key| key.expires_at = Some(later(10)));
        let open = scene.caller().unwrap();
        scene.keys.end_expired(later(9));
        assert!(!open.revoked().is_cancelled());
        assert!(scene.keys.caller(&scene.secret, later(9)).is_ok());
        assert_eq!(scene.keys.caller(&scene.secret, later(10)).unwrap_err(), Refusal::KeyExpired);
        scene.keys.end_expired(later(10));
        assert!(open.revoked().is_cancelled());
    }

    #[test]
    fn a_key_that_is_given_more_time_is_not_ended_at_its_old_end() {
        let mut scene = scene();
        scene.change(|key| key.expires_at = Some(later(10)));
        let open = scene.caller().unwrap();
        scene.change(|key| key.expires_at = Some(later(20)));
        scene.keys.end_expired(later(10));
        assert!(!open.revoked().is_cancelled());
        scene.change(|key| key.expires_at = None);
        scene.keys.end_expired(later(30));
        assert!(!open.revoked().is_cancelled());
    }

    #[test]
    fn a_rotated_secret_works_until_the_overlap_ends() {
        let mut scene = scene();
        let open = scene.caller().unwrap();
        let new = PlaintextKey::generate();
        scene.change(|key| {
            key.previous = Some(PreviousSecret { hash: key.hash, until: later(60) });
            key.hash = new.hash();
        });
        let opened_with_new = scene.keys.caller(&new, NOW).unwrap();
        assert!(scene.caller().is_ok() && !open.revoked().is_cancelled());
        assert_eq!(scene.keys.caller(&scene.secret, later(60)).unwrap_err(), Refusal::KeyExpired);
        scene.keys.end_expired(later(60));
        assert!(open.revoked().is_cancelled());
        assert!(!opened_with_new.revoked().is_cancelled());
        scene.change(|key| key.previous = None);
        assert_eq!(scene.caller().unwrap_err(), Refusal::UnknownKey);
    }

    #[test]
    fn a_secret_replaced_at_once_ends_what_it_opened() {
        let mut scene = scene();
        let open = scene.caller().unwrap();
        let new = PlaintextKey::generate();
        scene.change(|key| key.hash = new.hash());
        assert!(open.revoked().is_cancelled());
        assert_eq!(scene.caller().unwrap_err(), Refusal::UnknownKey);
        assert!(scene.keys.caller(&new, NOW).is_ok());
    }

    #[test]
    fn a_budget_survives_every_change_but_that_of_its_limit() {
        let mut scene = scene();
        let limit = RateLimit { limit: 5, window_s: 60 };
        scene.change(|key| key.rate_limit = Some(limit));
        let before = scene.caller().unwrap().budget;
        let new = PlaintextKey::generate();
        scene.change(|key| {
            key.name = "renamed".into();
            key.previous = Some(PreviousSecret { hash: key.hash, until: later(60) });
            key.hash = new.hash();
        });
        assert!(Arc::ptr_eq(&before, &scene.keys.caller(&new, NOW).unwrap().budget));
        assert!(Arc::ptr_eq(&before, &scene.caller().unwrap().budget), "one budget for both secrets");
        scene.change(|key| key.rate_limit = Some(RateLimit { limit: 6, window_s: 60 }));
        assert!(!Arc::ptr_eq(&before, &scene.caller().unwrap().budget));
        scene.change(|key| key.rate_limit = None);
        let without = scene.caller().unwrap().budget;
        assert!(without.limiter.is_none());
        assert!(Arc::ptr_eq(&before.usage, &without.usage), "what was used is used");
    }

    #[tokio::test]
    async fn what_keys_use_is_taken_once_and_other_replicas_counts_come_back() {
        let mut scene = scene();
        scene.change(|key| key.quota_per_day = Some(5));
        crate::access::rate_limit::admit_message(scene.caller().unwrap(), NOW).await.unwrap();
        let used = |scene: &Scene| scene.keys.used(scene.key.id, NOW).map(|used| (used.day, used.month));
        assert_eq!(used(&scene), Some((1, 1)));
        let taken = scene.keys.take_usage(NOW);
        assert_eq!(taken.iter().map(|usage| usage.messages).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(scene.keys.take_usage(NOW), []);
        scene.keys.return_usage(&taken);
        assert_eq!(scene.keys.take_usage(NOW), taken);
        let sums: Vec<KeyUsage> = taken.iter().map(|usage| KeyUsage { messages: 5, ..*usage }).collect();
        scene.keys.usage_stored(&sums, NOW);
        assert_eq!(used(&scene), Some((5, 5)));
        let refused = crate::access::rate_limit::admit_message(scene.caller().unwrap(), NOW).await;
        assert!(matches!(refused, Err(Refusal::QuotaExceeded { quota: 5, .. })));
        scene.keys.remove(scene.key.id);
        assert_eq!(used(&scene), None);
    }

    #[test]
    fn uses_are_noted_once_a_key_and_taken_once() {
        let scene = scene();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        scene.keys.note_use(scene.key.id, NOW, "192.0.2.9".parse().unwrap());
        scene.keys.note_use(scene.key.id, later(1), address);
        assert_eq!(scene.keys.drain_used(), vec![(scene.key.id, later(1), Some(address))]);
        assert!(scene.keys.drain_used().is_empty());
    }
}
