//! A data plane that answers what it was told to.

use std::sync::Mutex;

use async_trait::async_trait;
use proxy::access::quota::Used;
use proxy::cache::CacheHealth;
use proxy::control::{
    Check, ConnectionState, ControlPlane, Health, OAuthError, OAuthReturn, OAuthStart, OAuthStarted,
    PlayError, PlayedCall, Stage, SyncError, SyncReport, TestReport, ToolCall, UpstreamStatus,
};
use proxy::feed::Feed;
use proxy::relay::RelayReach;
use sql::model::{
    ApiKeyId, ConnParams, FieldError, Finding, Kind, OAuthAuthorization, OAuthClient, OAuthGrant, Secret,
    Timestamp, Upstream, UpstreamId,
};

/// The authorization server of the scripted data plane.
pub(crate) const ISSUER: &str = "https://issuer.example";

/// A data plane that answers what it was told to.
#[derive(Default)]
pub(crate) struct ScriptedPlane(Mutex<Script>);

#[derive(Default)]
struct Script {
    statuses: Vec<UpstreamStatus>,
    forbidden: Vec<FieldError>,
    sync: Option<Result<SyncReport, SyncError>>,
    tested: Vec<Upstream>,
    reconnected: Vec<UpstreamId>,
    oauth_asked: Vec<OAuthStart>,
    oauth_error: Option<OAuthError>,
    revoked: Vec<UpstreamId>,
    broken: bool,
    redis: Option<CacheHealth>,
    used: Option<Used>,
    feed: Feed,
}

impl ScriptedPlane {
    pub(crate) fn set_status(&self, status: UpstreamStatus) {
        self.0.lock().unwrap().statuses.push(status);
    }

    pub(crate) fn set_used(&self, used: Used) {
        self.0.lock().unwrap().used = Some(used);
    }

    pub(crate) fn set_redis(&self, health: CacheHealth) {
        self.0.lock().unwrap().redis = Some(health);
    }

    pub(crate) fn forbid(&self, pointer: &str, message: &str) {
        self.0.lock().unwrap().forbidden.push(FieldError::new(pointer, message));
    }

    pub(crate) fn next_sync(&self, outcome: Result<SyncReport, SyncError>) {
        self.0.lock().unwrap().sync = Some(outcome);
    }

    /// What authorisations were asked to begin with.
    pub(crate) fn oauth_asked(&self) -> Vec<OAuthStart> {
        self.0.lock().unwrap().oauth_asked.clone()
    }

    /// Makes the next authorisation fail to begin.
    pub(crate) fn refuse_oauth(&self, error: OAuthError) {
        self.0.lock().unwrap().oauth_error = Some(error);
    }

    /// Whose grants were to be taken back.
    pub(crate) fn revoked(&self) -> Vec<UpstreamId> {
        self.0.lock().unwrap().revoked.clone()
    }

    /// Makes the next question about its health a panic.
    pub(crate) fn break_down(&self) {
        self.0.lock().unwrap().broken = true;
    }

    pub(crate) fn tested(&self) -> Vec<Upstream> {
        self.0.lock().unwrap().tested.clone()
    }

    pub(crate) fn reconnected(&self) -> Vec<UpstreamId> {
        self.0.lock().unwrap().reconnected.clone()
    }
}

#[async_trait]
impl ControlPlane for ScriptedPlane {
    fn status(&self, id: UpstreamId) -> Option<UpstreamStatus> {
        self.0.lock().unwrap().statuses.iter().find(|status| status.id == id).cloned()
    }

    fn statuses(&self) -> Vec<UpstreamStatus> {
        self.0.lock().unwrap().statuses.clone()
    }

    async fn test(&self, upstream: Upstream) -> TestReport {
        self.0.lock().unwrap().tested.push(upstream);
        let stage = Stage { stage: "resolve", ok: false, ms: 3, reason: Some("address not allowed".into()) };
        TestReport { ok: false, stages: vec![stage], tools: None, server_info: None, protocol_version: None }
    }

    async fn sync(&self, _: UpstreamId) -> Result<SyncReport, SyncError> {
        self.0.lock().unwrap().sync.take().unwrap_or(Err(SyncError::Unknown))
    }

    fn reconnect(&self, id: UpstreamId) {
        self.0.lock().unwrap().reconnected.push(id);
    }

    fn stderr(&self, _: UpstreamId) -> Vec<String> {
        vec!["a line".into()]
    }

    fn checks(&self, _: UpstreamId) -> Vec<Check> {
        vec![Check { at: Timestamp::from_millis(0), ok: true, ms: 7, reason: None }]
    }

    fn findings(&self, _: UpstreamId) -> Vec<Finding> {
        vec![Finding {
            kind: Kind::Tool,
            upstream_name: "torn".into(),
            code: "DAMAGED".into(),
            message: "can't be read".into(),
        }]
    }

