//! `POST /api/admin/upstreams/{id}/enable`

use axum::extract::State;
use axum::response::Response;
use sql::model::{Upstream, UpstreamId};

use super::wire::UpstreamView;
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// Switch an upstream on
#[utoipa::path(post, path = "/api/admin/upstreams/{id}/enable", tag = "upstreams",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = UpstreamView, headers(("ETag" = String)))))]
pub(crate) async fn enable(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<UpstreamId>,
) -> Result<Response, ApiError> {
    Ok(super::answer(&app, &act(&app, &admin, id).await?))
}

/// Does it, and says what it is then.
pub(super) async fn act(app: &App, admin: &Admin, id: UpstreamId) -> Result<Upstream, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let before = super::find(&mut tx, id).await?;
    let after = Upstream { enabled: true, ..before.clone() };
    let after = super::save(&mut tx, app, admin, now, "upstream.enable", &before, after).await?;
    tx.commit().await?;
    Ok(after)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn a_switch_is_written_once() {
        let scene = Scene::logged_in().await;
        let path = format!("/api/admin/upstreams/{}", scene.upstream("a").await);
        for (operation, expected) in [("disable", false), ("enable", true), ("enable", true)] {
            let answer = scene.post(&format!("{path}/{operation}"), json!({})).await;
            assert_eq!((answer.status, &answer.json["enabled"]), (200, &json!(expected)));
        }
        assert_eq!(scene.get(&path).await.json["version"], 3);
        assert_eq!(scene.audited("upstream.enable").await.len(), 1);
    }
}
