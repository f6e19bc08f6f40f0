//! The data plane's answers to the control plane.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;
use sql::model::{
    ApiKeyId, ConnParams, FieldError, Finding, Kind, OAuthAuthorization, OAuthGrant, Upstream, UpstreamId,
};
use tokio::time::timeout;

use super::Parts;
use crate::access::quota::Used;
use crate::control::{
    Check, ConnectionState, ControlPlane, Health, OAuthError, OAuthReturn, OAuthStart, OAuthStarted,
    OAuthState, OAuthStatus, PlayError, PlayedCall, Stage, SyncError, SyncReport, TestReport, ToolCall,
    UnreadableRow, UpstreamStatus,
};
use crate::downstream::xiaozhi;
use crate::feed::Feed;
use crate::sync;
use crate::upstream::call::CallError;
use crate::upstream::egress::Egress;
use crate::upstream::oauth::{self, Denial, flow};
use crate::upstream::stdio::StdioPolicy;
use crate::upstream::{self, link, status};

/// How long an admin's change waits until it is in force. Building a large catalog takes a part of a second.
const SETTLE_MAX: Duration = Duration::from_secs(2);

#[async_trait]
impl ControlPlane for Parts {
    fn status(&self, id: UpstreamId) -> Option<UpstreamStatus> {
        self.upstreams.status(id).map(|status| self.status_of(id, &status))
    }

    fn statuses(&self) -> Vec<UpstreamStatus> {
        self.upstreams.statuses().iter().map(|(id, status)| self.status_of(*id, status)).collect()
    }

    async fn test(&self, upstream: Upstream) -> TestReport {
        report_of(self.upstreams.test(&upstream).await)
    }

    async fn sync(&self, id: UpstreamId) -> Result<SyncReport, SyncError> {
        self.syncs.run(id).await.map_err(sync_error)
    }

    fn reconnect(&self, id: UpstreamId) {
        // One that is gone meanwhile has nothing to reconnect.
        let _ = self.upstreams.reconnect(id);
    }

    fn stderr(&self, id: UpstreamId) -> Vec<String> {
        self.upstreams.stderr(id)
    }

    fn checks(&self, id: UpstreamId) -> Vec<Check> {
        let checks = self.upstreams.checks(id).into_iter();
        checks.map(|check| Check { at: check.at, ok: check.ok, ms: check.ms, reason: check.reason }).collect()
    }

    fn findings(&self, id: UpstreamId) -> Vec<Finding> {
        self.published.current().catalog.findings(id).to_vec()
    }

    fn check_spec(&self, upstream: &Upstream) -> Vec<FieldError> {
        check_spec(upstream, self.upstreams.launcher().policy(), self.upstreams.egress())
    }

    fn check_xiaozhi_url(&self, url: &str) -> Result<(), String> {
        check_xiaozhi_url(self.upstreams.egress(), url)
    }

    async fn settle(&self) {
        let in_force = self.published.reached(self.store.written());
        if timeout(SETTLE_MAX, in_force).await.is_err() {
            tracing::warn!("a change is stored but not in force yet");
        }
    }

    async fn oauth_start(&self, ask: OAuthStart) -> Result<OAuthStarted, OAuthError> {
        let pass = self.upstreams.passes().find(ask.upstream.id);
        flow::start(self.upstreams.pool(), pass, ask).await
    }

    async fn oauth_finish(
        &self,
        begun: &OAuthAuthorization,
        back: &OAuthReturn,
    ) -> Result<OAuthGrant, OAuthError> {
        flow::finish(self.upstreams.pool(), begun, back, self.store.clock().now()).await
    }

    async fn oauth_revoke(&self, grant: &OAuthGrant) -> Result<(), OAuthError> {
        flow::revoke(self.upstreams.pool(), grant).await
    }

    fn origin_of(&self, upstream: &Upstream) -> Option<String> {
        oauth::origin_of(upstream, self.upstreams.egress())
    }

    fn used(&self, id: ApiKeyId) -> Option<Used> {
        self.keys.used(id, self.store.clock().now())
    }

    async fn call_tool(&self, call: ToolCall) -> Result<PlayedCall, PlayError> {
        self.play(call).await
    }

    fn feed(&self) -> Feed {
        self.feed.clone()
    }

    fn health(&self) -> Health {
        let snapshot = self.published.current();
        let statuses = self.upstreams.statuses();
        Health {
            ready: true,
            revision: snapshot.catalog.revision,
            published_at: Some(snapshot.published_at),
            problem: self.published.problem(),
            unreadable: self.published.unreadable_rows().into_iter().map(unreadable).collect(),
            call_records: self.call_log.counts(),
            jobs: self.jobs.statuses(),
            tools: snapshot.catalog.count(Kind::Tool) as u64,
            calls_in_flight: statuses.values().map(|status| status.calls_in_flight as u64).sum(),
            streams: self.streams.total(),
            parked_calls: self.parking.len() as u64,
            degraded: self.upstreams.degraded().totals(),
            redis: self.cache.health(),
            relay: self.relay.reach(),
        }
    }
}

