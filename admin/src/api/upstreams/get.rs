//! `GET /api/admin/upstreams/{id}`

use axum::extract::State;
use axum::response::Response;
use sql::model::UpstreamId;

use super::wire::UpstreamView;
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// Read an upstream
#[utoipa::path(get, path = "/api/admin/upstreams/{id}", tag = "upstreams",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = UpstreamView, headers(("ETag" = String)))))]
pub(crate) async fn get(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<UpstreamId>,
) -> Result<Response, ApiError> {
    let mut tx = app.store.read().await?;
    let upstream = super::find(&mut tx, id).await?;
    Ok(super::answer(&app, &upstream))
}

#[cfg(test)]
mod tests {
    use proxy::bridge::degraded::Reason;
    use serde_json::json;
    use sql::model::Era;

    use crate::testing::{Scene, status};

    #[tokio::test]
    async fn shows_what_clients_of_each_era_get_and_what_they_could_not_be_given() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        let answer = scene.get(&format!("/api/admin/upstreams/{id}")).await;
        assert_eq!(answer.json["capabilityMatrix"], json!(null), "nobody has spoken with it yet");
        let mut known = status(id.parse().unwrap());
        known.era = Some(Era::Legacy);
        known.protocol_version = Some("2025-11-25".into());
        known.capabilities = Some(json!({"tools": {}}));
        known.degraded = [(Reason::AskOfSeveral, 3)].into();
        scene.plane.set_status(known);
        let answer = scene.get(&format!("/api/admin/upstreams/{id}")).await;
        let matrix = &answer.json["capabilityMatrix"];
        assert_eq!(matrix["legacy"]["tools"], json!({"level": "full"}));
        assert_eq!(matrix["modern"]["tools"], json!({"level": "bridged"}));
        assert_eq!(matrix["modern"]["sessionState"], json!({"level": "impossible", "reason": "d"}));
        assert_eq!(answer.json["degraded"], json!({"j": 3}));
    }

    #[tokio::test]
    async fn shows_how_it_fares() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        scene.plane.set_status(status(id.parse().unwrap()));
        let answer = scene.get(&format!("/api/admin/upstreams/{id}")).await;
        assert_eq!(answer.json["state"], "unavailable");
        assert_eq!(answer.json["lastError"], "connection refused");
        assert_eq!(answer.headers["cache-control"], "no-store");
        scene.post(&format!("/api/admin/upstreams/{id}/disable"), json!({})).await;
        let answer = scene.get(&format!("/api/admin/upstreams/{id}")).await;
        assert_eq!(answer.json["state"], "disabled", "though the data plane hasn't followed yet");
    }
}
