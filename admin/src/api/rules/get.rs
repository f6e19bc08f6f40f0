//! `GET /api/admin/rules/aliases/{id}` and `/filters/{id}`

use axum::extract::State;
use axum::response::Response;
use sql::model::{AliasRule, FilterRule, RuleId};

use super::noun::Noun;
use super::wire::{AliasView, FilterView};
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// Read an alias rule
#[utoipa::path(get, path = "/api/admin/rules/aliases/{id}", tag = "rules", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = AliasView, headers(("ETag" = String)))))]
pub(crate) async fn get_alias(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<RuleId>,
) -> Result<Response, ApiError> {
    get::<AliasRule>(&app, id).await
}

/// Read a filter rule
#[utoipa::path(get, path = "/api/admin/rules/filters/{id}", tag = "rules", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = FilterView, headers(("ETag" = String)))))]
pub(crate) async fn get_filter(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<RuleId>,
) -> Result<Response, ApiError> {
    get::<FilterRule>(&app, id).await
}

async fn get<R: Noun>(app: &App, id: RuleId) -> Result<Response, ApiError> {
    let mut tx = app.store.read().await?;
    let rule = super::find::<R>(&mut tx, id).await?;
    Ok(super::answer(&rule))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn a_rule_of_one_kind_is_none_of_the_other() {
        let scene = Scene::logged_in().await;
        let body = json!({"owner": {"type": "all"}, "pattern": "a", "action": "deny"});
        let id = scene.post("/api/admin/rules/filters", body).await.json["id"].as_str().unwrap().to_owned();
        assert_eq!(scene.get(&format!("/api/admin/rules/filters/{id}")).await.status, 200);
        assert_eq!(scene.get(&format!("/api/admin/rules/aliases/{id}")).await.status, 404);
    }
}
