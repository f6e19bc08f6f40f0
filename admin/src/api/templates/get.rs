//! `GET /api/admin/templates/{id}`

use axum::Json;

use super::{TemplateView, view};
use crate::error::ApiError;
use crate::extract::{Admin, Id};
use crate::templates;

/// Get a template
#[utoipa::path(get, path = "/api/admin/templates/{id}", tag = "templates", params(("id" = String, Path)),
    responses((status = 200, body = TemplateView)))]
pub(crate) async fn get(_admin: Admin, Id(id): Id<String>) -> Result<Json<TemplateView>, ApiError> {
    templates::find(&id).map(|template| Json(view(template))).ok_or(ApiError::NotFound("template"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn says_what_is_started_or_dialled() {
        let scene = Scene::logged_in().await;
        let git = scene.get("/api/admin/templates/git").await.json;
        assert_eq!(
            (&git["registry"], &git["package"], &git["url"]),
            (&json!("pypi"), &json!("mcp-server-git"), &json!(null))
        );
        let linear = scene.get("/api/admin/templates/linear").await.json;
        assert_eq!(
            (&linear["package"], &linear["url"]),
            (&json!(null), &json!("https://mcp.linear.app/mcp"))
        );
        assert_eq!(scene.get("/api/admin/templates/nothing").await.status, 404);
    }
}
