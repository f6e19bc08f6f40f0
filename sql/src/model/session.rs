//! What is kept of a legacy MCP session; the rest lies sealed in its id.

use std::net::IpAddr;

use uuid::Uuid;

use super::ids::ApiKeyId;
use super::time::Timestamp;

/// What was said about a session after it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionState {
    /// The session's random id, out of its sealed token.
    pub rid: Uuid,
    /// The client ended it: its token is worth nothing any more.
    pub ended: bool,
    /// The log level the client asked for.
    pub log_level: Option<String>,
    /// When no setting could make the token valid any more, and this row goes.
    pub expires_at: Timestamp,
}

/// A session that a client opened, for an admin to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSession {
    /// The session's random id, out of its sealed token.
    pub rid: Uuid,
    /// Whose it is.
    pub key_id: ApiKeyId,
    /// The path that it was opened on.
    pub path: String,
    /// The version that was agreed.
    pub version: String,
    /// What the client calls itself, if it says so.
    pub client: Option<String>,
    /// From where it was opened.
    pub address: Option<IpAddr>,
    /// When.
    pub created_at: Timestamp,
    /// When no setting could have it live any more, and this row goes.
    pub expires_at: Timestamp,
}
