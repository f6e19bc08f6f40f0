//! `POST /api/admin/keys/{id}/enable`

use axum::extract::State;
use axum::response::Response;
use sql::model::{ApiKey, ApiKeyId};

use super::wire::KeyView;
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// Switch a key on
#[utoipa::path(post, path = "/api/admin/keys/{id}/enable", tag = "keys", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = KeyView, headers(("ETag" = String)))))]
pub(crate) async fn enable(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<ApiKeyId>,
) -> Result<Response, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let before = super::find(&mut tx, id).await?;
    let after = ApiKey { enabled: true, ..before.clone() };
    let after = super::save(&mut tx, &admin, now, "key.enable", &before, after).await?;
    tx.commit().await?;
    Ok(super::answer(&after))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn a_switch_is_written_once() {
        let scene = Scene::logged_in().await;
        let path = format!("/api/admin/keys/{}", scene.key("k").await.0);
        for (operation, expected) in [("enable", true), ("disable", false), ("enable", true)] {
            let answer = scene.post(&format!("{path}/{operation}"), json!({})).await;
            assert_eq!((answer.status, &answer.json["enabled"]), (200, &json!(expected)));
        }
        assert_eq!(scene.audited("key.enable").await.len(), 1);
    }
}
