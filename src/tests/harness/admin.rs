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
        let client = reqwest::Client::new();
        let body = json!({"username": username, "password": password});
        let answer =
            client.post(format!("{url}/api/auth/login")).json(&body).send().await.expect("an answer");
        let status = answer.status();
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!(status, StatusCode::OK, "{body}");
        let token = body["token"].as_str().expect("a token").to_owned();
        Self { client, url, token }
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
