//! `GET /api/admin/xiaozhi/{id}`

use axum::extract::State;
use axum::response::Response;
use sql::model::XiaozhiEndpointId;

use super::wire::XiaozhiView;
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// Read a XiaoZhi endpoint
#[utoipa::path(get, path = "/api/admin/xiaozhi/{id}", tag = "xiaozhi",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = XiaozhiView, headers(("ETag" = String)))))]
pub(crate) async fn get(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<XiaozhiEndpointId>,
) -> Result<Response, ApiError> {
    let mut tx = app.store.read().await?;
    let endpoint = super::find(&mut tx, id).await?;
    super::answer(&mut tx, &endpoint).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use sql::model::{XiaozhiFault, XiaozhiReport, XiaozhiState};
    use sql::{leases, xiaozhi_endpoints};

    use crate::testing::Scene;

    #[tokio::test]
    async fn its_state_is_what_its_holder_says_as_long_as_it_holds_it() {
        let scene = Scene::logged_in().await;
        let id = scene.xiaozhi("room").await;
        let path = format!("/api/admin/xiaozhi/{id}");
        assert_eq!(scene.get(&path).await.json["state"], "waiting");
        let holder = uuid::Uuid::from_u128(7);
        let report = XiaozhiReport {
            endpoint_id: id.parse().unwrap(),
            holder,
            state: XiaozhiState::Unavailable,
            since: scene.clock.now(),
            fault: Some(XiaozhiFault::Refused),
            close_code: Some(1008),
            last_error: Some("the broker does not take the token".into()),
            next_attempt_at: Some(scene.clock.now()),
            tools_shown: None,
            tools_total: None,
        };
        let mut tx = scene.store.begin().await.unwrap();
        let name = xiaozhi_endpoints::lease(report.endpoint_id);
        leases::acquire(&mut tx, &name, holder, Duration::from_secs(15)).await.unwrap();
        xiaozhi_endpoints::save_report(&mut tx, &report).await.unwrap();
        tx.commit().await.unwrap();
        let shown = scene.get(&path).await.json;
        assert_eq!((&shown["state"], &shown["fault"]), (&json!("unavailable"), &json!("refused")));
        assert_eq!((&shown["closeCode"], &shown["nextAttemptAt"]), (&json!(1008), &shown["since"]));
        scene.clock.advance(Duration::from_secs(15));
        let shown = scene.get(&path).await.json;
        assert_eq!((&shown["state"], &shown["lastError"]), (&json!("waiting"), &json!(null)));
        scene.send("PATCH", &path, Some(json!({"enabled": false})), &[("if-match", "\"1\"")]).await;
        assert_eq!(scene.get(&path).await.json["state"], "disabled");
    }
}
