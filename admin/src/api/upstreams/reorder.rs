//! `POST /api/admin/upstreams/reorder`: all upstreams in a new order.

use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};
use sql::model::UpstreamId;
use sql::upstreams;
use utoipa::ToSchema;

use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Admin};
use crate::fields::{self, Fields, Problems};

/// More upstreams than any installation has.
const UPSTREAMS_MAX: usize = 10_000;

/// Every upstream once, in the order that is to be.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct Order {
    /// All ids, each once.
    ids: Vec<uuid::Uuid>,
}

/// Reorder all upstreams
#[utoipa::path(post, path = "/api/admin/upstreams/reorder", tag = "upstreams", request_body = Order,
    responses((status = 204)))]
pub(crate) async fn reorder(
    admin: Admin,
    State(app): State<App>,
    body: extract::Json,
) -> Result<StatusCode, ApiError> {
    let ids = parse(body.value)?;
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let before: Vec<UpstreamId> = upstreams::list(&mut tx).await?.into_iter().map(|one| one.id).collect();
    // Somebody may have added one meanwhile: then the order that was seen is not the order there is.
    if !upstreams::reorder(&mut tx, &ids).await? {
        return Err(ApiError::field("/ids", "must name every upstream exactly once"));
    }
    let act = Act {
        action: "upstream.reorder",
        target_id: None,
        target_name: None,
        diff: json!({"/ids": {"before": before, "after": ids}}),
        outcome: sql::model::Outcome::Success,
    };
    audit::record(&mut tx, now, &admin, act).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn parse(value: Value) -> Result<Vec<UpstreamId>, ApiError> {
    let mut problems = Problems::default();
    let Some(mut fields) = Fields::open(value, "", &mut problems) else {
        return problems.unless_any(None);
    };
    let ids = if let Some(value) = fields.take("ids") {
        fields::list(value, "/ids", UPSTREAMS_MAX, &mut problems, |value, at, problems| {
            fields::parsed(value).map_err(|_| problems.add(at, "must be the id of an upstream")).ok()
        })
    } else {
        problems.add("/ids", "is required");
        None
    };
    fields.close(&mut problems);
    problems.unless_any(ids)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    const PATH: &str = "/api/admin/upstreams/reorder";

    #[tokio::test]
    async fn an_order_names_every_upstream_once() {
        let scene = Scene::logged_in().await;
        let (a, b, c) = (scene.upstream("a").await, scene.upstream("b").await, scene.upstream("c").await);
        for ids in [json!([a, b]), json!([a, b, b]), json!([a, b, c, c]), json!([a, b, uuid::Uuid::nil()])] {
            let answer = scene.post(PATH, json!({"ids": ids})).await;
            assert_eq!((answer.status, answer.pointers()), (422, vec!["/ids".to_owned()]));
        }
        assert_eq!(scene.post(PATH, json!({"ids": [1, "x"]})).await.pointers(), ["/ids/0", "/ids/1"]);
        assert_eq!(scene.post(PATH, json!({"ids": [c, a, b]})).await.status, 204);
        let listed = scene.get("/api/admin/upstreams").await;
        let names: Vec<&str> = listed.json["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["c", "a", "b"]);
        assert_eq!(scene.audited("upstream.reorder").await.len(), 1);
    }
}
