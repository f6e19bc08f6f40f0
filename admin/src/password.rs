//! Passwords of admins: what one may be, and bcrypt off the request's thread.
//!
//! bcrypt looks at 72 bytes and forgets the rest, so longer input is refused rather than cut
//! (threat T13). Hashing is slow on purpose: at most one runs per core, the others wait their turn.

use std::sync::Arc;

use sql::model::Secret;
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// Shorter ones are guessed; 8 is what NIST SP 800-63B asks of a chosen password.
const PASSWORD_BYTES_MIN: usize = 8;

/// bcrypt takes 72 bytes with a terminating NUL.
const PASSWORD_BYTES_MAX: usize = 71;

/// About a quarter of a second per guess on today's hardware.
pub(crate) const COST: u32 = 12;

/// The salt and the digest of a hash that was made once and is nobody's: to make one takes as long as a log-in,
/// which every start would wait for.
const NOBODY: &str = "xwP2PgcR8f0QA8etAnDn3.cgXRqPEEhgXUOJywTk2aKBRNUATgZh.";

/// A password that may be set. Nothing else is ever hashed for storing.
pub(crate) struct Password(Secret<String>);

impl Password {
    /// Checks length and content.
    pub(crate) fn parse(text: String) -> Result<Self, &'static str> {
        if text.len() < PASSWORD_BYTES_MIN {
            return Err("must have at least 8 bytes");
        }
        if text.len() > PASSWORD_BYTES_MAX {
            return Err("must have at most 71 bytes");
        }
        if text.contains('\0') {
            return Err("must not contain NUL");
        }
        Ok(Self(Secret::new(text)))
    }
}

/// Hashes and verifies. Clones share the limit.
#[derive(Clone)]
pub(crate) struct Hasher {
    cost: u32,
    turns: Arc<Semaphore>,
    /// Verified instead of an account that doesn't exist, so that both take the same time.
    nobody: Arc<str>,
}

impl Hasher {
    /// A hasher; [`COST`] but in tests, which register often.
    pub(crate) fn new(cost: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // The work of verifying is that of the cost in it, whatever it was made at.
        let nobody = format!("$2b${cost:02}${NOBODY}").into();
        Self { cost, turns: Arc::new(Semaphore::new(cores)), nobody }
    }

    /// What is stored of a password.
    pub(crate) async fn hash(&self, password: Password) -> Result<Secret<String>, ApiError> {
        let cost = self.cost;
        self.blocking(move || bcrypt::non_truncating_hash(password.0.expose().as_bytes(), cost))
            .await?
            .map(Secret::new)
            .map_err(|source| ApiError::internal("hashing a password", source))
    }

    /// Whether `password` is the one behind `hash`; without a hash the work is done in vain.
    pub(crate) async fn verify(
        &self,
        password: Secret<String>,
        hash: Option<Secret<String>>,
    ) -> Result<bool, ApiError> {
        let nobody = Arc::clone(&self.nobody);
        self.blocking(move || {
            // What could never have been set is verified too, cut to size: an early no would be faster.
            let text = password.expose().as_bytes();
            let fits = text.len() <= PASSWORD_BYTES_MAX && !text.contains(&0);
            let tried = if fits { text } else { b"too long, or with a NUL" };
            let known = hash.as_ref().map_or(&*nobody, |hash| hash.expose().as_str());
            let matches = bcrypt::non_truncating_verify(tried, known).unwrap_or(false);
            matches && fits && hash.is_some()
        })
        .await
    }

    /// Other work that takes a core for a while, in turn with passwords.
    pub(crate) async fn away<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        self.blocking(work).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = Arc::clone(&self.turns)
            .acquire_owned()
            .await
            .map_err(|source| ApiError::internal("waiting to hash", source))?;
        tokio::task::spawn_blocking(move || {
            // The turn ends with the work, not with the request that may have gone away.
            let _turn = turn;
            work()
        })
        .await
        .map_err(|source| ApiError::internal("hashing a password", source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_has_8_to_71_bytes_and_no_nul() {
        assert!(Password::parse("1234567".into()).is_err());
        assert!(Password::parse("12345678".into()).is_ok());
        assert!(Password::parse("x".repeat(71)).is_ok());
        assert!(Password::parse("x".repeat(72)).is_err());
        assert!(Password::parse("ä".repeat(36)).is_err(), "bytes are counted, not characters");
        assert!(Password::parse("1234\0abcdefg".into()).is_err());
    }

    #[tokio::test]
    async fn shipped_hashes_cost_12() {
        let hasher = Hasher::new(COST);
        let hash = hasher.hash(Password::parse("12345678".into()).ok().unwrap()).await.unwrap();
        assert!(hash.expose().starts_with("$2b$12$"));
    }

    #[test]
    fn what_is_verified_in_vain_is_a_hash_of_the_same_cost() {
        for cost in [4, COST] {
            let hasher = Hasher::new(cost);
            let parts: bcrypt::HashParts = hasher.nobody.parse().unwrap();
            assert_eq!(parts.get_cost(), cost);
        }
        // An error would be quicker than a no.
        let verdict = bcrypt::non_truncating_verify("anything", &Hasher::new(4).nobody);
        assert!(!verdict.unwrap());
    }

    #[tokio::test]
    async fn only_the_very_password_verifies() {
        let hasher = Hasher::new(4);
        let long = "x".repeat(71);
        let hash = hasher.hash(Password::parse(long.clone()).ok().unwrap()).await.unwrap();
        for (tried, expected) in [(long.clone(), true), (format!("{long}y"), false), ("x".repeat(70), false)]
        {
            let verdict = hasher.verify(Secret::new(tried), Some(Secret::new(hash.expose().clone()))).await;
            assert_eq!(verdict.unwrap(), expected);
        }
        let nobody = hasher.verify(Secret::new("nobody has this password".into()), None).await;
        assert!(!nobody.unwrap(), "an unknown account has no password");
    }
}
