//! What the control plane may ask of the data plane.
//!
//! One handle, [`Control`], over one trait, [`ControlPlane`]: the data plane implements it, and the
//! tests of the control plane script it. What passes here is data for a person: no credential, and
//! no address beyond what the admin wrote himself.

mod oauth;
mod play;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use sql::model::{
    ApiKeyId, Era, FieldError, Finding, OAuthAuthorization, OAuthGrant, Timestamp, Upstream, UpstreamId,
};

pub use self::oauth::{OAuthError, OAuthReturn, OAuthStart, OAuthStarted, OAuthState, OAuthStatus};
pub use self::play::{PlayError, PlayedCall, ToolCall};

use crate::access::quota::Used;
use crate::bridge::degraded::Reason;
use crate::cache::CacheHealth;
use crate::call_log::CallLogCounts;
use crate::feed::Feed;
use crate::jobs::JobStatus;
use crate::relay::RelayReach;

/// The handle. Cheap to clone.
#[derive(Clone)]
pub struct Control(Arc<dyn ControlPlane>);

impl Control {
    /// A handle to `plane`.
    pub fn new(plane: Arc<dyn ControlPlane>) -> Self {
        Self(plane)
    }
}

impl Deref for Control {
    type Target = dyn ControlPlane;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// The questions.
#[async_trait]
pub trait ControlPlane: Send + Sync {
    /// How an upstream fares; `None` while the data plane hasn't heard of it.
    fn status(&self, id: UpstreamId) -> Option<UpstreamStatus>;

    /// How all upstreams fare, in no particular order.
    fn statuses(&self) -> Vec<UpstreamStatus>;

    /// Tries a configuration that need not be stored: connects, lists, and hangs up.
    async fn test(&self, upstream: Upstream) -> TestReport;

    /// Fetches the lists of an upstream now, or joins a fetch that runs already.
    async fn sync(&self, id: UpstreamId) -> Result<SyncReport, SyncError>;

    /// Drops the connection, if there is one, and connects anew without waiting for a backoff.
    fn reconnect(&self, id: UpstreamId);

    /// The last lines that a child process wrote to stderr, oldest first; empty for other transports.
    fn stderr(&self, id: UpstreamId) -> Vec<String>;

    /// The last attempts and probes, oldest first.
    fn checks(&self, id: UpstreamId) -> Vec<Check>;

    /// What the store has of an upstream that can't be read, and is left out: definitions, and rules of its own
    /// or of all.
    fn findings(&self, id: UpstreamId) -> Vec<Finding>;

    /// What forbids this configuration: the stdio policy, the egress policy. Looks nothing up.
    fn check_spec(&self, upstream: &Upstream) -> Vec<FieldError>;

    /// What forbids the address of a XiaoZhi endpoint, in words for an admin. Looks nothing up.
    fn check_xiaozhi_url(&self, url: &str) -> Result<(), String>;

    /// Resolves when what this process wrote to the store until now is in force here, or soon after if that takes
    /// longer than it should: then a change is stored and merely late.
    async fn settle(&self);

    /// Finds out where an upstream can be authorised, and makes itself known there.
    async fn oauth_start(&self, ask: OAuthStart) -> Result<OAuthStarted, OAuthError>;

    /// Exchanges what came back with the browser for a grant, which is the caller's to store.
    async fn oauth_finish(
        &self,
        begun: &OAuthAuthorization,
        back: &OAuthReturn,
    ) -> Result<OAuthGrant, OAuthError>;

    /// Asks the authorization server to take a grant back.
    async fn oauth_revoke(&self, grant: &OAuthGrant) -> Result<(), OAuthError>;

    /// Where the requests to an upstream go, which is where its token goes; `None` for one without a URL.
    fn origin_of(&self, upstream: &Upstream) -> Option<String>;

    /// What a key used of its quotas; `None` for one that the data plane doesn't know (yet).
    fn used(&self, id: ApiKeyId) -> Option<Used>;

    /// Calls a tool as a key, as one of its clients would.
    async fn call_tool(&self, call: ToolCall) -> Result<PlayedCall, PlayError>;

    /// What happens, as it happens.
    fn feed(&self) -> Feed;

    /// How the data plane as a whole fares.
    fn health(&self) -> Health;
}

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionState {
    /// Being made.
    Connecting,
    /// Calls pass.
    Available,
    /// Broken; the next attempt waits for its backoff.
    Unavailable,
    /// Failed often; probed rarely until something wakes it.
    Suspended,
    /// Switched off by an admin.
    Disabled,
}

impl ConnectionState {
    /// Every state's word.
    pub const WORDS: &'static [&'static str] =
        &["connecting", "available", "unavailable", "suspended", "disabled"];

