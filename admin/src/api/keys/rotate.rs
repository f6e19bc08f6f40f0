//! `POST /api/admin/keys/{id}/rotate`: a new secret; the old one may live on for a stated time.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::Value;
use sql::model::{ApiKey, ApiKeyId, PlaintextKey, PreviousSecret, Timestamp};
use utoipa::ToSchema;

use super::wire::{self, NewKeyView};
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Id, OptionalJson, etag};
use crate::fields::{Fields, Problems, integer};

/// The longest overlap: a month to reach every client.
const OVERLAP_S_MAX: u32 = 31 * 86_400;

/// How long the old secret lives on.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct Rotation {
    /// In seconds, up to 31 days; not at all if not said.
    overlap_s: Option<u32>,
}

/// Give a key a new secret
///
/// The secret before the one that is replaced stops working at once, whatever overlap it had.
#[utoipa::path(post, path = "/api/admin/keys/{id}/rotate", tag = "keys", request_body = Option<Rotation>,
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = NewKeyView, headers(("ETag" = String)))))]
pub(crate) async fn rotate(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<ApiKeyId>,
    OptionalJson(body): OptionalJson,
) -> Result<Response, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let before = super::find(&mut tx, id).await?;
    let overlap = parse(body)?;
    let secret = PlaintextKey::generate();
    let after = with_secret(&before, &secret, overlap, now);
    let after = super::save(&mut tx, &admin, now, "key.rotate", &before, after).await?;
    tx.commit().await?;
    let view = NewKeyView { key: wire::view(&after), plaintext_key: secret.expose().to_owned() };
    Ok(([(header::ETAG, etag(after.version))], Json(view)).into_response())
}

fn with_secret(before: &ApiKey, secret: &PlaintextKey, overlap: Duration, now: Timestamp) -> ApiKey {
    let until = now.plus(overlap);
    ApiKey {
        prefix: secret.prefix().to_owned(),
        hash: secret.hash(),
        previous: (until > now).then_some(PreviousSecret { hash: before.hash, until }),
        ..before.clone()
    }
}

fn parse(value: Value) -> Result<Duration, ApiError> {
    let mut problems = Problems::default();
    let Some(mut fields) = Fields::open(value, "", &mut problems) else {
        return problems.unless_any(None);
    };
    let overlap_s = fields.optional("overlapS", &mut problems, integer(0..=OVERLAP_S_MAX)).unwrap_or(0);
    fields.close(&mut problems);
    problems.unless_any(Some(Duration::from_secs(overlap_s.into())))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use sql::model::PlaintextKey;

    use crate::testing::Scene;

    #[tokio::test]
    async fn the_old_secret_lives_on_as_long_as_was_said() {
        let scene = Scene::logged_in().await;
        let (id, old) = scene.key("k").await;
        let path = format!("/api/admin/keys/{id}/rotate");
        let answer = scene.post(&path, json!({"overlapS": 60})).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        let key = scene.stored_key("k").await;
        let new = PlaintextKey::parse(answer.json["plaintextKey"].as_str().unwrap()).unwrap();
        assert_eq!((key.hash, key.prefix.as_str()), (new.hash(), new.prefix()));
        let previous = key.previous.unwrap();
        assert_eq!(previous.hash, PlaintextKey::parse(&old).unwrap().hash());
        assert_eq!(previous.until, scene.clock.now().plus(Duration::from_mins(1)));

        let without_body = scene.send("POST", &path, None, &[]).await;
        assert_eq!((without_body.status, &without_body.json["previousUntil"]), (200, &json!(null)));
        assert_eq!(scene.post(&path, json!({"overlapS": -1, "x": 1})).await.pointers(), ["/overlapS", "/x"]);
        assert_eq!(scene.audited("key.rotate").await.len(), 2);
    }
}
