//! `PATCH /api/admin/xiaozhi/{id}`: a merge patch on the version that the client saw.

use axum::extract::State;
use axum::response::Response;
use sql::model::XiaozhiEndpointId;

use super::input::{self, XiaozhiPatch};
use super::wire::XiaozhiView;
use crate::App;
use crate::error::ApiError;
use crate::extract::{self, Admin, Id, IfMatch};

/// Change a XiaoZhi endpoint
///
/// Its connection ends and is made anew, unless only its name changes.
#[utoipa::path(patch, path = "/api/admin/xiaozhi/{id}", tag = "xiaozhi",
    params(("id" = uuid::Uuid, Path), ("If-Match" = String, Header)), request_body = XiaozhiPatch,
    responses((status = 200, body = XiaozhiView, headers(("ETag" = String)))))]
pub(crate) async fn update(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<XiaozhiEndpointId>,
    version: Result<IfMatch, ApiError>,
    body: extract::Json,
) -> Result<Response, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    // First: of what doesn't exist no version can be stated.
    let before = super::find(&mut tx, id).await?;
    if version?.0 != before.version {
        return Err(ApiError::PreconditionFailed);
    }
    let input = input::parse_patch(body.value, &before)?;
    super::check_key(&mut tx, input.key_id, Some(before.key_id)).await?;
    let after = input.apply(&before);
    super::check_url(&app.control, &after)?;
    let after = super::save(&mut tx, &app, &admin, now, &before, after).await?;
    let response = super::answer(&mut tx, &after).await?;
    tx.commit().await?;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn a_change_needs_the_version_it_is_based_on_and_keeps_the_address() {
        let scene = Scene::logged_in().await;
        let path = format!("/api/admin/xiaozhi/{}", scene.xiaozhi("room").await);
        assert_eq!(scene.send("PATCH", &path, Some(json!({})), &[]).await.status, 428);
        let stale = scene.send("PATCH", &path, Some(json!({})), &[("if-match", "\"7\"")]).await;
        assert_eq!(stale.status, 412);
        let body = json!({"toolsMax": 5, "mode": "smart"});
        let first = scene.send("PATCH", &path, Some(body), &[("if-match", "\"1\"")]).await;
        assert_eq!((first.status, first.headers["etag"].to_str().unwrap()), (200, "\"2\""), "{}", first.json);
        assert_eq!((&first.json["toolsMax"], &first.json["mode"]), (&json!(5), &json!("smart")));
        let body = json!({"toolsMax": null, "url": "ws://host:8004/mcp_endpoint/mcp/?token=CANARY-2"});
        let second = scene.send("PATCH", &path, Some(body), &[("if-match", "\"2\"")]).await;
        assert_eq!(second.json["toolsMax"], 32);
        assert_eq!(second.json["urlMasked"], "ws://host:8004/mcp_endpoint/mcp/?token=***");
        let none = json!({"url": null});
        assert_eq!(
            scene.send("PATCH", &path, Some(none), &[("if-match", "\"3\"")]).await.pointers(),
            ["/url"]
        );
        let events = scene.audited("xiaozhi.update").await;
        assert_eq!(events.len(), 2);
        assert!(!format!("{events:?}").contains("CANARY"));
        assert!(
            events[0].diff.to_string().contains("token"),
            "that the token changed shows: {}",
            events[0].diff
        );
        assert!(!events[1].diff.to_string().contains("token"), "{}", events[1].diff);
    }

    #[tokio::test]
    async fn an_endpoint_whose_key_is_gone_can_still_be_changed() {
        let scene = Scene::logged_in().await;
        let path = format!("/api/admin/xiaozhi/{}", scene.xiaozhi("room").await);
        let key = scene.get(&path).await.json["keyId"].as_str().unwrap().to_owned();
        assert_eq!(scene.delete(&format!("/api/admin/keys/{key}")).await.status, 204);
        let renamed =
            scene.send("PATCH", &path, Some(json!({"name": "hall"})), &[("if-match", "\"1\"")]).await;
        assert_eq!((renamed.status, &renamed.json["name"]), (200, &json!("hall")));
        let other = json!({"keyId": uuid::Uuid::nil()});
        assert_eq!(
            scene.send("PATCH", &path, Some(other), &[("if-match", "\"2\"")]).await.pointers(),
            ["/keyId"]
        );
    }
}
