//! How one replica proves to another that it is one: each request has a code of its own.
//!
//! HMAC-SHA256 under a key derived from the master key, over who is asked, when, a nonce and the digest of
//! the body. So a request can neither be made, nor changed, nor sent to another replica or a second time by
//! who reads it on its way. It is verified before the body is read, in constant time.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hmac};
use sql::clock::Clock;
use sql::model::Timestamp;
use sql::seal::Sealer;

use super::replica::ReplicaId;

/// What the key is derived for; with a new form of the pass it changes.
const PURPOSE: &str = "peer relay 1";

/// How far the clocks of two replicas may be apart.
const SKEW_MAX: Duration = Duration::from_secs(30);

/// Nonces that are remembered, for as long as a pass is valid: 5,000 requests a second, some 10 MB at most.
/// Beyond it requests are refused for a moment, and may come again.
const NONCES_MAX: usize = 300_000;

/// Bytes of a nonce.
const NONCE_BYTES: usize = 16;

/// Makes passes and verifies them.
pub(super) struct Passes {
    key: hmac::Key,
    previous: Vec<hmac::Key>,
    clock: Clock,
    own: ReplicaId,
    seen: Mutex<Seen>,
}

/// The nonces of the last while, in two generations, so that forgetting the old ones costs nothing.
#[derive(Default)]
struct Seen {
    now: HashSet<[u8; NONCE_BYTES]>,
    before: HashSet<[u8; NONCE_BYTES]>,
    since: Option<Timestamp>,
}

/// Why a pass isn't taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotPassed {
    /// It isn't one, was changed, or was made with another key.
    #[error("the pass is not valid")]
    Invalid,
    /// It is good for a replica that this one isn't, or no longer.
    #[error("the pass is for another replica")]
    Elsewhere,
    /// Made too long ago, or in the future.
    #[error("the clocks of the replicas are more than {} s apart", SKEW_MAX.as_secs())]
    Untimely,
    /// It was used before.
    #[error("the pass was used before")]
    Used,
    /// Too many requests to know whether it was used.
    #[error("too many requests")]
    Busy,
}

impl NotPassed {
    /// What the other replica is told.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Elsewhere => StatusCode::MISDIRECTED_REQUEST,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Invalid | Self::Untimely | Self::Used => StatusCode::FORBIDDEN,
        }
    }
}

impl Passes {
    pub(super) fn new(sealer: &Sealer, clock: Clock, own: ReplicaId) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &sealer.derive_key(PURPOSE));
        // Of replicas that haven't been restarted with the present master key yet.
        let previous = sealer.derive_previous_keys(PURPOSE);
        let previous = previous.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key)).collect();
        Self { key, previous, clock, own, seen: Mutex::default() }
    }

    /// A pass for a request with this body to this replica.
    pub(super) fn issue(&self, to: ReplicaId, body: &[u8]) -> String {
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut nonce).expect("the system's randomness is available");
        let body = digest::digest(&digest::SHA256, body);
        let mut pass = format!("{to} {} {} {}", self.clock.now().millis(), hex(&nonce), hex(body.as_ref()));
        let code = hmac::sign(&self.key, pass.as_bytes());
        let _ = write!(pass, " {}", hex(code.as_ref()));
        pass
    }

    /// Verifies a pass; what is left to be seen is whether the body is the one that it is for.
    pub(super) fn verify(&self, pass: &str) -> Result<BodyDigest, NotPassed> {
        let (signed, code) = pass.rsplit_once(' ').ok_or(NotPassed::Invalid)?;
        let code: [u8; 32] = unhex(code).ok_or(NotPassed::Invalid)?;
        let mut keys = std::iter::once(&self.key).chain(&self.previous);
        if !keys.any(|key| hmac::verify(key, signed.as_bytes(), &code).is_ok()) {
            return Err(NotPassed::Invalid);
        }
        let mut parts = signed.split(' ');
        let mut part = || parts.next().ok_or(NotPassed::Invalid);
        if part()?.parse() != Ok(self.own) {
            return Err(NotPassed::Elsewhere);
        }
        let made_at: i64 = part()?.parse().map_err(|_| NotPassed::Invalid)?;
        let nonce = unhex(part()?).ok_or(NotPassed::Invalid)?;
        let digest = unhex(part()?).ok_or(NotPassed::Invalid)?;
        let now = self.clock.now();
        if u128::from(now.millis().abs_diff(made_at)) > SKEW_MAX.as_millis() {
            return Err(NotPassed::Untimely);
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).note(nonce, now)?;
        Ok(BodyDigest(digest))
    }
}

/// The digest that a body has to have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BodyDigest([u8; 32]);

impl BodyDigest {
    /// Whether it is the digest of this body.
    pub(super) fn is_of(&self, body: &[u8]) -> bool {
        digest::digest(&digest::SHA256, body).as_ref() == self.0
    }
}