    /// Its word, as it is serialised.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Available => "available",
            Self::Unavailable => "unavailable",
            Self::Suspended => "suspended",
            Self::Disabled => "disabled",
        }
    }
}

/// How one upstream fares.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamStatus {
    /// Whose status it is.
    pub id: UpstreamId,
    /// Where its connection stands.
    pub state: ConnectionState,
    /// When that state began.
    pub since: Timestamp,
    /// Why the last attempt failed, in words for a person.
    pub last_error: Option<String>,
    /// How its authorisation stands; `None` if it neither has one nor asks for one.
    pub oauth: Option<OAuthStatus>,
    /// The era it is spoken to in, once known.
    pub era: Option<Era>,
    /// The version both sides agreed on.
    pub protocol_version: Option<String>,
    /// What the upstream says of itself.
    pub server_info: Option<serde_json::Value>,
    /// What it can do.
    pub capabilities: Option<serde_json::Value>,
    /// Calls that wait for its answer.
    pub calls_in_flight: u64,
    /// Requests and log messages that could not be attributed to one client.
    pub unattributed: u64,
    /// Lines and messages that were not JSON-RPC.
    pub dropped_lines: u64,
    /// What its clients could not be given, by reason.
    pub degraded: BTreeMap<Reason, u64>,
}

/// One attempt or probe.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// When it ended.
    pub at: Timestamp,
    /// Whether it succeeded.
    pub ok: bool,
    /// How long it took.
    pub ms: u64,
    /// Why it failed, in words for a person.
    pub reason: Option<String>,
}

/// What came of trying a configuration.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TestReport {
    /// Whether every stage succeeded.
    pub ok: bool,
    /// The stages that were tried, in order; the last one failed unless `ok`.
    pub stages: Vec<Stage>,
    /// How many tools it lists, if it got that far.
    pub tools: Option<u64>,
    /// What the upstream says of itself, if it got that far.
    pub server_info: Option<serde_json::Value>,
    /// The version both sides agreed on, if they got that far.
    pub protocol_version: Option<String>,
}

/// One stage of a test.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// `resolve`, `connect`, `tls`, `initialize`, `list` (stdio: `start`, `initialize`, `list`).
    pub stage: &'static str,
    /// Whether it succeeded.
    pub ok: bool,
    /// How long it took.
    pub ms: u64,
    /// Why it failed, in words for a person.
    pub reason: Option<String>,
}

/// What a sync changed, by upstream name.
#[derive(Debug, Clone, Default)]
pub struct SyncReport {
    /// Listed now and not before.
    pub added: Vec<String>,
    /// Defined differently than before.
    pub changed: Vec<String>,
    /// No longer listed.
    pub removed: Vec<String>,
    /// What was left out or altered, and why.
    pub findings: Vec<Finding>,
}

/// Why there was no sync.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The data plane doesn't know it (yet).
    #[error("no such upstream")]
    Unknown,
    /// It is switched off.
    #[error("the upstream is disabled")]
    Disabled,
    /// It could not be reached, or what it sent is no list.
    #[error("the upstream is unavailable: {reason}")]
    Unavailable {
        /// In words for a person.
        reason: String,
    },
    /// It did not answer within the deadline of a sync.
    #[error("the upstream did not answer in time")]
    TimedOut,
    /// The lists came, but could not be kept.
    #[error("the lists could not be stored")]
    Store(#[source] Arc<sql::StoreError>),
}

/// A stored row that can't be read: it was altered, or sealed elsewhere. Never what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnreadableRow {
    /// Which table.
    pub table: &'static str,
    /// Which row.
    pub id: String,
    /// The first of its columns that can't be read.
    pub column: String,
}

/// How the data plane fares.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Whether a catalog is published.
    pub ready: bool,
    /// The revision of configuration that the catalog shows.
    pub revision: i64,
    /// When the catalog was published.
    pub published_at: Option<Timestamp>,
    /// Why the newest configuration isn't served, if it isn't.
    pub problem: Option<String>,
    /// Stored rows that can't be read, and are passed over.
    pub unreadable: Vec<UnreadableRow>,
    /// What became of call records.
    pub call_records: CallLogCounts,
    /// How each job fares.
    pub jobs: Vec<JobStatus>,
    /// Tools in the catalog.
    pub tools: u64,
    /// Calls that wait for an upstream.
    pub calls_in_flight: u64,
    /// Streams that clients hold open.
    pub streams: u64,
    /// Calls that wait for a modern client to come back.
    pub parked_calls: u64,
    /// What clients could not be given, of all upstreams, by reason.
    pub degraded: BTreeMap<Reason, u64>,
    /// How Redis fares, where there is one.
    pub redis: Option<CacheHealth>,
    /// How far streams and waiting calls are reached at other replicas.
    pub relay: RelayReach,
}
