//! The part of a legacy MCP session that changes; the rest lies sealed in its id.

use uuid::Uuid;

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
    /// When the token expires by itself, and this row with it.
    pub expires_at: Timestamp,
}
