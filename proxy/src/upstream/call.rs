//! One request to an upstream: what is asked, what comes back, and how it can fail.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::oauth::Denial;
use crate::downstream::conversation::{self, Conversation, Owner};

/// The owner of the gateway's own calls (handshake, liveness, lists): nothing is attributed to it, and
/// it neither waits in an upstream's queue nor is refused by its breaker.
pub const GATEWAY: Owner = Owner(Uuid::nil());

/// A request for an upstream, written in the era that the upstream speaks.
#[derive(Clone)]
pub struct Call {
    /// The JSON-RPC method.
    pub method: &'static str,
    /// The raw JSON object of `params`; a `_meta.progressToken` in it is the client's own and is
    /// replaced on the way out and restored on the way back.
    pub params: Bytes,
    /// Headers that mirror the body (`Mcp-Name`, `Mcp-Param-*`), for a modern upstream over HTTP.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Where notifications and requests that belong to this call go, in the order they came.
    pub conversation: Conversation,
    /// The longest silence before the call is given up; anything from the upstream for this call resets it.
    pub idle_timeout: Duration,
    /// The longest the call may take in all.
    pub total_timeout: Duration,
    /// The most bytes an answer may have.
    pub response_bytes_max: usize,
    /// Cancelled when the client no longer wants the answer.
    pub cancel: CancellationToken,
}

impl Call {
    /// A call of the gateway itself: nobody listens to what the upstream says meanwhile.
    pub fn own(method: &'static str, params: Bytes, timeout: Duration, response_bytes_max: usize) -> Self {
        let cancel = CancellationToken::new();
        let (conversation, _) = conversation::open(GATEWAY, cancel.clone());
        Self {
            method,
            params,
            headers: Vec::new(),
            conversation,
            idle_timeout: timeout,
            total_timeout: timeout,
            response_bytes_max,
            cancel,
        }
    }
}

/// What an upstream answered: raw JSON, a slice of what came over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The value of `result`.
    Result(Bytes),
    /// The value of `error`, an object with `code` and `message`.
    Error(Bytes),
}

/// Why there is no answer, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Not connected, and nothing was sent: the call may be repeated.
    #[error("the upstream is unavailable: {reason}")]
    Unavailable {
        /// In words for a person; no address and no secret.
        reason: String,
    },
    /// Its queue is full; nothing was sent.
    #[error("the upstream has {limit} calls in flight, which is its limit")]
    Busy {
        /// Calls that may be in flight at one upstream.
        limit: usize,
    },
    /// No answer within the idle or the total deadline; the upstream was told to stop.
    #[error("no answer within {} s", after.as_secs())]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// The connection ended after the request was sent: whether it was carried out isn't known.
    #[error("the connection closed before the answer came")]
    ClosedMidCall,
    /// The answer was larger than `response_bytes_max`.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
    /// It answered with an HTTP status instead of an answer; nothing was carried out.
    #[error("the upstream answered with HTTP status {status}{}", meaning(*status))]
    Refused {
        /// The status.
        status: u16,
    },
    /// It wants to be authorised, or to be authorised for more; nothing was carried out.
    #[error("the upstream refused us: {0}")]
    Denied(Denial),
    /// It doesn't know our session; nothing was carried out. Callers see it only if that happens
    /// twice in a row: after the first time the session is made anew and the call repeated.
    #[error("the upstream does not keep its session")]
    SessionUnknown,
    /// What came isn't a valid answer.
    #[error("the answer isn't valid: {reason}")]
    Invalid {
        /// What is wrong with it; never a part of its content.
        reason: &'static str,
    },
    /// The client cancelled; the upstream was told.
    #[error("cancelled by the client")]
    Cancelled,
}

/// Why an upstream doesn't tell of a resource.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// It said no; the raw `error` object.
    #[error("the upstream refused the subscription")]
    Refused(Bytes),
    /// It could not be asked, or has not answered yet.
    #[error(transparent)]
    Failed(#[from] CallError),
}

/// What a status says that an admin should know.
fn meaning(status: u16) -> &'static str {
    match status {
        300..=399 => ": redirects are not followed",
        401 => ": it wants another credential",
        403 => ": the credential does not suffice",
        407 => ": a proxy wants a credential",
        429 => ": it limits our calls",
        _ => "",
    }
}
