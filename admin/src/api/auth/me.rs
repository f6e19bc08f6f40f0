//! `GET /api/admin/auth/me`: whose token this is.

use axum::Json;
use serde::Serialize;
use sql::model::{AdminUserId, TokenId};
use utoipa::ToSchema;

use crate::extract::Admin;

/// Whose token this is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Me {
    /// The admin.
    #[schema(value_type = uuid::Uuid)]
    id: AdminUserId,
    /// Under which name.
    username: String,
    /// The session, as the list of sessions names it.
    #[schema(value_type = uuid::Uuid)]
    session_id: TokenId,
}

/// Whose token this is
#[utoipa::path(get, path = "/api/admin/auth/me", tag = "auth", responses((status = 200, body = Me)))]
pub(crate) async fn me(admin: Admin) -> Json<Me> {
    Json(Me { id: admin.id, username: admin.username.to_string(), session_id: admin.token })
}

#[cfg(test)]
mod tests {
    use crate::testing::Scene;

    #[tokio::test]
    async fn says_who_is_logged_in() {
        let scene = Scene::logged_in().await;
        let me = scene.get("/api/admin/auth/me").await;
        assert_eq!((me.status, me.json["username"].as_str()), (200, Some("root")));
    }
}
