//! OAuth towards upstreams: the gateway as a client that an admin authorises.
//!
//! An upstream that answers 401 with a challenge (`challenge`) is left alone until an admin has
//! authorised it: `flow` finds its authorization server, asks there in the admin's browser, and exchanges
//! what comes back; `http` is how all of that travels, through the dialler that dials for upstreams. What
//! was granted lies sealed in the store; `keeper` follows it there, puts it into the [`Pass`] that the
//! upstream's requests show, and renews it before it ends.
//!
//! The protocol is rmcp's: discovery, registration, PKCE, exchange and renewal. Ours are the order of the
//! kinds of client, the refusal of endpoints without TLS where the upstream has it, revocation, and that
//! a resource is named to the token endpoint exactly as its metadata names it.
//!
//! A token never goes to another origin than the one it was granted for, and nowhere into a log: rmcp's
//! own words, which hold codes and what servers answer, are not listened to.

mod challenge;
pub(crate) mod flow;
mod http;
pub(crate) mod keeper;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ::http::HeaderValue;
use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use sql::clock::Clock;
use sql::model::{ConnParams, OAuthGrant, Timestamp, Transport, Upstream, UpstreamId};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

pub(crate) use self::challenge::{Credentials, refusal};
use super::egress::Egress;

/// How long a request waits for a token in place of one that has ended: a renewal is one round trip.
const RENEWAL_WAIT: Duration = Duration::from_secs(5);

/// A token is renewed when a quarter of its life is left, but no earlier than this before its end.
const RENEW_AHEAD_MAX: Duration = Duration::from_mins(2);

/// Between two renewals, however short the life of what an authorization server hands out.
const RENEWALS_APART: Duration = Duration::from_secs(2);

/// A token that was renewed so lately and is refused all the same isn't helped by another one.
const REFUSED_AFTER_RENEWAL: Duration = Duration::from_mins(1);

/// Why an upstream doesn't serve us: in words, what an admin can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// It wants a token, or another one.
    #[error("it needs to be authorised by an administrator")]
    Unauthorized,
    /// The token doesn't allow this.
    #[error("its authorisation lacks the scope {0:?}: an administrator can authorise it anew")]
    InsufficientScope(
        /// What it asks for; `-` if it doesn't say.
        String,
    ),
}

/// What every upstream is shown, by upstream. Clones share it.
#[derive(Clone, Default)]
pub struct Passes(Arc<AllPasses>);

#[derive(Default)]
struct AllPasses {
    passes: DashMap<UpstreamId, Arc<Pass>>,
    /// Rung when a pass needs its keeper.
    bell: Arc<Notify>,
}

impl Passes {
    /// The pass for an upstream; an empty one, if it had none.
    pub(crate) fn of(&self, id: UpstreamId) -> Arc<Pass> {
        let made = || Arc::new(Pass { bell: Arc::clone(&self.0.bell), ..Pass::default() });
        Arc::clone(&self.0.passes.entry(id).or_insert_with(made))
    }

    /// The pass for an upstream that may not be stored; nothing is kept for one that has none.
    pub(crate) fn find(&self, id: UpstreamId) -> Option<Arc<Pass>> {
        self.0.passes.get(&id).map(|pass| Arc::clone(&pass))
    }

    /// Forgets the passes for all other upstreams.
    pub(crate) fn keep(&self, known: impl Fn(&UpstreamId) -> bool) {
        self.0.passes.retain(|id, _| known(id));
    }

    /// Rung when a pass needs its keeper.
    fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.0.bell)
    }

    fn all(&self) -> Vec<(UpstreamId, Arc<Pass>)> {
        self.0.passes.iter().map(|entry| (*entry.key(), Arc::clone(entry.value()))).collect()
    }
}

/// What one upstream is shown.
#[derive(Default)]
pub(crate) struct Pass {
    held: ArcSwapOption<Held>,
    /// Grows when another token, or none, takes the place of the one that was.
    stamp: AtomicU64,
    /// What the upstream challenged us with last.
    challenge: ArcSwapOption<String>,
    /// Somebody waits for a renewal.
    wanted: AtomicBool,
    /// A renewal runs.
    renewing: AtomicBool,
    /// Grows when a renewal is over, however it went.
    over: watch::Sender<u64>,
    bell: Arc<Notify>,
}

