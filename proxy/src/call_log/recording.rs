//! One call on its way to being a record.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use memchr::memmem;
use sql::model::settings::Mode;
use sql::model::{
    ApiKeyId, CallKind, CallMethod, CallOutcome, CallRecordId, CallTransport, Era, KeyMode, MeasuredCall,
    Timestamp,
};
use tokio::time::Instant;

use super::CallLog;
use crate::catalog::Item;
use crate::metrics::calls::OpenMeters;
use crate::spans::{CallSpan, EndedSpan};
use crate::upstream::call::{Answer, CallError};

/// The largest result that is looked through for `isError`: a tool that fails says so in few words.
const IS_ERROR_BYTES_MAX: usize = 64 * 1024;

/// What is known of a call when it is routed.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    /// Whose it is.
    pub key: ApiKeyId,
    /// How it came.
    pub way: Way,
    /// The era that the client speaks.
    pub era: Era,
    /// The size of what is asked, in bytes.
    pub bytes_in: usize,
    /// How long the client waits: a call that nobody waits for any more by then took too long.
    pub deadline: Option<Duration>,
}

/// How a call came: over which transport, and in which mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Way {
    /// The client's transport.
    pub transport: CallTransport,
    /// The mode in force.
    pub mode: Mode,
}

impl Way {
    /// Reads the path that a session or a connection is bound to. The path goes before the key, and the
    /// key before the settings.
    pub fn of(face: &str, key: KeyMode, default: Mode) -> Self {
        let below = face.strip_prefix("/mcp/").unwrap_or(face);
        let (said, below) = match below.split_once('/') {
            Some(("smart", below)) => (Some(Mode::Smart), below),
            Some(("full", below)) => (Some(Mode::Full), below),
            _ => (None, below),
        };
        let of_key = match key {
            KeyMode::Inherit => None,
            KeyMode::Smart => Some(Mode::Smart),
            KeyMode::Full => Some(Mode::Full),
        };
        let transport = match below {
            "sse" => CallTransport::Sse,
            "ws" => CallTransport::Websocket,
            "xiaozhi" => CallTransport::Xiaozhi,
            _ => CallTransport::StreamableHttp,
        };
        Self { transport, mode: said.or(of_key).unwrap_or(default) }
    }
}

/// A call that is over. Names are still where the catalog has them.
pub(super) struct Ended {
    /// Whether statistics were on when it began: switched on later, they begin with the next call.
    pub(super) is_recorded: bool,
    item: Arc<Item>,
    method: CallMethod,
    begun: Begun,
    at: Timestamp,
    latency_us: u64,
    outcome: CallOutcome,
    bytes_out: usize,
    /// Where a collector is told of it.
    span: Option<Arc<CallSpan>>,
}

impl Ended {
    /// What a collector is told of the call.
    pub(super) fn take_span(&mut self) -> Option<EndedSpan> {
        Some(EndedSpan {
            span: self.span.take()?,
            item: Arc::clone(&self.item),
            method: self.method,
            transport: self.begun.way.transport,
            outcome: self.outcome,
            at: self.at,
            latency_us: self.latency_us,
        })
    }

    /// Counts the call.
    pub(super) fn meter(&self, meters: &mut OpenMeters<'_>) {
        let bytes = (self.begun.bytes_in as u64, self.bytes_out as u64);
        meters.count(self.item.upstream.id, self.outcome, self.latency_us, bytes);
    }

    /// What tells it from calls of another kind.
    pub(super) fn like(&self) -> Like {
        let Begun { key, way, era, .. } = self.begun;
        Like { item: Arc::clone(&self.item), method: self.method, key, way, era, outcome: self.outcome }
    }

    /// Its record under this id, as one of the kind at this place.
    pub(super) fn measured(&self, id: CallRecordId, kind: usize) -> MeasuredCall {
        let (bytes_in, bytes_out) = (self.begun.bytes_in as u64, self.bytes_out as u64);
        MeasuredCall { at: self.at, id, kind, latency_us: self.latency_us, bytes_in, bytes_out }
    }

    /// Whether it is of this kind.
    pub(super) fn is_like(&self, like: &Like) -> bool {
        Arc::ptr_eq(&self.item, &like.item)
            && (self.method, self.begun.key, self.begun.way, self.begun.era, self.outcome)
                == (like.method, like.key, like.way, like.era, like.outcome)
    }
}

