//! One call, as statistics know it: who called what, over which way, how it ended and what it cost.
//!
//! It has no arguments, no results, and no address: those belong to others.

use super::closed_set::closed_set;
use super::definition::Era;
use super::ids::{ApiKeyId, UpstreamId};
use super::settings::Mode;
use super::time::Timestamp;

closed_set! {
    /// What was called.
    pub enum CallMethod {
        /// A tool.
        CallTool = "tools/call",
        /// A prompt.
        GetPrompt = "prompts/get",
        /// A resource.
        ReadResource = "resources/read",
        /// What completes an argument of a prompt or of a resource template.
        Complete = "completion/complete",
    }
}

closed_set! {
    /// How the client's message travelled.
    pub enum CallTransport {
        /// Streamable HTTP.
        StreamableHttp = "streamable-http",
        /// HTTP+SSE, the transport of 2024-11-05.
        Sse = "sse",
        /// WebSocket.
        Websocket = "websocket",
        /// `XiaoZhi`: a WebSocket that the gateway dialled.
        Xiaozhi = "xiaozhi",
    }
}

closed_set! {
    /// How a call ended.
    pub enum CallOutcome {
        /// With a result.
        Ok = "ok",
        /// With a result of a tool that says of itself that it failed (`isError`).
        ToolError = "tool_error",
        /// With an error of the upstream, or with an answer that was none.
        UpstreamError = "upstream_error",
        /// Without an answer in time.
        Timeout = "timeout",
        /// The upstream wasn't there, or had too much to do: nothing was sent.
        Unavailable = "unavailable",
        /// Nobody wanted the answer any more: withdrawn, or the client or its key is gone.
        Cancelled = "cancelled",
    }
}

/// Tells records of one millisecond apart, on all replicas. Says nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallRecordId(i64);

impl CallRecordId {
    /// The id with this value.
    pub const fn from_i64(value: i64) -> Self {
        Self(value)
    }

    /// Its value.
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// A call that reached routing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// When it came.
    pub at: Timestamp,
    /// Which of that millisecond.
    pub id: CallRecordId,
    /// What was called.
    pub method: CallMethod,
    /// At which upstream; it may be gone by now.
    pub upstream_id: UpstreamId,
    /// What the upstream calls the tool, prompt, resource or template.
    pub upstream_name: String,
    /// What the client calls it; of a template its own name, not the URI that was read.
    pub exposed_name: String,
    /// By whose key; it may be gone by now.
    pub key_id: ApiKeyId,
    /// Over which transport of the client.
    pub transport: CallTransport,
    /// In which era the client spoke.
    pub era: Era,
    /// In which mode the client was served.
    pub mode: Mode,
    /// How it ended.
    pub outcome: CallOutcome,
    /// From being routed to being answered, in microseconds.
    pub latency_us: u64,
    /// The size of `params` as the client sent it, in bytes.
    pub bytes_in: u64,
    /// The size of the `result` or `error` that the client was given, in bytes; 0 if there was none.
    pub bytes_out: u64,
}
