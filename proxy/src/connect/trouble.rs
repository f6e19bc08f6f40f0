//! What keeps a message from its answer, in words for the person behind the client.

use bytes::Bytes;
use http::StatusCode;

use crate::wire::compose;

/// The gateway, or the way to it, failed: internal, as far as JSON-RPC has a word for it.
const INTERNAL: i64 = -32603;

/// See above. No URL and no key is in any of them.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Trouble {
    /// Not reached within the time; nothing was sent.
    #[error("the gateway can't be reached: {0}")]
    Unreachable(String),
    /// The connection ended with the request under way.
    #[error("the connection to the gateway broke: whether the call was carried out isn't known")]
    Broken,
    /// An answer that isn't one of the protocol.
    #[error("the gateway refused: HTTP {}{}", .0.as_u16(), advice(*.0))]
    Refused(StatusCode),
    /// A success without an answer in it.
    #[error("the gateway sent something else than an answer")]
    NoAnswer,
    /// More than is ever taken.
    #[error("the answer is too large")]
    TooLarge,
    /// As many requests as are ever carried at once are under way.
    #[error("too many requests are under way")]
    TooMany,
}

impl Trouble {
    /// The JSON-RPC error.
    pub(super) fn error(&self) -> Bytes {
        let (code, retryable) = match self {
            Self::Unreachable(_) => ("UPSTREAM_UNAVAILABLE", true),
            Self::Refused(StatusCode::UNAUTHORIZED) => ("UNAUTHORIZED", false),
            Self::Refused(StatusCode::FORBIDDEN) => ("FORBIDDEN", false),
            Self::Refused(StatusCode::TOO_MANY_REQUESTS) | Self::TooMany => ("RATE_LIMITED", true),
            Self::Refused(_) | Self::Broken | Self::NoAnswer | Self::TooLarge => ("INTERNAL", false),
        };
        let data = format!("{{\"code\":\"{code}\",\"retryable\":{retryable}}}");
        compose::error_object(INTERNAL, &self.to_string(), Some(data.as_bytes()))
    }
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => ". The key is missing, unknown, switched off or expired: see MPG_KEY",
        StatusCode::FORBIDDEN => ". The key may not be used from this address, or the name isn't allowed",
        StatusCode::NOT_FOUND => ". There is no MCP endpoint at this URL",
        StatusCode::PAYLOAD_TOO_LARGE => ". The message is too large for it",
        StatusCode::TOO_MANY_REQUESTS => ". The key's limit is reached",
        status if status.is_redirection() => ". Redirections aren't followed",
        _ => "",
    }
}
