//! `POST /api/admin/tools/{id}/approve`, and the same for prompts and resources: agrees to a definition as it is now
//! (threat T22).

use axum::Json;
use axum::extract::State;
use proxy::pinning;
use serde_json::Value;
use sql::model::DefinitionId;
use sql::{pins, upstreams};
use utoipa::ToSchema;

use super::review::{as_json, hex};
use super::{ItemView, Noun, Owners};
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Admin, Id};
use crate::fields::{Fields, Problems, text};

/// What is agreed to.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct Approval {
    /// The `hash` of the definition that was looked at; a conflict if it is another by now.
    hash: String,
}

/// Approve a tool
///
/// Its definition as it is now is what later ones are compared with.
#[utoipa::path(post, path = "/api/admin/tools/{id}/approve", tag = "tools", operation_id = "approve",
    params(("id" = uuid::Uuid, Path)), request_body = Approval, responses((status = 200, body = ItemView)))]
pub(crate) async fn tool(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<DefinitionId>,
    body: extract::Json,
) -> Result<Json<ItemView>, ApiError> {
    approve(&app, &admin, Noun::Tool, id, body.value).await
}

/// Approve a prompt
///
/// Its definition as it is now is what later ones are compared with.
#[utoipa::path(post, path = "/api/admin/prompts/{id}/approve", tag = "prompts", operation_id = "approve",
    params(("id" = uuid::Uuid, Path)), request_body = Approval, responses((status = 200, body = ItemView)))]
pub(crate) async fn prompt(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<DefinitionId>,
    body: extract::Json,
) -> Result<Json<ItemView>, ApiError> {
    approve(&app, &admin, Noun::Prompt, id, body.value).await
}

/// Approve a resource
///
/// Its definition as it is now is what later ones are compared with.
#[utoipa::path(post, path = "/api/admin/resources/{id}/approve", tag = "resources", operation_id = "approve",
    params(("id" = uuid::Uuid, Path)), request_body = Approval, responses((status = 200, body = ItemView)))]
pub(crate) async fn resource(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<DefinitionId>,
    body: extract::Json,
) -> Result<Json<ItemView>, ApiError> {
    approve(&app, &admin, Noun::Resource, id, body.value).await
}

async fn approve(
    app: &App,
    admin: &Admin,
    noun: Noun,
    id: DefinitionId,
    body: Value,
) -> Result<Json<ItemView>, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let item = super::find(&mut tx, noun, id).await?;
    let looked_at = parse(body)?;
    if looked_at != hex(&item.hash) {
        return Err(ApiError::conflict("the definition is another by now: look at it again"));
    }
    let upstream = upstreams::get(&mut tx, item.upstream_id).await?.ok_or(ApiError::NotFound("upstream"))?;
    let former = pins::get(&mut tx, item.upstream_id, item.kind, &item.upstream_name).await?;
    // What nobody asks about is as it was agreed to.
    if let Some(former) = former.filter(|pin| pin.review.is_some()) {
        pins::save(&mut tx, &[pinning::agreed(&upstream, &item)]).await?;
        let before = former.approved.as_ref().map(|body| as_json(body));
        let before = before.unwrap_or_else(|| as_json(&item.body));
        let diff = audit::diff(Some(&before), Some(&as_json(&item.body)));
        let act = Act::on(noun.approved(), id, item.exposed_name.as_str(), diff);
        audit::record(&mut tx, now, admin, act).await?;
    }
    let view = Owners::load(&mut tx, app).await?.view(&item);
    tx.commit().await?;
    Ok(Json(view))
}

