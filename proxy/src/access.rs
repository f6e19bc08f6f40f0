//! The checks a caller passes, and the proofs that they were passed.
//!
//! A request goes through them in this order: [`origin`] (is it meant for us at all), [`api_key`] (who
//! calls), [`ip_allowlist`] (from here?), [`rate_limit`] (now?). The last one gives an [`Admitted`], and
//! what serves a request takes one: a check that is forgotten doesn't compile.

pub mod api_key;
pub mod client_address;
pub mod ip_allowlist;
pub mod keys;
pub mod origin;
pub mod rate_limit;

use std::net::IpAddr;
use std::sync::Arc;

use sql::model::{ApiKey, Timestamp};
use tokio_util::sync::CancellationToken;

pub use self::keys::Keys;
use self::rate_limit::Limiter;
use crate::catalog::Policy;
use crate::refusal::Refusal;

/// Who calls: the holder of an API key that is valid now. Only [`Keys`] makes one.
#[derive(Debug, Clone)]
pub struct Caller {
    key: Arc<ApiKey>,
    policy: Policy,
    /// The hash of the secret that was shown.
    secret: [u8; 32],
    revoked: CancellationToken,
    limiter: Option<Arc<Limiter>>,
}

impl Caller {
    /// The key as it was when the request came.
    pub fn key(&self) -> &Arc<ApiKey> {
        &self.key
    }

    /// What the key may see, as it was when the request came.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Cancelled when the secret that was shown stops being valid (its key removed, disabled, expired,
    /// rotated, or bound to other addresses), so that what it opened can end.
    pub fn revoked(&self) -> &CancellationToken {
        &self.revoked
    }
}

/// Every check again, for one more message on a connection that `opened` has opened: its key as it is
/// now, not as it was then.
pub fn admit_again(
    keys: &Keys,
    opened: &Caller,
    address: IpAddr,
    now: Timestamp,
) -> Result<Admitted, Refusal> {
    let caller = keys.again(opened, now)?;
    ip_allowlist::check(&caller, address)?;
    let admitted = rate_limit::admit_message(caller)?;
    keys.note_use(admitted.key().id, now, address);
    Ok(admitted)
}

/// The proof that a caller passed every check. Only [`rate_limit`] makes one.
#[derive(Debug, Clone)]
pub struct Admitted {
    caller: Caller,
}

impl Admitted {
    /// Who was admitted.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The key that was admitted.
    pub fn key(&self) -> &Arc<ApiKey> {
        &self.caller.key
    }

    /// A proof without checks, for tests of what comes after them.
    #[cfg(test)]
    pub(crate) fn for_test(key: ApiKey) -> Self {
        let secret = key.hash;
        let policy = Policy::of(&key, sql::model::OwnerRules::default());
        let revoked = CancellationToken::new();
        let caller = Caller { key: Arc::new(key), policy, secret, revoked, limiter: None };
        Self { caller }
    }
}
