//! Which replicas there are, where each is reached, and which of them has what only one can have.
//!
//! Each replica says every few seconds that it is there. Beside that stand claims: of a session's home, and of
//! upstream sessions that a client has for its own. Who needs such a thing first claims it; who finds it
//! claimed goes there. A claim of a replica that is gone or about to go is free. All of it lies in the
//! [`Cache`] and may be lost: then everything is where it is asked for, as without other replicas.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use sql::model::UpstreamId;
use tokio::time::Instant;
use uuid::Uuid;

use super::replica::ReplicaId;
use crate::cache::{Cache, Lost};

/// How often a replica says that it is there, and how long it is believed.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(3);
const BELIEVED: Duration = Duration::from_secs(10);
/// How long it is remembered where a replica is: one that goes is noticed by its refusing anyway.
const REMEMBERED: Duration = Duration::from_secs(2);

/// How often claims are renewed, and how long one lasts that isn't.
pub(super) const RENEWAL: Duration = Duration::from_mins(1);
const CLAIM_TTL: Duration = Duration::from_mins(15);
/// A claim that nobody came for in so long is given up, unless something hangs off it: subscriptions without
/// a stream and upstream sessions end after as long.
const UNUSED_MAX: Duration = Duration::from_mins(10);
/// Claims that one replica holds: as many as there may be connections, about 150 bytes each. What comes
/// beyond is served where it is asked for.
const CLAIMS_MAX: usize = 20_000;
/// Attempts at a claim that others change in the same moment.
const ATTEMPTS_MAX: usize = 4;

/// What only one replica can have at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Claim {
    /// The home of a legacy session: where its stream is, and its subscriptions.
    Home(Uuid),
    /// The sessions with an upstream that an owner (a session or a key) has for its own.
    Own(UpstreamId, Uuid),
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Home(session) => write!(f, "home:{}", session.simple()),
            Self::Own(upstream, owner) => write!(f, "own:{upstream}:{}", owner.simple()),
        }
    }
}

/// What a replica says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Whereabouts {
    /// Its peer listener, if it has one.
    pub(super) peer: Option<SocketAddr>,
    /// Whether it takes claims: not when it is about to end.
    pub(super) stays: bool,
}

pub(super) struct Directory {
    cache: Cache,
    own: ReplicaId,
    held: DashMap<Claim, Instant>,
    known: DashMap<ReplicaId, (Option<Whereabouts>, Instant)>,
}

impl Directory {
    pub(super) fn new(cache: Cache, own: ReplicaId) -> Self {
        Self { cache, own, held: DashMap::new(), known: DashMap::new() }
    }

    /// Whether a name is free; it is ours from then on.
    pub(super) async fn take_name(cache: &Cache, name: ReplicaId, at: Whereabouts) -> Result<bool, Lost> {
        cache.compare_and_set(&key_of(name), None, &written(at), BELIEVED).await
    }

    /// Says that this replica is there, and where.
    pub(super) async fn say(&self, at: Whereabouts) -> Result<(), Lost> {
        self.cache.set(&key_of(self.own), &written(at), BELIEVED).await
    }

    /// Says that it is gone.
    pub(super) async fn leave(&self) -> Result<(), Lost> {
        self.cache.delete(&key_of(self.own)).await
    }

    /// Where a replica is; `None` if it is gone.
    pub(super) async fn whereabouts(&self, replica: ReplicaId) -> Result<Option<Whereabouts>, Lost> {
        if let Some(known) = self.known.get(&replica).filter(|known| known.1.elapsed() < REMEMBERED) {
            return Ok(known.0);
        }
        let found = self.cache.get(&key_of(replica)).await?;
        let found = found.and_then(|found| serde_json::from_slice(&found).ok());
        match found {
            // Only replicas that there are: a client could name any.
            Some(_) => self.known.insert(replica, (found, Instant::now())),
            None => self.known.remove(&replica).map(|(_, known)| known),
        };
        Ok(found)
    }

    /// Notes that a replica could not be reached at all.
    pub(super) fn is_gone(&self, replica: ReplicaId) {
        if let Some(mut known) = self.known.get_mut(&replica) {
            *known = (None, Instant::now());
        }
    }

    /// Who has it: `None` if this replica has, or from now on does; or if that can't be known.
    pub(super) async fn claim(&self, claim: Claim) -> Option<ReplicaId> {
        if let Some(mut used) = self.held.get_mut(&claim) {
            *used = Instant::now();
            return None;
        }
        if self.held.len() >= CLAIMS_MAX {
            tracing::warn!(claims.max = CLAIMS_MAX, "too many claims, one is served without");
            return None;
        }
        self.claimed(claim).await.unwrap_or_else(|Lost| {
            tracing::debug!("a claim could not be looked up, it is served here");
            None
        })
    }

