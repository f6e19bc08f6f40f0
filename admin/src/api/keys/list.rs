//! `GET /api/admin/keys`

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use sql::api_keys::{self, ApiKeyFilter};
use utoipa::IntoParams;

use super::wire::{self, KeyView};
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Query};
use crate::query::{ListQuery, Listed, switch};

/// What keys can be sorted by.
const SORTS: [&str; 4] = ["name", "createdAt", "updatedAt", "lastUsedAt"];

/// Which keys.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct KeysQuery {
    /// Only those that are switched on, or off.
    #[param(value_type = Option<bool>)]
    enabled: Option<String>,
}

/// List keys
#[utoipa::path(get, path = "/api/admin/keys", tag = "keys", params(ListQuery, KeysQuery),
    responses((status = 200, body = Listed<KeyView>)))]
pub(crate) async fn list(
    _admin: Admin,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
    Query(filter): Query<KeysQuery>,
) -> Result<Json<Listed<KeyView>>, ApiError> {
    let request = query.parse(&SORTS)?;
    let filter = ApiKeyFilter { enabled: switch("/enabled", filter.enabled.as_deref())? };
    let mut tx = app.store.read().await?;
    let page = api_keys::page(&mut tx, &request, &filter).await?;
    Ok(Json(page.map(|key| wire::view(&key)).into()))
}

#[cfg(test)]
mod tests {
    use crate::testing::Scene;

    #[tokio::test]
    async fn pages_and_searches() {
        let scene = Scene::logged_in().await;
        for name in ["alpha", "beta max", "gamma"] {
            scene.key(name).await;
        }
        let first = scene.get("/api/admin/keys?limit=2&sort=-name").await;
        assert_eq!(
            (first.json["total"].as_u64(), first.json["items"][0]["name"].as_str()),
            (Some(3), Some("gamma"))
        );
        let cursor = first.json["nextCursor"].as_str().unwrap();
        let second = scene.get(&format!("/api/admin/keys?limit=2&sort=-name&cursor={cursor}")).await;
        assert_eq!(second.json["items"][0]["name"], "alpha");
        // Prefixes are searched too, and are random: only a space is in none of them.
        assert_eq!(scene.get("/api/admin/keys?search=TA%20M").await.json["total"], 1);
        assert_eq!(scene.get("/api/admin/keys?enabled=false").await.json["total"], 0);
        assert_eq!(scene.get("/api/admin/keys?sort=hash").await.pointers(), ["/sort"]);
    }
}
