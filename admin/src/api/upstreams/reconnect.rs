//! `POST /api/admin/upstreams/{id}/reconnect`: hangs up and dials again, whatever the backoff says.

use axum::extract::State;
use http::StatusCode;
use serde_json::json;
use sql::model::UpstreamId;

use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// Reconnect an upstream
///
/// Answers at once; its state shows how it goes.
#[utoipa::path(post, path = "/api/admin/upstreams/{id}/reconnect", tag = "upstreams",
    params(("id" = uuid::Uuid, Path)), responses((status = 202)))]
pub(crate) async fn reconnect(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<UpstreamId>,
) -> Result<StatusCode, ApiError> {
    act(&app, &admin, id).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Has it done.
pub(super) async fn act(app: &App, admin: &Admin, id: UpstreamId) -> Result<(), ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let upstream = super::find(&mut tx, id).await?;
    if !upstream.enabled {
        return Err(ApiError::conflict("the upstream is disabled"));
    }
    let act = Act::on("upstream.reconnect", id, upstream.name.as_str(), json!({}));
    audit::record(&mut tx, now, admin, act).await?;
    tx.commit().await?;
    app.control.reconnect(id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn the_data_plane_is_told() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        let path = format!("/api/admin/upstreams/{id}/reconnect");
        assert_eq!(scene.post(&path, json!({})).await.status, 202);
        assert_eq!(scene.plane.reconnected(), [id.parse().unwrap()]);
        scene.post(&format!("/api/admin/upstreams/{id}/disable"), json!({})).await;
        assert_eq!(scene.post(&path, json!({})).await.status, 409);
        assert_eq!(scene.audited("upstream.reconnect").await.len(), 1);
    }
}
