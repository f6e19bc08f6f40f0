//! `PATCH /api/admin/keys/{id}`: a merge patch on the version that the client saw.

use axum::extract::State;
use axum::response::Response;
use sql::model::ApiKeyId;

use super::input::{self, KeyPatch};
use super::wire::KeyView;
use crate::App;
use crate::error::ApiError;
use crate::extract::{self, Admin, Id, IfMatch};

/// Change a key
#[utoipa::path(patch, path = "/api/admin/keys/{id}", tag = "keys",
    params(("id" = uuid::Uuid, Path), ("If-Match" = String, Header)), request_body = KeyPatch,
    responses((status = 200, body = KeyView, headers(("ETag" = String)))))]
pub(crate) async fn update(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<ApiKeyId>,
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
    let input = input::parse_patch(body.value, now, &before)?;
    input.check_upstreams(&mut tx, Some(&before)).await?;
    let after = input.apply(before.clone());
    let after = super::save(&mut tx, &admin, now, "key.update", &before, after).await?;
    tx.commit().await?;
    Ok(super::answer(&after))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn a_change_needs_the_version_it_is_based_on() {
        let scene = Scene::logged_in().await;
        let (id, _) = scene.key("k").await;
        let path = format!("/api/admin/keys/{id}");
        assert_eq!(scene.send("PATCH", &path, Some(json!({})), &[]).await.status, 428);
        let stale = scene.send("PATCH", &path, Some(json!({})), &[("if-match", "\"7\"")]).await;
        assert_eq!(stale.status, 412);
        let body = json!({"rateLimit": {"limit": 1, "windowS": 2}, "allowedCidrs": ["10.0.0.0/8"]});
        let first = scene.send("PATCH", &path, Some(body), &[("if-match", "\"1\"")]).await;
        assert_eq!((first.status, first.headers["etag"].to_str().unwrap()), (200, "\"2\""));
        let body = json!({"rateLimit": {"limit": 5}, "allowedCidrs": null});
        let second = scene.send("PATCH", &path, Some(body), &[("if-match", "\"2\"")]).await;
        assert_eq!(second.json["rateLimit"], json!({"limit": 5, "windowS": 2}));
        assert_eq!(second.json["allowedCidrs"], json!([]));
        assert_eq!(scene.audited("key.update").await.len(), 2);
    }

    #[tokio::test]
    async fn an_expired_key_can_still_be_renamed() {
        let scene = Scene::logged_in().await;
        let soon = scene.clock.now().plus(Duration::from_mins(1));
        let created = scene.post("/api/admin/keys", json!({"name": "k", "expiresAt": soon})).await;
        scene.clock.advance(Duration::from_mins(2));
        let path = created.headers["location"].to_str().unwrap().to_owned();
        let renamed = scene.send("PATCH", &path, Some(json!({"name": "l"})), &[("if-match", "\"1\"")]).await;
        assert_eq!((renamed.status, &renamed.json["name"]), (200, &json!("l")));
    }
}
