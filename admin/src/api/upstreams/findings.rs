//! `GET /api/admin/upstreams/{id}/findings`: what was left out of its lists or altered, and why.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sql::model::{Finding, Kind, Pin, Review, UpstreamId};
use sql::{lists, pins};
use utoipa::ToSchema;

use crate::App;
use crate::doc;
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// What was left out or altered.
#[derive(Serialize, ToSchema)]
pub(crate) struct Findings {
    /// In the order of the lists.
    items: Vec<FindingRow>,
}

/// One item, and what is wrong with it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FindingRow {
    /// Of which list.
    #[schema(schema_with = doc::kind)]
    kind: Kind,
    /// Which item, as the upstream names it.
    upstream_name: String,
    /// A stable word for what is wrong.
    code: String,
    /// The same for a person.
    message: String,
}

/// Read what is wrong with an upstream's lists
#[utoipa::path(get, path = "/api/admin/upstreams/{id}/findings", tag = "upstreams",
    params(("id" = uuid::Uuid, Path)), responses((status = 200, body = Findings)))]
pub(crate) async fn findings(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<UpstreamId>,
) -> Result<Json<Findings>, ApiError> {
    let mut tx = app.store.read().await?;
    super::find(&mut tx, id).await?;
    let states = lists::states_of(&mut tx, id).await?;
    // What the sync found when it took the lists in, and what can't be read of them any more.
    let found = states.into_iter().flat_map(|state| state.findings);
    let reviews = pins::under_review(&mut tx, Some(id)).await?.into_iter().filter_map(to_look_at);
    let items = found.chain(app.control.findings(id)).chain(reviews).map(FindingRow::from).collect();
    Ok(Json(Findings { items }))
}

/// What changed since an admin agreed to it.
fn to_look_at(pin: Pin) -> Option<Finding> {
    let (code, message) = match pin.review? {
        Review::Changed => ("CHANGED", "its definition isn't the one that was agreed to"),
        Review::Renamed => ("RENAMED", "it says what another one said that went away as it came"),
        Review::Moved => ("MOVED", "its upstream is elsewhere than when it was agreed to"),
    };
    Some(Finding {
        kind: pin.kind,
        upstream_name: pin.upstream_name,
        code: code.into(),
        message: message.into(),
    })
}

impl From<Finding> for FindingRow {
    fn from(finding: Finding) -> Self {
        Self {
            kind: finding.kind,
            upstream_name: finding.upstream_name,
            code: finding.code,
            message: finding.message,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    #[tokio::test]
    async fn shows_what_the_last_sync_found_and_what_can_not_be_read() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        scene.tool(&id, "add").await;
        let answer = scene.get(&format!("/api/admin/upstreams/{id}/findings")).await;
        let expected = json!({"kind": "tool", "upstreamName": "bad", "code": "no-schema", "message": "has no usable schema"});
        let torn =
            json!({"kind": "tool", "upstreamName": "torn", "code": "DAMAGED", "message": "can't be read"});
        assert_eq!(answer.json["items"], json!([expected, torn]));
    }
}
