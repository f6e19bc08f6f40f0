//! An event as it goes onto the wire, and what of resumption the versions of the protocol know.

use bytes::{Bytes, BytesMut};

use super::EventId;
use crate::downstream::outlet::Pieces;
use crate::downstream::stream::JOIN_BYTES_MAX;
use crate::wire::meta::Version;
use crate::wire::sse;

/// What an event takes beside its bytes.
const OVERHEAD_BYTES: usize = 64;

/// What of resumption a session's version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// 2024-11-05, whose transport is another: events without ids.
    Plain,
    /// 2025-03-26 and 2025-06-18: events have ids.
    Numbered,
    /// 2025-11-25: and an empty event goes first, so that the client has an id from the start.
    Primed,
}

impl Form {
    /// The form of a legacy version.
    pub fn of(version: Version) -> Self {
        match version {
            Version::V2024_11_05 => Self::Plain,
            Version::V2025_03_26 | Version::V2025_06_18 => Self::Numbered,
            Version::V2025_11_25 | Version::V2026_07_28 => Self::Primed,
        }
    }

    /// Whether a client of it can come back.
    pub fn is_resumable(self) -> bool {
        self != Self::Plain
    }
}

/// A framed event, shared with the connection that writes it.
#[derive(Clone)]
pub(super) struct Event {
    /// The whole of a small one.
    pub(super) head: Bytes,
    /// What follows in a large one.
    pub(super) rest: Vec<Bytes>,
}

impl Event {
    /// Framed in one piece where that is cheap, since each piece is a write.
    pub(super) fn of(message: Pieces, id: Option<EventId>) -> Self {
        let id = id.map(|id| id.to_string());
        let id = id.as_deref();
        if message.iter().map(Bytes::len).sum::<usize>() > JOIN_BYTES_MAX {
            let mut pieces = sse::event_chain(Some("message"), id, None, message).into_iter();
            return Self { head: pieces.next().unwrap_or_default(), rest: pieces.collect() };
        }
        let mut out = BytesMut::new();
        match &message[..] {
            [whole] => sse::write_event(&mut out, Some("message"), id, None, whole),
            pieces => sse::write_event(&mut out, Some("message"), id, None, &pieces.concat()),
        }
        Self { head: out.freeze(), rest: Vec::new() }
    }

    /// One that is there for its id alone, and says after which time to come back.
    pub(super) fn empty(id: EventId, retry_ms: u64) -> Self {
        let mut out = BytesMut::new();
        sse::write_event(&mut out, None, Some(&id.to_string()), Some(retry_ms), b"");
        Self { head: out.freeze(), rest: Vec::new() }
    }

    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.head.len() + self.rest.iter().map(Bytes::len).sum::<usize>() + OVERHEAD_BYTES
    }
}
