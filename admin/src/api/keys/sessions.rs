//! `GET /api/admin/keys/{id}/sessions` and `DELETE .../sessions/{sid}`: what its clients have opened.

use std::net::IpAddr;
use std::time::Duration;

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
use crate::extract::{Admin, Id, Query, TwoIds};
use crate::query::{ListQuery, Listed};

/// What sessions can be sorted by.
const SORTS: [&str; 1] = ["createdAt"];

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
    /// When it ends by itself, as long as the setting for it stays as it is.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// How long a session lives.
fn lifetime(app: &App) -> Duration {
    Duration::from_secs(u64::from(app.settings().limits.session_ttl_s))
}

impl KeySession {
    fn of(session: ClientSession, lifetime: Duration) -> Self {
        Self {
            id: session.rid,
            path: session.path,
            version: session.version,
            client: session.client,
            address: session.address,
            created_at: session.created_at,
            expires_at: session.created_at.plus(lifetime),
        }
    }
}

/// List the sessions of a key
///
/// Those of Streamable HTTP, which have an id and outlive connections; of all replicas, the newest first. A session of
/// SSE or WebSocket is one with its connection, and isn't listed.
#[utoipa::path(get, path = "/api/admin/keys/{id}/sessions", tag = "keys", operation_id = "list_sessions",
    params(("id" = uuid::Uuid, Path), ListQuery), responses((status = 200, body = Listed<KeySession>)))]
pub(crate) async fn list(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<ApiKeyId>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Listed<KeySession>>, ApiError> {
    let request = query.parse(&SORTS)?;
    let lifetime = lifetime(&app);
    let since = app.store.clock().now().minus(lifetime);
    let mut tx = app.store.read().await?;
    super::find(&mut tx, id).await?;
    let page = client_sessions::page(&mut tx, &request, id, since).await?;
    Ok(Json(page.map(|session| KeySession::of(session, lifetime)).into()))
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
    let session = client_sessions::get(&mut tx, sid, now.minus(lifetime(&app))).await?;
    let session = session.filter(|session| session.key_id == id).ok_or(ApiError::NotFound("session"))?;
    sessions::end(&mut tx, sid, session.expires_at).await?;
    let diff = json!({"sessionId": sid, "client": session.client});
    audit::record(&mut tx, now, &admin, Act::on("key.end-session", id, key.name, diff)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use sql::model::ClientSession;
    use sql::{client_sessions, sessions};

    use crate::testing::Scene;

    #[tokio::test]
    async fn a_session_is_shown_until_it_is_ended() {
        let scene = Scene::logged_in().await;
        let (key, other) = (scene.key("k").await.0, scene.key("other").await.0);
        let now = scene.clock.now();
        let session = |rid: u128, age_s: u64| ClientSession {
            rid: uuid::Uuid::from_u128(rid),
            key_id: key.parse().unwrap(),
            path: "/mcp/http".into(),
            version: "2025-11-25".into(),
            client: Some("cli 1".into()),
            address: "127.0.0.1".parse().ok(),
            created_at: now.minus(Duration::from_secs(age_s)),
            // Whatever the setting is now, its row is there for the longest.
            expires_at: now.plus(Duration::from_hours(1)),
        };
        let mut tx = scene.store.begin().await.unwrap();
        client_sessions::insert(&mut tx, &[session(1, 86_399), session(2, 60), session(3, 86_400)])
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let path = format!("/api/admin/keys/{key}/sessions");
        let listed = scene.get(&path).await.json;
        assert_eq!(listed["items"].as_array().unwrap().len(), 2, "{listed}");
        let ends_at = now.plus(Duration::from_mins(1_439)).to_string();
        assert_eq!(listed["items"][0]["expiresAt"], json!(ends_at), "{listed}");
        let sid = listed["items"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!(scene.delete(&format!("{path}/{}", uuid::Uuid::from_u128(3))).await.status, 404, "over");
        let elsewhere = format!("/api/admin/keys/{other}/sessions/{sid}");
        assert_eq!(scene.delete(&elsewhere).await.status, 404, "of another key");
        assert_eq!(scene.delete(&format!("{path}/{sid}")).await.status, 204);
        assert_eq!(scene.delete(&format!("{path}/{sid}")).await.status, 404);
        assert_eq!(scene.get(&path).await.json["items"].as_array().unwrap().len(), 1);
        let mut tx = scene.store.read().await.unwrap();
        let ended = sessions::get(&mut tx, sid.parse().unwrap()).await.unwrap().unwrap();
        assert!(ended.ended && ended.expires_at == now.plus(Duration::from_hours(1)), "{ended:?}");
        drop(tx);
        let told = scene.audited("key.end-session").await;
        assert_eq!(told[0].diff["sessionId"], json!(sid));
    }
    #[tokio::test]
    async fn the_list_has_pages() {
        let scene = Scene::logged_in().await;
        let key = scene.key("k").await.0;
        let now = scene.clock.now();
        let session = |rid: u128| ClientSession {
            rid: uuid::Uuid::from_u128(rid),
            key_id: key.parse().unwrap(),
            path: "/mcp/http".into(),
            version: "2025-11-25".into(),
            client: Some(format!("cli {rid}")),
            address: None,
            created_at: now,
            expires_at: now.plus(Duration::from_hours(1)),
        };
        let mut tx = scene.store.begin().await.unwrap();
        client_sessions::insert(&mut tx, &(0..5).map(session).collect::<Vec<_>>()).await.unwrap();
        tx.commit().await.unwrap();
        let path = format!("/api/admin/keys/{key}/sessions?limit=2");
        let (mut seen, mut next) = (Vec::new(), String::new());
        for items in [2, 2, 1] {
            let page = scene.get(&format!("{path}{next}")).await.json;
            assert_eq!(page["total"], json!(5), "{page}");
            let page_items = page["items"].as_array().unwrap();
            assert_eq!(page_items.len(), items, "{page}");
            seen.extend(page_items.iter().map(|one| one["client"].as_str().unwrap().to_owned()));
            next = page["nextCursor"].as_str().map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
        }
        assert_eq!(
            (seen, next),
            (["cli 4", "cli 3", "cli 2", "cli 1", "cli 0"].map(str::to_owned).into(), String::new())
        );
        assert_eq!(scene.get(&format!("{path}&search=LI%203")).await.json["total"], json!(1));
        assert_eq!(scene.get(&format!("{path}&sort=path")).await.pointers(), ["/sort"]);
        assert_eq!(scene.get(&format!("{path}&cursor=x")).await.pointers(), ["/cursor"]);
    }
}
