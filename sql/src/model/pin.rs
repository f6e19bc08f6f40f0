//! What an admin agreed to of an upstream's definitions, and what is to be looked at since.

use bytes::Bytes;

use super::closed_set::closed_set;
use super::definition::Kind;
use super::ids::UpstreamId;
use super::time::Timestamp;

closed_set! {
    /// Why an admin is to look at a definition.
    pub enum Review {
        /// It says something else than what was agreed to.
        Changed = "changed",
        /// It is new, and says what one said that went away at the same time.
        Renamed = "renamed",
        /// Its upstream is reached elsewhere, or started otherwise, than when it was agreed to.
        Moved = "moved",
    }
}

/// What was agreed to of one definition. It outlives the definition: one that goes and comes back changed has
/// changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Whose.
    pub upstream_id: UpstreamId,
    /// Of which list.
    pub kind: Kind,
    /// Its name at the upstream.
    pub upstream_name: String,
    /// A fingerprint of where the upstream was then.
    pub identity: [u8; 32],
    /// A fingerprint of what the definition said then.
    pub pin: [u8; 32],
    /// The definition as it was then, where the stored one is another or gone.
    pub approved: Option<Bytes>,
    /// Why an admin is to look at it, if so.
    pub review: Option<Review>,
    /// Since when.
    pub found_at: Option<Timestamp>,
}
