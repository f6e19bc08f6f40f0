//! `POST /api/admin/upstreams/{id}/disable`

use axum::extract::State;
use axum::response::Response;
use sql::model::{Upstream, UpstreamId};

use super::wire::UpstreamView;
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// Switch an upstream off
#[utoipa::path(post, path = "/api/admin/upstreams/{id}/disable", tag = "upstreams",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = UpstreamView, headers(("ETag" = String)))))]
pub(crate) async fn disable(
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
    let after = Upstream { enabled: false, ..before.clone() };
    let after = super::save(&mut tx, app, admin, now, "upstream.disable", &before, after).await?;
    tx.commit().await?;
    Ok(after)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn what_is_off_says_so() {
        let scene = Scene::logged_in().await;
        let path = format!("/api/admin/upstreams/{}/disable", scene.upstream("a").await);
        let answer = scene.post(&path, json!({})).await;
        assert_eq!((answer.status, &answer.json["state"]), (200, &json!("disabled")));
        assert_eq!(scene.audited("upstream.disable").await[0].diff["/enabled"]["after"], false);
    }
}
