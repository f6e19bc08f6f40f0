//! `DELETE /api/admin/auth/sessions`: ends all sessions but the one that asks.

use axum::extract::State;
use http::StatusCode;
use serde_json::json;
use sql::admin_users;

use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::Admin;

/// End all my other sessions
#[utoipa::path(delete, path = "/api/admin/auth/sessions", tag = "auth", responses((status = 204)))]
pub(crate) async fn revoke_other_sessions(
    admin: Admin,
    State(app): State<App>,
) -> Result<StatusCode, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    admin_users::delete_tokens_of(&mut tx, admin.id, Some(admin.token)).await?;
    let act = Act::on("session.revoke-others", admin.id, &*admin.username, json!({}));
    audit::record(&mut tx, now, &admin, act).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use crate::testing::Scene;

    #[tokio::test]
    async fn all_sessions_end_but_ones_own() {
        let scene = Scene::logged_in().await;
        let other = scene.clone().logged_in_again().await;
        assert_eq!(scene.delete("/api/admin/auth/sessions").await.status, 204);
        assert_eq!(other.get("/api/admin/auth/me").await.status, 401);
        assert_eq!(scene.get("/api/admin/auth/me").await.status, 200);
    }
}
