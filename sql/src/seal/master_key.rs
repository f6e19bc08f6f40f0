//! The master key as an operator writes it: hex, base64 or raw bytes.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::model::secret::Secret;

/// Bytes of a full-strength key.
const STRONG_BYTES: usize = 32;
/// Other lengths that are taken, with a warning.
const WEAKER_BYTES: [usize; 2] = [16, 24];
/// A random key of 16 bytes has fewer different ones than this once in 10^9 keys.
const DIFFERENT_BYTES_MIN: usize = 8;
/// Parts of texts that stand for a key in examples.
const PLACEHOLDERS: [&str; 12] = [
    "change-me",
    "change_me",
    "changeme",
    "changethis",
    "replace-me",
    "replaceme",
    "placeholder",
    "your-key",
    "your_key",
    "password",
    "encryption",
    "123456789",
];

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// What all other keys are derived from.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<Vec<u8>>);

/// The key works, but a better one exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// It has fewer than 32 bytes.
    Short {
        /// How many it has.
        bytes: usize,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Short { bytes } = self;
        write!(f, "the key has {bytes} bytes; {STRONG_BYTES} are recommended")
    }
}

/// Why a text is no master key. Never holds a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is none of the forms.
    #[error("must be 64 or 48 hex digits, 44 characters of base64, or exactly 16, 24 or 32 bytes")]
    Shape,
    /// It says `hex:` and isn't hex.
    #[error("isn't hex after `hex:`")]
    NotHex,
    /// It says `base64:` and isn't base64.
    #[error("isn't base64 after `base64:`")]
    NotBase64,
    /// After its prefix it has another length.
    #[error("must have 16, 24 or 32 bytes, has {bytes}")]
    Length {
        /// How many it has.
        bytes: usize,
    },
    /// It has only zeros.
    #[error("is all zeros")]
    AllZero,
    /// It stands in examples, or is a pattern.
    #[error("is a placeholder or a pattern; make one with `openssl rand -hex 32`")]
    Placeholder,
}

impl MasterKey {
    /// Reads a key as an operator wrote it. The line end that a file has is no part of it.
    pub fn from_env_text(text: &str) -> Result<(Self, Option<Warning>), KeyError> {
        let text = text.trim_end_matches(['\r', '\n']);
        let bytes = decode(text)?;
        if bytes.len() != STRONG_BYTES && !WEAKER_BYTES.contains(&bytes.len()) {
            return Err(KeyError::Length { bytes: bytes.len() });
        }
        if bytes.iter().all(|byte| *byte == 0) || bytes.iter().all(|byte| *byte == b'0') {
            return Err(KeyError::AllZero);
        }
        if is_placeholder(text) || is_pattern(&bytes) {
            return Err(KeyError::Placeholder);
        }
        let warning = (bytes.len() < STRONG_BYTES).then_some(Warning::Short { bytes: bytes.len() });
        Ok((Self(bytes), warning))
    }

    /// A new key, in the form that [`MasterKey::from_env_text`] reads.
    pub fn generate_hex() -> Secret<String> {
        let mut random = Zeroizing::new([0_u8; STRONG_BYTES]);
        SystemRandom::new().fill(random.as_mut()).expect("the system's randomness is available");
        let mut text = String::with_capacity(2 * STRONG_BYTES);
        for byte in random.iter() {
            for digit in [byte >> 4, byte & 0xf] {
                text.push(char::from_digit(u32::from(digit), 16).expect("four bits are one hex digit"));
            }
        }
        Secret::new(text)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey")
    }
}

/// A prefix decides; without one the length does, hex before base64 before raw bytes.
fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    if let Some(digits) = text.strip_prefix("hex:") {
        return hex(digits).ok_or(KeyError::NotHex);
    }
    if let Some(chars) = text.strip_prefix("base64:") {
        return base64(chars).ok_or(KeyError::NotBase64);
    }
    if let Some(raw) = text.strip_prefix("raw:") {
        return Ok(Zeroizing::new(raw.as_bytes().to_vec()));
    }
    match text.len() {
        64 | 48 => hex(text).ok_or(KeyError::Shape),
        44 => base64(text).ok_or(KeyError::Shape),
        16 | 24 | 32 => Ok(Zeroizing::new(text.as_bytes().to_vec())),
        _ => Err(KeyError::Shape),
    }
}

fn hex(digits: &str) -> Option<Zeroizing<Vec<u8>>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    for pair in digits.as_bytes().chunks_exact(2) {
        bytes.push(digit(pair[0])? << 4 | digit(pair[1])?);
    }
    Some(bytes)
}

/// Base64 of either alphabet, padded or not.
fn base64(chars: &str) -> Option<Zeroizing<Vec<u8>>> {
    STANDARD.decode(chars).or_else(|_| URL_SAFE.decode(chars)).ok().map(Zeroizing::new)
}

fn is_placeholder(text: &str) -> bool {
    let text = Zeroizing::new(text.to_ascii_lowercase());
    PLACEHOLDERS.iter().any(|word| text.contains(word)) || (text.starts_with('<') && text.ends_with('>'))
}

/// Few different bytes, or each one more than the one before.
fn is_pattern(bytes: &[u8]) -> bool {
    let mut seen = [false; 256];
    for byte in bytes {
        seen[usize::from(*byte)] = true;
    }
    let different = seen.iter().filter(|seen| **seen).count();
    different < DIFFERENT_BYTES_MIN || bytes.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1))
}
