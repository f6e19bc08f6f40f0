//! `GET /api/admin/tools/{id}/explain?keyId=`, and the same for prompts and resources: why a key sees it, or not.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use sql::model::DefinitionId;
use utoipa::IntoParams;

use super::steps::{ExplainedView, Teller};
use super::{Noun, scene};
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Id, Query};

/// Who is asked about.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExplainQuery {
    /// The key whose view is meant; without one, what every key starts from.
    #[param(value_type = Option<uuid::Uuid>)]
    key_id: Option<String>,
}

/// Explain what becomes of a tool
#[utoipa::path(get, path = "/api/admin/tools/{id}/explain", tag = "tools", operation_id = "explain",
    params(("id" = uuid::Uuid, Path), ExplainQuery), responses((status = 200, body = ExplainedView)))]
pub(crate) async fn tool(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<DefinitionId>,
    Query(query): Query<ExplainQuery>,
) -> Result<Json<ExplainedView>, ApiError> {
    explain(&app, Noun::Tool, id, &query).await
}

/// Explain what becomes of a prompt
#[utoipa::path(get, path = "/api/admin/prompts/{id}/explain", tag = "prompts", operation_id = "explain",
    params(("id" = uuid::Uuid, Path), ExplainQuery), responses((status = 200, body = ExplainedView)))]
pub(crate) async fn prompt(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<DefinitionId>,
    Query(query): Query<ExplainQuery>,
) -> Result<Json<ExplainedView>, ApiError> {
    explain(&app, Noun::Prompt, id, &query).await
}

/// Explain what becomes of a resource
#[utoipa::path(get, path = "/api/admin/resources/{id}/explain", tag = "resources", operation_id = "explain",
    params(("id" = uuid::Uuid, Path), ExplainQuery), responses((status = 200, body = ExplainedView)))]
pub(crate) async fn resource(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<DefinitionId>,
    Query(query): Query<ExplainQuery>,
) -> Result<Json<ExplainedView>, ApiError> {
    explain(&app, Noun::Resource, id, &query).await
}

async fn explain(
    app: &App,
    noun: Noun,
    id: DefinitionId,
    query: &ExplainQuery,
) -> Result<Json<ExplainedView>, ApiError> {
    let mut tx = app.store.read().await?;
    super::find(&mut tx, noun, id).await?;
    let key = scene::key(&mut tx, query.key_id.as_deref()).await?;
    let scene = scene::load(&mut tx, app, key).await?;
    drop(tx);
    let (scene, explained) = scene::preview(scene).await?;
    let explained = explained.iter().find(|explained| explained.id == id).ok_or_else(|| noun.missing())?;
    Ok(Json(Teller::new(&scene, HashMap::new()).view(explained)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::Scene;

    async fn filter(scene: &Scene, owner: &Value, pattern: &str, action: &str) -> Value {
        let body = json!({"owner": owner, "pattern": pattern, "isRegex": true, "action": action});
        let answer = scene.post("/api/admin/rules/filters", body).await;
        assert_eq!(answer.status, 201, "{}", answer.json);
        answer.json["id"].clone()
    }

    #[tokio::test]
    async fn each_step_says_which_rule_decided() {
        let scene = Scene::logged_in().await;
        let (upstream, (key, _)) = (scene.upstream("a").await, scene.key("k").await);
        let tool = scene.tool(&upstream, "delete_all").await;
        let path = format!("/api/admin/tools/{tool}/explain");
        let shown = scene.get(&format!("{path}?keyId={key}")).await;
        assert_eq!(
            (&shown.json["visible"], &shown.json["exposedName"]),
            (&json!(true), &json!("delete_all"))
        );
        assert_eq!(shown.json["steps"][0]["step"], "named");

        let owner = json!({"type": "key", "id": key});
        let alias =
            json!({"owner": owner, "pattern": "delete_(.*)", "isRegex": true, "targetName": "drop_$1"});
        let alias = scene.post("/api/admin/rules/aliases", alias).await.json["id"].clone();
        let renamed = scene.get(&format!("{path}?keyId={key}")).await;
        assert_eq!(renamed.json["exposedName"], "drop_all");
        let step = renamed.json["steps"].as_array().unwrap().last().unwrap();
        assert_eq!((&step["step"], &step["rule"]["id"], &step["owner"]), (&json!("alias"), &alias, &owner));

        let deny = filter(&scene, &owner, "delete_.*", "deny").await;
        let denied = scene.get(&format!("{path}?keyId={key}")).await;
        let step = denied.json["steps"].as_array().unwrap().last().unwrap();
        assert_eq!((&denied.json["visible"], &step["step"]), (&json!(false), &json!("denied")));
        assert_eq!((&step["rule"]["id"], &step["rule"]["pattern"]), (&deny, &json!("delete_.*")));
        // Others see it as before.
        assert_eq!(scene.get(&path).await.json["visible"], true);
        filter(&scene, &json!({"type": "all"}), "get_.*", "allow").await;
        let hidden = scene.get(&path).await;
        assert_eq!(hidden.json["steps"][0]["step"], "notAllowed");
        assert_eq!(hidden.json["steps"][0]["owner"], json!({"type": "all"}));
    }
}