/// What forbids an upstream before anything is stored, started or dialled.
pub fn check_spec(upstream: &Upstream, policy: &StdioPolicy, egress: Egress) -> Vec<FieldError> {
    match &upstream.conn_params {
        ConnParams::Stdio { .. } => policy.check(&upstream.conn_params).err().unwrap_or_default(),
        ConnParams::Http { url, .. } => match egress.check_url_for(upstream.transport, url) {
            Ok(_) => Vec::new(),
            Err(error) => vec![FieldError::new("/connParams/url", error.to_string())],
        },
    }
}

/// What forbids the address of a XiaoZhi endpoint before it is stored or dialled, in words for an admin.
pub fn check_xiaozhi_url(egress: Egress, url: &str) -> Result<(), String> {
    xiaozhi::check_url(egress, url)
}

impl Parts {
    fn status_of(&self, id: UpstreamId, status: &status::Status) -> UpstreamStatus {
        let value = |raw: &Arc<RawValue>| serde_json::from_str(raw.get()).ok();
        UpstreamStatus {
            id,
            state: match status.state {
                upstream::ConnectionState::Connecting => ConnectionState::Connecting,
                upstream::ConnectionState::Available => ConnectionState::Available,
                upstream::ConnectionState::Unavailable => ConnectionState::Unavailable,
                upstream::ConnectionState::Suspended => ConnectionState::Suspended,
                upstream::ConnectionState::Disabled => ConnectionState::Disabled,
            },
            since: status.since,
            last_error: status.last_error.clone(),
            oauth: self.oauth_of(id, status),
            era: status.era,
            protocol_version: status.protocol_version.clone(),
            server_info: status.server_info.as_ref().and_then(value),
            capabilities: status.capabilities.as_ref().and_then(value),
            calls_in_flight: status.calls_in_flight as u64,
            unattributed: status.unattributed,
            dropped_lines: status.dropped_lines,
            degraded: self.upstreams.degraded().of(id),
        }
    }

    /// How its authorisation stands, if it has one or asks for one.
    fn oauth_of(&self, id: UpstreamId, status: &status::Status) -> Option<OAuthStatus> {
        let shown = self.upstreams.passes().find(id).and_then(|pass| pass.shown());
        let (state, missing_scope) = match (&status.denial, &shown) {
            (Some(Denial::Unauthorized), _) => (OAuthState::Required, None),
            (Some(Denial::InsufficientScope(scope)), _) => {
                (OAuthState::InsufficientScope, Some(scope.clone()))
            }
            (None, Some(_)) => (OAuthState::Authorized, None),
            (None, None) => return None,
        };
        Some(OAuthStatus {
            state,
            issuer: shown.as_ref().map(|shown| shown.issuer.clone()),
            expires_at: shown.as_ref().and_then(|shown| shown.expires_at),
            scopes: shown.map(|shown| shown.scopes).unwrap_or_default(),
            missing_scope,
        })
    }
}

fn unreadable(bad: sql::UnreadableRow) -> UnreadableRow {
    UnreadableRow { table: bad.table, id: bad.row, column: bad.column }
}

fn sync_error(error: sync::SyncError) -> SyncError {
    match error {
        sync::SyncError::Unknown => SyncError::Unknown,
        sync::SyncError::Upstream(error) if matches!(*error, CallError::TimedOut { .. }) => {
            SyncError::TimedOut
        }
        sync::SyncError::Store(error) => SyncError::Store(error),
        other => SyncError::Unavailable { reason: other.to_string() },
    }
}

fn report_of(report: status::TestReport) -> TestReport {
    let stages = report.stages.into_iter();
    TestReport {
        ok: report.ok,
        stages: stages
            .map(|stage| Stage {
                stage: stage_word(stage.stage),
                ok: stage.ok,
                ms: stage.ms,
                reason: stage.reason,
            })
            .collect(),
        tools: report.tools.map(|tools| tools as u64),
        server_info: report.server_info.and_then(|raw| serde_json::from_str(raw.get()).ok()),
        protocol_version: report.protocol_version,
    }
}

fn stage_word(stage: link::Stage) -> &'static str {
    match stage {
        link::Stage::Resolve => "resolve",
        link::Stage::Connect => "connect",
        link::Stage::Tls => "tls",
        link::Stage::Initialize => "initialize",
        link::Stage::List => "list",
    }
}
