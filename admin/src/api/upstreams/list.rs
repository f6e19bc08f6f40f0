//! `GET /api/admin/upstreams`

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use sql::model::Transport;
use sql::upstreams::{self, UpstreamFilter};
use utoipa::IntoParams;

use super::wire::{self, UpstreamView};
use crate::App;
use crate::doc;
use crate::error::ApiError;
use crate::extract::{Admin, Query};
use crate::query::{ListQuery, Listed, switch};

/// What upstreams can be sorted by.
const SORTS: [&str; 4] = ["sortOrder", "name", "createdAt", "updatedAt"];

/// Which upstreams.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UpstreamsQuery {
    /// Only those that are switched on, or off.
    #[param(value_type = Option<bool>)]
    enabled: Option<String>,
    /// Only those spoken to like this.
    #[param(schema_with = doc::transport)]
    transport: Option<String>,
}

/// List upstreams
#[utoipa::path(get, path = "/api/admin/upstreams", tag = "upstreams", params(ListQuery, UpstreamsQuery),
    responses((status = 200, body = Listed<UpstreamView>)))]
pub(crate) async fn list(
    _admin: Admin,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
    Query(filter): Query<UpstreamsQuery>,
) -> Result<Json<Listed<UpstreamView>>, ApiError> {
    let request = query.parse(&SORTS)?;
    let filter = parse(filter)?;
    let mut tx = app.store.read().await?;
    let page = upstreams::page(&mut tx, &request, &filter).await?;
    let view = |upstream| wire::view(&upstream, app.control.status(upstream.id));
    Ok(Json(page.map(view).into()))
}

fn parse(query: UpstreamsQuery) -> Result<UpstreamFilter, ApiError> {
    let enabled = switch("/enabled", query.enabled.as_deref())?;
    let transport = query
        .transport
        .map(|word| {
            word.parse::<Transport>().map_err(|error| ApiError::field("/transport", error.to_string()))
        })
        .transpose()?;
    Ok(UpstreamFilter { enabled, transport })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    const PATH: &str = "/api/admin/upstreams";

    #[tokio::test]
    async fn pages_searches_sorts_and_filters() {
        let scene = Scene::logged_in().await;
        for name in ["alpha", "beta", "gamma"] {
            scene.upstream(name).await;
        }
        let first = scene.get(&format!("{PATH}?limit=2&sort=-name")).await;
        assert_eq!((&first.json["total"], &first.json["items"][0]["name"]), (&json!(3), &json!("gamma")));
        let cursor = first.json["nextCursor"].as_str().unwrap();
        let second = scene.get(&format!("{PATH}?limit=2&sort=-name&cursor={cursor}")).await;
        assert_eq!(
            (&second.json["items"][0]["name"], &second.json["nextCursor"]),
            (&json!("alpha"), &json!(null))
        );
        assert_eq!(scene.get(&format!("{PATH}?search=ALPH")).await.json["total"], 1);
        assert_eq!(scene.get(&format!("{PATH}?enabled=false")).await.json["total"], 0);
        assert_eq!(scene.get(&format!("{PATH}?transport=streamable-http")).await.json["total"], 3);
    }

    #[tokio::test]
    async fn bad_parameters_are_named() {
        let scene = Scene::logged_in().await;
        let answer = scene.get(&format!("{PATH}?limit=0&sort=secret")).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec!["/limit".to_owned(), "/sort".to_owned()]));
        for (query, pointer) in [
            ("limit=201", "/limit"),
            ("cursor=nonsense", "/cursor"),
            ("enabled=x", "/enabled"),
            ("transport=x", "/transport"),
        ] {
            let answer = scene.get(&format!("{PATH}?{query}")).await;
            assert_eq!((answer.status, answer.pointers()), (422, vec![pointer.to_owned()]), "{query}");
        }
    }
}
