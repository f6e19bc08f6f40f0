//! `POST /api/admin/upstreams/bulk`: one thing done to several upstreams.
//!
//! Each is done by itself, as its own operation does it, with its own audit event; one that fails keeps no other
//! from being done, and the answer says of each how it went.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sql::model::UpstreamId;
use utoipa::ToSchema;

use super::{delete, disable, enable, reconnect, sync};
use crate::App;
use crate::error::ApiError;
use crate::extract::{self, Admin};
use crate::fields::{self, Fields, Problems};

/// Upstreams of one request: what a page of a list shows.
const UPSTREAMS_MAX: usize = 200;

/// What is to be done to which.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct Bulk {
    /// What is to be done.
    action: BulkAction,
    /// To which, each once, at most 200.
    ids: Vec<uuid::Uuid>,
}

/// What can be done to several upstreams.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BulkAction {
    /// Switch on.
    Enable,
    /// Switch off.
    Disable,
    /// Hang up and dial again.
    Reconnect,
    /// Fetch the lists now.
    Sync,
    /// Delete.
    Delete,
}

/// How it went with each.
#[derive(Serialize, ToSchema)]
pub(crate) struct BulkAnswer {
    /// In the order of the request.
    items: Vec<BulkResult>,
}

/// How it went with one.
#[derive(Serialize, ToSchema)]
pub(crate) struct BulkResult {
    /// Which.
    #[schema(value_type = uuid::Uuid)]
    id: UpstreamId,
    /// Whether it is done.
    ok: bool,
    /// Why it isn't, as the `code` of a problem.
    code: Option<&'static str>,
    /// The same for a person.
    detail: Option<String>,
}

/// Do one thing to several upstreams
///
/// Answers 200 also where some could not be done: each has its own result.
#[utoipa::path(post, path = "/api/admin/upstreams/bulk", tag = "upstreams", request_body = Bulk,
    responses((status = 200, body = BulkAnswer)))]
pub(crate) async fn bulk(
    admin: Admin,
    State(app): State<App>,
    body: extract::Json,
) -> Result<Json<BulkAnswer>, ApiError> {
    let (action, ids) = parse(body.value)?;
    let results = if matches!(action, BulkAction::Sync) {
        // They wait for their upstreams: together.
        futures::future::join_all(ids.iter().map(|id| act(&app, &admin, action, *id))).await
    } else {
        let mut results = Vec::with_capacity(ids.len());
        for id in &ids {
            results.push(act(&app, &admin, action, *id).await);
        }
        results
    };
    let items = ids.into_iter().zip(results).map(|(id, result)| match result {
        Ok(()) => BulkResult { id, ok: true, code: None, detail: None },
        Err(error) => {
            let (code, detail) = error.told();
            BulkResult { id, ok: false, code: Some(code), detail: Some(detail) }
        }
    });
    Ok(Json(BulkAnswer { items: items.collect() }))
}

async fn act(app: &App, admin: &Admin, action: BulkAction, id: UpstreamId) -> Result<(), ApiError> {
    match action {
        BulkAction::Enable => enable::act(app, admin, id).await.map(drop),
        BulkAction::Disable => disable::act(app, admin, id).await.map(drop),
        BulkAction::Reconnect => reconnect::act(app, admin, id).await,
        BulkAction::Sync => sync::act(app, admin, id).await.map(drop),
        BulkAction::Delete => delete::act(app, admin, id).await,
    }
}

fn parse(value: Value) -> Result<(BulkAction, Vec<UpstreamId>), ApiError> {
    let mut problems = Problems::default();
    let Some(mut fields) = Fields::open(value, "", &mut problems) else {
        return problems.unless_any(None);
    };
    let action = fields.required("action", &mut problems, |value| {
        serde_json::from_value::<BulkAction>(value)
            .map_err(|_| "must be one of enable, disable, reconnect, sync, delete".to_owned())
    });
    let ids: Option<Vec<UpstreamId>> = if let Some(value) = fields.take("ids") {
        fields::list(value, "/ids", UPSTREAMS_MAX, &mut problems, |value, at, problems| {
            fields::parsed(value).map_err(|_| problems.add(at, "must be the id of an upstream")).ok()
        })
    } else {
        problems.add("/ids", "is required");
        None
    };
    if let Some(ids) = &ids {
        for (at, id) in ids.iter().enumerate() {
            if ids[..at].contains(id) {
                problems.add(format!("/ids/{at}"), "is there twice");
            }
        }
    }
    fields.close(&mut problems);
    problems.unless_any(action.zip(ids))
}

#[cfg(test)]
mod tests {
    use proxy::control::SyncReport;
    use serde_json::json;

    use crate::testing::Scene;

    const PATH: &str = "/api/admin/upstreams/bulk";

    #[tokio::test]
    async fn each_is_done_by_itself_and_says_how_it_went() {
        let scene = Scene::logged_in().await;
        let (a, b) = (scene.upstream("a").await, scene.upstream("b").await);
        let gone = "01890000-0000-7000-8000-000000000000";
        let answer = scene.post(PATH, json!({"action": "disable", "ids": [a, gone, b]})).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        let of = |at: usize| answer.json["items"][at].clone();
        assert_eq!((&of(0)["ok"], &of(1)["ok"], &of(2)["ok"]), (&json!(true), &json!(false), &json!(true)));
        assert_eq!((&of(1)["code"], &of(1)["id"]), (&json!("NOT_FOUND"), &json!(gone)));
        assert_eq!(scene.audited("upstream.disable").await.len(), 2);
        let refused = scene.post(PATH, json!({"action": "reconnect", "ids": [a]})).await;
        assert_eq!(refused.json["items"][0]["code"], "CONFLICT");

        scene.post(PATH, json!({"action": "enable", "ids": [a, b]})).await;
        scene.plane.next_sync(Ok(SyncReport::default()));
        let synced = scene.post(PATH, json!({"action": "sync", "ids": [a]})).await;
        assert_eq!(synced.json["items"][0]["ok"], json!(true), "{}", synced.json);
        scene.post(PATH, json!({"action": "reconnect", "ids": [b]})).await;
        assert_eq!(scene.plane.reconnected(), [b.parse().unwrap()]);
        scene.post(PATH, json!({"action": "delete", "ids": [a, b]})).await;
        assert_eq!(scene.get("/api/admin/upstreams").await.json["total"], 0);
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_all_together() {
        let scene = Scene::logged_in().await;
        let answer = scene.post(PATH, json!({"action": "explode", "ids": ["x"], "y": 1})).await;
        assert_eq!(answer.pointers(), ["/action", "/ids/0", "/y"]);
        let a = scene.upstream("a").await;
        assert_eq!(scene.post(PATH, json!({"action": "delete", "ids": [a, a]})).await.pointers(), ["/ids/1"]);
        assert_eq!(scene.post(PATH, json!({})).await.pointers(), ["/action", "/ids"]);
        assert_eq!(scene.get("/api/admin/upstreams").await.json["total"], 1);
    }
}
