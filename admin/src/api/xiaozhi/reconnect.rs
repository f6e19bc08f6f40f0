//! `POST /api/admin/xiaozhi/{id}/reconnect`: hangs up and dials again, whatever the backoff says.

use axum::extract::State;
use http::StatusCode;
use serde_json::json;
use sql::model::XiaozhiEndpointId;
use sql::xiaozhi_endpoints;

use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// Reconnect a XiaoZhi endpoint
///
/// Answers at once, whichever replica holds the endpoint; its state shows how it goes.
#[utoipa::path(post, path = "/api/admin/xiaozhi/{id}/reconnect", tag = "xiaozhi",
    params(("id" = uuid::Uuid, Path)), responses((status = 202)))]
pub(crate) async fn reconnect(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<XiaozhiEndpointId>,
) -> Result<StatusCode, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let endpoint = super::find(&mut tx, id).await?;
    if !endpoint.enabled {
        return Err(ApiError::conflict("the XiaoZhi endpoint is disabled"));
    }
    xiaozhi_endpoints::reconnect(&mut tx, id).await?;
    let act = Act::on("xiaozhi.reconnect", id, endpoint.name.as_str(), json!({}));
    audit::record(&mut tx, now, &admin, act).await?;
    tx.commit().await?;
    Ok(StatusCode::ACCEPTED)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn whoever_holds_it_is_told_and_its_version_stays() {
        let scene = Scene::logged_in().await;
        let id = scene.xiaozhi("room").await;
        let path = format!("/api/admin/xiaozhi/{id}");
        assert_eq!(scene.post(&format!("{path}/reconnect"), json!({})).await.status, 202);
        let mut tx = scene.store.read().await.unwrap();
        let stored = sql::xiaozhi_endpoints::get(&mut tx, id.parse().unwrap()).await.unwrap().unwrap();
        drop(tx);
        assert_eq!((stored.reconnects, stored.version), (1, 1));
        scene.send("PATCH", &path, Some(json!({"enabled": false})), &[("if-match", "\"1\"")]).await;
        assert_eq!(scene.post(&format!("{path}/reconnect"), json!({})).await.status, 409);
        assert_eq!(scene.audited("xiaozhi.reconnect").await.len(), 1);
    }
}
