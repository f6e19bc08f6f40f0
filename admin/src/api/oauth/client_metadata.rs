//! `GET /oauth/client-metadata.json`: who the gateway is, for authorization servers that fetch it (Client
//! ID Metadata Documents). Its own address is its client id, so it is there only where that is known.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::json;

use super::{CALLBACK, CLIENT_METADATA, public_base};
use crate::App;
use crate::error::ApiError;

/// Describe the gateway as an OAuth client
///
/// Only where `MPG_PUBLIC_URL` is an address with `https`.
#[utoipa::path(get, path = "/oauth/client-metadata.json", tag = "oauth",
    responses((status = 200, body = serde_json::Value)))]
pub(crate) async fn client_metadata(State(app): State<App>) -> Result<Response, ApiError> {
    let base = public_base(&app).ok_or(ApiError::NotFound("document"))?;
    let document = json!({
        "client_id": format!("{base}{CLIENT_METADATA}"),
        "client_name": "MCP Proxy Gateway",
        "client_uri": base,
        "redirect_uris": [format!("{base}{CALLBACK}")],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "web",
    });
    let headers = [(header::CACHE_CONTROL, "public, max-age=300")];
    Ok((headers, Json(document)).into_response())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn its_address_is_its_client_id() {
        let scene = Scene::at("https://gateway.example/").await;
        let answer = scene.get("/oauth/client-metadata.json").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json["client_id"], "https://gateway.example/oauth/client-metadata.json");
        assert_eq!(answer.json["redirect_uris"], json!(["https://gateway.example/api/auth/oauth/callback"]));
    }

    #[tokio::test]
    async fn without_an_address_that_servers_can_fetch_there_is_none() {
        assert_eq!(Scene::new().await.get("/oauth/client-metadata.json").await.status, 404);
        let scene = Scene::at("http://gateway.example").await;
        assert_eq!(scene.get("/oauth/client-metadata.json").await.status, 404);
    }
}
