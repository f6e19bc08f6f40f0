//! `GET /api/openapi.json`: this API, described.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header;

static DOCUMENT: LazyLock<String> = LazyLock::new(crate::routes::openapi);

/// Describe this API
#[utoipa::path(get, path = "/api/openapi.json", tag = "health",
    responses((status = 200, description = "An OpenAPI 3.1 document", content_type = "application/json")))]
pub(crate) async fn document() -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    (headers, DOCUMENT.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use crate::testing::Scene;

    #[tokio::test]
    async fn is_there_for_everybody() {
        let scene = Scene::new().await;
        let answer = scene.get("/api/openapi.json").await;
        assert_eq!((answer.status, answer.json["openapi"].as_str()), (200, Some("3.1.0")));
    }
}
