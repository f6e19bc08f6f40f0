//! `PATCH /api/admin/tools/{id}`, and the same for prompts and resources: whether it is shown, and where.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::{Value, json};
use sql::lists;
use sql::model::{Definition, DefinitionId};
use utoipa::ToSchema;

use super::{ItemView, Noun, Owners, version};
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Admin, Id, IfMatch, etag};
use crate::fields::{Fields, Problems, flag, integer};
use crate::merge::merge;

/// Places go to both sides of 0; far from overflow.
const SORT_ORDER_MAX: i64 = 1_000_000_000;

/// A merge patch (RFC 7396): absent fields stay, `null` brings back the default.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ItemPatch)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct ItemPatch {
    /// Whether it is shown to anybody; true by default.
    enabled: Option<bool>,
    /// Its place among the items of its upstream; those without one follow in the upstream's order.
    sort_order: Option<i64>,
}

/// Change a tool
///
/// Takes the `version` of the list, or the ETag of what was read, as `If-Match`.
#[utoipa::path(patch, path = "/api/admin/tools/{id}", tag = "tools", operation_id = "update",
    params(("id" = uuid::Uuid, Path), ("If-Match" = String, Header)), request_body = ItemPatch,
    responses((status = 200, body = ItemView, headers(("ETag" = String)))))]
pub(crate) async fn tool(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<DefinitionId>,
    version: Result<IfMatch, ApiError>,
    body: extract::Json,
) -> Result<Response, ApiError> {
    update(&app, &admin, Noun::Tool, id, version, body.value).await
}

/// Change a prompt
///
/// Takes the `version` of the list, or the ETag of what was read, as `If-Match`.
#[utoipa::path(patch, path = "/api/admin/prompts/{id}", tag = "prompts", operation_id = "update",
    params(("id" = uuid::Uuid, Path), ("If-Match" = String, Header)), request_body = ItemPatch,
    responses((status = 200, body = ItemView, headers(("ETag" = String)))))]
pub(crate) async fn prompt(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<DefinitionId>,
    version: Result<IfMatch, ApiError>,
    body: extract::Json,
) -> Result<Response, ApiError> {
    update(&app, &admin, Noun::Prompt, id, version, body.value).await
}

/// Change a resource
///
/// Takes the `version` of the list, or the ETag of what was read, as `If-Match`.
#[utoipa::path(patch, path = "/api/admin/resources/{id}", tag = "resources", operation_id = "update",
    params(("id" = uuid::Uuid, Path), ("If-Match" = String, Header)), request_body = ItemPatch,
    responses((status = 200, body = ItemView, headers(("ETag" = String)))))]
pub(crate) async fn resource(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<DefinitionId>,
    version: Result<IfMatch, ApiError>,
    body: extract::Json,
) -> Result<Response, ApiError> {
    update(&app, &admin, Noun::Resource, id, version, body.value).await
}

async fn update(
    app: &App,
    admin: &Admin,
    noun: Noun,
    id: DefinitionId,
    stated: Result<IfMatch, ApiError>,
    patch: Value,
) -> Result<Response, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    // First: of what doesn't exist no version can be stated.
    let before = super::find(&mut tx, noun, id).await?;
    if stated?.0 != version(&before) {
        return Err(ApiError::PreconditionFailed);
    }
    let (enabled, sort_order) = parse(patch, &before)?;
    let after = Definition { enabled, sort_order, ..before.clone() };
    if after != before {
        if enabled != before.enabled {
            lists::set_enabled(&mut tx, id, enabled).await?;
        }
        if sort_order != before.sort_order {
            lists::set_sort_order(&mut tx, id, sort_order).await?;
        }
        let diff = audit::diff(Some(&settable(&before)), Some(&settable(&after)));
        audit::record(&mut tx, now, admin, Act::on(noun.updated(), id, after.exposed_name.as_str(), diff))
            .await?;
    }
    let view = Owners::load(&mut tx, app).await?.view(&after);
    tx.commit().await?;
    Ok(([(header::ETAG, etag(version(&after)))], Json(view)).into_response())
}

fn settable(item: &Definition) -> Value {
    json!({"enabled": item.enabled, "sortOrder": item.sort_order})
}

fn parse(patch: Value, stored: &Definition) -> Result<(bool, Option<i64>), ApiError> {
    if !patch.is_object() {
        return Err(ApiError::field("", "must be an object"));
    }
    let mut whole = settable(stored);
    merge(&mut whole, patch);
    let mut problems = Problems::default();
    let Some(mut fields) = Fields::open(whole, "", &mut problems) else {
        return problems.unless_any(None);
    };
    let enabled = fields.optional("enabled", &mut problems, flag).unwrap_or(true);
    let sort_order = fields.optional("sortOrder", &mut problems, integer(-SORT_ORDER_MAX..=SORT_ORDER_MAX));
    fields.close(&mut problems);
    problems.unless_any(Some((enabled, sort_order)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn a_change_needs_the_version_it_is_based_on() {
        let scene = Scene::logged_in().await;
        let upstream = scene.upstream("a").await;
        let path = format!("/api/admin/tools/{}", scene.tool(&upstream, "add").await);
        let first = scene.get(&path).await.headers["etag"].to_str().unwrap().to_owned();
        assert_eq!(scene.send("PATCH", &path, Some(json!({})), &[]).await.status, 428);
        assert_eq!(scene.send("PATCH", &path, Some(json!({})), &[("if-match", "\"1\"")]).await.status, 412);
        let wrong = json!({"enabled": 1, "sortOrder": "x", "name": "y"});
        let answer = scene.send("PATCH", &path, Some(wrong), &[("if-match", &first)]).await;
        assert_eq!(answer.pointers(), ["/enabled", "/sortOrder", "/name"]);

        let body = json!({"enabled": false, "sortOrder": -2});
        let changed = scene.send("PATCH", &path, Some(body), &[("if-match", &first)]).await;
        assert_eq!((changed.status, &changed.json["enabled"]), (200, &json!(false)));
        let stale = scene.send("PATCH", &path, Some(json!({"enabled": true})), &[("if-match", &first)]).await;
        assert_eq!(stale.status, 412);
        let second = changed.headers["etag"].to_str().unwrap().to_owned();
        let body = json!({"enabled": null, "sortOrder": null});
        let back = scene.send("PATCH", &path, Some(body), &[("if-match", &second)]).await;
        assert_eq!((&back.json["enabled"], &back.json["sortOrder"]), (&json!(true), &json!(null)));
        let events = scene.audited("tool.update").await;
        assert_eq!(events.len(), 2);
        assert_eq!(events[1].diff["/sortOrder"]["after"], -2);
    }
}
