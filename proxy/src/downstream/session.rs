//! A legacy session, kept by the client.
//!
//! `Mcp-Session-Id` (Streamable HTTP, session management) is a sealed token that carries what later
//! requests need: which key it belongs to, the mode and path it was made on, the negotiated version,
//! the client's capabilities and name. An idle session costs no memory, every replica serves it, and
//! what was sealed can neither be read nor made by a client. Shown with another key or on another
//! path it is as unknown as a made-up one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sql::clock::Clock;
use sql::model::{ApiKeyId, Timestamp};
use sql::seal::Sealer;
use uuid::Uuid;

use super::abilities::Abilities;
use crate::wire::meta::Version;

/// What the seal is bound to, so that no other token of ours passes for a session.
const PURPOSE: &str = "mcp-session";

/// Longest token that is looked at: header limits of clients and proxies in between leave no more.
pub const TOKEN_BYTES_MAX: usize = 2048;

/// Most of the client's own words (capabilities, name) that a token carries; more is reduced.
const CLIENT_BYTES_MAX: usize = 1000;

/// What a session token says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// A name that state on the server side hangs off.
    #[serde(rename = "r")]
    pub id: Uuid,
    /// Whose it is.
    #[serde(rename = "k")]
    pub key: ApiKeyId,
    /// The face it was made on: transport and mode, as in the path.
    #[serde(rename = "f")]
    pub face: Arc<str>,
    /// The negotiated version.
    #[serde(rename = "v")]
    #[serde(with = "version_text")]
    pub version: Version,
    /// When it was made.
    #[serde(rename = "t")]
    pub created_at: Timestamp,
    /// The client's capabilities as it declared them, or what remains of them within the limit.
    #[serde(rename = "c")]
    pub capabilities: Box<RawValue>,
    /// The client's name and version, if they fit.
    #[serde(rename = "i")]
    pub client_info: Option<Box<RawValue>>,
}

impl Session {
    /// A new session. Client words that are too long for a token are reduced to what is acted on.
    pub fn new(
        key: ApiKeyId,
        face: Arc<str>,
        version: Version,
        created_at: Timestamp,
        capabilities: Box<RawValue>,
        client_info: Option<Box<RawValue>>,
    ) -> Self {
        let capabilities = if capabilities.get().len() > CLIENT_BYTES_MAX / 2 {
            Abilities::of(capabilities.get()).to_json()
        } else {
            capabilities
        };
        let client_info = client_info.filter(|info| info.get().len() <= CLIENT_BYTES_MAX / 2);
        Self { id: Uuid::now_v7(), key, face, version, created_at, capabilities, client_info }
    }

    /// When the token stops being valid, with sessions that live `ttl_s`.
    pub fn ends_at(&self, ttl_s: u32) -> Timestamp {
        let lifetime_ms = i64::from(ttl_s).saturating_mul(1000);
        Timestamp::from_millis(self.created_at.millis().saturating_add(lifetime_ms))
    }

    /// What the client can be asked.
    pub fn abilities(&self) -> Abilities {
        Abilities::of(self.capabilities.get())
    }
}

/// Seals sessions and opens them again.
#[derive(Clone)]
pub struct SessionSealer {
    sealer: Sealer,
    clock: Clock,
}

impl SessionSealer {
    /// `sealer` holds the key ring of the installation.
    pub fn new(sealer: Sealer, clock: Clock) -> Self {
        Self { sealer, clock }
    }

    /// The current time, for new sessions.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The value of `Mcp-Session-Id`: visible ASCII, at most [`TOKEN_BYTES_MAX`].
    pub fn seal(&self, session: &Session) -> String {
        let plain = serde_json::to_vec(session).expect("a session is made of strings and numbers");
        self.sealer.seal_token(PURPOSE, &plain, b"")
    }

    /// The session behind a token, if it was made here, for this key and face, and still lives.
    pub fn open(&self, token: &str, key: ApiKeyId, face: &str, ttl_s: u32) -> Option<Session> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let plain = self.sealer.unseal_token(PURPOSE, token, b"").ok()?;
        let session: Session = serde_json::from_slice(&plain).ok()?;
        let lives = self.clock.now() < session.ends_at(ttl_s);
        (lives && session.key == key && &*session.face == face).then_some(session)
    }
}

/// A version in a token is its date.
mod version_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::wire::meta::Version;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
    pub(super) fn serialize<S: Serializer>(version: &Version, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(version.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        Version::parse(text).ok_or_else(|| D::Error::custom("not a version"))
    }
}
