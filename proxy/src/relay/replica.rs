//! The name of one replica, short enough to stand in the ids that clients bring back.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};

/// Bits of a name. With a counter of 32 bits beside it an id stays below 2^53, which every JSON library keeps
/// exact; and names are claimed, so that two replicas never have the same.
pub const REPLICA_BITS: u32 = 21;

/// A replica, from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplicaId(u32);

impl ReplicaId {
    /// A name by chance.
    pub fn random() -> Self {
        let mut bytes = [0; 4];
        SystemRandom::new().fill(&mut bytes).expect("the system's randomness is available");
        Self(u32::from_be_bytes(bytes) >> (u32::BITS - REPLICA_BITS))
    }

    /// Reads it back out of an id that it was put into; a number of more bits is none.
    pub fn from_bits(bits: u64) -> Option<Self> {
        u32::try_from(bits).ok().filter(|bits| bits >> REPLICA_BITS == 0).map(Self)
    }

    /// Its [`REPLICA_BITS`] bits.
    pub fn bits(self) -> u64 {
        self.0.into()
    }
}

impl Default for ReplicaId {
    /// By chance: a replica that nobody can reach is named like any other.
    fn default() -> Self {
        Self::random()
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

/// The text is no replica's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a replica")]
pub struct NotAReplica;

impl FromStr for ReplicaId {
    type Err = NotAReplica;

    fn from_str(text: &str) -> Result<Self, NotAReplica> {
        let bits = u64::from_str_radix(text, 16).map_err(|_| NotAReplica)?;
        let id = Self::from_bits(bits).ok_or(NotAReplica)?;
        // One spelling each, since names are compared as texts elsewhere.
        if id.to_string() == text { Ok(id) } else { Err(NotAReplica) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        for _ in 0..1000 {
            let id = ReplicaId::random();
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(ReplicaId::from_bits(id.bits()), Some(id));
            assert!((id.bits() << 32 | u64::from(u32::MAX)) < 1 << 53);
        }
        for text in ["", "1", "00001", "0000001", "200000", "0000FF", "+00001", "-00001"] {
            assert_eq!(text.parse::<ReplicaId>(), Err(NotAReplica), "{text}");
        }
    }
}
