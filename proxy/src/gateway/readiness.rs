//! Whether traffic should be sent here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};

use crate::http_bridge::{Reply, ReplyBody};

/// How far along the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The store isn't open, or no catalog is published yet.
    Starting = 0,
    /// Serving.
    Ready = 1,
    /// Told to stop: serving what comes, but nothing more should be sent.
    Draining = 2,
}

/// The phase, shared between who sets it and `/readyz`. It only goes forward.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// Moves on to `phase`; a process that is draining doesn't become ready again.
    pub fn advance(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::SeqCst);
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::SeqCst) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }
}

/// `/healthz`: the process answers, which is all that it says.
pub(super) fn health() -> Reply {
    state(StatusCode::OK, r#"{"status":"ok"}"#)
}

/// `/readyz`: the phase as a word, and nothing of why (T33).
pub(super) fn ready(phase: Phase) -> Reply {
    match phase {
        Phase::Starting => state(StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"starting"}"#),
        Phase::Ready => state(StatusCode::OK, r#"{"status":"ready"}"#),
        Phase::Draining => state(StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"draining"}"#),
    }
}

fn state(status: StatusCode, body: &'static str) -> Reply {
    let mut reply = Reply::new(ReplyBody::Whole(Bytes::from_static(body.as_bytes())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_only_goes_forward() {
        let readiness = Readiness::default();
        assert_eq!(readiness.phase(), Phase::Starting);
        readiness.advance(Phase::Ready);
        assert_eq!(readiness.phase(), Phase::Ready);
        readiness.advance(Phase::Draining);
        readiness.advance(Phase::Ready);
        assert_eq!(readiness.phase(), Phase::Draining);
    }
}
