//! `POST /api/admin/auth/refresh`: the session goes on for another timeout.

use axum::Json;
use axum::extract::State;
use serde_json::json;
use sql::admin_users;

use crate::App;
use crate::api::auth::Session;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::Admin;

/// Prolong this session
///
/// The new token names the same session; the old one holds until its own end, so that requests on
/// their way are not refused. Ending the session ends both.
#[utoipa::path(post, path = "/api/admin/auth/refresh", tag = "auth", responses((status = 200, body = Session)))]
pub(crate) async fn refresh(admin: Admin, State(app): State<App>) -> Result<Json<Session>, ApiError> {
    let now = app.store.clock().now();
    let issued =
        app.tokens.issue(admin.id, app.session_timeout(), &admin.client.origin(), Some(admin.token))?;
    let mut tx = app.store.begin().await?;
    // A session that ended since the request was let in stays ended.
    if !admin_users::delete_token(&mut tx, admin.token).await? {
        return Err(ApiError::Unauthenticated);
    }
    admin_users::insert_token(&mut tx, &issued.row).await?;
    let act = Act::on("admin.refresh", admin.id, &*admin.username, json!({}));
    audit::record(&mut tx, now, &admin, act).await?;
    tx.commit().await?;
    Ok(Json(Session {
        token: issued.text,
        expires_at: issued.row.expires_at,
        username: admin.username.to_string(),
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn a_session_goes_on_and_ends_as_one() {
        let scene = Scene::logged_in().await;
        scene.clock.advance(Duration::from_mins(50));
        let answer = scene.post("/api/admin/auth/refresh", json!({})).await;
        let renewed = scene.with_token(answer.json["token"].as_str().unwrap());
        assert_eq!(scene.get("/api/admin/auth/me").await.status, 200);
        scene.clock.advance(Duration::from_secs(1_000));
        assert_eq!(scene.get("/api/admin/auth/me").await.status, 401, "the old token's time is over");
        assert_eq!(renewed.get("/api/admin/auth/me").await.status, 200);
        assert_eq!(renewed.get("/api/admin/auth/sessions").await.json["total"], 1);
        renewed.post("/api/admin/auth/logout", json!({})).await;
        assert_eq!(renewed.get("/api/admin/auth/me").await.status, 401);
    }
}
