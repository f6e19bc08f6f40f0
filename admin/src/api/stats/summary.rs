//! `GET /api/admin/stats/summary`

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sql::model::{CallOutcome, Tally, Timestamp};
use sql::statistics::{self, Cover};
use utoipa::ToSchema;

use super::query::StatsQuery;
use super::{LatencyView, is_error, millis};
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Query};
use crate::fields::Problems;

/// What calls came to, in a range of time.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StatsSummary)]
pub(crate) struct SummaryView {
    /// The first moment that is counted.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// The first moment after it that isn't.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    /// How many calls came.
    calls: u64,
    /// How many of them failed: all but `ok` and `cancelled`.
    errors: u64,
    /// Calls by how they ended.
    outcomes: BTreeMap<&'static str, u64>,
    /// What clients sent, in bytes.
    bytes_in: u64,
    /// What clients were given, in bytes.
    bytes_out: u64,
    /// How long a call took on average, in milliseconds. Null: there were none.
    average_ms: Option<f64>,
    #[serde(flatten)]
    latency: LatencyView,
}

/// Read what calls came to
#[utoipa::path(get, path = "/api/admin/stats/summary", tag = "stats", params(StatsQuery),
    responses((status = 200, body = SummaryView, example = json!({
        "from": "2026-11-22T10:00:00.000Z", "to": "2026-11-23T10:00:00.000Z", "calls": 1_250, "errors": 4,
        "outcomes": {"ok": 1_240, "tool_error": 3, "upstream_error": 0, "timeout": 1, "unavailable": 0, "cancelled": 6},
        "bytesIn": 310_000, "bytesOut": 2_400_000, "averageMs": 41.5, "p50Ms": 23.5, "p95Ms": 190.4, "p99Ms": 704.5
    }))))]
pub(crate) async fn summary(
    _admin: Admin,
    State(app): State<App>,
    Query(query): Query<StatsQuery>,
) -> Result<Json<SummaryView>, ApiError> {
    let now = app.store.clock().now();
    let asked = query.parse(now, Problems::default())?;
    let cover = Cover::of(asked.from, asked.to, now);
    let (mut total, mut outcomes) = (Tally::default(), [0_u64; CallOutcome::ALL.len()]);
    let mut tx = app.store.read().await?;
    statistics::each(&mut tx, &cover, &asked.filter, |sum| {
        outcomes[sum.outcome as usize] += sum.tally.calls;
        total.merge(&sum.tally);
    })
    .await?;
    let errors = CallOutcome::ALL.iter().filter(|outcome| is_error(**outcome));
    Ok(Json(SummaryView {
        from: cover.from,
        to: cover.to,
        calls: total.calls,
        errors: errors.map(|outcome| outcomes[*outcome as usize]).sum(),
        outcomes: CallOutcome::WORDS.iter().copied().zip(outcomes).collect(),
        bytes_in: total.bytes_in,
        bytes_out: total.bytes_out,
        average_ms: total.latency_us.checked_div(total.calls).map(millis),
        latency: LatencyView::of(&total),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::scene::busy;

    #[tokio::test]
    async fn counts_the_calls_that_are_asked_for() {
        let (scene, upstreams, keys) = busy().await;
        let path = "/api/admin/stats/summary";
        let all = scene.get(path).await;
        assert_eq!(all.status, 200, "{}", all.json);
        assert_eq!((&all.json["calls"], &all.json["errors"]), (&json!(30), &json!(5)));
        assert_eq!(
            (&all.json["outcomes"]["timeout"], &all.json["outcomes"]["unavailable"]),
            (&json!(5), &json!(0))
        );
        assert_eq!((&all.json["bytesIn"], &all.json["bytesOut"]), (&json!(300), &json!(3_000)));
        assert_eq!(all.json["averageMs"], json!(340.333));
        let p50 = all.json["p50Ms"].as_f64().unwrap();
        assert!((p50 - 15.0).abs() <= 15.0 / 32.0, "{p50}");
        for (query, calls) in [
            (format!("?upstreamId={}", upstreams[1]), 10),
            (format!("?keyId={}", keys[0]), 20),
            ("?name=echo&outcome=ok".to_owned(), 15),
            ("?method=prompts/get".to_owned(), 0),
        ] {
            let answer = scene.get(&format!("{path}{query}")).await;
            assert_eq!((answer.status, &answer.json["calls"]), (200, &json!(calls)), "{query}");
        }
    }

    #[tokio::test]
    async fn a_range_without_calls_has_no_latency() {
        let (scene, ..) = busy().await;
        let answer =
            scene.get("/api/admin/stats/summary?from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z").await;
        assert_eq!((&answer.json["calls"], &answer.json["p99Ms"]), (&json!(0), &json!(null)));
        assert_eq!(answer.json["averageMs"], json!(null));
    }

    #[tokio::test]
    async fn refuses_a_range_that_is_none() {
        let (scene, ..) = busy().await;
        let answer = scene.get("/api/admin/stats/summary?from=x&outcome=good").await;
        assert_eq!((answer.status, answer.pointers()), (422, vec!["/from".to_owned(), "/outcome".into()]));
    }
}
