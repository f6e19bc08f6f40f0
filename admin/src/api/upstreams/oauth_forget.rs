//! `DELETE /api/admin/upstreams/{id}/oauth`: takes an upstream's authorisation back.
//!
//! The authorization server is asked to take it back too, but what it answers changes nothing: the tokens
//! are forgotten here, with the client that was registered, and the connection ends.

use axum::extract::State;
use http::StatusCode;
use serde_json::json;
use sql::model::UpstreamId;
use sql::oauth;

use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// Forget an upstream's authorisation
#[utoipa::path(delete, path = "/api/admin/upstreams/{id}/oauth", tag = "upstreams",
    operation_id = "oauth_forget", params(("id" = uuid::Uuid, Path)), responses((status = 204)))]
pub(crate) async fn forget(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<UpstreamId>,
) -> Result<StatusCode, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let upstream = super::find(&mut tx, id).await?;
    let grant = oauth::grant(&mut tx, id).await?;
    oauth::forget(&mut tx, id).await?;
    if let Some(grant) = &grant {
        let diff = json!({ "/oauth/issuer": { "before": grant.issuer } });
        audit::record(&mut tx, now, &admin, Act::on("upstream.oauth_forget", id, upstream.name, diff))
            .await?;
    }
    // First, so that nobody uses them while the server is asked.
    tx.commit().await?;
    if let Some(grant) = grant
        && let Err(error) = app.control.oauth_revoke(&grant).await
    {
        tracing::info!(upstream.id = %id, %error, "the authorization server did not take the tokens back");
    }
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sql::oauth;

    use crate::testing::Scene;

    #[tokio::test]
    async fn it_is_forgotten_though_the_server_is_down() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        let path = format!("/api/admin/upstreams/{id}/oauth");
        scene.send("POST", &format!("{path}/start"), Some(json!({})), &[("host", "localhost")]).await;
        scene.get("/api/auth/oauth/callback?state=state-1&code=code-1").await;
        assert_eq!(scene.delete(&path).await.status, 204);
        assert_eq!(scene.plane.revoked(), [id.parse().unwrap()]);
        let mut tx = scene.store.read().await.unwrap();
        assert!(oauth::grant(&mut tx, id.parse().unwrap()).await.unwrap().is_none());
        assert!(oauth::clients(&mut tx, id.parse().unwrap()).await.unwrap().is_empty());
        drop(tx);
        assert_eq!(scene.delete(&path).await.status, 204, "there is nothing left to forget");
        assert_eq!(scene.audited("upstream.oauth_forget").await.len(), 1);
    }

    #[tokio::test]
    async fn an_upstream_that_moves_loses_its_token() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        let path = format!("/api/admin/upstreams/{id}");
        scene.send("POST", &format!("{path}/oauth/start"), Some(json!({})), &[("host", "localhost")]).await;
        scene.get("/api/auth/oauth/callback?state=state-1&code=code-1").await;
        for (etag, url, stays) in
            [("\"1\"", "https://a.example/other", true), ("\"2\"", "https://b.example/other", false)]
        {
            let body = json!({"connParams": {"url": url}});
            let answer = scene.send("PATCH", &path, Some(body), &[("if-match", etag)]).await;
            assert_eq!(answer.status, 200, "{}", answer.json);
            let mut tx = scene.store.read().await.unwrap();
            let grant = oauth::grant(&mut tx, id.parse().unwrap()).await.unwrap();
            assert_eq!(grant.is_some(), stays, "{url}");
        }
    }
}
