//! `GET /api/admin/auth/sessions`: where one is logged in.

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sql::admin_users;
use sql::model::{AdminToken, Page, Timestamp, TokenId};
use utoipa::ToSchema;

use crate::App;
use crate::error::ApiError;
use crate::extract::Admin;
use crate::query::Listed;

/// One session.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionRow {
    /// What to revoke it by.
    #[schema(value_type = uuid::Uuid)]
    id: TokenId,
    /// Whether it is the one that asks.
    current: bool,
    /// When it was opened or last prolonged.
    #[schema(value_type = String, format = DateTime)]
    issued_at: Timestamp,
    /// When it ends by itself.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// From where.
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// With what.
    user_agent: String,
}

/// List my sessions
///
/// All of them on one page: a person has few.
#[utoipa::path(get, path = "/api/admin/auth/sessions", tag = "auth",
    responses((status = 200, body = Listed<SessionRow>)))]
pub(crate) async fn list_sessions(
    admin: Admin,
    State(app): State<App>,
) -> Result<Json<Listed<SessionRow>>, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.read().await?;
    let tokens = admin_users::tokens_of(&mut tx, admin.id).await?;
    let items: Vec<SessionRow> =
        tokens.into_iter().filter(|token| token.expires_at > now).map(|token| row(token, &admin)).collect();
    let total = items.len() as u64;
    Ok(Json(Page { items, next_cursor: None, total }.into()))
}

fn row(token: AdminToken, admin: &Admin) -> SessionRow {
    SessionRow {
        id: token.id,
        current: token.id == admin.token,
        issued_at: token.issued_at,
        expires_at: token.expires_at,
        address: token.address,
        user_agent: token.user_agent,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Scene;

    #[tokio::test]
    async fn lists_each_session_and_marks_ones_own() {
        let scene = Scene::logged_in().await;
        scene.clone().logged_in_again().await;
        let answer = scene.get("/api/admin/auth/sessions").await;
        let items = answer.json["items"].as_array().unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!(items.iter().filter(|item| item["current"] == true).count(), 1);
        assert_eq!(items[0]["address"], "127.0.0.1");
    }
}
