//! `GET /api/admin/upstreams/{id}`

use axum::extract::State;
use axum::response::Response;
use sql::model::UpstreamId;

use super::wire::UpstreamView;
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// Read an upstream
#[utoipa::path(get, path = "/api/admin/upstreams/{id}", tag = "upstreams",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = UpstreamView, headers(("ETag" = String)))))]
pub(crate) async fn get(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<UpstreamId>,
) -> Result<Response, ApiError> {
    let mut tx = app.store.read().await?;
    let upstream = super::find(&mut tx, id).await?;
    Ok(super::answer(&app, &upstream))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{Scene, status};

    #[tokio::test]
    async fn shows_how_it_fares() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        scene.plane.set_status(status(id.parse().unwrap()));
        let answer = scene.get(&format!("/api/admin/upstreams/{id}")).await;
        assert_eq!(answer.json["state"], "unavailable");
        assert_eq!(answer.json["lastError"], "connection refused");
        assert_eq!(answer.headers["cache-control"], "no-store");
        scene.post(&format!("/api/admin/upstreams/{id}/disable"), json!({})).await;
        let answer = scene.get(&format!("/api/admin/upstreams/{id}")).await;
        assert_eq!(answer.json["state"], "disabled", "though the data plane hasn't followed yet");
    }
}