/// What calls of one kind have in common. It holds the item, so that its address is no other's meanwhile.
pub(super) struct Like {
    item: Arc<Item>,
    method: CallMethod,
    key: ApiKeyId,
    way: Way,
    era: Era,
    outcome: CallOutcome,
}

impl Like {
    /// What is stored of it.
    pub(super) fn kind(&self) -> CallKind {
        CallKind {
            method: self.method,
            upstream_id: self.item.upstream.id,
            upstream_name: self.item.definition.upstream_name.clone(),
            exposed_name: self.item.exposed_name.to_string(),
            key_id: self.key,
            transport: self.way.transport,
            era: self.era,
            mode: self.way.mode,
            outcome: self.outcome,
        }
    }

    fn comparable(&self) -> (usize, CallMethod, ApiKeyId, Way, Era, CallOutcome) {
        (Arc::as_ptr(&self.item).addr(), self.method, self.key, self.way, self.era, self.outcome)
    }
}

impl PartialEq for Like {
    fn eq(&self, other: &Self) -> bool {
        self.comparable() == other.comparable()
    }
}

impl Eq for Like {}

impl Hash for Like {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.comparable().hash(state);
    }
}

/// The record of a call that runs. Dropped without an end, the call was cancelled: so a future that is
/// dropped, by whomever, is recorded as well.
pub struct Recording {
    log: CallLog,
    began: Instant,
    ended: Option<Ended>,
}

impl Recording {
    pub(super) fn new(log: CallLog, method: CallMethod, item: Arc<Item>, begun: Begun) -> Self {
        let at = log.now();
        let is_recorded = log.is_recording();
        let (latency_us, outcome, bytes_out) = (0, CallOutcome::Cancelled, 0);
        let span = None;
        let ended = Ended { is_recorded, item, method, begun, at, latency_us, outcome, bytes_out, span };
        Self { log, began: Instant::now(), ended: Some(ended) }
    }

    /// A collector is told of it by this span.
    #[must_use]
    pub fn seen_as(mut self, span: Option<Arc<CallSpan>>) -> Self {
        if let Some(ended) = &mut self.ended {
            ended.span = span;
        }
        self
    }

    /// The call has come to this; `given` is what the client is given.
    pub fn end(mut self, outcome: CallOutcome, given: &Answer) {
        let (Answer::Result(raw) | Answer::Error(raw)) = given;
        if let Some(ended) = &mut self.ended {
            (ended.outcome, ended.bytes_out) = (outcome, raw.len());
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some(mut ended) = self.ended.take() {
            let took = self.began.elapsed();
            ended.latency_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let is_late = ended.begun.deadline.is_some_and(|deadline| took >= deadline);
            if is_late && ended.outcome == CallOutcome::Cancelled {
                ended.outcome = CallOutcome::Timeout;
            }
            self.log.push(ended);
        }
    }
}

/// How a call ended, by what came of it.
pub fn outcome_of(method: CallMethod, carried: &Result<Answer, CallError>) -> CallOutcome {
    match carried {
        Ok(Answer::Result(raw)) if method == CallMethod::CallTool && says_is_error(raw) => {
            CallOutcome::ToolError
        }
        Ok(Answer::Result(_)) => CallOutcome::Ok,
        Ok(Answer::Error(_)) => CallOutcome::UpstreamError,
        Err(error) => match error {
            CallError::TimedOut { .. } => CallOutcome::Timeout,
            CallError::Unavailable { .. } | CallError::Busy { .. } | CallError::SessionUnknown => {
                CallOutcome::Unavailable
            }
            CallError::Cancelled => CallOutcome::Cancelled,
            CallError::ClosedMidCall
            | CallError::TooLarge { .. }
            | CallError::Refused { .. }
            | CallError::Denied(_)
            | CallError::Invalid { .. } => CallOutcome::UpstreamError,
        },
    }
}

/// What a result that is an error has. Made once: making it costs more than most searches.
static IS_ERROR: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("\"isError\""));

/// Whether a tool's result has `"isError": true` among its own members. The text is valid JSON already;
/// most results don't have the word at all, which one pass of a fast search says.
fn says_is_error(result: &[u8]) -> bool {
    result.len() <= IS_ERROR_BYTES_MAX
        && IS_ERROR.find_iter(result).any(|at| {
            let rest = result[at + IS_ERROR.needle().len()..].trim_ascii_start();
            let said =
                rest.strip_prefix(b":").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"true"));
            said && is_own_member(&result[..at])
        })
}

