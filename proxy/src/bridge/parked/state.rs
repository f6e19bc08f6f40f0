//! The `requestState` that a modern client brings back: sealed, so that it can be neither read nor made,
//! and bound to the key, the request and a time.

use std::fmt::Write;

use bytes::Bytes;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sql::model::{ApiKeyId, Timestamp};
use sql::seal::Sealer;
use uuid::Uuid;

use crate::relay::ReplicaId;

/// What the seal is bound to, so that no other token of ours passes for a state.
const PURPOSE: &str = "mcp-parked-call";

/// Longest state that is looked at: several times what we make of a long name.
const STATE_BYTES_MAX: usize = 16 * 1024;

/// Members of params that belong to one round and not to the request.
const OF_THE_ROUND: [&str; 3] = ["_meta", "inputResponses", "requestState"];

/// What a state says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The parked call; none if the request is to be made again once the client has done its part.
    #[serde(rename = "c")]
    pub(super) call: Option<Uuid>,
    /// The replica that has the call.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    replica: Option<ReplicaId>,
    /// Which round of that call it belongs to: each is taken once.
    #[serde(rename = "n")]
    pub(super) round: u32,
    #[serde(rename = "b")]
    bound_to: Binding,
    #[serde(rename = "e")]
    expires_at: Timestamp,
}

/// The request that a state is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Binding {
    #[serde(rename = "k")]
    pub(super) key: ApiKeyId,
    #[serde(rename = "m")]
    method: String,
    #[serde(rename = "d")]
    digest: String,
}

/// Why a state isn't taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotTaken {
    /// Not ours, changed, or of another key: which of these, nobody is told.
    #[error("requestState is not valid")]
    Invalid,
    /// The name or the arguments differ.
    #[error("requestState belongs to another request: the name and the arguments must be the same")]
    AnotherRequest,
    /// Its time is over.
    #[error("requestState has expired")]
    Expired,
    /// Its call has gone on with it: a state is good once.
    #[error("requestState has been used: its call has gone on")]
    Used,
}

impl Binding {
    /// Binds to who asks, and to everything in `params` that isn't of one round alone.
    pub(super) fn of(key: ApiKeyId, method: &str, params: &Bytes) -> Self {
        let mut params: Value = serde_json::from_slice(params).unwrap_or_default();
        if let Some(members) = params.as_object_mut() {
            for member in OF_THE_ROUND {
                members.remove(member);
            }
        }
        let mut context = Context::new(&SHA256);
        digest(&params, &mut context);
        let digest = context.finish().as_ref().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Self { key, method: method.to_owned(), digest }
    }
}

/// Digests a value: the same for every way to write it, since a client may write it anew.
fn digest(value: &Value, context: &mut Context) {
    // Kind and length stand before the content, so that no two values run into one another.
    let mut part = |kind: &[u8], length: usize| {
        context.update(kind);
        context.update(&(length as u64).to_be_bytes());
    };
    match value {
        Value::Object(members) => {
            part(b"{", members.len());
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| name.as_str());
            for (name, value) in members {
                context.update(&(name.len() as u64).to_be_bytes());
                context.update(name.as_bytes());
                digest(value, context);
            }
        }
        Value::Array(items) => {
            part(b"[", items.len());
            for item in items {
                digest(item, context);
            }
        }
        Value::String(text) => {
            part(b"s", text.len());
            context.update(text.as_bytes());
        }
        scalar => {
            let text = scalar.to_string();
            part(b"v", text.len());
            context.update(text.as_bytes());
        }
    }
}

impl State {
    /// The state of a call that is parked at a replica, or of none.
    pub(super) fn new(
        call: Option<(Uuid, ReplicaId)>,
        round: u32,
        bound_to: Binding,
        expires_at: Timestamp,
    ) -> Self {
        let (call, replica) = call.unzip();
        Self { call, replica, round, bound_to, expires_at }
    }

    /// Where its call is, if it has one.
    pub(super) fn parked_at(&self) -> Option<ReplicaId> {
        self.replica
    }

    pub(super) fn seal(&self, sealer: &Sealer) -> String {
        let plain = serde_json::to_vec(self).expect("texts and numbers");
        sealer.seal_token(PURPOSE, &plain, b"")
    }

