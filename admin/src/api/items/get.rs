//! `GET /api/admin/tools/{id}`, and the same for prompts and resources.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde::Serialize;
use sql::model::DefinitionId;
use sql::pins;
use utoipa::ToSchema;

use super::review::ReviewView;
use super::{ItemView, Noun, Owners};
use crate::App;
use crate::api::upstreams::tools::UpstreamTool;
use crate::error::ApiError;
use crate::extract::{Admin, Id, etag};

/// An item and its definition.
#[derive(Serialize, ToSchema)]
pub(crate) struct ItemDetail {
    /// As it is listed.
    item: ItemView,
    /// As it is stored.
    stored: UpstreamTool,
    /// What an admin is to look at, if so.
    review: Option<ReviewView>,
}

/// Read a tool
#[utoipa::path(get, path = "/api/admin/tools/{id}", tag = "tools", operation_id = "get",
    params(("id" = uuid::Uuid, Path)), responses((status = 200, body = ItemDetail, headers(("ETag" = String)))))]
pub(crate) async fn tool(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<DefinitionId>,
) -> Result<Response, ApiError> {
    get(&app, Noun::Tool, id).await
}

/// Read a prompt
#[utoipa::path(get, path = "/api/admin/prompts/{id}", tag = "prompts", operation_id = "get",
    params(("id" = uuid::Uuid, Path)), responses((status = 200, body = ItemDetail, headers(("ETag" = String)))))]
pub(crate) async fn prompt(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<DefinitionId>,
) -> Result<Response, ApiError> {
    get(&app, Noun::Prompt, id).await
}

/// Read a resource
#[utoipa::path(get, path = "/api/admin/resources/{id}", tag = "resources", operation_id = "get",
    params(("id" = uuid::Uuid, Path)), responses((status = 200, body = ItemDetail, headers(("ETag" = String)))))]
pub(crate) async fn resource(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<DefinitionId>,
) -> Result<Response, ApiError> {
    get(&app, Noun::Resource, id).await
}

async fn get(app: &App, noun: Noun, id: DefinitionId) -> Result<Response, ApiError> {
    let mut tx = app.store.read().await?;
    let stored = super::find(&mut tx, noun, id).await?;
    let item = Owners::load(&mut tx, app).await?.view(&stored);
    let tag = [(header::ETAG, etag(item.version))];
    let pin = pins::get(&mut tx, stored.upstream_id, stored.kind, &stored.upstream_name).await?;
    let review = ReviewView::of(&stored, pin.as_ref());
    Ok((tag, Json(ItemDetail { item, stored: UpstreamTool::new(stored)?, review })).into_response())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sql::model::Kind;

    use crate::testing::Scene;

    #[tokio::test]
    async fn shows_the_definition_as_it_came() {
        let scene = Scene::logged_in().await;
        let upstream = scene.upstream("a").await;
        let id = scene.tool(&upstream, "add").await;
        let answer = scene.get(&format!("/api/admin/tools/{id}")).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        assert_eq!(answer.json["item"]["upstreamName"], "a");
        assert_eq!(answer.json["stored"]["definition"]["name"], "add");
        assert_eq!(answer.headers["etag"], format!("\"{}\"", answer.json["item"]["version"]));
    }

    #[tokio::test]
    async fn what_is_one_thing_is_no_other() {
        let scene = Scene::logged_in().await;
        let upstream = scene.upstream("a").await;
        let id = scene.item(Kind::ResourceTemplate, &upstream, "file:///{path}").await;
        assert_eq!(scene.get(&format!("/api/admin/resources/{id}")).await.status, 200);
        let answer = scene.get(&format!("/api/admin/prompts/{id}")).await;
        assert_eq!((answer.status, &answer.json["code"]), (404, &json!("NOT_FOUND")));
        let answer = scene.get(&format!("/api/admin/tools/{id}")).await;
        assert_eq!((answer.status, &answer.json["code"]), (404, &json!("TOOL_NOT_FOUND")));
    }
}
