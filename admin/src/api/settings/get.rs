//! `GET /api/admin/settings`

use axum::extract::State;
use axum::response::Response;

use crate::App;
use crate::error::ApiError;
use crate::extract::Admin;

/// Read the settings
///
/// One object per group, keys as in the configuration file; and `locked`: the settings that the environment fixes,
/// as `group.key`, which are shown as they are in force.
#[utoipa::path(get, path = "/api/admin/settings", tag = "settings",
    responses((status = 200, body = Object, headers(("ETag" = String)))))]
pub(crate) async fn get(_admin: Admin, State(app): State<App>) -> Result<Response, ApiError> {
    let mut tx = app.store.read().await?;
    let (settings, version) = super::load(&mut tx).await?;
    Ok(super::answer(&app, &settings, version))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn shows_the_defaults_before_anybody_changed_them() {
        let scene = Scene::logged_in().await;
        let answer = scene.get("/api/admin/settings").await;
        assert_eq!(answer.json["auth"], json!({"session_timeout_s": 3600}));
        assert_eq!(answer.headers["etag"], "\"0\"");
        assert_eq!(answer.json["locked"], json!([]));
    }

    #[tokio::test]
    async fn shows_what_the_environment_fixes_as_it_is_in_force() {
        let scene = Scene::with_fixed_mode(sql::model::Mode::Smart).await;
        let answer = scene.get("/api/admin/settings").await;
        assert_eq!(answer.json["mcp_api"]["mode"], "smart");
        assert_eq!(answer.json["locked"], json!(["mcp_api.mode"]));
    }
}
