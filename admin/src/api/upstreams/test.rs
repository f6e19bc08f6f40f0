//! `POST /api/admin/upstreams/test`: tries a configuration that need not be stored.
//!
//! The same checks as a save, the same audit, and nothing is kept.

use axum::Json;
use axum::extract::State;
use proxy::control::TestReport;
use serde::Serialize;
use serde_json::{Value, json};
use sql::model::{Upstream, UpstreamId};
use utoipa::ToSchema;

use super::input::{self, UpstreamBody};
use super::wire;
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Admin};

/// A configuration, and the stored upstream that its placeholders stand for.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct Trial {
    /// The upstream that is being edited, if there is one: `{"secret": true}` and an absent
    /// credential stand for what it has stored.
    id: Option<uuid::Uuid>,
    /// As for creating it.
    #[serde(flatten)]
    upstream: UpstreamBody,
}

/// How far it got.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TrialReport {
    /// Whether every stage succeeded.
    ok: bool,
    /// The stages that were tried, in order.
    stages: Vec<TrialStage>,
    /// How many tools it lists, if it got that far.
    tools: Option<u64>,
    /// What it says of itself, if it got that far.
    #[schema(value_type = Option<Object>)]
    server_info: Option<Value>,
    /// The version both sides agreed on, if they got that far.
    protocol_version: Option<String>,
}

/// One stage.
#[derive(Serialize, ToSchema)]
pub(crate) struct TrialStage {
    /// `resolve`, `connect`, `tls`, `start`, `initialize` or `list`.
    stage: &'static str,
    /// Whether it succeeded.
    ok: bool,
    /// How long it took.
    ms: u64,
    /// Why it failed.
    reason: Option<String>,
}

/// Try a configuration
#[utoipa::path(post, path = "/api/admin/upstreams/test", tag = "upstreams", request_body = Trial,
    responses((status = 200, body = TrialReport)))]
pub(crate) async fn test(
    admin: Admin,
    State(app): State<App>,
    body: extract::Json,
) -> Result<Json<TrialReport>, ApiError> {
    let upstream = parse(&app, body.value).await?;
    let report = app.control.test(upstream.clone()).await;
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let mut diff = audit::diff(None, Some(&wire::audited(&upstream, &app.fingerprint)));
    diff["ok"] = json!(report.ok);
    let act = Act::on("upstream.test", upstream.id, upstream.name, diff);
    audit::record(&mut tx, now, &admin, act).await?;
    tx.commit().await?;
    Ok(Json(report.into()))
}

async fn parse(app: &App, mut value: Value) -> Result<Upstream, ApiError> {
    let id = value.as_object_mut().and_then(|members| members.remove("id")).filter(|id| !id.is_null());
    let stored = match id {
        None => None,
        Some(id) => Some(stored(app, &id).await?),
    };
    if let (Some(stored), Some(members)) = (&stored, value.as_object_mut())
        && stored.credential.is_some()
    {
        // A form that edits an upstream doesn't have its credential.
        members.entry("credential").or_insert_with(wire::placeholder);
    }
    let input = input::parse(app, value, stored.as_ref())?;
    let now = app.store.clock().now();
    let id = stored.map_or_else(|| UpstreamId::at(now), |stored| stored.id);
    Ok(Upstream::create(input.new, id, now))
}

async fn stored(app: &App, id: &Value) -> Result<Upstream, ApiError> {
    let unknown = || ApiError::field("/id", "must be the id of an upstream");
    let id: UpstreamId = id.as_str().and_then(|text| text.parse().ok()).ok_or_else(unknown)?;
    let mut tx = app.store.read().await?;
    sql::upstreams::get(&mut tx, id).await?.ok_or_else(unknown)
}

impl From<TestReport> for TrialReport {
    fn from(report: TestReport) -> Self {
        let stages = report
            .stages
            .into_iter()
            .map(|stage| TrialStage { stage: stage.stage, ok: stage.ok, ms: stage.ms, reason: stage.reason })
            .collect();
        Self {
            ok: report.ok,
            stages,
            tools: report.tools,
            server_info: report.server_info,
            protocol_version: report.protocol_version,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    const PATH: &str = "/api/admin/upstreams/test";

    #[tokio::test]
    async fn nothing_is_kept_but_the_audit_event() {
        let scene = Scene::logged_in().await;
        let body = json!({"name": "a", "transport": "stdio", "connParams": {"command": "npx"}, "credential": "CANARY"});
        let answer = scene.post(PATH, body).await;
        assert_eq!((answer.status, &answer.json["ok"]), (200, &json!(false)));
        assert_eq!(answer.json["stages"][0]["reason"], "address not allowed");
        assert_eq!(scene.get("/api/admin/upstreams").await.json["total"], 0);
        let events = scene.audited("upstream.test").await;
        assert_eq!(events[0].diff["ok"], false);
        assert!(!format!("{events:?}").contains("CANARY"));
        assert_eq!(scene.plane.tested()[0].credential.as_ref().unwrap().expose(), "CANARY");
    }

    #[tokio::test]
    async fn the_checks_are_those_of_a_save() {
        let scene = Scene::logged_in().await;
        scene.plane.forbid("/connParams/command", "this command is not allowed");
        let body = json!({"name": "a", "transport": "stdio", "connParams": {"command": "sh"}, "x": 1});
        assert_eq!(scene.post(PATH, body).await.pointers(), ["/x", "/connParams/command"]);
        assert!(scene.plane.tested().is_empty());
    }

    #[tokio::test]
    async fn an_edited_upstream_is_tried_with_its_stored_secrets() {
        let scene = Scene::logged_in().await;
        let params = json!({"url": "https://a.example/", "headers": {"X-T": {"secret": "one"}}});
        let body =
            json!({"name": "a", "transport": "streamable-http", "connParams": params, "credential": "two"});
        let mut edited = scene.post("/api/admin/upstreams", body.clone()).await.json;
        let trial = json!({
            "id": edited["id"].take(),
            "name": "a",
            "transport": "streamable-http",
            "connParams": edited["connParams"],
        });
        assert_eq!(scene.post(PATH, trial).await.status, 200);
        let tried = scene.plane.tested().remove(0);
        assert_eq!(tried.credential.unwrap().expose(), "two");
        let sql::model::ConnParams::Http { headers, .. } = tried.conn_params else { panic!("not http") };
        assert_eq!(headers["X-T"].expose(), "one");
        let mut unknown = body;
        unknown["id"] = json!(uuid::Uuid::nil());
        assert_eq!(scene.post(PATH, unknown).await.pointers(), ["/id"]);
    }
}
