//! `DELETE /api/admin/rules/aliases/{id}` and `/filters/{id}`

use axum::extract::State;
use http::StatusCode;
use serde_json::json;
use sql::model::{AliasRule, FilterRule, RuleId};
use sql::{StoreError, rules};

use super::noun::Noun;
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// Delete an alias rule
#[utoipa::path(delete, path = "/api/admin/rules/aliases/{id}", tag = "rules",
    params(("id" = uuid::Uuid, Path)), responses((status = 204)))]
pub(crate) async fn delete_alias(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<RuleId>,
) -> Result<StatusCode, ApiError> {
    delete::<AliasRule>(&app, &admin, id).await
}

/// Delete a filter rule
#[utoipa::path(delete, path = "/api/admin/rules/filters/{id}", tag = "rules",
    params(("id" = uuid::Uuid, Path)), responses((status = 204)))]
pub(crate) async fn delete_filter(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<RuleId>,
) -> Result<StatusCode, ApiError> {
    delete::<FilterRule>(&app, &admin, id).await
}

async fn delete<R: Noun>(app: &App, admin: &Admin, id: RuleId) -> Result<StatusCode, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let rule = match super::find::<R>(&mut tx, id).await {
        Ok(rule) => Some(rule),
        // One that can't be read can still be taken away; what it said nobody knows.
        Err(ApiError::Store(error)) if matches!(*error, StoreError::Corrupt { .. }) => None,
        Err(error) => return Err(error),
    };
    rules::delete::<R>(&mut tx, id).await?;
    let act = match &rule {
        Some(rule) => {
            super::settle_names::<R>(&mut tx, app, rule.owner()).await?;
            Act::on(R::DELETE, id, rule.pattern(), audit::diff(Some(&rule.settable()), None))
        }
        None => Act::on(R::DELETE, id, "damaged", json!({})),
    };
    audit::record(&mut tx, now, admin, act).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn what_is_deleted_is_gone() {
        let scene = Scene::logged_in().await;
        let owner = json!({"type": "all"});
        for (noun, action, body) in [
            ("aliases", "alias_rule.delete", json!({"owner": owner, "pattern": "a", "targetName": "b"})),
            ("filters", "filter_rule.delete", json!({"owner": owner, "pattern": "a", "action": "deny"})),
        ] {
            let created = scene.post(&format!("/api/admin/rules/{noun}"), body).await;
            let path = created.headers["location"].to_str().unwrap().to_owned();
            assert_eq!(scene.delete(&path).await.status, 204);
            assert_eq!(scene.get(&path).await.status, 404);
            assert_eq!(scene.delete(&path).await.status, 404);
            assert_eq!(scene.audited(action).await.len(), 1);
        }
    }

    #[tokio::test]
    async fn rules_go_with_their_owner() {
        let scene = Scene::logged_in().await;
        let (upstream, (key, _)) = (scene.upstream("a").await, scene.key("k").await);
        let owners = [("upstream", "upstreams", upstream), ("key", "keys", key)];
        for (kind, noun, id) in owners {
            let owner = json!({"type": kind, "id": id});
            let body = json!({"owner": owner, "pattern": "a", "action": "deny"});
            let rule = scene.post("/api/admin/rules/filters", body).await;
            assert_eq!(scene.delete(&format!("/api/admin/{noun}/{id}")).await.status, 204);
            assert_eq!(scene.get(rule.headers["location"].to_str().unwrap()).await.status, 404);
        }
    }
}
