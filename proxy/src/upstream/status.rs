//! What can be said of an upstream's connection, as the control plane shows it.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use sql::model::{Era, Timestamp};

use super::link::Stage;
use super::oauth::Denial;
use super::states::ConnectionState;

/// Entries of an upstream's health history: half an hour of pings.
const CHECKS_MAX: usize = 60;

/// How an upstream fares now.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its state.
    pub state: ConnectionState,
    /// Since when.
    pub since: Timestamp,
    /// Why the last attempt or connection failed; kept until the next success.
    pub last_error: Option<String>,
    /// Why it refuses us, if it does.
    #[serde(skip)]
    pub denial: Option<Denial>,
    /// Failures in a row.
    pub failures: u32,
    /// Whether calls fail at once because it failed repeatedly.
    pub breaker_open: bool,
    /// The era, once it was connected.
    pub era: Option<Era>,
    /// The protocol version, once it was connected.
    pub protocol_version: Option<String>,
    /// Its `serverInfo`, once it was connected.
    pub server_info: Option<Arc<RawValue>>,
    /// Its capabilities, once it was connected.
    pub capabilities: Option<Arc<RawValue>>,
    /// Its sessions: the shared one, and those that callers have of their own.
    pub sessions: usize,
    /// Calls that wait for its answer.
    pub calls_in_flight: usize,
    /// Requests and messages of its own that could not be attributed to one client.
    pub unattributed: u64,
    /// Answers to calls that were over.
    pub late_answers: u64,
    /// Progress of calls that were over.
    pub late_progress: u64,
    /// Lines or events that were no messages.
    pub dropped_lines: u64,
    /// How often a child process was started for it again, in the shared session.
    #[serde(skip)]
    pub child_restarts: u64,
}

/// One entry of the health history: an attempt to connect, or a ping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// When it ended.
    pub at: Timestamp,
    /// What was tried.
    pub kind: CheckKind,
    /// Whether it went well.
    pub ok: bool,
    /// How long it took.
    pub ms: u64,
    /// Why it failed.
    pub reason: Option<String>,
}

/// What a check tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// A connection with its handshake.
    Connect,
    /// Whether the other side still answers.
    Ping,
    /// The end of a connection that stood.
    Lost,
}

/// The newest checks.
#[derive(Debug, Default)]
pub(crate) struct History {
    checks: VecDeque<Check>,
}

impl History {
    /// Adds one; the oldest makes room.
    pub(crate) fn add(&mut self, check: Check) {
        if self.checks.len() == CHECKS_MAX {
            self.checks.pop_front();
        }
        self.checks.push_back(check);
    }

    /// All, oldest first.
    pub(crate) fn list(&self) -> Vec<Check> {
        self.checks.iter().cloned().collect()
    }
}

/// What came of trying an upstream that may not be stored yet.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TestReport {
    /// Whether every stage went well.
    pub ok: bool,
    /// The stages in order, up to the first that failed.
    pub stages: Vec<StageReport>,
    /// The era, if the handshake went well.
    pub era: Option<Era>,
    /// The protocol version, if the handshake went well.
    pub protocol_version: Option<String>,
    /// Its `serverInfo`, if the handshake went well.
    pub server_info: Option<Arc<RawValue>>,
    /// Its capabilities, if the handshake went well.
    pub capabilities: Option<Arc<RawValue>>,
    /// Tools on the first page of its list.
    pub tools: Option<usize>,
    /// What a child wrote to stderr meanwhile.
    pub stderr: Vec<String>,
}

/// One stage of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StageReport {
    /// Which.
    pub stage: Stage,
    /// Whether it went well.
    pub ok: bool,
    /// How long it took.
    pub ms: u64,
    /// Why it failed.
    pub reason: Option<String>,
}

/// Raw JSON as a value that serialises as it came.
pub(crate) fn raw_value(raw: &[u8]) -> Option<Arc<RawValue>> {
    let text = std::str::from_utf8(raw).ok()?.to_owned();
    RawValue::from_string(text).ok().map(Arc::from)
}

/// Whole milliseconds.
pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
