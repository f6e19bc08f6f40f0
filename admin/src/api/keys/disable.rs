//! `POST /api/admin/keys/{id}/disable`

use axum::extract::State;
use axum::response::Response;
use sql::model::{ApiKey, ApiKeyId};

use super::wire::KeyView;
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// Switch a key off
#[utoipa::path(post, path = "/api/admin/keys/{id}/disable", tag = "keys", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = KeyView, headers(("ETag" = String)))))]
pub(crate) async fn disable(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<ApiKeyId>,
) -> Result<Response, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let before = super::find(&mut tx, id).await?;
    let after = ApiKey { enabled: false, ..before.clone() };
    let after = super::save(&mut tx, &admin, now, "key.disable", &before, after).await?;
    tx.commit().await?;
    Ok(super::answer(&after))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn what_is_off_says_so() {
        let scene = Scene::logged_in().await;
        let path = format!("/api/admin/keys/{}/disable", scene.key("k").await.0);
        let answer = scene.post(&path, json!({})).await;
        assert_eq!((answer.status, &answer.json["enabled"]), (200, &json!(false)));
        assert_eq!(scene.audited("key.disable").await[0].diff["/enabled"]["after"], false);
    }
}
