//! `GET /api/admin/keys/{id}/usage`

use axum::Json;
use axum::extract::State;
use proxy::access::quota::Used;
use serde::Serialize;
use sql::model::{ApiKeyId, QuotaSpan, Timestamp};
use utoipa::ToSchema;

use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Id};

/// What a key used of its quotas, over all replicas, as this one knows it: some seconds old where others counted.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyUsage)]
pub(crate) struct UsageView {
    /// This day, in UTC.
    day: SpanView,
    /// This month, in UTC.
    month: SpanView,
}

/// Messages in a day or a month.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = QuotaUsage)]
pub(crate) struct SpanView {
    /// Messages that were let pass.
    used: u64,
    /// How many may be; null: any number.
    quota: Option<u64>,
    /// When the count begins anew.
    #[schema(value_type = String, format = DateTime)]
    ends_at: Timestamp,
}

/// Read what a key used of its quotas
#[utoipa::path(get, path = "/api/admin/keys/{id}/usage", tag = "keys", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = UsageView)))]
pub(crate) async fn usage(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<ApiKeyId>,
) -> Result<Json<UsageView>, ApiError> {
    let mut tx = app.store.read().await?;
    let key = super::find(&mut tx, id).await?;
    let used = app.control.used(id).unwrap_or_else(|| unused(app.store.clock().now()));
    Ok(Json(UsageView {
        day: SpanView { used: used.day, quota: key.quota_per_day, ends_at: used.day_ends },
        month: SpanView { used: used.month, quota: key.quota_per_month, ends_at: used.month_ends },
    }))
}

/// A key that is so new that nobody can have used it.
fn unused(now: Timestamp) -> Used {
    Used { day: 0, day_ends: QuotaSpan::Day.end(now), month: 0, month_ends: QuotaSpan::Month.end(now) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::Scene;

    #[tokio::test]
    async fn shows_what_was_used_beside_what_may_be() {
        let scene = Scene::logged_in().await;
        let (id, _) = scene.key("k").await;
        let unused = scene.get(&format!("/api/admin/keys/{id}/usage")).await;
        assert_eq!(
            (unused.status, &unused.json["day"]["used"], &unused.json["month"]["quota"]),
            (200, &json!(0), &json!(null))
        );
        let ends = Timestamp::from_millis(0);
        scene.plane.set_used(Used { day: 3, day_ends: ends, month: 40, month_ends: ends });
        let answer = scene.get(&format!("/api/admin/keys/{id}/usage")).await;
        let expected = json!({
            "day": {"used": 3, "quota": null, "endsAt": "1970-01-01T00:00:00.000Z"},
            "month": {"used": 40, "quota": null, "endsAt": "1970-01-01T00:00:00.000Z"},
        });
        assert_eq!(answer.json, expected);
        let nobody = scene.get(&format!("/api/admin/keys/{}/usage", uuid::Uuid::nil())).await;
        assert_eq!(nobody.status, 404);
    }
}
