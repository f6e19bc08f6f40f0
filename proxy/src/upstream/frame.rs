//! The bytes of a message to an upstream, and what those from it are: shared by all transports.

use bytes::Bytes;

use super::call::Answer;
use crate::downstream::conversation::AskRefused;

/// A request ready to be sent.
pub(crate) struct Outgoing {
    /// The whole JSON-RPC message, without a newline at its end.
    pub(crate) body: Bytes,
    /// The client's own progress token, to be restored in what comes back; raw JSON.
    pub(crate) progress_token: Option<Bytes>,
}

/// A message from the upstream.
pub(crate) enum Incoming {
    /// An answer to one of our ids; an id that isn't ours is `None`.
    Answer {
        /// The id, if it is one that we could have used.
        id: Option<u64>,
        /// Result or error.
        answer: Answer,
    },
    /// A request of the upstream's own.
    Request {
        /// The raw JSON of its id, to be echoed.
        id: Bytes,
        /// The method.
        method: String,
        /// The raw object of its params.
        params: Option<Bytes>,
    },
    /// A notification.
    Notification {
        /// The method.
        method: String,
        /// The raw object of its params.
        params: Option<Bytes>,
    },
}

/// What came isn't a JSON-RPC message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotAMessage(pub(crate) &'static str);

/// The answer to a request of the upstream's own.
pub(crate) type Reply = Result<Answer, AskRefused>;
