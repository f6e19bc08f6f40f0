//! An event as it is stored and hashed: the texts of a row, in their order.

use ring::hmac;

use super::TEXT_BYTES_MAX;
use crate::db::{Cell, Row, cells};
use crate::error::StoreError;
use crate::model::audit_event::{Actor, AuditEvent};

/// The texts of an event as they are stored and hashed.
#[derive(serde::Serialize)]
pub(super) struct Stored {
    pub(super) seq: i64,
    id: String,
    pub(super) at: i64,
    actor_kind: String,
    actor_id: Option<String>,
    actor_name: Option<String>,
    address: Option<String>,
    user_agent: Option<String>,
    action: String,
    target_kind: String,
    target_id: Option<String>,
    target_name: Option<String>,
    diff: String,
    request_id: Option<String>,
    outcome: String,
}

/// A text as it can be stored: an event must never be lost because of what a stranger wrote.
pub(super) fn tidy(text: &str) -> String {
    let mut text = text.replace('\0', "\u{fffd}");
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

impl Stored {
    pub(super) fn of(event: &AuditEvent, seq: i64) -> Self {
        let (actor_kind, actor_id, actor_name) = match &event.actor {
            Actor::Admin { id, name } => ("admin", Some(id.to_string()), Some(tidy(name))),
            Actor::Key { id, name } => ("key", Some(id.to_string()), Some(tidy(name))),
            Actor::System => ("system", None, None),
        };
        let tidy_opt = |text: &Option<String>| text.as_deref().map(tidy);
        Self {
            seq,
            id: event.id.to_string(),
            at: event.at.millis(),
            actor_kind: actor_kind.to_owned(),
            actor_id,
            actor_name,
            address: event.address.map(|address| address.to_string()),
            user_agent: tidy_opt(&event.user_agent),
            action: tidy(&event.action),
            target_kind: tidy(&event.target_kind),
            target_id: tidy_opt(&event.target_id),
            target_name: tidy_opt(&event.target_name),
            // JSON escapes a NUL by itself.
            diff: event.diff.to_string(),
            request_id: tidy_opt(&event.request_id),
            outcome: event.outcome.as_str().to_owned(),
        }
    }

    pub(super) fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            seq: row.get("seq")?,
            id: row.get("id")?,
            at: row.get("at")?,
            actor_kind: row.get("actor_kind")?,
            actor_id: row.get("actor_id")?,
            actor_name: row.get("actor_name")?,
            address: row.get("address")?,
            user_agent: row.get("user_agent")?,
            action: row.get("action")?,
            target_kind: row.get("target_kind")?,
            target_id: row.get("target_id")?,
            target_name: row.get("target_name")?,
            diff: row.get("diff")?,
            request_id: row.get("request_id")?,
            outcome: row.get("outcome")?,
        })
    }

    /// The hash that binds this event to the one before. JSON with all fields in their order, so that
    /// no two events read the same.
    pub(super) fn hash(&self, key: &hmac::Key, before: &[u8; 32]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(key);
        context.update(before);
        context.update(&serde_json::to_vec(self).expect("texts and numbers are JSON"));
        context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Its row.
    pub(super) fn cells(self, hash: &[u8; 32]) -> Vec<Cell> {
        cells![
            self.seq,
            self.id,
            self.at,
            self.actor_kind,
            self.actor_id,
            self.actor_name,
            self.address,
            self.user_agent,
            self.action,
            self.target_kind,
            self.target_id,
            self.target_name,
            self.diff,
            self.request_id,
            self.outcome,
            hash,
        ]
    }
}
