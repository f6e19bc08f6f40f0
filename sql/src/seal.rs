//! Sealing: encryption at rest, into opaque tokens, and the keys derived for other purposes.
//!
//! The master key goes through HKDF-SHA256 to one key per purpose. What is sealed is
//! `key id (4) | nonce (12) | ciphertext and tag`, AES-256-GCM, in base64url; the nonce is random
//! (for a name, which must stay the same, it is made of what is sealed), and the place it belongs to is authenticated with it, so that a sealed value moved to another
//! row or column doesn't open. Nothing here prints a key or what was sealed.
//!
//! While a master key is changed for another one, the previous ones still open what they sealed; only the
//! present one seals.

mod master_key;

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

pub use self::master_key::{KeyError, MasterKey, Warning};
use crate::model::secret::Secret;

/// Bytes of a derived key.
const KEY_BYTES: usize = 32;
/// Bytes that say which key sealed a value.
const KEY_ID_BYTES: usize = 4;
/// Bytes before the ciphertext.
const HEAD_BYTES: usize = KEY_ID_BYTES + NONCE_LEN;
/// AES-GCM's tag.
const TAG_BYTES: usize = 16;
/// No sealed value of the product is larger; what is longer isn't decoded.
const SEALED_CHARS_MAX: usize = 4 * 1024 * 1024;

/// Where a sealed value belongs.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The table.
    pub table: &'a str,
    /// The column, and the path within it where it holds a document.
    pub column: &'a str,
    /// The row's id.
    pub row: &'a str,
}

/// The value doesn't open: altered, moved, or sealed with another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed value doesn't open here")]
pub struct DoesNotOpen;

/// Seals and unseals. Cheap to clone.
#[derive(Clone)]
pub struct Sealer(Arc<Keys>);

struct Keys {
    /// That of the present master key, and those of the previous ones.
    roots: Vec<Prk>,
    at_rest: Ring,
    /// One ring per purpose of tokens, made when first used: the purposes are literals of the
    /// program, so this stays a handful, and a token costs no key schedule.
    tokens: RwLock<Vec<(&'static str, Arc<Ring>)>>,
}

/// The keys of one use: the present one seals, all open.
struct Ring {
    present: SealingKey,
    previous: Vec<SealingKey>,
}

/// One AES key, expanded once.
struct SealingKey {
    id: [u8; KEY_ID_BYTES],
    key: LessSafeKey,
    /// Makes the nonces of names.
    nonces: hmac::Key,
}

impl Sealer {
    /// Derives the keys.
    pub fn new(master_key: &MasterKey) -> Self {
        Self::with_previous(master_key, &[])
    }

    /// Derives the keys; what one of the previous master keys sealed still opens.
    pub fn with_previous(master_key: &MasterKey, previous: &[MasterKey]) -> Self {
        let salt = Salt::new(HKDF_SHA256, b"mcp-proxy-gateway");
        let roots: Vec<Prk> =
            std::iter::once(master_key).chain(previous).map(|key| salt.extract(key.bytes())).collect();
        let at_rest = Ring::derive(&roots, "at rest", "");
        Self(Arc::new(Keys { roots, at_rest, tokens: RwLock::default() }))
    }

    /// Seals a value for one place in the database.
    pub fn seal(&self, plain: &[u8], place: Place<'_>) -> String {
        self.0
            .at_rest
            .present
            .seal(plain, &associated(&[place.table, place.column, place.row].map(str::as_bytes)))
    }

    /// Opens what was sealed for that place.
    pub fn unseal(&self, sealed: &str, place: Place<'_>) -> Result<Secret<Vec<u8>>, DoesNotOpen> {
        let associated = associated(&[place.table, place.column, place.row].map(str::as_bytes));
        self.0.at_rest.unseal(sealed, &associated).map(Secret::new)
    }

    /// Seals anew what one of the previous keys sealed for that place. `None`: the present one did.
    pub(crate) fn reseal(&self, sealed: &str, place: Place<'_>) -> Result<Option<String>, DoesNotOpen> {
        let associated = associated(&[place.table, place.column, place.row].map(str::as_bytes));
        self.0.at_rest.reseal(sealed, &associated)
    }

    /// The same for a token.
    pub(crate) fn reseal_token(
        &self,
        purpose: &'static str,
        token: &str,
        bound_to: &[u8],
    ) -> Result<Option<String>, DoesNotOpen> {
        self.token_ring(purpose).reseal(token, bound_to)
    }

    /// A key for a purpose of its own; the same purpose gives the same key on every replica.
    pub fn derive_key(&self, purpose: &str) -> [u8; KEY_BYTES] {
        *derive(&self.0.roots[0], "key", purpose)
    }

    /// The same of each of the previous master keys, for what a replica that still has one made with it.
    pub fn derive_previous_keys(&self, purpose: &str) -> Vec<[u8; KEY_BYTES]> {
        self.0.roots[1..].iter().map(|root| *derive(root, "key", purpose)).collect()
    }

    /// Seals `plain` into an opaque text. It opens only for the same purpose and `associated`.
    pub fn seal_token(&self, purpose: &'static str, plain: &[u8], bound_to: &[u8]) -> String {
        self.token_ring(purpose).present.seal(plain, bound_to)
    }

    /// Seals `plain` into an opaque text that is the same each time, so that it can serve as a name: who
    /// holds two of them sees whether they mean the same, and nothing else. It opens as a token does.
    pub fn seal_name(&self, purpose: &'static str, plain: &[u8], bound_to: &[u8]) -> String {
        self.token_ring(purpose).present.seal_alike(plain, bound_to)
    }

