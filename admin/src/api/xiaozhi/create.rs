//! `POST /api/admin/xiaozhi`: a new endpoint, which is dialled at once.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sql::model::{XiaozhiEndpoint, XiaozhiEndpointId};
use sql::xiaozhi_endpoints;

use super::input::{self, Input, XiaozhiBody};
use super::wire::{self, XiaozhiView};
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Admin};
use crate::idempotency::Created;

/// Create a XiaoZhi endpoint
///
/// Doesn't wait for the connection; its state shows how it goes.
#[utoipa::path(post, path = "/api/admin/xiaozhi", tag = "xiaozhi", request_body = XiaozhiBody,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = XiaozhiView, headers(("Location" = String), ("ETag" = String)))))]
pub(crate) async fn create(
    admin: Admin,
    State(app): State<App>,
    headers: HeaderMap,
    body: extract::Json,
) -> Result<Response, ApiError> {
    let input = input::parse(body.value)?;
    app.idempotency.once(admin.id, "xiaozhi.create", &headers, &body.bytes, act(&app, &admin, input)).await
}

async fn act(app: &App, admin: &Admin, input: Input) -> Created {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    super::check_key(&mut tx, input.key_id, None).await?;
    let (key_id, nowhere) = (input.key_id, String::new().into());
    let endpoint = XiaozhiEndpoint::create(XiaozhiEndpointId::at(now), "", nowhere, key_id, now);
    let endpoint = input.apply(&endpoint);
    super::check_url(&app.control, &endpoint)?;
    xiaozhi_endpoints::insert(&mut tx, &endpoint).await.map_err(super::name_taken)?;
    let diff = audit::diff(None, Some(&wire::audited(&endpoint, &app.fingerprint)));
    let act = Act::on("xiaozhi.create", endpoint.id, endpoint.name.as_str(), diff);
    audit::record(&mut tx, now, admin, act).await?;
    let mut response = super::answer(&mut tx, &endpoint).await?;
    *response.status_mut() = StatusCode::CREATED;
    let location = format!("/api/admin/xiaozhi/{}", endpoint.id);
    let location = HeaderValue::try_from(location).expect("an id is plain text");
    response.headers_mut().insert(header::LOCATION, location);
    Ok((tx, response))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    const PATH: &str = "/api/admin/xiaozhi";
    const URL: &str = "wss://api.xiaozhi.me/mcp/?token=CANARY";

    #[tokio::test]
    async fn the_token_is_never_shown_again() {
        let scene = Scene::logged_in().await;
        let (key, _) = scene.key("k").await;
        let created = scene.post(PATH, json!({"name": "room", "url": URL, "keyId": key})).await;
        assert_eq!(created.status, 201, "{}", created.json);
        assert_eq!(created.headers["etag"], "\"1\"");
        assert_eq!(created.json["urlMasked"], "wss://api.xiaozhi.me/mcp/?token=***");
        let defaults = ["mode", "toolsMax", "descriptionMax", "deadlineS", "enabled", "state"];
        let expected = [json!("inherit"), json!(32), json!(512), json!(9), json!(true), json!("waiting")];
        for (field, value) in defaults.into_iter().zip(expected) {
            assert_eq!(created.json[field], value, "{field}");
        }
        let path = created.headers["location"].to_str().unwrap().to_owned();
        for answer in [created, scene.get(&path).await, scene.get(PATH).await] {
            assert!(!answer.json.to_string().contains("CANARY"));
        }
        let events = scene.audited("xiaozhi.create").await;
        assert_eq!(events.len(), 1);
        assert!(!format!("{events:?}").contains("CANARY"));
    }

    #[tokio::test]
    async fn everything_wrong_is_said_at_once_and_nothing_saved() {
        let scene = Scene::logged_in().await;
        let body = json!({
            "name": " ",
            "url": "https://api.xiaozhi.me/?token=CANARY",
            "keyId": "x",
            "enabled": 1,
            "mode": "clever",
            "toolsMax": 0,
            "descriptionMax": 5,
            "deadlineS": 1000,
            "state": "connected",
        });
        let answer = scene.post(PATH, body).await;
        let pointers = [
            "/name",
            "/url",
            "/keyId",
            "/enabled",
            "/mode",
            "/toolsMax",
            "/descriptionMax",
            "/deadlineS",
            "/state",
        ];
        assert_eq!((answer.status, answer.pointers()), (422, pointers.map(str::to_owned).to_vec()));
        assert!(!answer.json.to_string().contains("CANARY"));
        let missing = scene.post(PATH, json!({})).await;
        assert_eq!(missing.pointers(), ["/name", "/url", "/keyId"]);
        let masked = json!({"name": "a", "url": "wss://h/?token=***", "keyId": uuid::Uuid::nil()});
        assert_eq!(scene.post(PATH, masked).await.pointers(), ["/url"]);
        assert_eq!(scene.get(PATH).await.json["total"], 0);
    }

    #[tokio::test]
    async fn the_key_exists_and_the_address_may_be_dialled() {
        let scene = Scene::logged_in().await;
        let (key, _) = scene.key("k").await;
        let unknown = json!({"name": "room", "url": URL, "keyId": uuid::Uuid::nil()});
        assert_eq!(scene.post(PATH, unknown).await.pointers(), ["/keyId"]);
        scene.plane.forbid("/url", "the address is not allowed");
        let blocked = json!({"name": "room", "url": "ws://169.254.169.254/?token=a", "keyId": key});
        assert_eq!(scene.post(PATH, blocked).await.pointers(), ["/url"]);
        assert_eq!(scene.get(PATH).await.json["total"], 0);
    }

    #[tokio::test]
    async fn a_name_is_unique_and_the_same_request_again_is_one() {
        let scene = Scene::logged_in().await;
        let (key, _) = scene.key("k").await;
        let body = json!({"name": "room", "url": URL, "keyId": key});
        let once = [("idempotency-key", "one")];
        let first = scene.send("POST", PATH, Some(body.clone()), &once).await;
        let again = scene.send("POST", PATH, Some(body.clone()), &once).await;
        assert_eq!((first.status, &first.json), (201, &again.json));
        let second = scene.post(PATH, body).await;
        assert_eq!((second.status, second.pointers()), (409, vec!["/name".to_owned()]));
    }
}
