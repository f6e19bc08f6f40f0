//! `POST /api/admin/auth/logout`: ends the session at once.

use axum::extract::State;
use http::StatusCode;
use serde_json::json;
use sql::admin_users;

use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::Admin;

/// End this session
#[utoipa::path(post, path = "/api/admin/auth/logout", tag = "auth", responses((status = 204)))]
pub(crate) async fn logout(admin: Admin, State(app): State<App>) -> Result<StatusCode, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    admin_users::delete_token(&mut tx, admin.token).await?;
    let act = Act::on("admin.logout", admin.id, &*admin.username, json!({}));
    audit::record(&mut tx, now, &admin, act).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    /// T11.
    #[tokio::test]
    async fn a_token_dies_with_its_session() {
        let scene = Scene::logged_in().await;
        let other = scene.clone().logged_in_again().await;
        assert_eq!(scene.post("/api/admin/auth/logout", json!({})).await.status, 204);
        assert_eq!(scene.get("/api/admin/auth/me").await.status, 401);
        assert_eq!(other.get("/api/admin/auth/me").await.status, 200);
    }
}