    /// Opens what a client showed; nothing of it is read before the seal is verified.
    pub(super) fn open(sealer: &Sealer, shown: &str) -> Result<Self, NotTaken> {
        if shown.len() > STATE_BYTES_MAX {
            return Err(NotTaken::Invalid);
        }
        let plain = sealer.unseal_token(PURPOSE, shown, b"").map_err(|_| NotTaken::Invalid)?;
        serde_json::from_slice(&plain).map_err(|_| NotTaken::Invalid)
    }

    /// Whether it is good for this request, now.
    pub(super) fn check(&self, request: &Binding, now: Timestamp) -> Result<(), NotTaken> {
        if self.bound_to.key != request.key {
            return Err(NotTaken::Invalid);
        }
        if self.bound_to != *request {
            return Err(NotTaken::AnotherRequest);
        }
        if now >= self.expires_at {
            return Err(NotTaken::Expired);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sql::clock::Clock;
    use sql::seal::MasterKey;

    use super::*;

    fn sealer() -> Sealer {
        Sealer::new(&MasterKey::from_env_text(MasterKey::generate_hex().expose()).expect("a fresh key").0)
    }

    fn binding(key: ApiKeyId, method: &str, params: &str) -> Binding {
        Binding::of(key, method, &Bytes::copy_from_slice(params.as_bytes()))
    }

    #[test]
    fn is_good_for_its_own_request_however_that_is_written() {
        let key = ApiKeyId::new(&Clock::system());
        let made =
            binding(key, "tools/call", r#"{"name":"a","arguments":{"x":1,"y":[true,"z"]},"_meta":{}}"#);
        let state = State::new(None, 0, made, Timestamp::from_millis(10));
        let sealer = sealer();
        let opened = State::open(&sealer, &state.seal(&sealer)).unwrap();
        assert_eq!(opened, state);
        let again =
            r#"{"requestState":"s","inputResponses":{}, "arguments": {"y":[ true,"z" ],"x": 1},"name":"a"}"#;
        let now = Timestamp::from_millis(9);
        assert_eq!(opened.check(&binding(key, "tools/call", again), now), Ok(()));
        let late = Timestamp::from_millis(10);
        assert_eq!(opened.check(&binding(key, "tools/call", again), late), Err(NotTaken::Expired));
    }

    #[test]
    fn is_good_for_no_other_request_and_no_other_key() {
        let key = ApiKeyId::new(&Clock::system());
        let params = r#"{"name":"a","arguments":{"x":1}}"#;
        let state = State::new(None, 0, binding(key, "tools/call", params), Timestamp::from_millis(10));
        let now = Timestamp::from_millis(0);
        for other in [
            r#"{"name":"b","arguments":{"x":1}}"#,
            r#"{"name":"a","arguments":{"x":2}}"#,
            r#"{"name":"a","arguments":{"x":"1"}}"#,
            r#"{"name":"a","arguments":{"x":1,"y":null}}"#,
            r#"{"name":"a"}"#,
        ] {
            let other = binding(key, "tools/call", other);
            assert_eq!(state.check(&other, now), Err(NotTaken::AnotherRequest));
        }
        let other = binding(key, "prompts/get", params);
        assert_eq!(state.check(&other, now), Err(NotTaken::AnotherRequest));
        let other = binding(ApiKeyId::new(&Clock::system()), "tools/call", params);
        assert_eq!(state.check(&other, now), Err(NotTaken::Invalid));
    }

    #[test]
    fn what_was_changed_or_made_elsewhere_does_not_open() {
        let key = ApiKeyId::new(&Clock::system());
        let state = State::new(None, 0, binding(key, "tools/call", "{}"), Timestamp::from_millis(10));
        let (ours, theirs) = (sealer(), sealer());
        let sealed = state.seal(&ours);
        assert!(State::open(&theirs, &sealed).is_err());
        let mut changed = sealed.clone().into_bytes();
        let middle = changed.len() / 2;
        changed[middle] = if changed[middle] == b'A' { b'B' } else { b'A' };
        assert!(State::open(&ours, std::str::from_utf8(&changed).unwrap()).is_err());
        assert!(State::open(&ours, "").is_err());
        assert!(State::open(&ours, &"A".repeat(STATE_BYTES_MAX + 1)).is_err());
        let session = ours.seal_token("mcp-session", b"{}", b"");
        assert!(State::open(&ours, &session).is_err());
    }
}