impl Seen {
    fn note(&mut self, nonce: [u8; NONCE_BYTES], now: Timestamp) -> Result<(), NotPassed> {
        // A pass is good from one skew before now to one after.
        let is_over =
            |since: Timestamp| u128::from(now.millis().abs_diff(since.millis())) > 2 * SKEW_MAX.as_millis();
        if self.since.is_none_or(is_over) {
            self.before = std::mem::take(&mut self.now);
            self.since = Some(now);
        }
        if self.before.contains(&nonce) || self.now.contains(&nonce) {
            return Err(NotPassed::Used);
        }
        if self.now.len() >= NONCES_MAX {
            return Err(NotPassed::Busy);
        }
        self.now.insert(nonce);
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let nibble = |digit: u8| char::from(digit).to_digit(16);
        let value = nibble(pair[0])? << 4 | nibble(pair[1])?;
        *byte = u8::try_from(value).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use sql::seal::MasterKey;

    use super::*;

    const BODY: &[u8] = b"a body";

    fn sealer() -> Sealer {
        Sealer::new(&MasterKey::from_env_text(MasterKey::generate_hex().expose()).expect("a fresh key").0)
    }

    struct Scene {
        from: Passes,
        to: Passes,
        clock: Clock,
    }

    fn scene() -> Scene {
        let (sealer, clock) = (sealer(), Clock::manual(Timestamp::from_millis(1_700_000_000_000)));
        let of = |bits| Passes::new(&sealer, clock.clone(), ReplicaId::from_bits(bits).expect("small"));
        Scene { from: of(1), to: of(2), clock: clock.clone() }
    }

    #[test]
    fn a_pass_is_good_once_and_for_its_body() {
        let scene = scene();
        let pass = scene.from.issue(scene.to.own, BODY);
        let digest = scene.to.verify(&pass).expect("it is good");
        assert!(digest.is_of(BODY) && !digest.is_of(b"another"));
        assert_eq!(scene.to.verify(&pass), Err(NotPassed::Used));
        scene.clock.advance(SKEW_MAX);
        assert_eq!(scene.to.verify(&pass), Err(NotPassed::Used), "as long as it is timely");
        scene.clock.advance(Duration::from_millis(1));
        assert_eq!(scene.to.verify(&pass), Err(NotPassed::Untimely));
    }

    #[test]
    fn a_pass_is_good_at_its_replica_alone() {
        let scene = scene();
        let pass = scene.from.issue(scene.to.own, BODY);
        assert_eq!(scene.from.verify(&pass), Err(NotPassed::Elsewhere));
    }

    #[test]
    fn what_was_changed_or_made_with_another_key_is_not_valid() {
        let scene = scene();
        let stranger = Passes::new(&sealer(), scene.clock.clone(), scene.from.own);
        assert_eq!(scene.to.verify(&stranger.issue(scene.to.own, BODY)), Err(NotPassed::Invalid));
        let pass = scene.from.issue(scene.to.own, BODY);
        for at in 0..pass.len() {
            let mut changed = pass.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert_eq!(scene.to.verify(&changed), Err(NotPassed::Invalid), "byte {at}");
        }
        for text in ["", " ", "a b c d e", &pass[1..], &pass[..pass.len() - 1]] {
            assert_eq!(scene.to.verify(text), Err(NotPassed::Invalid), "{text}");
        }
        assert!(scene.to.verify(&pass).is_ok());
    }

    #[test]
    fn clocks_may_be_a_little_apart_in_both_directions() {
        let scene = scene();
        let later = Clock::manual(scene.clock.now().plus(SKEW_MAX));
        let sealer = sealer();
        let ahead = Passes::new(&sealer, later.clone(), scene.from.own);
        let to = Passes::new(&sealer, scene.clock.clone(), scene.to.own);
        assert!(to.verify(&ahead.issue(scene.to.own, BODY)).is_ok());
        later.advance(Duration::from_millis(1));
        assert_eq!(to.verify(&ahead.issue(scene.to.own, BODY)), Err(NotPassed::Untimely));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten() {
        let mut seen = Seen::default();
        let at = Timestamp::from_millis;
        for n in 0..NONCES_MAX {
            seen.note((n as u128).to_be_bytes(), at(0)).expect("there is room");
        }
        assert_eq!(seen.note([255; NONCE_BYTES], at(0)), Err(NotPassed::Busy));
        assert_eq!(seen.note([0; NONCE_BYTES], at(60_001)), Err(NotPassed::Used), "a generation longer");
        assert_eq!(seen.note([255; NONCE_BYTES], at(60_001)), Ok(()));
        assert_eq!(seen.note([254; NONCE_BYTES], at(120_002)), Ok(()));
        assert_eq!(seen.before.len(), 1);
    }
}