    fn check_spec(&self, _: &Upstream) -> Vec<FieldError> {
        self.0.lock().unwrap().forbidden.clone()
    }

    fn check_xiaozhi_url(&self, _: &str) -> Result<(), String> {
        let script = self.0.lock().unwrap();
        script.forbidden.first().map_or(Ok(()), |error| Err(error.message.clone()))
    }

    async fn settle(&self) {}

    async fn oauth_start(&self, ask: OAuthStart) -> Result<OAuthStarted, OAuthError> {
        let mut script = self.0.lock().unwrap();
        let asked = ask.clone();
        script.oauth_asked.push(ask);
        if let Some(error) = script.oauth_error.take() {
            return Err(error);
        }
        Ok(OAuthStarted {
            url: "https://issuer.example/authorize?state=state-1".into(),
            state: Secret::from("state-1"),
            issuer: ISSUER.into(),
            origin: self.origin_of(&asked.upstream).unwrap(),
            resource: "https://a.example/mcp".into(),
            client: asked.client.unwrap_or(OAuthClient {
                client_id: "CANARY-client".into(),
                client_secret: Some(Secret::from("CANARY-secret")),
                redirect_uri: asked.redirect_uri,
            }),
            metadata: "{}".into(),
            exchange: Secret::from("CANARY-verifier"),
        })
    }

    async fn oauth_finish(
        &self,
        begun: &OAuthAuthorization,
        back: &OAuthReturn,
    ) -> Result<OAuthGrant, OAuthError> {
        assert_eq!(back.code.expose(), "code-1");
        if back.issuer.as_deref().is_some_and(|issuer| issuer != begun.issuer) {
            return Err(OAuthError::ForeignIssuer);
        }
        let now = Timestamp::from_millis(1_750_000_000_000);
        Ok(OAuthGrant {
            upstream_id: begun.upstream_id,
            issuer: begun.issuer.clone(),
            origin: begun.origin.clone(),
            resource: begun.resource.clone(),
            scopes: vec!["read".into()],
            client: begun.client.clone(),
            metadata: begun.metadata.clone(),
            access_token: Secret::from("CANARY-access"),
            refresh_token: Some(Secret::from("CANARY-refresh")),
            received_at: now,
            expires_at: None,
            authorized_at: now,
            version: 0,
        })
    }

    async fn oauth_revoke(&self, grant: &OAuthGrant) -> Result<(), OAuthError> {
        self.0.lock().unwrap().revoked.push(grant.upstream_id);
        Err(OAuthError::failed("it is down"))
    }

    fn origin_of(&self, upstream: &Upstream) -> Option<String> {
        let ConnParams::Http { url, .. } = &upstream.conn_params else { return None };
        url::Url::parse(url).ok().map(|url| url.origin().ascii_serialization())
    }

    fn used(&self, _id: ApiKeyId) -> Option<Used> {
        self.0.lock().unwrap().used
    }

    async fn call_tool(&self, call: ToolCall) -> Result<PlayedCall, PlayError> {
        let result = serde_json::json!({"called": call.name, "with": call.arguments});
        Ok(PlayedCall { result: Some(result), ..PlayedCall::default() })
    }

    fn feed(&self) -> Feed {
        self.0.lock().unwrap().feed.clone()
    }

    fn health(&self) -> Health {
        let broken = std::mem::take(&mut self.0.lock().unwrap().broken);
        assert!(!broken, "CANARY: the data plane broke down");
        Health {
            ready: true,
            revision: 7,
            published_at: Some(Timestamp::from_millis(0)),
            problem: None,
            unreadable: Vec::new(),
            call_records: proxy::call_log::CallLogCounts::default(),
            jobs: vec![proxy::jobs::JobStatus {
                job: proxy::jobs::Job::Rollups,
                last_run_at: Some(Timestamp::from_millis(0)),
                last_outcome: Some(proxy::jobs::JobOutcome::Done),
                last_ms: 12,
                done: 3,
                failed: 0,
            }],
            tools: 1,
            calls_in_flight: 0,
            streams: 0,
            parked_calls: 0,
            degraded: std::collections::BTreeMap::new(),
            redis: self.0.lock().unwrap().redis.clone(),
            relay: RelayReach::Here,
        }
    }
}

/// An upstream that could not be reached.
pub(crate) fn status(id: UpstreamId) -> UpstreamStatus {
    UpstreamStatus {
        id,
        state: ConnectionState::Unavailable,
        since: Timestamp::from_millis(0),
        last_error: Some("connection refused".into()),
        oauth: None,
        era: None,
        protocol_version: None,
        server_info: None,
        capabilities: None,
        calls_in_flight: 0,
        unattributed: 0,
        degraded: std::collections::BTreeMap::new(),
        dropped_lines: 0,
    }
}
