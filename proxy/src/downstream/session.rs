//! A legacy session, kept by the client.
//!
//! `Mcp-Session-Id` (Streamable HTTP, session management) is a sealed token that carries what later
//! requests need: which key it belongs to, the mode and path it was made on, the negotiated version,
//! the client's capabilities and name. An idle session costs no memory, every replica serves it, and
//! what was sealed can neither be read nor made by a client. Shown with another key or on another
//! path it is as unknown as a made-up one.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sql::clock::Clock;
use sql::model::{ApiKeyId, CallTransport, KeyMode, Limits, Mode, Timestamp};
use sql::seal::Sealer;
use uuid::Uuid;

use super::abilities::Abilities;
use crate::call_log::Way;
use crate::relay::ReplicaId;
use crate::wire::meta::Version;

/// What the seal is bound to, so that no other token of ours passes for a session.
const PURPOSE: &str = "mcp-session";

/// Longest token that is looked at: header limits of clients and proxies in between leave no more.
pub const TOKEN_BYTES_MAX: usize = 2048;

/// Most of the client's own words (capabilities, name) that a token carries; more is reduced.
const CLIENT_BYTES_MAX: usize = 1000;

/// Opened sessions that are remembered, so that each of their requests doesn't open them anew: 4 MiB of the
/// largest. Any other is opened when it is shown.
const OPENED_MAX: usize = 1_024;

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
    /// The mode it began in, which it keeps.
    #[serde(rename = "m")]
    pub mode: Mode,
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
    /// The replica that it lives at, where it is one with its connection.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaId>,
    /// How long its client waits for a call, where that is known.
    #[serde(skip)]
    pub deadline: Option<Duration>,
}

impl Session {
    /// A new session, in full mode. Client words that are too long for a token are reduced to what is acted on.
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
        let id = Uuid::now_v7();
        let mode = Mode::Full;
        Self {
            id,
            key,
            face,
            mode,
            version,
            created_at,
            capabilities,
            client_info,
            replica: None,
            deadline: None,
        }
    }

    /// The transport that it is on.
    pub fn transport(&self) -> CallTransport {
        Way::of(&self.face, KeyMode::Inherit, self.mode).transport
    }

    /// When the token stops being valid, with sessions that live `ttl_s`. Not for what is kept of it: the
    /// setting may be another tomorrow.
    pub fn ends_at(&self, ttl_s: u32) -> Timestamp {
        self.created_at.plus(Duration::from_secs(u64::from(ttl_s)))
    }

    /// When no setting could make the token valid any more. Until then it has to be known that it was ended.
    pub fn forgotten_at(&self) -> Timestamp {
        self.created_at.plus(Duration::from_secs(Limits::SESSION_TTL_S_MAX))
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
    /// What was opened before, by its token: the same bytes always hold the same session.
    opened: Arc<DashMap<Box<str>, Arc<Session>>>,
}

