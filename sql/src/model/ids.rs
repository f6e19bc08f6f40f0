//! Ids: UUIDs of version 7, one type for each kind of thing.
//!
//! `new` stands with the clock (`crate::clock`), since a version 7 id holds the time of its making.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::time::Timestamp;

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident;)+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The id with this value.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Its value.
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// A new id, made at `now`.
            pub fn at(now: Timestamp) -> Self {
                Self(uuid_at(now))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::from_str(text).map(Self)
            }
        }
    )+};
}

ids! {
    /// Which upstream.
    UpstreamId;
    /// Which API key, never its secret.
    ApiKeyId;
    /// Which administrator.
    AdminUserId;
    /// Which tool, prompt, resource or template of which upstream.
    DefinitionId;
    /// Which alias or filter rule.
    RuleId;
    /// Which XiaoZhi endpoint.
    XiaozhiEndpointId;
    /// Which audit event.
    AuditEventId;
    /// Which admin token (its `jti`).
    TokenId;
}

/// A version 7 UUID: the milliseconds of `now`, then randomness.
pub fn uuid_at(now: Timestamp) -> Uuid {
    let millis = u64::try_from(now.millis()).unwrap_or_default();
    let nanos = u32::try_from(millis % 1_000 * 1_000_000).expect("less than a second");
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, millis / 1_000, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_of_version_7_and_starts_with_its_time() {
        let earlier = UpstreamId::at(Timestamp::from_millis(1_700_000_000_000));
        let later = UpstreamId::at(Timestamp::from_millis(1_700_000_000_001));
        assert_eq!(earlier.uuid().get_version_num(), 7);
        assert!(earlier < later);
    }

    #[test]
    fn an_id_survives_text_and_json() {
        let id = ApiKeyId::at(Timestamp::from_millis(1));
        assert_eq!(id.to_string().parse::<ApiKeyId>(), Ok(id));
        let json = serde_json::to_string(&id).expect("an id is a string");
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<ApiKeyId>(&json).expect("its own output"), id);
    }
}
