//! `POST /api/admin/upstreams/{id}/sync`: fetches its lists now and answers what changed.

use std::future::Future;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use proxy::control::{SyncError, SyncReport};
use serde::Serialize;
use serde_json::json;
use sql::model::UpstreamId;
use utoipa::ToSchema;

use super::findings::FindingRow;
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// The longest that an upstream is waited for: its own deadlines may be longer than anybody waits.
const PATIENCE: Duration = Duration::from_secs(100);

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
    let report = in_time(app.control.sync(id)).await?;
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

/// Waits for an upstream for less than its request may take, so that the answer says that it was the upstream; and
/// where there are several, what became of the others.
async fn in_time<T>(sync: impl Future<Output = Result<T, SyncError>>) -> Result<T, ApiError> {
    match tokio::time::timeout(PATIENCE, sync).await {
        Ok(report) => Ok(report?),
        Err(_) => Err(ApiError::UpstreamTimeout),
    }
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

    use crate::error::ApiError;
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

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_never_answers_is_given_up_before_the_request_is() {
        let started = tokio::time::Instant::now();
        let never = std::future::pending::<Result<(), SyncError>>();
        assert!(matches!(super::in_time(never).await, Err(ApiError::UpstreamTimeout)));
        assert!(started.elapsed() < crate::frame::UPSTREAM_REQUEST_TIMEOUT);
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