impl SessionSealer {
    /// `sealer` holds the key ring of the installation.
    pub fn new(sealer: Sealer, clock: Clock) -> Self {
        Self { sealer, clock, opened: Arc::default() }
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
    pub fn open(&self, token: &str, key: ApiKeyId, face: &str, ttl_s: u32) -> Option<Arc<Session>> {
        let session = self.unsealed(token)?;
        let lives = self.clock.now() < session.ends_at(ttl_s);
        (lives && session.key == key && &*session.face == face).then_some(session)
    }

    fn unsealed(&self, token: &str) -> Option<Arc<Session>> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        if let Some(session) = self.opened.get(token) {
            return Some(Arc::clone(&session));
        }
        let plain = self.sealer.unseal_token(PURPOSE, token, b"").ok()?;
        let session = Arc::new(serde_json::from_slice::<Session>(&plain).ok()?);
        // Those that are used come back at once, and those that aren't take no room for long.
        if self.opened.len() >= OPENED_MAX {
            self.opened.clear();
        }
        self.opened.insert(token.into(), Arc::clone(&session));
        Some(session)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::value::to_raw_value;
    use sql::seal::MasterKey;

    use super::*;
    use crate::catalog::testing::NOW;

    const TTL_S: u32 = 60;
    const FACE: &str = "/mcp/http";

    struct Scene {
        clock: Clock,
        sealer: SessionSealer,
        session: Session,
        token: String,
    }

    fn scene() -> Scene {
        let clock = Clock::manual(NOW);
        let sealer = SessionSealer::new(sealer(), clock.clone());
        let capabilities = to_raw_value(&serde_json::json!({"roots": {}})).expect("JSON");
        let session =
            Session::new(ApiKeyId::at(NOW), FACE.into(), Version::V2025_06_18, NOW, capabilities, None);
        let token = sealer.seal(&session);
        Scene { clock, sealer, session, token }
    }

    fn sealer() -> Sealer {
        let (key, _) = MasterKey::from_env_text(MasterKey::generate_hex().expose()).expect("a key");
        Sealer::new(&key)
    }

    impl Scene {
        fn open(&self, token: &str) -> Option<Arc<Session>> {
            self.sealer.open(token, self.session.key, FACE, TTL_S)
        }
    }

    #[test]
    fn a_token_opens_as_it_was_sealed() {
        let scene = scene();
        let opened = scene.open(&scene.token).expect("its own");
        assert_eq!((opened.id, opened.version), (scene.session.id, Version::V2025_06_18));
        assert!(opened.abilities().roots);
        assert!(scene.token.bytes().all(|byte| byte.is_ascii_graphic()));
    }

    #[test]
    fn a_token_is_unknown_to_another_key_and_on_another_face() {
        let scene = scene();
        let other = ApiKeyId::new(&Clock::system());
        assert!(scene.sealer.open(&scene.token, other, FACE, TTL_S).is_none());
        assert!(scene.sealer.open(&scene.token, scene.session.key, "/mcp/full/http", TTL_S).is_none());
        let elsewhere = SessionSealer::new(sealer(), scene.clock.clone());
        assert!(elsewhere.open(&scene.token, scene.session.key, FACE, TTL_S).is_none());
    }

    #[test]
    fn a_token_expires_with_the_setting_in_force() {
        let scene = scene();
        scene.clock.advance(Duration::from_secs(59));
        assert!(scene.open(&scene.token).is_some());
        assert!(scene.sealer.open(&scene.token, scene.session.key, FACE, 59).is_none());
        scene.clock.advance(Duration::from_secs(1));
        assert!(scene.open(&scene.token).is_none());
    }

    /// However the setting is changed after a session ended, what says so is there as long as its token opens.
    #[test]
    fn no_setting_has_a_token_outlive_what_is_kept_of_its_session() {
        let scene = scene();
        let longest = u32::try_from(Limits::SESSION_TTL_S_MAX).expect("a setting");
        let open = || scene.sealer.open(&scene.token, scene.session.key, FACE, longest);
        let all = scene.session.forgotten_at().since(NOW);
        scene.clock.advance(all.checked_sub(Duration::from_millis(1)).expect("longer"));
        assert!(open().is_some());
        scene.clock.advance(Duration::from_millis(1));
        assert!(open().is_none());
    }

    #[test]
    fn a_changed_token_does_not_open() {
        let scene = scene();
        for at in 0..scene.token.len() {
            let mut changed = scene.token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(scene.open(&changed).is_none(), "byte {at}");
        }
        for foreign in ["", "x", &"A".repeat(TOKEN_BYTES_MAX + 1), &scene.token[1..]] {
            assert!(scene.open(foreign).is_none());
        }
    }

    #[test]
    fn a_token_fits_whatever_the_client_says_of_itself() {
        let scene = scene();
        let long = "\u{1F600}".repeat(10_000);
        let capabilities = serde_json::json!({"sampling": {"x": long}, "elicitation": {"url": {}}});
        let info = to_raw_value(&serde_json::json!({"name": long})).expect("JSON");
        let session = Session::new(
            scene.session.key,
            "/mcp/smart/http".into(),
            Version::V2025_11_25,
            NOW,
            to_raw_value(&capabilities).expect("JSON"),
            Some(info),
        );
        let token = scene.sealer.seal(&session);
        assert!(token.len() <= TOKEN_BYTES_MAX);
        let opened = scene.sealer.open(&token, session.key, "/mcp/smart/http", TTL_S).expect("its own");
        assert!(opened.abilities().sampling && opened.abilities().elicitation_url);
        assert!(opened.client_info.is_none());
    }
}
