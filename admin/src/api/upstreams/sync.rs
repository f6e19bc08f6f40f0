//! `POST /api/admin/upstreams/{id}/sync`: fetches its lists now and answers what changed.

use axum::Json;
use axum::extract::State;
use proxy::control::SyncReport;
use serde::Serialize;
use serde_json::json;
use sql::model::UpstreamId;
use utoipa::ToSchema;

use super::findings::FindingRow;
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// What a sync changed, by the names the upstream uses.
#[derive(Serialize, ToSchema)]
pub(crate) struct SyncAnswer {
    /// Listed now and not before.
    added: Vec<String>,
    /// Defined differently than before.
    changed: Vec<String>,
    /// No longer listed.
    removed: Vec<String>,
    /// What was left out or altered, and why.
    findings: Vec<FindingRow>,
}

/// Sync an upstream
#[utoipa::path(post, path = "/api/admin/upstreams/{id}/sync", tag = "upstreams",
    params(("id" = uuid::Uuid, Path)), responses((status = 200, body = SyncAnswer)))]
pub(crate) async fn sync(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<UpstreamId>,
) -> Result<Json<SyncAnswer>, ApiError> {
    act(&app, &admin, id).await.map(Json)
}

/// Does it, and says what changed.
pub(super) async fn act(app: &App, admin: &Admin, id: UpstreamId) -> Result<SyncAnswer, ApiError> {
    let mut tx = app.store.read().await?;
    let upstream = super::find(&mut tx, id).await?;
    drop(tx);
    if !upstream.enabled {
        return Err(ApiError::conflict("the upstream is disabled"));
    }
    // Not in a transaction: it waits for the upstream, and what it changes commits by itself.
    let report = app.control.sync(id).await?;
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let act = Act::on("upstream.sync", id, upstream.name, counts(&report));
    audit::record(&mut tx, now, admin, act).await?;
    tx.commit().await?;
    Ok(SyncAnswer {
        added: report.added,
        changed: report.changed,
        removed: report.removed,
        findings: report.findings.into_iter().map(FindingRow::from).collect(),
    })
}

fn counts(report: &SyncReport) -> serde_json::Value {
    json!({
        "added": report.added.len(),
        "changed": report.changed.len(),
        "removed": report.removed.len(),
        "findings": report.findings.len(),
    })
}

#[cfg(test)]
mod tests {
    use proxy::control::{SyncError, SyncReport};
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn answers_what_changed() {
        let scene = Scene::logged_in().await;
        let path = format!("/api/admin/upstreams/{}/sync", scene.upstream("a").await);
        scene.plane.next_sync(Ok(SyncReport { added: vec!["x".into()], ..SyncReport::default() }));
        let answer = scene.post(&path, json!({})).await;
        assert_eq!(answer.json, json!({"added": ["x"], "changed": [], "removed": [], "findings": []}));
        assert_eq!(scene.audited("upstream.sync").await[0].diff["added"], 1);
    }

    #[tokio::test]
    async fn each_failure_has_its_code() {
        let scene = Scene::logged_in().await;
        let path = format!("/api/admin/upstreams/{}/sync", scene.upstream("a").await);
        for (error, status, code) in [
            (SyncError::Unknown, 404, "NOT_FOUND"),
            (SyncError::Disabled, 409, "CONFLICT"),
            (SyncError::Unavailable { reason: "connection refused".into() }, 502, "UPSTREAM_UNAVAILABLE"),
            (SyncError::TimedOut, 504, "UPSTREAM_TIMEOUT"),
        ] {
            scene.plane.next_sync(Err(error));
            let answer = scene.post(&path, json!({})).await;
            assert_eq!((answer.status, &answer.json["code"]), (status, &json!(code)));
        }
        assert!(scene.audited("upstream.sync").await.is_empty());
    }
}
