//! `GET /api/admin/keys/{id}`

use axum::extract::State;
use axum::response::Response;
use sql::model::ApiKeyId;

use super::wire::KeyView;
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// Read a key
#[utoipa::path(get, path = "/api/admin/keys/{id}", tag = "keys", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = KeyView, headers(("ETag" = String)))))]
pub(crate) async fn get(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<ApiKeyId>,
) -> Result<Response, ApiError> {
    let mut tx = app.store.read().await?;
    let key = super::find(&mut tx, id).await?;
    Ok(super::answer(&key))
}

#[cfg(test)]
mod tests {
    use crate::testing::Scene;

    #[tokio::test]
    async fn shows_a_key_without_its_secret() {
        let scene = Scene::logged_in().await;
        let (id, _) = scene.key("k").await;
        let answer = scene.get(&format!("/api/admin/keys/{id}")).await;
        assert_eq!((answer.status, answer.json["name"].as_str()), (200, Some("k")));
        assert_eq!(answer.headers["etag"], "\"1\"");
        assert!(answer.json.get("hash").is_none() && answer.json.get("plaintextKey").is_none());
    }
}
