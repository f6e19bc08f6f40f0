//! API keys: what proves a caller, and what the caller may do.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ipnet::IpNet;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::closed_set::closed_set;
use super::ids::{ApiKeyId, UpstreamId};
use super::secret::Secret;
use super::time::Timestamp;

/// What every key starts with, so that scanners for leaked secrets know it.
const MARK: &str = "mpg_";
/// Random bytes of a key: beyond guessing, so that one SHA-256 is enough to store it.
const RANDOM_BYTES: usize = 32;
/// Characters of base64url for them.
const RANDOM_CHARS: usize = 43;
/// Characters of a key that are kept, to tell keys apart: the mark and 48 bits.
const PREFIX_CHARS: usize = 12;

closed_set! {
    /// What a key's caller sees.
    pub enum KeyMode {
        /// As the setting says.
        Inherit = "inherit",
        /// Four discovery tools.
        Smart = "smart",
        /// Every tool.
        Full = "full",
    }
}

/// So many client messages in a window, with a burst of the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RateLimit {
    /// Messages.
    pub limit: u32,
    /// In so many seconds.
    pub window_s: u32,
}

/// The secret before a rotation, while it still works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousSecret {
    /// SHA-256 of it.
    pub hash: [u8; 32],
    /// When it stops working.
    pub until: Timestamp,
}

/// A caller's key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Which.
    pub id: ApiKeyId,
    /// Unique.
    pub name: String,
    /// The first 12 characters of the secret.
    pub prefix: String,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// The secret before the last rotation.
    pub previous: Option<PreviousSecret>,
    /// Whether it works.
    pub enabled: bool,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// What its caller sees.
    pub mode: KeyMode,
    /// The upstreams it may use; none = all.
    pub upstream_ids: Option<Vec<UpstreamId>>,
    /// Where calls may come from; empty = anywhere.
    pub allowed_cidrs: Vec<IpNet>,
    /// How fast calls may come.
    pub rate_limit: Option<RateLimit>,
    /// Calls a day.
    pub quota_per_day: Option<u64>,
    /// Calls a month.
    pub quota_per_month: Option<u64>,
    /// When it was last used; written by `api_keys::touch` alone.
    pub last_used_at: Option<Timestamp>,
    /// From where it was last used; likewise.
    pub last_ip: Option<IpAddr>,
    /// Grows by 1 with each write; the ETag.
    pub version: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

impl ApiKey {
    /// A new key for everything, from anywhere, without limit.
    pub fn create(id: ApiKeyId, name: impl Into<String>, secret: &PlaintextKey, now: Timestamp) -> Self {
        Self {
            id,
            name: name.into(),
            prefix: secret.prefix().to_owned(),
            hash: secret.hash(),
            previous: None,
            enabled: true,
            expires_at: None,
            mode: KeyMode::Inherit,
            upstream_ids: None,
            allowed_cidrs: Vec::new(),
            rate_limit: None,
            quota_per_day: None,
            quota_per_month: None,
            last_used_at: None,
            last_ip: None,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }
}

/// The secret of a key: `mpg_` and base64url of 32 random bytes. Shown once, stored never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaintextKey(Secret<String>);

impl PlaintextKey {
    /// A new secret.
    pub fn generate() -> Self {
        let mut random = Zeroizing::new([0_u8; RANDOM_BYTES]);
        SystemRandom::new().fill(random.as_mut()).expect("the system's randomness is available");
        let mut text = String::with_capacity(MARK.len() + RANDOM_CHARS);
        text.push_str(MARK);
        URL_SAFE_NO_PAD.encode_string(random.as_ref(), &mut text);
        Self(Secret::new(text))
    }

    /// The secret in `text`, if it has the shape of one. Says nothing about whether it is known.
    pub fn parse(text: &str) -> Option<Self> {
        let random = text.strip_prefix(MARK)?;
        let shaped = random.len() == RANDOM_CHARS
            && random.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        shaped.then(|| Self(Secret::from(text)))
    }

    /// SHA-256 of the whole text: what is stored and looked up.
    pub fn hash(&self) -> [u8; 32] {
        let digest = digest(&SHA256, self.expose().as_bytes());
        digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// The part that may be shown.
    pub fn prefix(&self) -> &str {
        &self.expose()[..PREFIX_CHARS]
    }

    /// The whole text.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_secret_has_its_shape_and_is_new() {
        let one = PlaintextKey::generate();
        let other = PlaintextKey::generate();
        assert_eq!(PlaintextKey::parse(one.expose()), Some(one.clone()));
        assert_eq!(one.prefix(), &one.expose()[..12]);
        assert_ne!(one.hash(), other.hash());
        assert_eq!(format!("{one:?}"), "PlaintextKey([secret])");
    }

    #[test]
    fn other_texts_are_no_secrets() {
        let good = PlaintextKey::generate();
        let good = good.expose();
        for text in [
            "",
            "mpg_",
            &good[1..],
            &good[..46],
            &format!("{good}A"),
            &good.replace("mpg_", "MPG_"),
            "mpg_0123456789012345678901234567890123456789 =",
            "mpg_äääääääääääääääääääää0",
        ] {
            assert_eq!(PlaintextKey::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_hash_is_sha_256_of_the_whole_text() {
        let key = PlaintextKey::parse("mpg_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").expect("its shape");
        let digest = digest(&SHA256, b"mpg_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(key.hash().as_slice(), digest.as_ref());
    }
}
