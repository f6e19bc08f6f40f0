//! The REST API of a gateway, as an admin who has logged in.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// An admin with a token.
pub(crate) struct Admin {
    client: reqwest::Client,
    url: String,
    token: String,
}

impl Admin {
    pub(super) async fn log_in(url: String, username: &str, password: &str) -> Self {
        let client = super::mcp::client();
        let body = json!({"username": username, "password": password});
        let answer =
            client.post(format!("{url}/api/auth/login")).json(&body).send().await.expect("an answer");
        let status = answer.status();
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!(status, StatusCode::OK, "{body}");
        let token = body["token"].as_str().expect("a token").to_owned();
        Self { client, url, token }
    }

    pub(super) async fn register(url: String, username: &str, password: &str) -> Self {
        let body = json!({"username": username, "password": password});
        let request = super::mcp::client().post(format!("{url}/api/auth/register")).json(&body);
        let (status, body) = answer(request).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        Self::log_in(url, username, password).await
    }

    /// `GET /api/admin/PATH`.
    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path)).await
    }

    /// `POST /api/admin/PATH`.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.request(Method::POST, path).json(body)).await
    }

    /// `PATCH /api/admin/PATH`, of the version that `etag` names.
    pub(crate) async fn patch(&self, path: &str, etag: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.request(Method::PATCH, path).header("If-Match", etag).json(body)).await
    }

    /// `DELETE /api/admin/PATH`.
    pub(crate) async fn delete(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::DELETE, path)).await
    }

    /// Makes a key, with these fields beside its name: its id and its text.
    pub(crate) async fn create_key(&self, name: &str, mut body: Value) -> (String, String) {
        body["name"] = name.into();
        let (status, created) = self.post("keys", &body).await;
        assert_eq!(status, StatusCode::CREATED, "{created}");
        let text = |field: &str| created[field].as_str().expect("a text").to_owned();
        (text("id"), text("plaintextKey"))
    }

    /// The id of the upstream of that name.
    pub(crate) async fn upstream_id(&self, name: &str) -> String {
        let list = self.get("upstreams").await.1;
        let items = list["items"].as_array().expect("a list");
        let found =
            items.iter().find(|item| item["name"] == name).unwrap_or_else(|| panic!("{name} in {list}"));
        found["id"].as_str().expect("an id").to_owned()
    }

    /// A request with the token, to be completed by the test.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}/api/admin/{path}", self.url)).bearer_auth(&self.token)
    }
}

/// Status and body; a body that is empty is `null`.
async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.expect("an answer");
    let status = answer.status();
    let body = answer.bytes().await.expect("a whole body");
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
    (status, body)
}
