//! `GET /api/admin/tools`, `/prompts`, `/resources`: what all upstreams offer, or what one key sees of it.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use sql::Tx;
use sql::lists;
use sql::model::{ApiKey, Definition, DefinitionId, UpstreamId};
use utoipa::IntoParams;

use super::{ItemView, Noun, Owners, scene};
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Query};
use crate::query::{ListQuery, Listed, page_of, switch};

/// What items can be sorted by.
const SORTS: [&str; 4] = ["exposedName", "name", "upstreamName", "sortOrder"];

/// Which items.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemsQuery {
    /// Only those of this upstream.
    #[param(value_type = Option<uuid::Uuid>)]
    upstream_id: Option<String>,
    /// Only those that this key sees, as it sees them.
    #[param(value_type = Option<uuid::Uuid>)]
    key_id: Option<String>,
    /// Only those that an admin is to look at, or only the others.
    #[param(value_type = Option<bool>)]
    review: Option<String>,
}

/// List all tools
///
/// Those that are switched off or hidden by rules too, unless `keyId` asks what one key sees. By exposed name if
/// `sort` doesn't say otherwise. `search` looks into names, titles, descriptions and upstreams.
#[utoipa::path(get, path = "/api/admin/tools", tag = "tools", operation_id = "list",
    params(ListQuery, ItemsQuery), responses((status = 200, body = Listed<ItemView>)))]
pub(crate) async fn tools(
    _admin: Admin,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
    Query(filter): Query<ItemsQuery>,
) -> Result<Json<Listed<ItemView>>, ApiError> {
    list(&app, Noun::Tool, query, filter).await
}

/// List all prompts
///
/// Those that are switched off or hidden by rules too, unless `keyId` asks what one key sees. By exposed name if
/// `sort` doesn't say otherwise. `search` looks into names, titles, descriptions and upstreams.
#[utoipa::path(get, path = "/api/admin/prompts", tag = "prompts", operation_id = "list",
    params(ListQuery, ItemsQuery), responses((status = 200, body = Listed<ItemView>)))]
pub(crate) async fn prompts(
    _admin: Admin,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
    Query(filter): Query<ItemsQuery>,
) -> Result<Json<Listed<ItemView>>, ApiError> {
    list(&app, Noun::Prompt, query, filter).await
}

/// List all resources
///
/// Those that are switched off or hidden by rules too, unless `keyId` asks what one key sees. By exposed name if
/// `sort` doesn't say otherwise. `search` looks into names, titles, descriptions and upstreams.
#[utoipa::path(get, path = "/api/admin/resources", tag = "resources", operation_id = "list",
    params(ListQuery, ItemsQuery), responses((status = 200, body = Listed<ItemView>)))]
pub(crate) async fn resources(
    _admin: Admin,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
    Query(filter): Query<ItemsQuery>,
) -> Result<Json<Listed<ItemView>>, ApiError> {
    list(&app, Noun::Resource, query, filter).await
}

async fn list(
    app: &App,
    noun: Noun,
    query: ListQuery,
    filter: ItemsQuery,
) -> Result<Json<Listed<ItemView>>, ApiError> {
    let request = query.parse(&SORTS)?;
    let upstream_id: Option<UpstreamId> = filter
        .upstream_id
        .map(|text| text.parse().map_err(|_| ApiError::field("/upstreamId", "must be the id of an upstream")))
        .transpose()?;
    let review = switch("/review", filter.review.as_deref())?;
    let mut tx = app.store.read().await?;
    let items = match scene::key(&mut tx, filter.key_id.as_deref()).await? {
        Some(key) => seen_by(tx, app, noun, key).await?,
        None => stored(tx, app, noun).await?,
    };
    let search = request.search.as_ref().map(|search| search.to_lowercase());
    let mut matching: Vec<ItemView> = items
        .into_iter()
        .filter(|item| upstream_id.is_none_or(|id| item.upstream_id == id))
        .filter(|item| review.is_none_or(|review| item.review.is_some() == review))
        .filter(|item| search.as_ref().is_none_or(|search| mentions(item, search)))
        .collect();
    sort(&mut matching, request.sort.as_deref().unwrap_or(SORTS[0]));
    let page = page_of(matching, &request, |item| item.id.to_string())?;
    Ok(Json(page.into()))
}

/// Every stored item, switched-off ones too.
async fn stored(mut tx: Tx, app: &App, noun: Noun) -> Result<Vec<ItemView>, ApiError> {
    let owners = Owners::load(&mut tx, app).await?;
    let mut items = Vec::new();
    for kind in noun.kinds() {
        items.extend(lists::of_kind(&mut tx, *kind).await?.iter().map(|item| owners.view(item)));
    }
    Ok(items)
}

/// What a key sees, by the names and descriptions that it sees.
async fn seen_by(mut tx: Tx, app: &App, noun: Noun, key: ApiKey) -> Result<Vec<ItemView>, ApiError> {
    let owners = Owners::load(&mut tx, app).await?;
    let scene = scene::load(&mut tx, app, Some(key)).await?;
    drop(tx);
    let (scene, explained) = scene::preview(scene).await?;
    let definitions: HashMap<DefinitionId, &Definition> =
        scene.definitions.iter().map(|item| (item.id, item)).collect();
    let ours = explained.into_iter().filter(|item| noun.kinds().contains(&item.kind));
    let seen = ours.filter_map(|item| {
        let view = owners.view(definitions.get(&item.id)?);
        let description = item.description.as_deref().map(str::to_owned).or(view.description);
        Some(ItemView { exposed_name: item.exposed_name?, description, ..view })
    });
    Ok(seen.collect())
}

