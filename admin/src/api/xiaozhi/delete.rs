//! `DELETE /api/admin/xiaozhi/{id}`: its connection ends.

use axum::extract::State;
use http::StatusCode;
use sql::model::XiaozhiEndpointId;
use sql::xiaozhi_endpoints;

use super::wire;
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// Delete a XiaoZhi endpoint
#[utoipa::path(delete, path = "/api/admin/xiaozhi/{id}", tag = "xiaozhi",
    params(("id" = uuid::Uuid, Path)), responses((status = 204)))]
pub(crate) async fn delete(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<XiaozhiEndpointId>,
) -> Result<StatusCode, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let (name, before) = match super::find(&mut tx, id).await {
        Ok(endpoint) => {
            let before = wire::audited(&endpoint, &app.fingerprint);
            (endpoint.name, Some(before))
        }
        // Deleting it is the way to get rid of one that can't be read.
        Err(error) if error.is_unreadable_row() => (id.to_string(), None),
        Err(error) => return Err(error),
    };
    xiaozhi_endpoints::delete(&mut tx, id).await?;
    let diff = audit::diff(before.as_ref(), None);
    audit::record(&mut tx, now, &admin, Act::on("xiaozhi.delete", id, name.as_str(), diff)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use crate::testing::Scene;

    #[tokio::test]
    async fn what_is_deleted_is_gone() {
        let scene = Scene::logged_in().await;
        let path = format!("/api/admin/xiaozhi/{}", scene.xiaozhi("room").await);
        assert_eq!(scene.delete(&path).await.status, 204);
        assert_eq!(scene.get(&path).await.status, 404);
        assert_eq!(scene.delete(&path).await.status, 404);
        let events = scene.audited("xiaozhi.delete").await;
        assert_eq!(events.len(), 1);
        assert!(!format!("{events:?}").contains("CANARY"));
    }
}
