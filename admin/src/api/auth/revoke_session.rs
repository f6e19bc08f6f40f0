//! `DELETE /api/admin/auth/sessions/{id}`: ends one session at once.

use axum::extract::State;
use http::StatusCode;
use serde_json::json;
use sql::admin_users;
use sql::model::TokenId;

use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// End one of my sessions
#[utoipa::path(delete, path = "/api/admin/auth/sessions/{id}", tag = "auth",
    params(("id" = uuid::Uuid, Path)), responses((status = 204)))]
pub(crate) async fn revoke_session(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<TokenId>,
) -> Result<StatusCode, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let own = admin_users::token(&mut tx, id).await?.is_some_and(|token| token.admin_id == admin.id);
    if !own {
        return Err(ApiError::NotFound("session"));
    }
    admin_users::delete_token(&mut tx, id).await?;
    let act = Act::on("session.revoke", id, &*admin.username, json!({}));
    audit::record(&mut tx, now, &admin, act).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use crate::testing::Scene;

    #[tokio::test]
    async fn a_revoked_session_ends_at_once() {
        let scene = Scene::logged_in().await;
        let other = scene.clone().logged_in_again().await;
        let id = other.get("/api/admin/auth/me").await.json["sessionId"].as_str().unwrap().to_owned();
        assert_eq!(scene.delete(&format!("/api/admin/auth/sessions/{id}")).await.status, 204);
        assert_eq!(other.get("/api/admin/auth/me").await.status, 401);
        assert_eq!(scene.delete(&format!("/api/admin/auth/sessions/{id}")).await.status, 404);
    }
}
