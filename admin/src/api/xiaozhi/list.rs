//! `GET /api/admin/xiaozhi`

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use sql::xiaozhi_endpoints::{self, XiaozhiFilter};
use utoipa::IntoParams;

use super::wire::{self, XiaozhiView};
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Query};
use crate::query::{ListQuery, Listed, switch};

/// What endpoints can be sorted by.
const SORTS: [&str; 3] = ["name", "createdAt", "updatedAt"];

/// Which endpoints.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct XiaozhiQuery {
    /// Only those that are switched on, or off.
    #[param(value_type = Option<bool>)]
    enabled: Option<String>,
}

/// List XiaoZhi endpoints
#[utoipa::path(get, path = "/api/admin/xiaozhi", tag = "xiaozhi", params(ListQuery, XiaozhiQuery),
    responses((status = 200, body = Listed<XiaozhiView>)))]
pub(crate) async fn list(
    _admin: Admin,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
    Query(filter): Query<XiaozhiQuery>,
) -> Result<Json<Listed<XiaozhiView>>, ApiError> {
    let request = query.parse(&SORTS)?;
    let filter = XiaozhiFilter { enabled: switch("/enabled", filter.enabled.as_deref())? };
    let mut tx = app.store.read().await?;
    let page = xiaozhi_endpoints::page(&mut tx, &request, &filter).await?;
    let reports = xiaozhi_endpoints::reports(&mut tx).await?;
    Ok(Json(page.map(|endpoint| wire::view(&endpoint, &reports)).into()))
}

#[cfg(test)]
mod tests {
    use crate::testing::Scene;

    #[tokio::test]
    async fn pages_and_searches() {
        let scene = Scene::logged_in().await;
        for name in ["alpha", "beta", "gamma"] {
            scene.xiaozhi(name).await;
        }
        let first = scene.get("/api/admin/xiaozhi?limit=2&sort=-name").await;
        assert_eq!(
            (first.json["total"].as_u64(), first.json["items"][0]["name"].as_str()),
            (Some(3), Some("gamma"))
        );
        let cursor = first.json["nextCursor"].as_str().unwrap();
        let second = scene.get(&format!("/api/admin/xiaozhi?limit=2&sort=-name&cursor={cursor}")).await;
        assert_eq!(second.json["items"][0]["name"], "alpha");
        assert_eq!(scene.get("/api/admin/xiaozhi?search=ET").await.json["total"], 1);
        assert_eq!(scene.get("/api/admin/xiaozhi?enabled=false").await.json["total"], 0);
        assert_eq!(scene.get("/api/admin/xiaozhi?sort=url").await.pointers(), ["/sort"]);
        assert_eq!(
            scene.get("/api/admin/xiaozhi?search=CANARY").await.json["total"],
            0,
            "a token can't be guessed"
        );
    }
}
