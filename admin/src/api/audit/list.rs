//! `GET /api/admin/audit`

use axum::Json;
use axum::extract::State;
use sql::audit_log;

use super::filter::AuditQuery;
use super::wire::AuditRow;
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Query};
use crate::query::{ListQuery, Listed};

/// List audit events
///
/// The newest first. `search` looks into who, what, to what, from where, and request ids.
#[utoipa::path(get, path = "/api/admin/audit", tag = "audit", params(ListQuery, AuditQuery),
    responses((status = 200, body = Listed<AuditRow>)))]
pub(crate) async fn list(
    _admin: Admin,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
    Query(filter): Query<AuditQuery>,
) -> Result<Json<Listed<AuditRow>>, ApiError> {
    let request = query.parse_with(&["at"], app.settings().audit.page_size_default)?;
    let filter = filter.parse()?;
    let mut tx = app.store.read().await?;
    let page = audit_log::page(&mut tx, &request, &filter).await?;
    Ok(Json(page.map(AuditRow::from).into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn shows_who_did_what_newest_first() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        let answer = scene.get("/api/admin/audit").await;
        let newest = &answer.json["items"][0];
        assert_eq!((&newest["action"], &newest["targetId"]), (&json!("upstream.create"), &json!(id)));
        assert_eq!((&newest["actor"]["type"], &newest["actor"]["name"]), (&json!("admin"), &json!("root")));
        assert_eq!((&newest["address"], &newest["outcome"]), (&json!("127.0.0.1"), &json!("success")));
        assert!(newest["requestId"].is_string());
        assert_eq!(scene.get("/api/admin/audit?action=admin.login").await.json["total"], 1);
        assert_eq!(scene.get(&format!("/api/admin/audit?targetId={id}")).await.json["total"], 1);
    }

    #[tokio::test]
    async fn is_filtered_searched_and_paged() {
        let scene = Scene::logged_in().await;
        let before = scene.clock.now();
        scene.clock.advance(std::time::Duration::from_secs(1));
        let now = scene.clock.now();
        for name in ["one", "two"] {
            scene.upstream(name).await;
        }
        let wrong = json!({"username": "root", "password": "not the password"});
        scene.clone().from("198.51.100.7").post("/api/auth/login", wrong).await;
        let total = async |query: &str| {
            let answer = scene.get(&format!("/api/admin/audit?{query}")).await;
            assert_eq!(answer.status, 200, "{}", answer.json);
            answer.json["total"].as_u64().unwrap()
        };
        assert_eq!(total("targetKind=upstream").await, 2);
        assert_eq!(total("outcome=failure").await, 1);
        assert_eq!(total("actorType=system&action=admin.login").await, 1);
        assert_eq!(total("address=198.51.100.7").await, 1);
        assert_eq!(total("address=::ffff:198.51.100.7").await, 1, "the same, as IPv6 has it");
        assert_eq!(total("search=ONE").await, 1);
        assert_eq!(total(&format!("from={now}")).await, 3);
        assert_eq!(total(&format!("to={now}&from={before}&action=upstream.create")).await, 0);
        let admin = scene.get("/api/admin/auth/me").await.json["id"].as_str().unwrap().to_owned();
        assert_eq!(total(&format!("actorId={admin}&targetKind=upstream")).await, 2);

        let oldest = scene.get("/api/admin/audit?sort=at&limit=1").await;
        assert_eq!(oldest.json["items"][0]["action"], "admin.register");
        let cursor = oldest.json["nextCursor"].as_str().unwrap();
        let next = scene.get(&format!("/api/admin/audit?sort=at&limit=1&cursor={cursor}")).await;
        assert_eq!(next.json["items"][0]["action"], "admin.login");
        let wrong = scene.get("/api/admin/audit?outcome=x&from=y&to=z&actorType=w").await;
        assert_eq!(wrong.pointers(), ["/actorType", "/outcome", "/from", "/to"]);
    }
}
