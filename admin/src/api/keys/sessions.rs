//! `GET /api/admin/keys/{id}/sessions` and `DELETE .../sessions/{sid}`: what its clients have opened.

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use sql::model::{ApiKeyId, ClientSession, Timestamp};
use sql::{client_sessions, sessions};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{Admin, Id, TwoIds};

/// Sessions that are shown of one key: the newest.
const SHOWN_MAX: u32 = 200;

/// The sessions of a key.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeySessions {
    /// The newest first, at most 200.
    items: Vec<KeySession>,
}

/// A session that a client of 2025-11-25 or older opened over Streamable HTTP, and that goes on.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeySession {
    /// Which.
    id: Uuid,
    /// The path it was opened on.
    path: String,
    /// The version that was agreed.
    version: String,
    /// What the client calls itself, if it says so.
    client: Option<String>,
    /// From where it was opened.
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it ends by itself.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

impl From<ClientSession> for KeySession {
    fn from(session: ClientSession) -> Self {
        Self {
            id: session.rid,
            path: session.path,
            version: session.version,
            client: session.client,
            address: session.address,
            created_at: session.created_at,
            expires_at: session.expires_at,
        }
    }
}

/// List the sessions of a key
///
/// Those with an id of their own, which outlive connections; of all replicas.
#[utoipa::path(get, path = "/api/admin/keys/{id}/sessions", tag = "keys", operation_id = "list_sessions",
    params(("id" = uuid::Uuid, Path)), responses((status = 200, body = KeySessions)))]
pub(crate) async fn list(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<ApiKeyId>,
) -> Result<Json<KeySessions>, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.read().await?;
    super::find(&mut tx, id).await?;
    let sessions = client_sessions::of_key(&mut tx, id, now, SHOWN_MAX).await?;
    Ok(Json(KeySessions { items: sessions.into_iter().map(KeySession::from).collect() }))
}

/// End a session of a key
///
/// Its client is told that there is no such session, and opens another one.
#[utoipa::path(delete, path = "/api/admin/keys/{id}/sessions/{sid}", tag = "keys", operation_id = "end_session",
    params(("id" = uuid::Uuid, Path), ("sid" = uuid::Uuid, Path)), responses((status = 204)))]
pub(crate) async fn end(
    admin: Admin,
    State(app): State<App>,
    TwoIds(id, sid): TwoIds<ApiKeyId, Uuid>,
) -> Result<StatusCode, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let key = super::find(&mut tx, id).await?;
    let session = client_sessions::get(&mut tx, sid, now).await?.filter(|session| session.key_id == id);
    let session = session.ok_or(ApiError::NotFound("session"))?;
    sessions::end(&mut tx, sid, session.expires_at).await?;
    let diff = json!({"sessionId": sid, "client": session.client});
    audit::record(&mut tx, now, &admin, Act::on("key.end-session", id, key.name, diff)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sql::model::ClientSession;
    use sql::{client_sessions, sessions};

    use crate::testing::Scene;

    #[tokio::test]
    async fn a_session_is_shown_until_it_is_ended() {
        let scene = Scene::logged_in().await;
        let (key, other) = (scene.key("k").await.0, scene.key("other").await.0);
        let now = scene.clock.now();
        let session = |rid: u128, ends_in_s: u64| ClientSession {
            rid: uuid::Uuid::from_u128(rid),
            key_id: key.parse().unwrap(),
            path: "/mcp/http".into(),
            version: "2025-11-25".into(),
            client: Some("cli 1".into()),
            address: "127.0.0.1".parse().ok(),
            created_at: now,
            expires_at: now.plus(std::time::Duration::from_secs(ends_in_s)),
        };
        let mut tx = scene.store.begin().await.unwrap();
        client_sessions::insert(&mut tx, &[session(1, 60), session(2, 60), session(3, 0)]).await.unwrap();
        tx.commit().await.unwrap();
        let path = format!("/api/admin/keys/{key}/sessions");
        let listed = scene.get(&path).await.json;
        assert_eq!(listed["items"].as_array().unwrap().len(), 2, "{listed}");
        let sid = listed["items"][0]["id"].as_str().unwrap().to_owned();
        let elsewhere = format!("/api/admin/keys/{other}/sessions/{sid}");
        assert_eq!(scene.delete(&elsewhere).await.status, 404, "of another key");
        assert_eq!(scene.delete(&format!("{path}/{sid}")).await.status, 204);
        assert_eq!(scene.delete(&format!("{path}/{sid}")).await.status, 404);
        assert_eq!(scene.get(&path).await.json["items"].as_array().unwrap().len(), 1);
        let mut tx = scene.store.read().await.unwrap();
        assert!(sessions::get(&mut tx, sid.parse().unwrap()).await.unwrap().unwrap().ended);
        drop(tx);
        let told = scene.audited("key.end-session").await;
        assert_eq!(told[0].diff["sessionId"], json!(sid));
    }
}