/// The hash of what was looked at: nobody agrees to what they haven't seen.
fn parse(body: Value) -> Result<String, ApiError> {
    let mut problems = Problems::default();
    let Some(mut fields) = Fields::open(body, "", &mut problems) else {
        return problems.unless_any(None);
    };
    let hash = fields.required("hash", &mut problems, text(1..=64));
    fields.close(&mut problems);
    problems.unless_any(hash)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;
    use sql::model::{Kind, Pin, Review};
    use sql::{lists, pins, upstreams};

    use crate::testing::Scene;

    /// A tool of a `hold` upstream that said something else when it was agreed to.
    async fn changed(scene: &Scene) -> (String, String) {
        let upstream = scene.upstream("a").await;
        let path = format!("/api/admin/upstreams/{upstream}");
        let hold = json!({"onToolChange": "hold"});
        let answer = scene.send("PATCH", &path, Some(hold), &[("if-match", "\"1\"")]).await;
        assert_eq!((answer.status, &answer.json["onToolChange"]), (200, &json!("hold")), "{}", answer.json);
        let id = scene.tool(&upstream, "add").await;
        let mut tx = scene.store.begin().await.unwrap();
        let item = lists::get(&mut tx, id).await.unwrap().unwrap();
        let owner = upstreams::get(&mut tx, item.upstream_id).await.unwrap().unwrap();
        let approved = json!({"name": "add", "description": "adds", "inputSchema": {"type": "object"}});
        let approved = Bytes::from(approved.to_string());
        let pin = Pin {
            pin: proxy::pinning::fingerprint(Kind::Tool, &approved),
            approved: Some(approved),
            review: Some(Review::Changed),
            found_at: Some(scene.clock.now()),
            ..proxy::pinning::agreed(&owner, &item)
        };
        pins::save(&mut tx, &[pin]).await.unwrap();
        tx.commit().await.unwrap();
        (upstream, id.to_string())
    }

    #[tokio::test]
    async fn what_changed_is_shown_with_its_difference_and_passes_once_it_is_approved() {
        let scene = Scene::logged_in().await;
        let (upstream, id) = changed(&scene).await;
        let path = format!("/api/admin/tools/{id}");
        let read = scene.get(&path).await;
        let (item, review) = (&read.json["item"], &read.json["review"]);
        assert_eq!((&item["review"], &item["held"]), (&json!("changed"), &json!(true)), "{}", read.json);
        assert_eq!(review["fields"], json!(["description"]));
        assert_eq!(review["diff"], json!({"/description": {"before": "adds", "after": "what add does"}}));
        assert_eq!(review["approved"]["description"], "adds");
        assert_eq!(scene.get("/api/admin/tools?review=true").await.json["total"], 1);
        assert_eq!(scene.get("/api/admin/tools?review=false").await.json["total"], 0);
        let findings = scene.get(&format!("/api/admin/upstreams/{upstream}/findings")).await;
        let codes: Vec<_> =
            findings.json["items"].as_array().unwrap().iter().map(|one| &one["code"]).collect();
        assert!(codes.contains(&&json!("CHANGED")), "{}", findings.json);
        let explained = scene.get(&format!("{path}/explain")).await;
        assert_eq!(explained.json["visible"], json!(false));
        assert_eq!(explained.json["steps"][0]["step"], "held");

        let other = scene.post(&format!("{path}/approve"), json!({"hash": "0".repeat(64)})).await;
        assert_eq!((other.status, &other.json["code"]), (409, &json!("CONFLICT")));
        let hash = review["hash"].as_str().unwrap();
        let answer = scene.post(&format!("{path}/approve"), json!({"hash": hash})).await;
        assert_eq!((answer.status, &answer.json["held"]), (200, &json!(false)), "{}", answer.json);
        assert_eq!(answer.json["review"], json!(null));
        let told = scene.audited("tool.approve").await;
        assert_eq!(told[0].diff["/description"], json!({"before": "adds", "after": "what add does"}));
        assert_eq!(scene.get(&path).await.json["review"], json!(null));
        assert_eq!(scene.get(&format!("{path}/explain")).await.json["visible"], json!(true));
        // A second time there is nothing to agree to.
        assert_eq!(scene.post(&format!("{path}/approve"), json!({"hash": hash})).await.status, 200);
        assert_eq!(scene.audited("tool.approve").await.len(), 1);
    }

    #[tokio::test]
    async fn another_url_has_everything_approved_again() {
        let scene = Scene::logged_in().await;
        let (upstream, id) = changed(&scene).await;
        let path = format!("/api/admin/tools/{id}");
        let hash = scene.get(&path).await.json["review"]["hash"].clone();
        assert_eq!(scene.post(&format!("{path}/approve"), json!({"hash": hash})).await.status, 200);
        let elsewhere = json!({"connParams": {"url": "https://elsewhere.example/mcp"}});
        let at = format!("/api/admin/upstreams/{upstream}");
        assert_eq!(scene.send("PATCH", &at, Some(elsewhere), &[("if-match", "\"2\"")]).await.status, 200);
        let item = scene.get(&path).await.json["item"].clone();
        assert_eq!((&item["review"], &item["held"]), (&json!("moved"), &json!(true)), "at once");
        let again = scene.post(&format!("{path}/approve"), json!({"hash": hash})).await;
        assert_eq!(again.json["held"], json!(false));
    }

    #[tokio::test]
    async fn a_body_says_nothing_else() {
        let scene = Scene::logged_in().await;
        let (_, id) = changed(&scene).await;
        let path = format!("/api/admin/tools/{id}/approve");
        assert_eq!(scene.post(&path, json!({"hash": 1, "x": 2})).await.pointers(), ["/hash", "/x"]);
        assert_eq!(scene.post(&path, json!({})).await.pointers(), ["/hash"], "of what nobody looked at");
        let unseen = scene.send("POST", &path, None, &[]).await;
        assert!(matches!(unseen.status, 400 | 415 | 422), "{}", unseen.json);
        assert_eq!(scene.post(&path.replace("tools", "prompts"), json!({"hash": "0"})).await.status, 404);
    }
}
