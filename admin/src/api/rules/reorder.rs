//! `POST /api/admin/rules/aliases/reorder` and `/filters/reorder`: an owner's rules in a new order.

use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};
use sql::model::rule::RULES_PER_OWNER_MAX;
use sql::model::{AliasRule, FilterRule, Outcome, RuleId, RuleOwner};
use sql::rules::{self, Rule};
use utoipa::ToSchema;

use super::noun::Noun;
use super::{OwnerView, owner};
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Admin};
use crate::fields::{self, Fields, Problems};

/// Every rule of the owner once, in the order that is to be.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct RuleOrder {
    /// Whose rules.
    owner: OwnerView,
    /// All ids of the owner's rules of this kind, each once.
    ids: Vec<uuid::Uuid>,
}

/// Reorder the alias rules of an owner
#[utoipa::path(post, path = "/api/admin/rules/aliases/reorder", tag = "rules", request_body = RuleOrder,
    responses((status = 204)))]
pub(crate) async fn reorder_aliases(
    admin: Admin,
    State(app): State<App>,
    body: extract::Json,
) -> Result<StatusCode, ApiError> {
    reorder::<AliasRule>(&app, &admin, body.value).await
}

/// Reorder the filter rules of an owner
#[utoipa::path(post, path = "/api/admin/rules/filters/reorder", tag = "rules", request_body = RuleOrder,
    responses((status = 204)))]
pub(crate) async fn reorder_filters(
    admin: Admin,
    State(app): State<App>,
    body: extract::Json,
) -> Result<StatusCode, ApiError> {
    reorder::<FilterRule>(&app, &admin, body.value).await
}

async fn reorder<R: Noun>(app: &App, admin: &Admin, body: Value) -> Result<StatusCode, ApiError> {
    let (owner, ids) = parse(body)?;
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    owner::check(&mut tx, owner).await?;
    let stored = rules::of_owner(&mut tx, owner).await?;
    let before: Vec<RuleId> = R::of(&stored).iter().map(Rule::id).collect();
    // Somebody may have added one meanwhile: then the order that was seen is not the order there is.
    if !rules::reorder::<R>(&mut tx, owner, &ids).await? {
        return Err(ApiError::field("/ids", "must name every such rule of the owner exactly once"));
    }
    super::settle_names::<R>(&mut tx, app, owner).await?;
    let act = Act {
        action: R::REORDER,
        target_id: None,
        target_name: Some(owner.to_string()),
        diff: json!({"/ids": {"before": before, "after": ids}}),
        outcome: Outcome::Success,
    };
    audit::record(&mut tx, now, admin, act).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn parse(value: Value) -> Result<(RuleOwner, Vec<RuleId>), ApiError> {
    let mut problems = Problems::default();
    let Some(mut fields) = Fields::open(value, "", &mut problems) else {
        return problems.unless_any(None);
    };
    let owner = owner::read(&mut fields, &mut problems);
    let ids = if let Some(value) = fields.take("ids") {
        fields::list(value, "/ids", RULES_PER_OWNER_MAX, &mut problems, |value, at, problems| {
            fields::parsed(value).map_err(|_| problems.add(at, "must be the id of a rule")).ok()
        })
    } else {
        problems.add("/ids", "is required");
        None
    };
    fields.close(&mut problems);
    problems.unless_any(owner.zip(ids))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    const PATH: &str = "/api/admin/rules/aliases/reorder";

    #[tokio::test]
    async fn an_order_names_every_rule_of_the_owner_once_and_decides() {
        let scene = Scene::logged_in().await;
        let upstream = scene.upstream("a").await;
        let tool = scene.tool(&upstream, "get").await;
        let owner = json!({"type": "upstream", "id": upstream});
        let mut ids = Vec::new();
        for target in ["first", "second"] {
            let body = json!({"owner": owner, "pattern": "get", "targetName": target});
            ids.push(scene.post("/api/admin/rules/aliases", body).await.json["id"].clone());
        }
        let named =
            async || scene.get(&format!("/api/admin/tools/{tool}")).await.json["item"]["exposedName"].clone();
        assert_eq!(named().await, "first");
        for wrong in [json!([]), json!([ids[0]]), json!([ids[0], ids[0]]), json!([ids[0], uuid::Uuid::nil()])]
        {
            let answer = scene.post(PATH, json!({"owner": owner, "ids": wrong})).await;
            assert_eq!((answer.status, answer.pointers()), (422, vec!["/ids".to_owned()]));
        }
        assert_eq!(scene.post(PATH, json!({"ids": [1]})).await.pointers(), ["/owner", "/ids/0"]);
        let answer = scene.post(PATH, json!({"owner": owner, "ids": [ids[1], ids[0]]})).await;
        assert_eq!(answer.status, 204, "{}", answer.json);
        assert_eq!(named().await, "second");
        assert_eq!(scene.audited("alias_rule.reorder").await.len(), 1);
    }
}
