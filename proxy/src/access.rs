//! The checks a caller passes, and the proofs that they were passed.

use tokio_util::sync::CancellationToken;

/// Who calls: the holder of an API key that is valid now.
#[derive(Debug, Clone)]
pub struct Caller {
    revoked: CancellationToken,
}

impl Caller {
    /// Cancelled when the key stops being valid, so that what it opened can end.
    pub fn revoked(&self) -> &CancellationToken {
        &self.revoked
    }
}

/// The proof that a caller passed every check. Only this module makes one.
#[derive(Debug, Clone)]
pub struct Admitted {
    caller: Caller,
}

impl Admitted {
    /// Who was admitted.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}
