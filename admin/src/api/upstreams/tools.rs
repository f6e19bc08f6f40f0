//! `GET /api/admin/upstreams/{id}/tools`, `/prompts` and `/resources`: its lists as they were last synced, whatever
//! its state.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::value::RawValue;
use sql::lists;
use sql::model::{Definition, DefinitionId, Kind, Page, Timestamp, UpstreamId};
use utoipa::ToSchema;

use crate::App;
use crate::doc;
use crate::error::ApiError;
use crate::extract::{Admin, Id, Query};
use crate::query::{ListQuery, Listed, page_of};

/// A tool, prompt, resource or resource template of one upstream.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpstreamTool {
    /// The stored definition.
    #[schema(value_type = uuid::Uuid)]
    id: DefinitionId,
    /// Of which list.
    #[schema(schema_with = doc::kind)]
    kind: Kind,
    /// Its name, URI or URI template at the upstream.
    name: String,
    /// The name clients call it by.
    exposed_name: String,
    /// Whether clients see it.
    enabled: bool,
    /// Its place, if an admin gave it one.
    sort_order: Option<i64>,
    /// When it was first seen.
    #[schema(value_type = String, format = DateTime)]
    first_seen_at: Timestamp,
    /// When its definition last changed.
    #[schema(value_type = String, format = DateTime)]
    changed_at: Timestamp,
    /// The definition as the upstream sent it.
    #[schema(value_type = Object)]
    definition: Box<RawValue>,
}

impl UpstreamTool {
    /// The answer for a stored definition.
    pub(crate) fn new(definition: Definition) -> Result<Self, ApiError> {
        // It was parsed before it was stored; a row that isn't JSON is our fault, not the client's.
        let body = serde_json::from_slice(&definition.body)
            .map_err(|source| ApiError::internal("reading a stored definition", source))?;
        Ok(Self {
            id: definition.id,
            kind: definition.kind,
            name: definition.upstream_name,
            exposed_name: definition.exposed_name,
            enabled: definition.enabled,
            sort_order: definition.sort_order,
            first_seen_at: definition.first_seen_at,
            changed_at: definition.changed_at,
            definition: body,
        })
    }
}

/// List the tools of an upstream
#[utoipa::path(get, path = "/api/admin/upstreams/{id}/tools", tag = "upstreams",
    params(("id" = uuid::Uuid, Path), ListQuery), responses((status = 200, body = Listed<UpstreamTool>)))]
pub(crate) async fn tools(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<UpstreamId>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Listed<UpstreamTool>>, ApiError> {
    list(&app, id, query, &[Kind::Tool]).await
}

/// List the prompts of an upstream
#[utoipa::path(get, path = "/api/admin/upstreams/{id}/prompts", tag = "upstreams",
    params(("id" = uuid::Uuid, Path), ListQuery), responses((status = 200, body = Listed<UpstreamTool>)))]
pub(crate) async fn prompts(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<UpstreamId>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Listed<UpstreamTool>>, ApiError> {
    list(&app, id, query, &[Kind::Prompt]).await
}

/// List the resources of an upstream
///
/// Its resource templates follow its resources.
#[utoipa::path(get, path = "/api/admin/upstreams/{id}/resources", tag = "upstreams",
    params(("id" = uuid::Uuid, Path), ListQuery), responses((status = 200, body = Listed<UpstreamTool>)))]
pub(crate) async fn resources(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<UpstreamId>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Listed<UpstreamTool>>, ApiError> {
    list(&app, id, query, &[Kind::Resource, Kind::ResourceTemplate]).await
}

async fn list(
    app: &App,
    id: UpstreamId,
    query: ListQuery,
    kinds: &[Kind],
) -> Result<Json<Listed<UpstreamTool>>, ApiError> {
    let request = query.parse(&[])?;
    let mut tx = app.store.read().await?;
    super::find(&mut tx, id).await?;
    let mut items = Vec::new();
    for kind in kinds {
        items.extend(lists::of_upstream(&mut tx, id, *kind).await?);
    }
    if let Some(search) = request.search.as_ref().map(|search| search.to_lowercase()) {
        items.retain(|item| {
            item.upstream_name.to_lowercase().contains(&search)
                || item.exposed_name.to_lowercase().contains(&search)
        });
    }
    let page = page_of(items, &request, |item| item.id.to_string())?;
    let items = page.items.into_iter().map(UpstreamTool::new).collect::<Result<_, _>>()?;
    Ok(Json(Page { items, next_cursor: page.next_cursor, total: page.total }.into()))
}

#[cfg(test)]
mod tests {
    use sql::model::Kind;

    use crate::testing::Scene;

    #[tokio::test]
    async fn lists_definitions_as_they_came_page_by_page() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        for name in ["add", "subtract", "Add_more"] {
            scene.tool(&id, name).await;
        }
        let path = format!("/api/admin/upstreams/{id}/tools");
        let first = scene.get(&format!("{path}?limit=2")).await;
        assert_eq!(
            (first.json["total"].as_u64(), first.json["items"].as_array().unwrap().len()),
            (Some(3), 2)
        );
        assert_eq!(first.json["items"][0]["definition"]["inputSchema"]["type"], "object");
        let cursor = first.json["nextCursor"].as_str().unwrap();
        let second = scene.get(&format!("{path}?limit=2&cursor={cursor}")).await;
        assert_eq!(second.json["items"][0]["name"], "Add_more");
        assert!(second.json["nextCursor"].is_null());
        assert_eq!(scene.get(&format!("{path}?search=ADD")).await.json["total"], 2);
        assert_eq!(scene.get(&format!("{path}?cursor=nonsense")).await.pointers(), ["/cursor"]);
    }

    #[tokio::test]
    async fn each_list_has_its_own_items() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        for (kind, name) in [
            (Kind::Tool, "tool"),
            (Kind::Prompt, "prompt"),
            (Kind::Resource, "file:///a"),
            (Kind::ResourceTemplate, "file:///{path}"),
        ] {
            scene.item(kind, &id, name).await;
        }
        let names = async |list: &str| {
            let answer = scene.get(&format!("/api/admin/upstreams/{id}/{list}")).await;
            let items = answer.json["items"].as_array().unwrap().clone();
            items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("prompts").await, ["prompt"]);
        assert_eq!(names("resources").await, ["file:///a", "file:///{path}"]);
    }
}
