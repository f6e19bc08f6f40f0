//! The tokens of admins: how one is made, and what one must be to hold.
//!
//! A token is a JWT signed with HS256 under a key of this installation (derived from its master key
//! and its instance id). It names a row of `admin_tokens` by its `jti`: once that row is gone, at
//! logout, on revocation or with a new password, the token is worth nothing. Everything else about
//! it is fixed: one algorithm, one issuer, one audience, no leeway (threat T11).

use std::net::IpAddr;
use std::time::Duration;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result as JwtResult};
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::hmac;
use serde::{Deserialize, Serialize};
use sql::clock::Clock;
use sql::model::{AdminToken, AdminUserId, Timestamp, TokenId};
use uuid::Uuid;

use crate::error::ApiError;

/// What our tokens are for; tokens of other systems under the same key would say otherwise.
const AUDIENCE: &str = "mpg-admin";

/// What the key is derived for.
const KEY_PURPOSE: &str = "admin-jwt";

/// A token holds this long before it was issued, so that it holds on a replica whose clock is behind.
const VALID_BEFORE_ISSUE_S: i64 = 30;

/// A user agent is kept for the list of sessions; browsers' have some 120 characters.
const USER_AGENT_CHARS_MAX: usize = 256;

/// Signs and verifies.
pub(crate) struct Tokens {
    issuer: String,
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    clock: Clock,
}

/// What a token says.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: AdminUserId,
    jti: TokenId,
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// A token and the row it stands on.
pub(crate) struct Issued {
    /// What the client sends from now on.
    pub(crate) text: String,
    /// What is stored.
    pub(crate) row: AdminToken,
}

/// Whose token it is, before the row was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verified {
    /// The admin.
    pub(crate) admin: AdminUserId,
    /// The row.
    pub(crate) token: TokenId,
}

impl Tokens {
    /// Tokens of the installation `instance`.
    pub(crate) fn new(sealer: &sql::Sealer, instance: Uuid, clock: Clock) -> Self {
        // The library has no cryptography of its own here. A second call finds it installed already.
        let _ = RING.install_default();
        let key = sealer.derive_key(KEY_PURPOSE);
        let issuer = instance.to_string();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.set_issuer(&[&issuer]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        // Both are compared below, with the clock that the rest of the gateway goes by.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Self {
            issuer,
            signing: EncodingKey::from_secret(&key),
            verifying: DecodingKey::from_secret(&key),
            validation,
            clock,
        }
    }

    /// A token for `admin`. It holds once its row is stored; `continued` keeps the name of a session.
    pub(crate) fn issue(
        &self,
        admin: AdminUserId,
        lifetime: Duration,
        origin: &Origin,
        continued: Option<TokenId>,
    ) -> Result<Issued, ApiError> {
        let now = self.clock.now();
        let issued_s = now.millis().div_euclid(1_000);
        let expires_s = issued_s.saturating_add_unsigned(lifetime.as_secs());
        let id = continued.unwrap_or_else(|| TokenId::new(&self.clock));
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.into(),
            sub: admin,
            jti: id,
            iat: issued_s,
            nbf: issued_s - VALID_BEFORE_ISSUE_S,
            exp: expires_s,
        };
        let text = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .map_err(|source| ApiError::internal("signing a token", source))?;
        let row = AdminToken {
            id,
            admin_id: admin,
            issued_at: now,
            expires_at: Timestamp::from_millis(expires_s.saturating_mul(1_000)),
            address: Some(origin.address),
            user_agent: origin.user_agent.chars().take(USER_AGENT_CHARS_MAX).collect(),
        };
        Ok(Issued { text, row })
    }

    /// Whose token `text` is, if it is one of ours and its time is now.
    pub(crate) fn verify(&self, text: &str) -> Option<Verified> {
        let claims = jsonwebtoken::decode::<Claims>(text, &self.verifying, &self.validation).ok()?.claims;
        let now_ms = self.clock.now().millis();
        let holds = claims.nbf.saturating_mul(1_000) <= now_ms && now_ms < claims.exp.saturating_mul(1_000);
        holds.then_some(Verified { admin: claims.sub, token: claims.jti })
    }
}

/// Where a session was opened from, shown in the list of sessions.
pub(crate) struct Origin {
    /// The client's address.
    pub(crate) address: IpAddr,
    /// What its browser calls itself.
    pub(crate) user_agent: String,
}

/// HMAC-SHA256 on ring; every other algorithm is refused.
static RING: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as the library calls it")]
fn signer(algorithm: &Algorithm, key: &EncodingKey) -> JwtResult<Box<dyn JwtSigner>> {
    only_hs256(*algorithm)?;
    Ok(Box::new(Hs256(hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()))))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as the library calls it")]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> JwtResult<Box<dyn JwtVerifier>> {
    only_hs256(*algorithm)?;
    Ok(Box::new(Hs256(hmac::Key::new(hmac::HMAC_SHA256, key.try_get_as_bytes()?))))
}

fn only_hs256(algorithm: Algorithm) -> JwtResult<()> {
    if algorithm == Algorithm::HS256 { Ok(()) } else { Err(ErrorKind::InvalidAlgorithm.into()) }
}

struct Hs256(hmac::Key);

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(hmac::sign(&self.0, message).as_ref().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], tag: &Vec<u8>) -> Result<(), signature::Error> {
        hmac::verify(&self.0, message, tag).map_err(|_| signature::Error::new())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests;
