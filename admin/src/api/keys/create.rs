//! `POST /api/admin/keys`: a new key. Its secret is in this answer and never again.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use sql::api_keys;
use sql::model::{ApiKey, ApiKeyId, PlaintextKey};

use super::input::{self, Input, KeyBody};
use super::name_taken;
use super::wire::{self, NewKeyView};
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Admin, etag};
use crate::idempotency::Created;

/// Create a key
///
/// With an `Idempotency-Key` the same request again answers the same, the secret included, for ten
/// minutes.
#[utoipa::path(post, path = "/api/admin/keys", tag = "keys", request_body = KeyBody,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = NewKeyView, headers(("Location" = String), ("ETag" = String)))))]
pub(crate) async fn create(
    admin: Admin,
    State(app): State<App>,
    headers: HeaderMap,
    body: extract::Json,
) -> Result<Response, ApiError> {
    let input = input::parse(body.value, app.store.clock().now(), None)?;
    app.idempotency.once(admin.id, "key.create", &headers, &body.bytes, act(&app, &admin, input)).await
}

async fn act(app: &App, admin: &Admin, input: Input) -> Created {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    input.check_upstreams(&mut tx, None).await?;
    let secret = PlaintextKey::generate();
    let key = input.apply(ApiKey::create(ApiKeyId::at(now), "", &secret, now));
    api_keys::insert(&mut tx, &key).await.map_err(name_taken)?;
    let diff = audit::diff(None, Some(&wire::audited(&key)));
    audit::record(&mut tx, now, admin, Act::on("key.create", key.id, key.name.as_str(), diff)).await?;
    let location = format!("/api/admin/keys/{}", key.id);
    let view = NewKeyView { key: wire::view(&key), plaintext_key: secret.expose().to_owned() };
    let mut response = (StatusCode::CREATED, [(header::LOCATION, location)], Json(view)).into_response();
    response.headers_mut().insert(header::ETAG, etag(key.version));
    Ok((tx, response))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sql::model::PlaintextKey;

    use crate::testing::Scene;

    const PATH: &str = "/api/admin/keys";

    #[tokio::test]
    async fn the_secret_is_shown_once_and_only_its_hash_is_kept() {
        let scene = Scene::logged_in().await;
        let body = json!({
            "name": "team-a",
            "expiresAt": null,
            "mode": "inherit",
            "upstreamIds": null,
            "allowedCidrs": ["10.1.2.3/8", "192.0.2.7"],
            "rateLimit": {"limit": 600, "windowS": 60},
            "quotaPerDay": null,
            "quotaPerMonth": null,
        });
        let created = scene.post(PATH, body).await;
        assert_eq!(created.status, 201, "{}", created.json);
        let secret = created.json["plaintextKey"].as_str().unwrap().to_owned();
        assert_eq!(created.json["prefix"], secret[..12]);
        assert_eq!(created.json["allowedCidrs"], json!(["10.0.0.0/8", "192.0.2.7/32"]));
        assert_eq!(created.json["rateLimit"], json!({"limit": 600, "windowS": 60}));

        let path = created.headers["location"].to_str().unwrap().to_owned();
        for answer in [scene.get(&path).await, scene.get(PATH).await] {
            assert_eq!(answer.status, 200);
            assert!(!answer.json.to_string().contains(&secret[12..]));
        }
        let key = scene.stored_key("team-a").await;
        assert_eq!(key.hash, PlaintextKey::parse(&secret).unwrap().hash());
        let events = scene.audited("key.create").await;
        assert!(!format!("{events:?}").contains(&secret[12..]));
    }

    #[tokio::test]
    async fn a_key_has_quotas() {
        let scene = Scene::logged_in().await;
        let answer = scene.post(PATH, json!({"name": "k", "quotaPerDay": 5, "quotaPerMonth": 50})).await;
        assert_eq!(answer.status, 201, "{}", answer.json);
        assert_eq!((&answer.json["quotaPerDay"], &answer.json["quotaPerMonth"]), (&json!(5), &json!(50)));
    }

    #[tokio::test]
    async fn everything_wrong_is_said_at_once() {
        let scene = Scene::logged_in().await;
        let body = json!({
            "name": "",
            "expiresAt": "2001-01-01T00:00:00Z",
            "mode": "clever",
            "upstreamIds": ["x"],
            "allowedCidrs": ["10.0.0.0/33", "::ffff:10.0.0.0/104"],
            "rateLimit": {"limit": 0},
            "quotaPerDay": -1,
            "plaintextKey": "mpg_x",
        });
        let answer = scene.post(PATH, body).await;
        assert_eq!(
            answer.pointers(),
            [
                "/name",
                "/expiresAt",
                "/mode",
                "/upstreamIds/0",
                "/allowedCidrs/0",
                "/allowedCidrs/1",
                "/rateLimit/limit",
                "/rateLimit/windowS",
                "/quotaPerDay",
                "/plaintextKey",
            ]
        );
    }

    #[tokio::test]
    async fn a_key_names_upstreams_that_exist() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        let body = json!({"name": "k", "upstreamIds": [id, uuid::Uuid::nil()]});
        assert_eq!(scene.post(PATH, body).await.pointers(), ["/upstreamIds/1"]);
        let answer = scene.post(PATH, json!({"name": "k", "upstreamIds": [id, id]})).await;
        assert_eq!((answer.status, &answer.json["upstreamIds"]), (201, &json!([id])));
    }

    #[tokio::test]
    async fn a_name_is_unique() {
        let scene = Scene::logged_in().await;
        scene.key("k").await;
        let answer = scene.post(PATH, json!({"name": "k"})).await;
        assert_eq!((answer.status, answer.pointers()), (409, vec!["/name".to_owned()]));
    }

    #[tokio::test]
    async fn the_same_request_again_gives_the_same_secret() {
        let scene = Scene::logged_in().await;
        let key = [("idempotency-key", "one")];
        let first = scene.send("POST", PATH, Some(json!({"name": "k"})), &key).await;
        let again = scene.send("POST", PATH, Some(json!({"name": "k"})), &key).await;
        assert_eq!((first.status, &first.json), (201, &again.json));
    }
}
