//! `GET /api/admin/tools/{id}`

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sql::lists;
use sql::model::DefinitionId;
use utoipa::ToSchema;

use super::ToolView;
use crate::App;
use crate::api::upstreams::tools::UpstreamTool;
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// A tool and its definition.
#[derive(Serialize, ToSchema)]
pub(crate) struct ToolDetail {
    /// As the catalog has it.
    tool: ToolView,
    /// As it is stored.
    stored: UpstreamTool,
}

/// Read a tool
#[utoipa::path(get, path = "/api/admin/tools/{id}", tag = "tools", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = ToolDetail)))]
pub(crate) async fn get(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<DefinitionId>,
) -> Result<Json<ToolDetail>, ApiError> {
    let missing = || ApiError::ToolNotFound;
    let tools = app.control.tools();
    let row = tools.iter().find(|tool| tool.id == id).ok_or_else(missing)?;
    let mut tx = app.store.read().await?;
    let stored = lists::get(&mut tx, id).await?.ok_or_else(missing)?;
    Ok(Json(ToolDetail { tool: ToolView::from(row), stored: UpstreamTool::new(stored)? }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{Scene, tool_row};

    #[tokio::test]
    async fn shows_the_definition_as_it_came() {
        let scene = Scene::logged_in().await;
        let upstream = scene.upstream("a").await;
        let id = scene.tool(&upstream, "add").await;
        let mut row = tool_row("a", &upstream, "add");
        row.id = id;
        scene.plane.set_tools(vec![row]);
        let answer = scene.get(&format!("/api/admin/tools/{id}")).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        assert_eq!(answer.json["tool"]["upstreamName"], "a");
        assert_eq!(answer.json["stored"]["definition"]["name"], "add");
    }

    #[tokio::test]
    async fn an_unknown_tool_has_a_code_of_its_own() {
        let scene = Scene::logged_in().await;
        let answer = scene.get(&format!("/api/admin/tools/{}", uuid::Uuid::nil())).await;
        assert_eq!((answer.status, &answer.json["code"]), (404, &json!("TOOL_NOT_FOUND")));
    }
}
