//! What admins are shown of one upstream, and what callers are told of why it isn't available.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use sql::model::Timestamp;

use crate::upstream::call::CallError;
use crate::upstream::handshake::Greeting;
use crate::upstream::link::{Era, Stage};
use crate::upstream::oauth::Denial;
use crate::upstream::states::ConnectionState;
use crate::upstream::status::{Check, CheckKind, History, Status, millis, raw_value};

/// What is known of an upstream from its attempts, handshakes and pings.
pub(super) struct Shown {
    /// Since when it has its state.
    pub(super) since: Timestamp,
    last_error: Option<String>,
    failed_at: Option<Stage>,
    denial: Option<Denial>,
    era: Option<Era>,
    protocol_version: Option<String>,
    server_info: Option<Arc<RawValue>>,
    capabilities: Option<Arc<RawValue>>,
    history: History,
}

impl Shown {
    /// Nothing was tried yet.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            since: now,
            last_error: None,
            failed_at: None,
            denial: None,
            era: None,
            protocol_version: None,
            server_info: None,
            capabilities: None,
            history: History::default(),
        }
    }

    /// A handshake succeeded.
    pub(super) fn greeted(&mut self, greeting: &Greeting) {
        (self.last_error, self.failed_at, self.denial) = (None, None, None);
        self.era = Some(greeting.spoken.era());
        self.protocol_version = Some(greeting.spoken.version.to_string());
        self.server_info = raw_value(&greeting.server_info);
        self.capabilities = raw_value(&greeting.spoken.capabilities);
    }

    /// How far the last attempt came.
    pub(super) fn failed_at(&mut self, stage: Stage) {
        (self.failed_at, self.denial) = (Some(stage), None);
    }

    /// The upstream refuses us.
    pub(super) fn denied(&mut self, denial: &Denial) {
        self.last_error = Some(denial.to_string());
        self.denial = Some(denial.clone());
    }

    /// An attempt or a ping ended; `reason` says why it failed.
    pub(super) fn record(&mut self, at: Timestamp, kind: CheckKind, took: Duration, reason: Option<String>) {
        if reason.is_some() {
            self.last_error.clone_from(&reason);
        }
        self.history.add(Check { at, kind, ok: reason.is_none(), ms: millis(took), reason });
    }

    /// The last attempts and pings, oldest first.
    pub(super) fn checks(&self) -> Vec<Check> {
        self.history.list()
    }

    /// An error for a caller: how far the last attempt came, if there was one. What the upstream said
    /// itself, or wrote to stderr, is for admins alone.
    pub(super) fn unavailable(&self, otherwise: &str) -> CallError {
        if let Some(denial) = &self.denial {
            return CallError::Denied(denial.clone());
        }
        let reason = match self.failed_at {
            Some(Stage::Resolve) => "its address can't be used",
            Some(Stage::Connect) => "it can't be reached",
            Some(Stage::Tls) => "no secure connection to it can be made",
            Some(Stage::Initialize | Stage::List) => "its handshake failed",
            None => otherwise,
        };
        CallError::Unavailable { reason: reason.to_owned() }
    }

    /// How it fares, in this state, of one session and with nothing counted.
    pub(super) fn status(&self, state: ConnectionState, failures: u32) -> Status {
        Status {
            state,
            since: self.since,
            last_error: self.last_error.clone(),
            denial: self.denial.clone(),
            failures,
            breaker_open: false,
            era: self.era,
            protocol_version: self.protocol_version.clone(),
            server_info: self.server_info.clone(),
            capabilities: self.capabilities.clone(),
            sessions: 1,
            calls_in_flight: 0,
            unattributed: 0,
            late_answers: 0,
            late_progress: 0,
            dropped_lines: 0,
            child_restarts: 0,
        }
    }
}