fn mentions(item: &ItemView, search: &str) -> bool {
    [
        Some(&item.exposed_name),
        Some(&item.name),
        Some(&item.upstream_name),
        item.title.as_ref(),
        item.description.as_ref(),
    ]
    .into_iter()
    .flatten()
    .any(|text| text.to_lowercase().contains(search))
}

fn sort(items: &mut [ItemView], by: &str) {
    // First by what settles equal ones.
    items.sort_by(|a, b| (&a.exposed_name, a.id).cmp(&(&b.exposed_name, b.id)));
    match by.trim_start_matches('-') {
        "name" => items.sort_by(|a, b| a.name.cmp(&b.name)),
        "upstreamName" => items.sort_by(|a, b| a.upstream_name.cmp(&b.upstream_name)),
        // Those with a place go before those without.
        "sortOrder" => items.sort_by_key(|item| (item.sort_order.is_none(), item.sort_order)),
        _ => {}
    }
    if by.starts_with('-') {
        items.reverse();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use sql::model::Kind;

    use crate::testing::{Answer, Scene};

    fn names(answer: &Answer) -> Vec<&str> {
        assert_eq!(answer.status, 200, "{}", answer.json);
        answer.json["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["exposedName"].as_str().unwrap())
            .collect()
    }

    #[tokio::test]
    async fn pages_searches_filters_and_sorts() {
        let scene = Scene::logged_in().await;
        let (a, b) = (scene.upstream("a").await, scene.upstream("b").await);
        for (upstream, tool) in [(&a, "add"), (&a, "search"), (&b, "subtract")] {
            scene.tool(upstream, tool).await;
        }
        let first = scene.get("/api/admin/tools?limit=2").await;
        assert_eq!((names(&first), &first.json["total"]), (vec!["add", "search"], &json!(3)));
        let cursor = first.json["nextCursor"].as_str().unwrap();
        let second = scene.get(&format!("/api/admin/tools?limit=2&cursor={cursor}")).await;
        assert_eq!(names(&second), ["subtract"]);
        assert_eq!(second.json["items"][0]["upstreamName"], "b");
        assert_eq!(scene.get(&format!("/api/admin/tools?upstreamId={a}")).await.json["total"], 2);
        assert_eq!(names(&scene.get("/api/admin/tools?search=WHAT%20subtract").await), ["subtract"]);
        assert_eq!(
            names(&scene.get("/api/admin/tools?sort=-upstreamName").await),
            ["subtract", "search", "add"]
        );
        assert_eq!(scene.get("/api/admin/tools?upstreamId=x").await.pointers(), ["/upstreamId"]);
        assert_eq!(scene.get("/api/admin/tools?sort=hash").await.pointers(), ["/sort"]);
    }

    #[tokio::test]
    async fn each_noun_has_its_own_lists() {
        let scene = Scene::logged_in().await;
        let a = scene.upstream("a").await;
        for (kind, name) in [
            (Kind::Tool, "tool"),
            (Kind::Prompt, "prompt"),
            (Kind::Resource, "file:///a"),
            (Kind::ResourceTemplate, "file:///{path}"),
        ] {
            scene.item(kind, &a, name).await;
        }
        assert_eq!(names(&scene.get("/api/admin/tools").await), ["tool"]);
        assert_eq!(names(&scene.get("/api/admin/prompts").await), ["prompt"]);
        let resources = scene.get("/api/admin/resources").await;
        assert_eq!(names(&resources), ["file:///a", "file:///{path}"]);
        assert_eq!(resources.json["items"][1]["kind"], "resource_template");
    }

    #[tokio::test]
    async fn a_key_sees_what_its_upstreams_and_rules_leave_it() {
        let scene = Scene::logged_in().await;
        let (a, b) = (scene.upstream("a").await, scene.upstream("b").await);
        for (upstream, tool) in [(&a, "get_x"), (&a, "delete_x"), (&a, "off"), (&b, "other")] {
            scene.tool(upstream, tool).await;
        }
        let key = scene.post("/api/admin/keys", json!({"name": "k", "upstreamIds": [a]})).await;
        let key = key.json["id"].as_str().unwrap().to_owned();
        let owner = json!({"type": "key", "id": key});
        let rule = async |noun: &str, body: Value| {
            let answer = scene.post(&format!("/api/admin/rules/{noun}"), body).await;
            assert_eq!(answer.status, 201, "{}", answer.json);
        };
        rule("filters", json!({"owner": owner, "pattern": "delete_.*", "isRegex": true, "action": "deny"}))
            .await;
        let alias =
            json!({"owner": owner, "pattern": "get_x", "targetName": "mine", "targetDescription": "My own."});
        rule("aliases", alias).await;
        let off = scene.get("/api/admin/tools?search=off").await.json["items"][0].clone();
        let (path, etag) =
            (format!("/api/admin/tools/{}", off["id"].as_str().unwrap()), format!("\"{}\"", off["version"]));
        let switched =
            scene.send("PATCH", &path, Some(json!({"enabled": false})), &[("if-match", &etag)]).await;
        assert_eq!(switched.status, 200, "{}", switched.json);

        let seen = scene.get(&format!("/api/admin/tools?keyId={key}")).await;
        assert_eq!(names(&seen), ["mine"]);
        let item = &seen.json["items"][0];
        assert_eq!((&item["name"], &item["description"]), (&json!("get_x"), &json!("My own.")));
        assert_eq!(names(&scene.get("/api/admin/tools").await), ["delete_x", "get_x", "off", "other"]);
        for id in ["x", "01890000-0000-7000-8000-000000000000"] {
            assert_eq!(scene.get(&format!("/api/admin/tools?keyId={id}")).await.pointers(), ["/keyId"]);
        }
    }
}