    /// Opens a token. The text may come from anybody.
    pub fn unseal_token(
        &self,
        purpose: &'static str,
        token: &str,
        bound_to: &[u8],
    ) -> Result<Vec<u8>, DoesNotOpen> {
        self.token_ring(purpose).unseal(token, bound_to)
    }

    fn token_ring(&self, purpose: &'static str) -> Arc<Ring> {
        let find = |rings: &[(&'static str, Arc<Ring>)]| {
            rings.iter().find(|(known, _)| *known == purpose).map(|(_, ring)| Arc::clone(ring))
        };
        if let Some(ring) = find(&self.0.tokens.read().unwrap_or_else(PoisonError::into_inner)) {
            return ring;
        }
        let mut rings = self.0.tokens.write().unwrap_or_else(PoisonError::into_inner);
        find(&rings).unwrap_or_else(|| {
            let ring = Arc::new(Ring::derive(&self.0.roots, "token", purpose));
            rings.push((purpose, Arc::clone(&ring)));
            ring
        })
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

impl Ring {
    fn derive(roots: &[Prk], use_: &str, purpose: &str) -> Self {
        let mut keys = roots.iter().map(|root| SealingKey::derive(root, use_, purpose));
        let present = keys.next().expect("there is a present master key");
        Self { present, previous: keys.collect() }
    }

    fn unseal(&self, sealed: &str, associated: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
        self.open(sealed, associated).map(|(plain, _)| plain)
    }

    fn reseal(&self, sealed: &str, associated: &[u8]) -> Result<Option<String>, DoesNotOpen> {
        let (plain, by) = self.open(sealed, associated)?;
        let plain = Zeroizing::new(plain);
        Ok((by.id != self.present.id).then(|| self.present.seal(&plain, associated)))
    }

    /// What was sealed, and by which key.
    fn open(&self, sealed: &str, associated: &[u8]) -> Result<(Vec<u8>, &SealingKey), DoesNotOpen> {
        if sealed.len() > SEALED_CHARS_MAX {
            return Err(DoesNotOpen);
        }
        let bytes = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| DoesNotOpen)?;
        let id = bytes.get(..KEY_ID_BYTES).ok_or(DoesNotOpen)?;
        let mut keys = std::iter::once(&self.present).chain(&self.previous);
        let key = keys.find(|key| key.id == id).ok_or(DoesNotOpen)?;
        key.unseal(bytes, associated).map(|plain| (plain, key))
    }
}

impl SealingKey {
    fn derive(root: &Prk, use_: &str, purpose: &str) -> Self {
        let key = derive(root, use_, purpose);
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("the key has 32 bytes");
        // The id comes out of the key's own derivation: no registry of ids is needed to tell keys apart.
        let id = derive(root, &format!("{use_} id"), purpose);
        let id = id[..KEY_ID_BYTES].try_into().expect("32 bytes have a first 4");
        let nonces = derive(root, &format!("{use_} nonce"), purpose);
        let nonces = hmac::Key::new(hmac::HMAC_SHA256, nonces.as_ref());
        Self { id, key: LessSafeKey::new(key), nonces }
    }

    fn seal(&self, plain: &[u8], associated: &[u8]) -> String {
        let mut nonce = [0_u8; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).expect("the system's randomness is available");
        self.seal_with(nonce, plain, associated)
    }

    /// One nonce for one plaintext and binding: a nonce comes twice only with the very same text.
    fn seal_alike(&self, plain: &[u8], bound_to: &[u8]) -> String {
        let made_of = hmac::sign(&self.nonces, &associated(&[bound_to, plain]));
        let nonce = made_of.as_ref()[..NONCE_LEN].try_into().expect("32 bytes have a first 12");
        self.seal_with(nonce, plain, bound_to)
    }

    fn seal_with(&self, nonce: [u8; NONCE_LEN], plain: &[u8], associated: &[u8]) -> String {
        let mut sealed = Vec::with_capacity(HEAD_BYTES + plain.len() + TAG_BYTES);
        sealed.extend_from_slice(&self.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated),
                &mut sealed[HEAD_BYTES..],
            )
            .expect("a value is shorter than the 64 GiB that AES-GCM takes");
        sealed.extend_from_slice(tag.as_ref());
        URL_SAFE_NO_PAD.encode(sealed)
    }

    fn unseal(&self, mut bytes: Vec<u8>, associated: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
        if bytes.len() < HEAD_BYTES + TAG_BYTES {
            return Err(DoesNotOpen);
        }
        let nonce =
            Nonce::try_assume_unique_for_key(&bytes[KEY_ID_BYTES..HEAD_BYTES]).map_err(|_| DoesNotOpen)?;
        // Opens within the buffer and moves the plain bytes to its front: no second allocation.
        let plain = self
            .key
            .open_within(nonce, Aad::from(associated), &mut bytes, HEAD_BYTES..)
            .map_err(|_| DoesNotOpen)?
            .len();
        bytes.truncate(plain);
        Ok(bytes)
    }
}

/// Length of a key, for HKDF.
struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

fn derive(root: &Prk, use_: &str, purpose: &str) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
    // Each part has its length in front, so that no two pairs of use and purpose read the same.
    root.expand(&[&associated(&[use_.as_bytes(), purpose.as_bytes()])], KeyLength)
        .and_then(|okm| okm.fill(key.as_mut()))
        .expect("32 bytes are within what HKDF-SHA256 gives");
    key
}

/// The parts in one, each with its length in front.
fn associated(parts: &[&[u8]]) -> Vec<u8> {
    let mut all = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    }
    all
}

#[cfg(test)]
mod tests;