/// Whether what comes after `before` stands in the outermost object, and not inside a text.
fn is_own_member(before: &[u8]) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in before {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    depth == 1 && !in_text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_path_says_the_transport_and_may_say_the_mode() {
        use CallTransport::{Sse, StreamableHttp, Websocket};
        for (face, key, transport, mode) in [
            ("/mcp/http", KeyMode::Inherit, StreamableHttp, Mode::Full),
            ("/mcp/http", KeyMode::Smart, StreamableHttp, Mode::Smart),
            ("/mcp/smart/http", KeyMode::Full, StreamableHttp, Mode::Smart),
            ("/mcp/full/sse", KeyMode::Smart, Sse, Mode::Full),
            ("/mcp/sse", KeyMode::Full, Sse, Mode::Full),
            ("/mcp/smart/ws", KeyMode::Inherit, Websocket, Mode::Smart),
            ("/mcp/ws", KeyMode::Inherit, Websocket, Mode::Full),
        ] {
            assert_eq!(Way::of(face, key, Mode::Full), Way { transport, mode }, "{face}");
        }
    }

    fn outcome(result: &str) -> CallOutcome {
        let answer = Ok(Answer::Result(Bytes::copy_from_slice(result.as_bytes())));
        outcome_of(CallMethod::CallTool, &answer)
    }

    #[test]
    fn a_tool_that_says_that_it_failed_is_believed() {
        for failed in [
            r#"{"isError":true}"#,
            r#"{"content":[{"type":"text","text":"a"}],"isError":true}"#,
            r#"{ "content" : [ ] , "isError" : true , "x" : {} }"#,
            r#"{"content":[{"text":"\"isError\":true, \\"}],"isError":true}"#,
        ] {
            assert_eq!(outcome(failed), CallOutcome::ToolError, "{failed}");
        }
        let other = Ok(Answer::Result(Bytes::from_static(br#"{"isError":true}"#)));
        assert_eq!(outcome_of(CallMethod::GetPrompt, &other), CallOutcome::Ok);
    }

    #[test]
    fn the_word_elsewhere_says_nothing() {
        for fine in [
            r"{}",
            r#"{"isError":false}"#,
            r#"{"isError":"true"}"#,
            r#"{"structuredContent":{"isError":true}}"#,
            r#"{"content":[{"isError":true}]}"#,
            r#"{"content":[{"text":"\"isError\":true"}]}"#,
            r#"{"a":"\\","b":{"isError":true},"isError":false}"#,
            r#"{"a":"isError","true":true}"#,
        ] {
            assert_eq!(outcome(fine), CallOutcome::Ok, "{fine}");
        }
    }

    #[test]
    fn a_large_result_is_not_searched() {
        let large = format!(r#"{{"isError":true,"x":"{}"}}"#, "a".repeat(IS_ERROR_BYTES_MAX));
        assert_eq!(outcome(&large), CallOutcome::Ok);
    }

    #[test]
    fn every_way_a_call_fails_has_its_outcome() {
        let error = || Bytes::from_static(b"{}");
        for (carried, expected) in [
            (Ok(Answer::Error(error())), CallOutcome::UpstreamError),
            (Err(CallError::TimedOut { after: std::time::Duration::ZERO }), CallOutcome::Timeout),
            (Err(CallError::Unavailable { reason: String::new() }), CallOutcome::Unavailable),
            (Err(CallError::Busy { limit: 1 }), CallOutcome::Unavailable),
            (Err(CallError::SessionUnknown), CallOutcome::Unavailable),
            (Err(CallError::ClosedMidCall), CallOutcome::UpstreamError),
            (Err(CallError::TooLarge { limit: 1 }), CallOutcome::UpstreamError),
            (Err(CallError::Refused { status: 500 }), CallOutcome::UpstreamError),
            (Err(CallError::Invalid { reason: "x" }), CallOutcome::UpstreamError),
            (Err(CallError::Cancelled), CallOutcome::Cancelled),
        ] {
            assert_eq!(outcome_of(CallMethod::CallTool, &carried), expected);
        }
    }
}
