//! `POST /api/admin/tools/{id}/release`, and the same for prompts and resources: gives up the name that it holds.

use axum::Json;
use axum::extract::State;
use proxy::catalog::naming::settle as naming;
use serde_json::json;
use sql::model::{Definition, DefinitionId};

use super::{ItemView, Noun, Owners};
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// Release the name of a tool
///
/// It gives up the name that it holds, which goes to an item that waits for it, and is named anew.
#[utoipa::path(post, path = "/api/admin/tools/{id}/release", tag = "tools", operation_id = "release",
    params(("id" = uuid::Uuid, Path)), responses((status = 200, body = ItemView)))]
pub(crate) async fn tool(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<DefinitionId>,
) -> Result<Json<ItemView>, ApiError> {
    release(&app, &admin, Noun::Tool, id).await
}

/// Release the name of a prompt
///
/// It gives up the name that it holds, which goes to an item that waits for it, and is named anew.
#[utoipa::path(post, path = "/api/admin/prompts/{id}/release", tag = "prompts", operation_id = "release",
    params(("id" = uuid::Uuid, Path)), responses((status = 200, body = ItemView)))]
pub(crate) async fn prompt(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<DefinitionId>,
) -> Result<Json<ItemView>, ApiError> {
    release(&app, &admin, Noun::Prompt, id).await
}

/// Release the name of a resource
///
/// It gives up the name that it holds, which goes to an item that waits for it, and is named anew.
#[utoipa::path(post, path = "/api/admin/resources/{id}/release", tag = "resources", operation_id = "release",
    params(("id" = uuid::Uuid, Path)), responses((status = 200, body = ItemView)))]
pub(crate) async fn resource(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<DefinitionId>,
) -> Result<Json<ItemView>, ApiError> {
    release(&app, &admin, Noun::Resource, id).await
}

async fn release(app: &App, admin: &Admin, noun: Noun, id: DefinitionId) -> Result<Json<ItemView>, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let before = super::find(&mut tx, noun, id).await?;
    let exposed_name = naming::release(&mut tx, &before, app.name_length_max()).await?;
    let after = Definition { exposed_name, ..before.clone() };
    let named = |item: &Definition| json!({"exposedName": item.exposed_name});
    let diff = audit::diff(Some(&named(&before)), Some(&named(&after)));
    audit::record(&mut tx, now, admin, Act::on(noun.released(), id, before.exposed_name.as_str(), diff))
        .await?;
    let view = Owners::load(&mut tx, app).await?.view(&after);
    tx.commit().await?;
    Ok(Json(view))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    /// An alias that goes away leaves no claim behind; one that stays holds the name until it is released.
    #[tokio::test]
    async fn a_name_that_is_given_up_goes_to_who_waits_for_it() {
        let scene = Scene::logged_in().await;
        let (a, b) = (scene.upstream("a").await, scene.upstream("b").await);
        let (first, second) = (scene.tool(&a, "search").await, scene.tool(&b, "look").await);
        let alias =
            json!({"owner": {"type": "upstream", "id": b}, "pattern": "look", "targetName": "search"});
        assert_eq!(scene.post("/api/admin/rules/aliases", alias).await.status, 201);
        let named =
            async |id| scene.get(&format!("/api/admin/tools/{id}")).await.json["item"]["exposedName"].clone();
        assert_eq!(named(first).await, "search");
        let contested = named(second).await;
        assert!(contested.as_str().unwrap().starts_with("search__"), "{contested}");

        let answer = scene.post(&format!("/api/admin/tools/{first}/release"), json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        assert_eq!(named(second).await, "search", "who waited has it");
        let now = named(first).await;
        assert!(now.as_str().unwrap().starts_with("search__"), "{now}");
        assert_eq!(answer.json["exposedName"], now);
        assert_eq!(scene.audited("tool.release").await.len(), 1);
    }
}