/// A token, ready to be sent.
pub(crate) struct Held {
    header: HeaderValue,
    origin: String,
    issuer: String,
    scopes: Vec<String>,
    expires_at: Option<Timestamp>,
    renew_at: Option<Timestamp>,
    /// When it came in place of another one; `None`: an admin authorised it.
    renewed_at: Option<Timestamp>,
    is_renewable: bool,
    /// Of the grant: when it was authorised, and its version.
    grant: (Timestamp, i64),
    clock: Clock,
}

impl Held {
    /// `None`: the token can't stand in a header.
    fn of(grant: &OAuthGrant, clock: &Clock) -> Option<Self> {
        let mut header = HeaderValue::from_str(&format!("Bearer {}", grant.access_token.expose())).ok()?;
        header.set_sensitive(true);
        let is_renewable = grant.refresh_token.is_some();
        let renew_at = grant.expires_at.filter(|_| is_renewable).map(|end| {
            let life = end.since(grant.received_at);
            end.minus((life / 4).min(RENEW_AHEAD_MAX)).max(grant.received_at.plus(RENEWALS_APART))
        });
        let renewed_at = Some(grant.received_at).filter(|at| *at != grant.authorized_at);
        Some(Self {
            header,
            origin: grant.origin.clone(),
            issuer: grant.issuer.clone(),
            scopes: grant.scopes.clone(),
            expires_at: grant.expires_at,
            renew_at,
            renewed_at,
            is_renewable,
            grant: (grant.authorized_at, grant.version),
            clock: clock.clone(),
        })
    }

    fn has_ended(&self) -> bool {
        self.expires_at.is_some_and(|end| end <= self.clock.now())
    }

    /// How long ago it was renewed.
    fn age(&self) -> Duration {
        self.renewed_at.map_or(Duration::MAX, |at| self.clock.now().since(at))
    }

    /// Whether another one may be taken, now that this one has ended or is refused.
    fn can_be_replaced(&self) -> bool {
        self.is_renewable && (self.has_ended() || self.age() >= REFUSED_AFTER_RENEWAL)
    }
}

impl Pass {
    /// What a request to this origin shows. Never waits.
    pub(crate) fn header(&self, origin: &str) -> Option<HeaderValue> {
        let held = self.held.load();
        held.as_ref().filter(|held| held.origin == origin).map(|held| held.header.clone())
    }

    /// Tells one token from the next.
    pub(crate) fn stamp(&self) -> u64 {
        self.stamp.load(Ordering::SeqCst)
    }

    /// Whether there is anything to show.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load().is_some()
    }

    /// Waits for a renewal, in bounded time, if the token has ended and can be renewed; else not at all.
    pub(crate) async fn ready(&self) {
        let stamp = self.stamp();
        let ended = self.held.load().as_ref().is_some_and(|held| held.is_renewable && held.has_ended());
        if ended {
            self.renewed(stamp).await;
        }
    }

    /// The upstream refused the token of this stamp: waits, in bounded time, for another one. `false`: there
    /// is none.
    pub(crate) async fn renewed(&self, stamp: u64) -> bool {
        let mut over = self.over.subscribe();
        over.mark_unchanged();
        if self.stamp() != stamp {
            return self.is_held();
        }
        if !self.held.load().as_ref().is_some_and(|held| held.can_be_replaced()) {
            return false;
        }
        self.wanted.store(true, Ordering::SeqCst);
        self.bell.notify_one();
        let _ = timeout(RENEWAL_WAIT, over.changed()).await;
        self.stamp() != stamp && self.is_held()
    }

    /// The upstream refused what it was shown, and nobody waits for another one: it is renewed all the same,
    /// if it can be.
    pub(crate) fn refused(&self) {
        if self.held.load().as_ref().is_some_and(|held| held.can_be_replaced()) {
            self.wanted.store(true, Ordering::SeqCst);
            self.bell.notify_one();
        }
    }

    /// What is shown from now on. Whoever waited has what there is.
    fn put(&self, held: Option<Held>) {
        self.held.store(held.map(Arc::new));
        self.wanted.store(false, Ordering::SeqCst);
        self.stamp.fetch_add(1, Ordering::SeqCst);
        self.over.send_modify(|count| *count += 1);
    }

    /// A renewal is over; whoever waits for it goes on with what there is.
    fn settle(&self) {
        self.wanted.store(false, Ordering::SeqCst);
        self.over.send_modify(|count| *count += 1);
    }

    /// The same, if anybody waits.
    fn settle_if(&self, wanted: bool) {
        if wanted {
            self.settle();
        }
    }

    /// What admins are told of the token.
    pub(crate) fn shown(&self) -> Option<Shown> {
        self.held.load().as_ref().map(|held| Shown {
            issuer: held.issuer.clone(),
            origin: held.origin.clone(),
            scopes: held.scopes.clone(),
            expires_at: held.expires_at,
        })
    }
}

