//! `DELETE /api/admin/upstreams/{id}`: the upstream, its lists and its names are forgotten.

use axum::extract::State;
use http::StatusCode;
use sql::model::UpstreamId;
use sql::upstreams;

use super::wire;
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// Delete an upstream
#[utoipa::path(delete, path = "/api/admin/upstreams/{id}", tag = "upstreams",
    params(("id" = uuid::Uuid, Path)), responses((status = 204)))]
pub(crate) async fn delete(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<UpstreamId>,
) -> Result<StatusCode, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let upstream = super::find(&mut tx, id).await?;
    upstreams::delete(&mut tx, id).await?;
    let diff = audit::diff(Some(&wire::audited(&upstream, &app.fingerprint)), None);
    let act = Act::on("upstream.delete", id, upstream.name.as_str(), diff);
    audit::record(&mut tx, now, &admin, act).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use crate::testing::Scene;

    #[tokio::test]
    async fn what_is_deleted_is_gone() {
        let scene = Scene::logged_in().await;
        let path = format!("/api/admin/upstreams/{}", scene.upstream("a").await);
        assert_eq!(scene.delete(&path).await.status, 204);
        assert_eq!(scene.get(&path).await.status, 404);
        assert_eq!(scene.delete(&path).await.status, 404);
        let events = scene.audited("upstream.delete").await;
        assert_eq!(events[0].diff["/name"], serde_json::json!({"before": "a"}));
    }
}
