//! `GET /api/admin/rules/aliases` and `/filters`

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use sql::model::{AliasRule, FilterRule};
use sql::rules;
use utoipa::IntoParams;

use super::noun::Noun;
use super::owner;
use super::wire::{AliasView, FilterView, RuleList};
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Query};
use crate::query::ListQuery;

/// What rules can be sorted by.
const SORTS: [&str; 4] = ["sortOrder", "pattern", "createdAt", "updatedAt"];

/// Whose rules; everybody's if not said.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RulesQuery {
    /// Only those of this upstream.
    #[param(value_type = Option<uuid::Uuid>)]
    upstream_id: Option<String>,
    /// Only those of this key.
    #[param(value_type = Option<uuid::Uuid>)]
    key_id: Option<String>,
    /// `all`: only those of all upstreams.
    owner: Option<String>,
}

/// List alias rules
///
/// In the order in which they are tried. `search` looks into patterns and what they give.
#[utoipa::path(get, path = "/api/admin/rules/aliases", tag = "rules", params(ListQuery, RulesQuery),
    responses((status = 200, body = RuleList<AliasView>)))]
pub(crate) async fn list_aliases(
    _admin: Admin,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
    Query(filter): Query<RulesQuery>,
) -> Result<Json<RuleList<AliasView>>, ApiError> {
    list::<AliasRule>(&app, query, &filter).await
}

/// List filter rules
///
/// `search` looks into patterns.
#[utoipa::path(get, path = "/api/admin/rules/filters", tag = "rules", params(ListQuery, RulesQuery),
    responses((status = 200, body = RuleList<FilterView>)))]
pub(crate) async fn list_filters(
    _admin: Admin,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
    Query(filter): Query<RulesQuery>,
) -> Result<Json<RuleList<FilterView>>, ApiError> {
    list::<FilterRule>(&app, query, &filter).await
}

async fn list<R: Noun>(
    app: &App,
    query: ListQuery,
    filter: &RulesQuery,
) -> Result<Json<RuleList<R::View>>, ApiError> {
    let request = query.parse(&SORTS)?;
    let RulesQuery { upstream_id, key_id, owner } = filter;
    let owner = owner::asked(upstream_id.as_deref(), key_id.as_deref(), owner.as_deref())?;
    let mut tx = app.store.read().await?;
    let (page, damaged) = rules::page::<R>(&mut tx, &request, owner).await?;
    Ok(Json(RuleList::of(page.map(|rule| rule.view()), damaged)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    const PATH: &str = "/api/admin/rules/filters";

    #[tokio::test]
    async fn pages_and_filters_by_owner() {
        let scene = Scene::logged_in().await;
        let (upstream, (key, _)) = (scene.upstream("a").await, scene.key("k").await);
        for (owner, pattern) in [
            (json!({"type": "upstream", "id": upstream}), "one"),
            (json!({"type": "key", "id": key}), "two"),
            (json!({"type": "all"}), "three"),
        ] {
            let body = json!({"owner": owner, "pattern": pattern, "action": "deny"});
            assert_eq!(scene.post(PATH, body).await.status, 201);
        }
        let patterns = async |query: &str| {
            let answer = scene.get(&format!("{PATH}?{query}")).await;
            let items = answer.json["items"].as_array().cloned().unwrap_or_default();
            items.iter().map(|item| item["pattern"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(patterns("sort=pattern").await, ["one", "three", "two"]);
        assert_eq!(patterns(&format!("upstreamId={upstream}")).await, ["one"]);
        assert_eq!(patterns(&format!("keyId={key}")).await, ["two"]);
        assert_eq!(patterns("owner=all").await, ["three"]);
        assert_eq!(patterns("search=HRE").await, ["three"]);
        let first = scene.get(&format!("{PATH}?limit=2&sort=pattern")).await;
        let cursor = first.json["nextCursor"].as_str().unwrap();
        assert_eq!(patterns(&format!("limit=2&sort=pattern&cursor={cursor}")).await, ["two"]);
        assert_eq!(first.json["damaged"], json!([]));
        for (query, pointer) in [
            ("upstreamId=x", "/upstreamId"),
            ("keyId=x", "/keyId"),
            ("owner=x", "/owner"),
            (&format!("keyId={key}&owner=all"), "/owner"),
            ("sort=kinds", "/sort"),
        ] {
            assert_eq!(scene.get(&format!("{PATH}?{query}")).await.pointers(), [pointer], "{query}");
        }
    }
}
