//! Writing down who did what, in the transaction that does it.
//!
//! A diff holds what an object looked like before and after, field by field, with its secrets
//! replaced: each by a fingerprint, so that a changed secret shows as a change and equal ones as
//! equal, and nothing else of it can be learned.

use ring::hmac;
use serde_json::{Map, Value, json};
use sql::model::{Actor, AuditEvent, AuditEventId, Outcome, Timestamp};
use sql::{StoreError, Tx, audit_log};

use crate::extract::{Admin, Client};
use crate::fields::pointer_to;

/// What fingerprints are keyed with.
const KEY_PURPOSE: &str = "audit-fingerprint";

/// Enough to tell a handful of secrets apart, too little to test a guess against.
const FINGERPRINT_BYTES: usize = 4;

/// Parameters of a URL whose values are no text for a log.
const SECRET_PARAMETERS: [&str; 7] = ["token", "key", "secret", "sig", "password", "passwd", "auth"];

/// What was done.
pub(crate) struct Act {
    /// Noun and verb, such as `upstream.create`.
    pub(crate) action: &'static str,
    /// The id of what it was done to.
    pub(crate) target_id: Option<String>,
    /// Its name.
    pub(crate) target_name: Option<String>,
    /// See [`diff`].
    pub(crate) diff: Value,
    /// How it went.
    pub(crate) outcome: Outcome,
}

impl Act {
    /// An act that succeeds when the transaction commits.
    pub(crate) fn on(
        action: &'static str,
        id: impl std::fmt::Display,
        name: impl Into<String>,
        diff: Value,
    ) -> Self {
        Self {
            action,
            target_id: Some(id.to_string()),
            target_name: Some(name.into()),
            diff,
            outcome: Outcome::Success,
        }
    }
}

/// Writes down what `admin` does.
pub(crate) async fn record(tx: &mut Tx, now: Timestamp, admin: &Admin, act: Act) -> Result<(), StoreError> {
    let actor = Actor::Admin { id: admin.id, name: admin.username.to_string() };
    record_as(tx, now, actor, &admin.client, act).await
}

/// Writes down what somebody does who has no session (yet).
pub(crate) async fn record_as(
    tx: &mut Tx,
    now: Timestamp,
    actor: Actor,
    client: &Client,
    act: Act,
) -> Result<(), StoreError> {
    let event = AuditEvent {
        address: Some(client.address),
        user_agent: client.user_agent.clone(),
        request_id: Some(client.request_id.to_string()),
        ..event(now, actor, act)
    };
    audit_log::append(tx, &event).await
}

/// Writes down what was done on the gateway's own machine, with `tool`.
pub(crate) async fn record_of(
    tx: &mut Tx,
    now: Timestamp,
    tool: &'static str,
    act: Act,
) -> Result<(), StoreError> {
    let event = AuditEvent { user_agent: Some(tool.to_owned()), ..event(now, Actor::System, act) };
    audit_log::append(tx, &event).await
}

fn event(now: Timestamp, actor: Actor, act: Act) -> AuditEvent {
    AuditEvent {
        id: AuditEventId::at(now),
        at: now,
        actor,
        address: None,
        user_agent: None,
        action: act.action.to_owned(),
        target_kind: act.action.split('.').next().unwrap_or_default().to_owned(),
        target_id: act.target_id,
        target_name: act.target_name,
        diff: act.diff,
        request_id: None,
        outcome: act.outcome,
    }
}

/// What differs, by JSON pointer: `{"/name": {"before": .., "after": ..}}`. What is created has no
/// `before`, what is deleted no `after`.
pub(crate) fn diff(before: Option<&Value>, after: Option<&Value>) -> Value {
    let mut changes = Map::new();
    collect("", before, after, &mut changes);
    Value::Object(changes)
}

fn collect(pointer: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Map<String, Value>) {
    let empty = Map::new();
    let members = |value: Option<&Value>| match value {
        Some(Value::Object(members)) => Some(members.clone()),
        None => Some(empty.clone()),
        Some(_) => None,
    };
    // Descends where both sides are objects, or one is and the other isn't there at all.
    if let (Some(old), Some(new)) = (members(before), members(after))
        && (before.is_some() || after.is_some())
    {
        let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
        for name in names {
            collect(&pointer_to(pointer, name), old.get(name), new.get(name), changes);
        }
        return;
    }
    if before != after {
        let mut change = Map::new();
        for (side, value) in [("before", before), ("after", after)] {
            if let Some(value) = value {
                change.insert(side.into(), value.clone());
            }
        }
        changes.insert(pointer.to_owned(), Value::Object(change));
    }
}

/// Tells secrets apart without showing them.
pub(crate) struct Fingerprint(hmac::Key);

impl Fingerprint {
    /// Fingerprints of this installation.
    pub(crate) fn new(sealer: &sql::Sealer) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, sealer.derive_key(KEY_PURPOSE).as_ref()))
    }

    /// What stands in a diff for `secret`.
    pub(crate) fn of(&self, secret: &str) -> Value {
        let tag = hmac::sign(&self.0, secret.as_bytes());
        let hex = tag.as_ref().iter().take(FINGERPRINT_BYTES).fold(String::new(), |mut hex, byte| {
            use std::fmt::Write as _;
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        json!({ "secret": hex })
    }
}

/// A URL without what may be a secret in its query.
pub(crate) fn redact_url(text: &str) -> String {
    let Ok(mut url) = url::Url::parse(text) else { return "[not a url]".into() };
    if url.query().is_none() {
        return text.to_owned();
    }
    let pairs: Vec<(String, String)> = url
        .query_pairs()
        .map(|(name, value)| {
            let lower = name.to_ascii_lowercase();
            let secret = SECRET_PARAMETERS.iter().any(|word| lower.contains(word));
            // A reference to the credential is no secret itself.
            let shown = !secret || value == "${credential}";
            (name.clone().into_owned(), if shown { value.into_owned() } else { "[redacted]".into() })
        })
        .collect();
    url.query_pairs_mut().clear().extend_pairs(pairs);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_names_each_changed_field_by_pointer() {
        let before =
            json!({"name": "a", "tags": ["x"], "conn": {"url": "u", "headers": {"A": "1"}}, "same": 1});
        let after =
            json!({"name": "b", "tags": [], "conn": {"url": "u", "headers": {"B/C": "2"}}, "same": 1});
        assert_eq!(
            diff(Some(&before), Some(&after)),
            json!({
                "/name": {"before": "a", "after": "b"},
                "/tags": {"before": ["x"], "after": []},
                "/conn/headers/A": {"before": "1"},
                "/conn/headers/B~1C": {"after": "2"},
            })
        );
    }

    #[test]
    fn creation_and_deletion_show_one_side() {
        let object = json!({"name": "a", "conn": {"url": "u"}});
        assert_eq!(diff(None, Some(&object)), json!({"/name": {"after": "a"}, "/conn/url": {"after": "u"}}));
        assert_eq!(
            diff(Some(&object), None),
            json!({"/name": {"before": "a"}, "/conn/url": {"before": "u"}})
        );
        assert_eq!(diff(Some(&object), Some(&object)), json!({}));
    }

    #[test]
    fn a_url_keeps_its_place_and_loses_its_token() {
        assert_eq!(
            redact_url("https://h/mcp?api_key=CANARY&page=2"),
            "https://h/mcp?api_key=%5Bredacted%5D&page=2"
        );
        assert_eq!(redact_url("https://h/mcp?page=2"), "https://h/mcp?page=2");
        assert_eq!(redact_url("https://h/mcp"), "https://h/mcp");
    }
}
