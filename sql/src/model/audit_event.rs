//! One act that somebody may have to answer for.

use std::net::IpAddr;

use super::closed_set::closed_set;
use super::ids::{AdminUserId, ApiKeyId, AuditEventId};
use super::time::Timestamp;

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An administrator.
    Admin {
        /// Who.
        id: AdminUserId,
        /// The name at that time.
        name: String,
    },
    /// The holder of an API key.
    Key {
        /// Which key.
        id: ApiKeyId,
        /// The name at that time.
        name: String,
    },
    /// The gateway by itself, or whoever runs its commands and files.
    System,
}

closed_set! {
    /// How it went.
    pub enum Outcome {
        /// It was done.
        Success = "success",
        /// It was refused or failed.
        Failure = "failure",
    }
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent {
    /// Which.
    pub id: AuditEventId,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// From where.
    pub address: Option<IpAddr>,
    /// With what.
    pub user_agent: Option<String>,
    /// What: noun and verb, such as `upstream.create`.
    pub action: String,
    /// The noun of what it was done to, such as `upstream`.
    pub target_kind: String,
    /// The id of what it was done to.
    pub target_id: Option<String>,
    /// Its name at that time.
    pub target_name: Option<String>,
    /// Before and after, with every secret left out.
    pub diff: serde_json::Value,
    /// The request that caused it.
    pub request_id: Option<String>,
    /// How it went.
    pub outcome: Outcome,
}
