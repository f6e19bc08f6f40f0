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
    act(&app, &admin, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Does it.
pub(super) async fn act(app: &App, admin: &Admin, id: UpstreamId) -> Result<(), ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let (name, before) = match super::find(&mut tx, id).await {
        Ok(upstream) => {
            let before = wire::audited(&upstream, &app.fingerprint);
            (upstream.name, Some(before))
        }
        // Deleting it is the way to get rid of one that can't be read.
        Err(error) if error.is_unreadable_row() => (id.to_string(), None),
        Err(error) => return Err(error),
    };
    upstreams::delete(&mut tx, id).await?;
    let act = Act::on("upstream.delete", id, name.as_str(), audit::diff(before.as_ref(), None));
    audit::record(&mut tx, now, admin, act).await?;
    Ok(tx.commit().await?)
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
