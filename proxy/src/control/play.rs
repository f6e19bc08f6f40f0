//! A call that an admin makes as a key.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use sql::model::ApiKeyId;

/// What is to be called.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// As which key.
    pub key: ApiKeyId,
    /// The tool, as that key's clients call it.
    pub name: String,
    /// An object.
    pub arguments: Value,
    /// Where the admin is.
    pub address: IpAddr,
}

/// What came of it: a result or an error, as a client gets them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PlayedCall {
    /// The result.
    pub result: Option<Value>,
    /// The JSON-RPC error.
    pub error: Option<Value>,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// Why nothing came of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlayError {
    /// The key can't be used, in words for a person.
    #[error("{0}")]
    Refused(String),
    /// The key's limit or quota is used up.
    #[error("the key's limit or quota is used up")]
    Limited {
        /// When it may be used again.
        retry_after: Duration,
    },
    /// Nobody answered in time.
    #[error("no answer came in time")]
    TimedOut,
}
