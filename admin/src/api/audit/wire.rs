//! An audit event as it is answered.

use std::net::IpAddr;

use serde::Serialize;
use sql::model::{Actor, AuditEvent, AuditEventId, Outcome, Timestamp};
use utoipa::ToSchema;

use crate::doc;

/// An entry of the audit log.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditEvent)]
pub(crate) struct AuditRow {
    /// Which.
    #[schema(value_type = uuid::Uuid)]
    pub(crate) id: AuditEventId,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// Who.
    pub(crate) actor: ActorView,
    /// From where.
    #[schema(value_type = Option<String>)]
    pub(crate) address: Option<IpAddr>,
    /// With what.
    pub(crate) user_agent: Option<String>,
    /// What: noun and verb, such as `upstream.create`.
    pub(crate) action: String,
    /// The noun of what it was done to.
    pub(crate) target_kind: String,
    /// Its id.
    pub(crate) target_id: Option<String>,
    /// Its name at that time.
    pub(crate) target_name: Option<String>,
    /// What differs, by JSON pointer: `{"/name": {"before": .., "after": ..}}`. A secret shows as a
    /// fingerprint. Of what is no change, what there is to say.
    #[schema(value_type = Object)]
    pub(crate) diff: serde_json::Value,
    /// The request that caused it.
    pub(crate) request_id: Option<String>,
    /// How it went.
    #[schema(schema_with = doc::outcome)]
    pub(crate) outcome: Outcome,
}

/// Who acted.
#[derive(Serialize, ToSchema)]
pub(crate) struct ActorView {
    /// `admin`, `key` or `system`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// Which admin or key.
    pub(crate) id: Option<String>,
    /// Its name at that time.
    pub(crate) name: Option<String>,
}

/// An event with its place in the chain, as it is exported.
#[derive(Serialize)]
pub(crate) struct ChainedRow {
    /// Its number.
    pub(crate) seq: i64,
    /// The event.
    #[serde(flatten)]
    pub(crate) row: AuditRow,
    /// The hash that binds it to all before it, in hexadecimal digits.
    pub(crate) hash: String,
}

impl From<AuditEvent> for AuditRow {
    fn from(event: AuditEvent) -> Self {
        Self {
            id: event.id,
            at: event.at,
            actor: event.actor.into(),
            address: event.address,
            user_agent: event.user_agent,
            action: event.action,
            target_kind: event.target_kind,
            target_id: event.target_id,
            target_name: event.target_name,
            diff: event.diff,
            request_id: event.request_id,
            outcome: event.outcome,
        }
    }
}

impl From<Actor> for ActorView {
    fn from(actor: Actor) -> Self {
        match actor {
            Actor::Admin { id, name } => Self { kind: "admin", id: Some(id.to_string()), name: Some(name) },
            Actor::Key { id, name } => Self { kind: "key", id: Some(id.to_string()), name: Some(name) },
            Actor::System => Self { kind: "system", id: None, name: None },
        }
    }
}