/// What admins are told of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Who granted it.
    pub(crate) issuer: String,
    /// Where it is sent.
    pub(crate) origin: String,
    /// What it allows.
    pub(crate) scopes: Vec<String>,
    /// When it ends, if its end is known.
    pub(crate) expires_at: Option<Timestamp>,
}

/// Where an upstream's requests go: its scheme, host and port. `None`: it has no URL, or none that may be
/// dialled.
pub fn origin_of(spec: &Upstream, egress: Egress) -> Option<String> {
    let ConnParams::Http { url, .. } = &spec.conn_params else { return None };
    if spec.transport == Transport::Stdio {
        return None;
    }
    egress.check_url_for(spec.transport, url).ok().map(|url| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use sql::model::{OAuthClient, Secret};

    use super::*;

    /// A token of a life of so many seconds, that came so many after it was authorised.
    fn held(life: u64, after: u64, clock: &Clock) -> Held {
        let now = clock.now();
        let client = OAuthClient {
            client_id: "c".into(),
            client_secret: None,
            redirect_uri: "http://localhost".into(),
        };
        let grant = OAuthGrant {
            upstream_id: UpstreamId::at(now),
            issuer: "https://issuer".into(),
            origin: "https://host".into(),
            resource: "https://host/mcp".into(),
            scopes: Vec::new(),
            client,
            metadata: "{}".into(),
            access_token: Secret::from("token"),
            refresh_token: Some(Secret::from("refresh")),
            received_at: now,
            expires_at: Some(now.plus(Duration::from_secs(life))),
            authorized_at: now.minus(Duration::from_secs(after)),
            version: 1,
        };
        Held::of(&grant, clock).expect("it can stand in a header")
    }

    #[test]
    fn renewals_keep_a_distance_however_short_a_token_lives() {
        let clock = Clock::manual(Timestamp::from_millis(1_750_000_000_000));
        for (life, ahead) in [(0, 2), (1, 2), (4, 3), (3_600, 3_480)] {
            let renew_at = held(life, 9, &clock).renew_at.expect("it is renewed");
            assert_eq!(renew_at.since(clock.now()), Duration::from_secs(ahead), "{life}");
        }
    }

    #[test]
    fn what_was_just_renewed_is_not_renewed_because_it_is_refused() {
        let clock = Clock::manual(Timestamp::from_millis(1_750_000_000_000));
        let (first, renewed, ended) = (held(3_600, 0, &clock), held(3_600, 9, &clock), held(0, 9, &clock));
        let replaced = || [&first, &renewed, &ended].map(Held::can_be_replaced);
        assert_eq!(replaced(), [true, false, true]);
        clock.advance(REFUSED_AFTER_RENEWAL);
        assert_eq!(replaced(), [true, true, true]);
    }

    #[test]
    fn what_another_replica_renewed_is_wanted_no_longer() {
        let clock = Clock::manual(Timestamp::from_millis(1_750_000_000_000));
        let pass = Pass::default();
        pass.put(Some(held(3_600, 0, &clock)));
        pass.refused();
        assert!(pass.wanted.load(Ordering::SeqCst));
        pass.put(Some(held(3_600, 9, &clock)));
        assert!(!pass.wanted.load(Ordering::SeqCst));
    }
}
