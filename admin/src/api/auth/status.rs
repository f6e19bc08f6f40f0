//! `GET /api/auth/status`: whether anybody has registered yet.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sql::admin_users;
use utoipa::ToSchema;

use crate::App;
use crate::error::ApiError;
use crate::extract::Client;

/// What a login page must know.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuthStatus {
    /// Whether an admin exists.
    initialized: bool,
    /// Whether a registration from the caller's address must show the setup token.
    setup_token_required: bool,
    /// The gateway's version.
    version: &'static str,
}

/// Whether anybody has registered yet
#[utoipa::path(get, path = "/api/auth/status", tag = "auth", responses((status = 200, body = AuthStatus)))]
pub(crate) async fn status(State(app): State<App>, client: Client) -> Result<Json<AuthStatus>, ApiError> {
    let mut tx = app.store.read().await?;
    let initialized = admin_users::count(&mut tx).await? > 0;
    Ok(Json(AuthStatus {
        initialized,
        setup_token_required: !initialized && !client.address.is_loopback(),
        version: app.version,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn says_whether_an_admin_exists() {
        let scene = Scene::new().await;
        let before = scene.get("/api/auth/status").await;
        assert_eq!(
            before.json,
            json!({"initialized": false, "setupTokenRequired": false, "version": "test"})
        );
        scene.register().await;
        assert_eq!(scene.get("/api/auth/status").await.json["initialized"], true);
    }

    #[tokio::test]
    async fn asks_strangers_for_the_setup_token() {
        let scene = Scene::new().await.from("203.0.113.9");
        assert_eq!(scene.get("/api/auth/status").await.json["setupTokenRequired"], true);
    }
}
