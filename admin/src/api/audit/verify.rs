//! `GET /api/admin/audit/verify`: whether the log is as it was written (threat T18).

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sql::audit_log::{self, Anchor, Fault, Verified};
use utoipa::{IntoParams, ToSchema};

use crate::App;
use crate::doc;
use crate::error::ApiError;
use crate::extract::{Admin, Query};

/// What the log is compared with.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct VerifyQuery {
    /// An event that was noted elsewhere, as `SEQ:HASH`: the `anchor` of an earlier answer, or of the gateway's log.
    anchor: Option<String>,
}

/// Whether the log is as it was written.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditVerdict {
    /// Whether it is.
    intact: bool,
    /// How many events there are; of a log that isn't intact, null.
    events: Option<i64>,
    /// How many older ones are no longer kept, by `audit.retention_days`.
    dropped: Option<i64>,
    /// Its end, to be noted elsewhere and shown to a later check.
    anchor: Option<String>,
    /// The number of the first event that something is wrong with.
    broken_at: Option<i64>,
    /// What is wrong with it.
    #[schema(schema_with = doc::audit_fault)]
    fault: Option<Fault>,
}

impl From<Verified> for AuditVerdict {
    fn from(verified: Verified) -> Self {
        match verified {
            Verified::Intact(extent) => Self {
                intact: true,
                events: Some(extent.head - extent.dropped),
                dropped: Some(extent.dropped),
                anchor: (extent.head > 0).then(|| extent.to_string()),
                broken_at: None,
                fault: None,
            },
            Verified::Broken { seq, fault } => Self {
                intact: false,
                events: None,
                dropped: None,
                anchor: None,
                broken_at: Some(seq),
                fault: Some(fault),
            },
        }
    }
}

/// Verify the audit log
///
/// Reads all of it.
#[utoipa::path(get, path = "/api/admin/audit/verify", tag = "audit", params(VerifyQuery),
    responses((status = 200, body = AuditVerdict)))]
pub(crate) async fn verify(
    _admin: Admin,
    State(app): State<App>,
    Query(query): Query<VerifyQuery>,
) -> Result<Json<AuditVerdict>, ApiError> {
    let anchor = query.anchor.map(|text| text.parse::<Anchor>()).transpose();
    let anchor = anchor.map_err(|error| ApiError::field("/anchor", error.to_string()))?;
    let mut tx = app.store.read().await?;
    let verified = audit_log::verify(&mut tx, anchor.as_ref()).await?;
    if let Verified::Broken { seq, fault } = &verified {
        tracing::error!(audit.seq = seq, audit.fault = %fault, "the audit log isn't as it was written");
    }
    Ok(Json(verified.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    const PATH: &str = "/api/admin/audit/verify";

    #[tokio::test]
    async fn an_intact_log_has_an_anchor_that_later_ones_are_compared_with() {
        let scene = Scene::logged_in().await;
        let first = scene.get(PATH).await;
        assert_eq!((&first.json["intact"], &first.json["events"]), (&json!(true), &json!(2)));
        let anchor = first.json["anchor"].as_str().unwrap().to_owned();
        scene.upstream("a").await;
        let later = scene.get(&format!("{PATH}?anchor={anchor}")).await;
        assert_eq!((&later.json["intact"], &later.json["events"]), (&json!(true), &json!(3)));
        let other = format!("{PATH}?anchor=2:{}", "0".repeat(64));
        let broken = scene.get(&other).await;
        assert_eq!(
            (&broken.json["intact"], &broken.json["brokenAt"], &broken.json["fault"]),
            (&json!(false), &json!(2), &json!("anchor"))
        );
        assert_eq!(scene.get(&format!("{PATH}?anchor=x")).await.pointers(), ["/anchor"]);
    }
}