    async fn claimed(&self, claim: Claim) -> Result<Option<ReplicaId>, Lost> {
        let (key, own) = (claim.to_string(), self.own.to_string());
        for _ in 0..ATTEMPTS_MAX {
            let found = self.cache.get(&key).await?;
            // What isn't a replica's name is nobody's claim.
            let holder = found.as_deref().and_then(|found| std::str::from_utf8(found).ok()?.parse().ok());
            if let Some(holder) = holder.filter(|holder| *holder != self.own)
                && self.whereabouts(holder).await?.is_some_and(|at| at.stays)
            {
                return Ok(Some(holder));
            }
            if self.cache.compare_and_set(&key, found.as_deref(), own.as_bytes(), CLAIM_TTL).await? {
                self.held.insert(claim, Instant::now());
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Renews what is held, and gives up what nobody needs any more.
    pub(super) async fn renew(&self, is_live: impl Fn(Uuid) -> bool) -> Result<(), Lost> {
        let held: Vec<(Claim, Instant)> =
            self.held.iter().map(|entry| (*entry.key(), *entry.value())).collect();
        let own = self.own.to_string();
        for (claim, used) in held {
            let is_needed =
                used.elapsed() < UNUSED_MAX || matches!(claim, Claim::Home(session) if is_live(session));
            let key = claim.to_string();
            if !is_needed {
                // Used in this very moment, it stays.
                self.held.remove_if(&claim, |_, now| *now == used);
                self.cache.delete_if(&key, own.as_bytes()).await?;
                continue;
            }
            let renewed = self.cache.compare_and_set(&key, Some(own.as_bytes()), own.as_bytes(), CLAIM_TTL);
            // It may be lost, with all that the cache had.
            if !renewed.await? && !self.cache.compare_and_set(&key, None, own.as_bytes(), CLAIM_TTL).await? {
                self.held.remove(&claim);
            }
        }
        Ok(())
    }
}

fn key_of(replica: ReplicaId) -> String {
    format!("replica:{replica}")
}

fn written(at: Whereabouts) -> Vec<u8> {
    serde_json::to_vec(&at).expect("an address and a truth value")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Claim = Claim::Home(Uuid::from_u128(7));
    const HERE: Whereabouts = Whereabouts { peer: None, stays: true };

    fn two() -> (Directory, Directory) {
        let cache = Cache::default();
        let of = |bits| Directory::new(cache.clone(), ReplicaId::from_bits(bits).expect("small"));
        (of(1), of(2))
    }

    #[tokio::test]
    async fn what_one_has_claimed_the_other_finds_there() {
        let (one, two) = two();
        one.say(HERE).await.unwrap();
        assert_eq!(one.claim(HOME).await, None);
        assert_eq!(two.claim(HOME).await, Some(one.own));
        assert_eq!(one.claim(HOME).await, None, "again");
        let other = Claim::Home(Uuid::from_u128(8));
        assert_eq!(two.claim(other).await, None, "another is free");
    }

    #[tokio::test]
    async fn a_claim_of_one_that_is_gone_or_goes_is_free() {
        let (one, two) = two();
        assert_eq!(one.claim(HOME).await, None);
        assert_eq!(two.claim(HOME).await, None, "it never said that it is there");
        two.say(HERE).await.unwrap();
        two.say(Whereabouts { stays: false, ..HERE }).await.unwrap();
        one.held.clear();
        assert_eq!(one.claim(HOME).await, None, "the other is about to end");
        one.say(HERE).await.unwrap();
        two.held.clear();
        assert_eq!(two.claim(HOME).await, Some(one.own));
        two.is_gone(one.own);
        assert_eq!(two.claim(HOME).await, None, "it could not be reached");
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_is_kept_while_something_needs_it() {
        let (one, two) = two();
        one.say(HERE).await.unwrap();
        assert_eq!(one.claim(HOME).await, None);
        one.renew(|_| false).await.unwrap();
        assert!(one.held.contains_key(&HOME), "just used");
        tokio::time::advance(UNUSED_MAX).await;
        one.renew(|_| true).await.unwrap();
        assert!(one.held.contains_key(&HOME), "its session lives");
        one.renew(|_| false).await.unwrap();
        assert!(one.held.is_empty());
        assert_eq!(two.claim(HOME).await, None);
    }

    #[tokio::test]
    async fn a_claim_that_another_took_meanwhile_is_no_longer_held() {
        let (one, two) = two();
        assert_eq!(one.claim(HOME).await, None);
        assert_eq!(two.claim(HOME).await, None);
        one.renew(|_| true).await.unwrap();
        assert!(one.held.is_empty());
        one.cache.delete(&HOME.to_string()).await.unwrap();
        two.renew(|_| true).await.unwrap();
        assert!(two.held.contains_key(&HOME), "lost, and claimed anew");
    }

    #[tokio::test]
    async fn nonsense_in_the_cache_is_nobodys_claim() {
        let (one, _) = two();
        for nonsense in [&b""[..], b"\xff\xfe", b"zzzzzz", b"000002extra"] {
            one.cache.set(&HOME.to_string(), nonsense, CLAIM_TTL).await.unwrap();
            one.held.clear();
            assert_eq!(one.claim(HOME).await, None);
        }
        one.cache.set("replica:000002", b"{]", CLAIM_TTL).await.unwrap();
        assert_eq!(one.whereabouts("000002".parse().unwrap()).await, Ok(None));
        assert!(one.known.is_empty());
    }

    #[tokio::test]
    async fn a_name_is_taken_once() {
        let cache = Cache::default();
        let name = ReplicaId::random();
        assert_eq!(Directory::take_name(&cache, name, HERE).await, Ok(true));
        assert_eq!(Directory::take_name(&cache, name, HERE).await, Ok(false));
    }
}
