//! What the gateway itself writes into the audit log: what it found, and who it turned away.
//!
//! An admin's acts are written by the control plane, in the transaction of the act; so is what a sync finds. Refused
//! requests come by the thousand, from strangers: they are folded and written in batches ([`denied`]). Old events are
//! dropped by one replica for all, and the end of the chain is told to the log ([`keeping`]).

pub mod denied;
pub mod keeping;

use serde_json::Value;
use sql::model::{Actor, AuditEvent, AuditEventId, Outcome, Timestamp};

/// What the gateway did or found by itself.
pub(crate) fn by_system(now: Timestamp, action: &str, target: Target<'_>, diff: Value) -> AuditEvent {
    AuditEvent {
        id: AuditEventId::at(now),
        at: now,
        actor: Actor::System,
        address: None,
        user_agent: None,
        action: action.to_owned(),
        target_kind: action.split('.').next().unwrap_or_default().to_owned(),
        target_id: target.id,
        target_name: target.name.map(str::to_owned),
        diff,
        request_id: None,
        outcome: Outcome::Success,
    }
}

/// What something was done to.
#[derive(Default)]
pub(crate) struct Target<'a> {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<&'a str>,
}
