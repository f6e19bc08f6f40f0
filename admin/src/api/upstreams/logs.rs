//! `GET /api/admin/upstreams/{id}/logs`: what its process wrote to stderr.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sql::model::UpstreamId;
use utoipa::ToSchema;

use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// What its process wrote to stderr.
#[derive(Serialize, ToSchema)]
pub(crate) struct Logs {
    /// The last lines, oldest first; none for upstreams that are no process of ours.
    lines: Vec<String>,
}

/// Read the last lines of an upstream's stderr
#[utoipa::path(get, path = "/api/admin/upstreams/{id}/logs", tag = "upstreams",
    params(("id" = uuid::Uuid, Path)), responses((status = 200, body = Logs)))]
pub(crate) async fn logs(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<UpstreamId>,
) -> Result<Json<Logs>, ApiError> {
    super::exists(&app, id).await?;
    Ok(Json(Logs { lines: app.control.stderr(id) }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn shows_the_last_lines() {
        let scene = Scene::logged_in().await;
        let path = format!("/api/admin/upstreams/{}/logs", scene.upstream("a").await);
        assert_eq!(scene.get(&path).await.json, json!({"lines": ["a line"]}));
    }
}
