//! The secrets of a backup, sealed by a passphrase: Argon2id makes a key of it, AES-256-GCM seals with that.
//!
//! The envelope says how the key was made, so that later releases may ask for more. Whoever opens one bounds what
//! it may ask for: the parameters come from a stranger.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use sql::model::Secret;
use zeroize::Zeroizing;

/// The shortest passphrase, in characters. The key derivation makes each guess dear, and no more.
pub const PASSPHRASE_CHARS_MIN: usize = 12;

/// The longest: what is longer is a file by mistake.
pub const PASSPHRASE_CHARS_MAX: usize = 1_024;

/// What a new envelope asks for: above the least that OWASP recommends, and half a second of one core.
const MEMORY_KIB: u32 = 32 * 1024;
const ITERATIONS: u32 = 3;
const LANES: u32 = 1;

/// What an envelope may ask for at most: 128 MiB for some seconds.
const MEMORY_KIB_MAX: u32 = 128 * 1024;
const ITERATIONS_MAX: u32 = 10;
const LANES_MAX: u32 = 4;

/// What it must ask for at least: less would be an invitation to guess.
const MEMORY_KIB_MIN: u32 = 16 * 1024;

const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

/// Sealed secrets, as they stand in a document.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Envelope {
    kdf: String,
    memory_kib: u32,
    iterations: u32,
    lanes: u32,
    cipher: String,
    salt: String,
    nonce: String,
    sealed: String,
}

/// Why an envelope doesn't open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotOpened {
    /// It asks for what isn't done here.
    #[error("asks for a key derivation that isn't done here")]
    Parameters,
    /// It isn't one.
    #[error("isn't an envelope of this form")]
    Form,
    /// The passphrase is another one, or something was altered.
    #[error("doesn't open: the passphrase is another one")]
    Passphrase,
}

/// Seals `plain`, bound to the rest of the document. Takes a noticeable time: not for an async thread.
pub(super) fn seal(plain: &[u8], passphrase: &Secret<String>, bound_to: &str) -> Result<Envelope, NotOpened> {
    let mut salt = [0_u8; SALT_BYTES];
    let mut nonce = [0_u8; NONCE_LEN];
    let random = SystemRandom::new();
    random.fill(&mut salt).map_err(|_| NotOpened::Form)?;
    random.fill(&mut nonce).map_err(|_| NotOpened::Form)?;
    let key = key(passphrase, &salt, (MEMORY_KIB, ITERATIONS, LANES))?;
    let mut sealed = plain.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound_to), &mut sealed)
        .map_err(|_| NotOpened::Form)?;
    Ok(Envelope {
        kdf: "argon2id".into(),
        memory_kib: MEMORY_KIB,
        iterations: ITERATIONS,
        lanes: LANES,
        cipher: "aes-256-gcm".into(),
        salt: STANDARD.encode(salt),
        nonce: STANDARD.encode(nonce),
        sealed: STANDARD.encode(sealed),
    })
}

/// Opens what [`seal`] sealed for the same document. Takes as long.
pub(super) fn open(
    envelope: &Envelope,
    passphrase: &Secret<String>,
    bound_to: &str,
) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
    if envelope.kdf != "argon2id" || envelope.cipher != "aes-256-gcm" {
        return Err(NotOpened::Parameters);
    }
    let costs = (envelope.memory_kib, envelope.iterations, envelope.lanes);
    let bounded = (MEMORY_KIB_MIN..=MEMORY_KIB_MAX).contains(&costs.0)
        && (1..=ITERATIONS_MAX).contains(&costs.1)
        && (1..=LANES_MAX).contains(&costs.2);
    if !bounded {
        return Err(NotOpened::Parameters);
    }
    let bytes = |text: &str| STANDARD.decode(text).map_err(|_| NotOpened::Form);
    let salt: [u8; SALT_BYTES] = bytes(&envelope.salt)?.try_into().map_err(|_| NotOpened::Form)?;
    let nonce: [u8; NONCE_LEN] = bytes(&envelope.nonce)?.try_into().map_err(|_| NotOpened::Form)?;
    let mut sealed = Zeroizing::new(bytes(&envelope.sealed)?);
    let key = key(passphrase, &salt, costs)?;
    let opened = key
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(bound_to), &mut sealed)
        .map_err(|_| NotOpened::Passphrase)?
        .len();
    sealed.truncate(opened);
    Ok(sealed)
}

fn key(
    passphrase: &Secret<String>,
    salt: &[u8],
    (memory_kib, iterations, lanes): (u32, u32, u32),
) -> Result<LessSafeKey, NotOpened> {
    let params =
        Params::new(memory_kib, iterations, lanes, Some(KEY_BYTES)).map_err(|_| NotOpened::Parameters)?;
    let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose().as_bytes(), salt, key.as_mut())
        .map_err(|_| NotOpened::Parameters)?;
    UnboundKey::new(&AES_256_GCM, key.as_ref()).map(LessSafeKey::new).map_err(|_| NotOpened::Form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_with_its_passphrase_and_its_document_only() {
        let right = Secret::from("correct horse battery");
        let envelope = seal(b"CANARY", &right, "document").unwrap();
        assert!(!serde_json::to_string(&envelope).unwrap().contains("CANARY"));
        assert_eq!(open(&envelope, &right, "document").unwrap().as_slice(), b"CANARY");
        assert_eq!(
            open(&envelope, &Secret::from("wrong horse battery"), "document"),
            Err(NotOpened::Passphrase)
        );
        assert_eq!(open(&envelope, &right, "other"), Err(NotOpened::Passphrase));
        assert_ne!(envelope.salt, seal(b"CANARY", &right, "document").unwrap().salt);
    }

    /// What a stranger asks for costs at most so much.
    #[test]
    fn costs_are_bounded() {
        let word = Secret::from("correct horse battery");
        let good = seal(b"x", &word, "").unwrap();
        let changes: [fn(&mut Envelope); 7] = [
            |envelope| envelope.memory_kib = u32::MAX,
            |envelope| envelope.memory_kib = 8,
            |envelope| envelope.iterations = 1_000_000,
            |envelope| envelope.iterations = 0,
            |envelope| envelope.lanes = 64,
            |envelope| envelope.kdf = "md5".into(),
            |envelope| envelope.cipher = "none".into(),
        ];
        for change in changes {
            let mut envelope = good.clone();
            change(&mut envelope);
            assert_eq!(open(&envelope, &word, ""), Err(NotOpened::Parameters));
        }
    }
}
