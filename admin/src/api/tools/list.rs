//! `GET /api/admin/tools`

use axum::Json;
use axum::extract::{Query, State};
use proxy::control::ToolRow;
use serde::Deserialize;
use sql::model::UpstreamId;
use utoipa::IntoParams;

use super::ToolView;
use crate::App;
use crate::error::ApiError;
use crate::extract::Admin;
use crate::query::{ListQuery, Listed, page_of};

/// Which tools.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ToolsQuery {
    /// Only those of this upstream.
    #[param(value_type = Option<uuid::Uuid>)]
    upstream_id: Option<String>,
}

/// List all tools
///
/// By exposed name. `search` looks into names, titles, descriptions and upstreams.
#[utoipa::path(get, path = "/api/admin/tools", tag = "tools", params(ListQuery, ToolsQuery),
    responses((status = 200, body = Listed<ToolView>)))]
pub(crate) async fn list(
    _admin: Admin,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
    Query(filter): Query<ToolsQuery>,
) -> Result<Json<Listed<ToolView>>, ApiError> {
    let request = query.parse(&[])?;
    let upstream_id: Option<UpstreamId> = filter
        .upstream_id
        .map(|text| text.parse().map_err(|_| ApiError::field("/upstreamId", "must be the id of an upstream")))
        .transpose()?;
    let search = request.search.as_ref().map(|search| search.to_lowercase());
    let tools = app.control.tools();
    let matching: Vec<&ToolRow> = tools
        .iter()
        .filter(|tool| upstream_id.is_none_or(|id| tool.upstream_id == id))
        .filter(|tool| search.as_ref().is_none_or(|search| mentions(tool, search)))
        .collect();
    let page = page_of(matching, &request, |tool| tool.id.to_string())?;
    Ok(Json(page.map(ToolView::from).into()))
}

fn mentions(tool: &ToolRow, search: &str) -> bool {
    [
        Some(&tool.exposed_name),
        Some(&tool.name),
        Some(&tool.upstream_name),
        tool.title.as_ref(),
        tool.description.as_ref(),
    ]
    .into_iter()
    .flatten()
    .any(|text| text.to_lowercase().contains(search))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{Scene, tool_row};

    #[tokio::test]
    async fn pages_searches_and_filters() {
        let scene = Scene::logged_in().await;
        let (a, b) = (scene.upstream("a").await, scene.upstream("b").await);
        let rows = [("a", &a, "add"), ("a", &a, "search"), ("b", &b, "subtract")];
        scene.plane.set_tools(rows.iter().map(|(name, id, tool)| tool_row(name, id, tool)).collect());
        let first = scene.get("/api/admin/tools?limit=2").await;
        assert_eq!(
            (&first.json["total"], &first.json["items"][1]["exposedName"]),
            (&json!(3), &json!("search"))
        );
        let cursor = first.json["nextCursor"].as_str().unwrap();
        let second = scene.get(&format!("/api/admin/tools?limit=2&cursor={cursor}")).await;
        assert_eq!(second.json["items"][0]["exposedName"], "subtract");
        assert_eq!(scene.get(&format!("/api/admin/tools?upstreamId={a}")).await.json["total"], 2);
        assert_eq!(scene.get("/api/admin/tools?search=WHAT%20subtract").await.json["total"], 1);
        assert_eq!(scene.get("/api/admin/tools?upstreamId=x").await.pointers(), ["/upstreamId"]);
    }
}
