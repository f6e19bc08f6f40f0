//! `GET /api/admin/stats/calls`

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sql::call_records;
use sql::model::{
    ApiKeyId, CallMethod, CallOutcome, CallRecord, CallTransport, Era, Mode, Timestamp, UpstreamId,
};
use utoipa::ToSchema;

use super::millis;
use super::names::Names;
use super::query::StatsQuery;
use crate::App;
use crate::doc;
use crate::error::ApiError;
use crate::extract::{Admin, Query};
use crate::fields::Problems;
use crate::query::{ListQuery, Listed};

/// A call that was routed. Neither its arguments nor its result are kept.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Call)]
pub(crate) struct CallView {
    /// When it came.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What was called.
    #[schema(schema_with = doc::call_method)]
    method: CallMethod,
    /// What the client calls it.
    name: String,
    /// What the upstream calls it.
    original_name: String,
    /// At which upstream.
    #[schema(value_type = uuid::Uuid)]
    upstream_id: UpstreamId,
    /// What that is called now; null: it is gone.
    upstream_name: Option<String>,
    /// By whose key.
    #[schema(value_type = uuid::Uuid)]
    key_id: ApiKeyId,
    /// What that is called now; null: it is gone.
    key_name: Option<String>,
    /// Over which transport of the client.
    #[schema(schema_with = doc::call_transport)]
    transport: CallTransport,
    /// In which era the client spoke.
    #[schema(schema_with = doc::era)]
    era: Era,
    /// In which mode the client was served.
    #[schema(schema_with = doc::mode)]
    mode: Mode,
    /// How it ended.
    #[schema(schema_with = doc::call_outcome)]
    outcome: CallOutcome,
    /// From being routed to being answered, in milliseconds.
    latency_ms: f64,
    /// What the client sent, in bytes.
    bytes_in: u64,
    /// What the client was given, in bytes.
    bytes_out: u64,
}

/// List calls
///
/// The newest first, or with `sort=at` the oldest. `search` looks into both names. The total stops at 100000.
#[utoipa::path(get, path = "/api/admin/stats/calls", tag = "stats", params(ListQuery, StatsQuery),
    responses((status = 200, body = Listed<CallView>, example = json!({
        "items": [{"at": "2026-11-23T10:00:00.000Z", "method": "tools/call", "name": "search_code",
            "originalName": "search_code", "upstreamId": "0197f0a0-7c00-7000-8000-000000000002",
            "upstreamName": "github", "keyId": "0197f0a0-7c00-7000-8000-000000000003", "keyName": "team-a",
            "transport": "streamable-http", "era": "modern", "mode": "full", "outcome": "ok", "latencyMs": 48.2,
            "bytesIn": 240, "bytesOut": 4_096}],
        "nextCursor": null, "total": 1
    }))))]
pub(crate) async fn calls(
    _admin: Admin,
    State(app): State<App>,
    Query(list): Query<ListQuery>,
    Query(query): Query<StatsQuery>,
) -> Result<Json<Listed<CallView>>, ApiError> {
    let request = list.parse(&["at"])?;
    let asked = query.parse(app.store.clock().now(), Problems::default())?;
    let mut tx = app.store.read().await?;
    let page = call_records::page(&mut tx, &request, (asked.from, asked.to), &asked.filter).await?;
    let upstreams: Vec<_> = page.items.iter().map(|call| call.upstream_id).collect();
    let keys: Vec<_> = page.items.iter().map(|call| call.key_id).collect();
    let names = Names::load(&mut tx, upstreams, keys).await?;
    Ok(Json(page.map(|call| view(call, &names)).into()))
}

fn view(call: CallRecord, names: &Names) -> CallView {
    CallView {
        at: call.at,
        method: call.method,
        name: call.exposed_name,
        original_name: call.upstream_name,
        upstream_id: call.upstream_id,
        upstream_name: names.upstream(call.upstream_id),
        key_id: call.key_id,
        key_name: names.key(call.key_id),
        transport: call.transport,
        era: call.era,
        mode: call.mode,
        outcome: call.outcome,
        latency_ms: millis(call.latency_us),
        bytes_in: call.bytes_in,
        bytes_out: call.bytes_out,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::scene::busy;

    #[tokio::test]
    async fn shows_calls_page_by_page_the_newest_first() {
        let (scene, upstreams, keys) = busy().await;
        // The call of this very moment: `to` is the first that isn't asked for.
        let range = "from=2025-06-14T00:00:00Z&to=2025-06-16T00:00:00Z";
        let path = format!("/api/admin/stats/calls?{range}");
        let first = scene.get(&format!("{path}&limit=25")).await;
        assert_eq!((first.status, &first.json["total"]), (200, &json!(30)), "{}", first.json);
        let newest = &first.json["items"][0];
        assert_eq!((&newest["name"], &newest["outcome"]), (&json!("echo"), &json!("timeout")));
        assert_eq!((&newest["upstreamId"], &newest["upstreamName"]), (&json!(upstreams[0]), &json!("a")));
        assert_eq!((&newest["keyId"], &newest["keyName"]), (&json!(keys[0]), &json!("one")));
        assert_eq!((&newest["latencyMs"], &newest["era"]), (&json!(1.0), &json!("modern")));
        let cursor = first.json["nextCursor"].as_str().unwrap();
        let second = scene.get(&format!("{path}&limit=25&cursor={cursor}")).await;
        assert_eq!(second.json["items"].as_array().unwrap().len(), 5);
        assert!(second.json["nextCursor"].is_null());
        for (query, total) in [
            (format!("&upstreamId={}", upstreams[1]), 10),
            ("&outcome=timeout".to_owned(), 5),
            ("&search=WAI".to_owned(), 10),
            ("&name=nothing".to_owned(), 0),
        ] {
            assert_eq!(scene.get(&format!("{path}{query}")).await.json["total"], total, "{query}");
        }
    }

    #[tokio::test]
    async fn refuses_a_cursor_and_an_order_of_another_list() {
        let (scene, ..) = busy().await;
        for (query, pointer) in [("cursor=eA", "/cursor"), ("sort=name", "/sort"), ("limit=201", "/limit")] {
            let answer = scene.get(&format!("/api/admin/stats/calls?{query}")).await;
            assert_eq!((answer.status, answer.pointers()), (422, vec![pointer.to_owned()]), "{query}");
        }
    }
}
