//! `GET /api/admin/audit`

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use sql::audit_log::{self, AuditFilter};
use sql::model::{Actor, AuditEvent, AuditEventId, Outcome, Timestamp};
use utoipa::{IntoParams, ToSchema};

use crate::App;
use crate::doc;
use crate::error::ApiError;
use crate::extract::Admin;
use crate::query::{ListQuery, Listed};

/// Which events.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditQuery {
    /// Only this action, such as `upstream.create`.
    action: Option<String>,
    /// Only what was done to this.
    target_id: Option<String>,
}

/// An entry of the audit log.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditEvent)]
pub(crate) struct AuditRow {
    /// Which.
    #[schema(value_type = uuid::Uuid)]
    id: AuditEventId,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Who.
    actor: ActorView,
    /// From where.
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// With what.
    user_agent: Option<String>,
    /// What: noun and verb, such as `upstream.create`.
    action: String,
    /// The noun of what it was done to.
    target_kind: String,
    /// Its id.
    target_id: Option<String>,
    /// Its name at that time.
    target_name: Option<String>,
    /// What differs, by JSON pointer: `{"/name": {"before": .., "after": ..}}`. A secret shows as a
    /// fingerprint.
    #[schema(value_type = Object)]
    diff: serde_json::Value,
    /// The request that caused it.
    request_id: Option<String>,
    /// How it went.
    #[schema(schema_with = doc::outcome)]
    outcome: Outcome,
}

/// Who acted.
#[derive(Serialize, ToSchema)]
pub(crate) struct ActorView {
    /// `admin`, `key` or `system`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Which admin or key.
    id: Option<String>,
    /// Its name at that time.
    name: Option<String>,
}

/// List audit events
///
/// The newest first.
#[utoipa::path(get, path = "/api/admin/audit", tag = "audit", params(ListQuery, AuditQuery),
    responses((status = 200, body = Listed<AuditRow>)))]
pub(crate) async fn list(
    _admin: Admin,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
    Query(filter): Query<AuditQuery>,
) -> Result<Json<Listed<AuditRow>>, ApiError> {
    let request = query.parse(&[])?;
    let filter = AuditFilter { action: filter.action, target_id: filter.target_id, ..AuditFilter::default() };
    let mut tx = app.store.read().await?;
    let page = audit_log::page(&mut tx, &request, &filter).await?;
    Ok(Json(page.map(AuditRow::from).into()))
}

impl From<AuditEvent> for AuditRow {
    fn from(event: AuditEvent) -> Self {
        Self {
            id: event.id,
            at: event.at,
            actor: event.actor.into(),
            address: event.address,
            user_agent: event.user_agent,
            action: event.action,
            target_kind: event.target_kind,
            target_id: event.target_id,
            target_name: event.target_name,
            diff: event.diff,
            request_id: event.request_id,
            outcome: event.outcome,
        }
    }
}

impl From<Actor> for ActorView {
    fn from(actor: Actor) -> Self {
        match actor {
            Actor::Admin { id, name } => Self { kind: "admin", id: Some(id.to_string()), name: Some(name) },
            Actor::Key { id, name } => Self { kind: "key", id: Some(id.to_string()), name: Some(name) },
            Actor::System => Self { kind: "system", id: None, name: None },
        }
    }
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
}
