//! `GET /api/admin/upstreams/{id}/checks`: how the last attempts and probes went.

use axum::Json;
use axum::extract::State;
use proxy::control::Check;
use serde::Serialize;
use sql::model::{Timestamp, UpstreamId};
use utoipa::ToSchema;

use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// How the last attempts and probes went.
#[derive(Serialize, ToSchema)]
pub(crate) struct Checks {
    /// Oldest first.
    items: Vec<CheckRow>,
}

/// One attempt or probe.
#[derive(Serialize, ToSchema)]
pub(crate) struct CheckRow {
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Whether it succeeded.
    ok: bool,
    /// How long it took.
    ms: u64,
    /// Why it failed.
    reason: Option<String>,
}

/// Read the health history of an upstream
#[utoipa::path(get, path = "/api/admin/upstreams/{id}/checks", tag = "upstreams",
    params(("id" = uuid::Uuid, Path)), responses((status = 200, body = Checks)))]
pub(crate) async fn checks(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<UpstreamId>,
) -> Result<Json<Checks>, ApiError> {
    super::exists(&app, id).await?;
    Ok(Json(Checks { items: app.control.checks(id).into_iter().map(CheckRow::from).collect() }))
}

impl From<Check> for CheckRow {
    fn from(check: Check) -> Self {
        Self { at: check.at, ok: check.ok, ms: check.ms, reason: check.reason }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Scene;

    #[tokio::test]
    async fn shows_the_history() {
        let scene = Scene::logged_in().await;
        let path = format!("/api/admin/upstreams/{}/checks", scene.upstream("a").await);
        let answer = scene.get(&path).await;
        assert_eq!(answer.json["items"][0]["ok"], true);
        assert_eq!(answer.json["items"][0]["ms"], 7);
    }
}
