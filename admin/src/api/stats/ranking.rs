//! `GET /api/admin/stats/ranking`

use std::cmp::Reverse;
use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sql::model::{ApiKeyId, CallMethod, DefinitionId, Kind, Tally, Timestamp, UpstreamId};
use sql::statistics::{self, Cover};
use sql::{Tx, lists};
use utoipa::{IntoParams, ToSchema};

use super::names::Names;
use super::query::{StatsQuery, word};
use super::{LatencyView, is_error};
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Query};
use crate::fields::Problems;

/// Lines of a ranking: the most that the setting for it takes.
const LIMIT_MAX: u32 = 100;

/// What is ranked, and by what.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RankingQuery {
    /// What is ranked: `upstream`, `tool` or `key`.
    #[param(required = true)]
    by: Option<String>,
    /// By what: `count` (if not said), `errors`, `p95Ms` or `bytes`; the most comes first.
    sort: Option<String>,
    /// How many lines, 1 to 100; the setting `statistics.top_limit_default` if not said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    limit: Option<String>,
}

/// Who had the most calls.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StatsRanking)]
pub(crate) struct RankingView {
    /// The first moment that is counted.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// The first moment after it that isn't.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    /// How many there are in all.
    total: u64,
    /// The first of them.
    items: Vec<RankView>,
}

/// A line of a ranking.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StatsRank)]
pub(crate) struct RankView {
    /// The id of the upstream, key or tool. Null: a tool that is gone, or has this name for some key alone.
    #[schema(value_type = Option<uuid::Uuid>)]
    id: Option<String>,
    /// What it is called; of a tool, what clients call it. Null: an upstream or key that is gone.
    name: Option<String>,
    /// Of a tool, the upstream that has it.
    #[schema(value_type = Option<uuid::Uuid>)]
    upstream_id: Option<UpstreamId>,
    /// Of a tool, what that upstream is called.
    upstream_name: Option<String>,
    /// How many calls came.
    count: u64,
    /// How many of them failed.
    errors: u64,
    /// What clients sent, in bytes.
    bytes_in: u64,
    /// What clients were given, in bytes.
    bytes_out: u64,
    #[serde(flatten)]
    latency: LatencyView,
}

/// What a line is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Subject {
    Upstream(UpstreamId),
    Tool(UpstreamId, String),
    Key(ApiKeyId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Upstream,
    Tool,
    Key,
}

impl std::str::FromStr for By {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Ok(match word {
            "upstream" => Self::Upstream,
            "tool" => Self::Tool,
            "key" => Self::Key,
            _ => return Err(()),
        })
    }
}

const BY_WORDS: [&str; 3] = ["upstream", "tool", "key"];
const SORT_WORDS: [&str; 4] = ["count", "errors", "p95Ms", "bytes"];

/// Rank upstreams, tools or keys
#[utoipa::path(get, path = "/api/admin/stats/ranking", tag = "stats", params(RankingQuery, StatsQuery),
    responses((status = 200, body = RankingView, example = json!({
        "from": "2026-11-22T10:00:00.000Z", "to": "2026-11-23T10:00:00.000Z", "total": 1,
        "items": [{"id": "0197f0a0-7c00-7000-8000-000000000001", "name": "search_code",
            "upstreamId": "0197f0a0-7c00-7000-8000-000000000002", "upstreamName": "github", "count": 410,
            "errors": 2, "bytesIn": 98_000, "bytesOut": 1_900_000, "p50Ms": 210.9, "p95Ms": 704.5, "p99Ms": 901.1}]
    }))))]
pub(crate) async fn ranking(
    _admin: Admin,
    State(app): State<App>,
    Query(ranking): Query<RankingQuery>,
    Query(query): Query<StatsQuery>,
) -> Result<Json<RankingView>, ApiError> {
    let now = app.store.clock().now();
    let mut problems = Problems::default();
    let by: Option<By> = word(ranking.by.as_deref(), "/by", &BY_WORDS, &mut problems);
    if ranking.by.is_none() {
        problems.add("/by", "is required");
    }
    let sort = ranking.sort.as_deref().unwrap_or(SORT_WORDS[0]);
    if !SORT_WORDS.contains(&sort) {
        problems.add("/sort", format!("must be one of {}", SORT_WORDS.join(", ")));
    }
    let limit = ranking
        .limit
        .as_deref()
        .map(|text| text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)));
    if limit == Some(None) {
        problems.add("/limit", format!("must be a whole number from 1 to {LIMIT_MAX}"));
    }
    let mut asked = query.parse(now, problems)?;
    let by = by.ok_or_else(|| ApiError::field("/by", "is required"))?;
    if by == By::Tool {
        if asked.filter.method.is_some_and(|method| method != CallMethod::CallTool) {
            return Err(ApiError::field("/method", "must be tools/call where tools are ranked"));
        }
        // Prompts and resources have names too.
        asked.filter.method = Some(CallMethod::CallTool);
    }
    let limit = limit.flatten().unwrap_or_else(|| app.top_limit());
    let cover = Cover::of(asked.from, asked.to, now);
    let mut sums: HashMap<Subject, (Tally, u64)> = HashMap::new();
    let mut tx = app.store.read().await?;
    statistics::each(&mut tx, &cover, &asked.filter, |sum| {
        let subject = match by {
            By::Upstream => Subject::Upstream(sum.upstream_id),
            By::Tool => Subject::Tool(sum.upstream_id, sum.exposed_name),
            By::Key => Subject::Key(sum.key_id),
        };
        let (tally, errors) = sums.entry(subject).or_default();
        tally.merge(&sum.tally);
        if is_error(sum.outcome) {
            *errors += sum.tally.calls;
        }
    })
    .await?;
    let total = sums.len() as u64;
    let mut ranked: Vec<_> = sums.into_iter().collect();
    ranked.sort_by_cached_key(|(subject, (tally, errors))| {
        let weight = match sort {
            "errors" => *errors,
            "p95Ms" => tally.latencies.percentile(950).unwrap_or_default(),
            "bytes" => tally.bytes_in.saturating_add(tally.bytes_out),
            _ => tally.calls,
        };
        (Reverse(weight), Reverse(tally.calls), subject.clone())
    });
    ranked.truncate(limit as usize);
    let items = lines(&mut tx, ranked).await?;
    Ok(Json(RankingView { from: cover.from, to: cover.to, total, items }))
}

/// The lines with the names of what they are about.
async fn lines(tx: &mut Tx, ranked: Vec<(Subject, (Tally, u64))>) -> Result<Vec<RankView>, ApiError> {
    let upstreams = ranked.iter().filter_map(|(subject, _)| match subject {
        Subject::Upstream(id) | Subject::Tool(id, _) => Some(*id),
        Subject::Key(_) => None,
    });
    let keys = ranked.iter().filter_map(|(subject, _)| match subject {
        Subject::Key(id) => Some(*id),
        _ => None,
    });
    let names = Names::load(tx, upstreams.collect::<Vec<_>>(), keys.collect::<Vec<_>>()).await?;
    let mut lines = Vec::with_capacity(ranked.len());
    for (subject, (tally, errors)) in ranked {
        let (id, name, upstream_id) = match subject {
            Subject::Upstream(id) => (Some(id.to_string()), names.upstream(id), None),
            Subject::Key(id) => (Some(id.to_string()), names.key(id), None),
            Subject::Tool(upstream, name) => {
                let id: Option<DefinitionId> = lists::id_of(tx, upstream, Kind::Tool, &name).await?;
                (id.map(|id| id.to_string()), Some(name), Some(upstream))
            }
        };
        lines.push(RankView {
            id,
            name,
            upstream_id,
            upstream_name: upstream_id.and_then(|id| names.upstream(id)),
            count: tally.calls,
            errors,
            bytes_in: tally.bytes_in,
            bytes_out: tally.bytes_out,
            latency: LatencyView::of(&tally),
        });
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::scene::busy;

    #[tokio::test]
    async fn the_most_comes_first() {
        let (scene, upstreams, keys) = busy().await;
        let tool = scene.tool(&upstreams[0], "echo").await;
        let path = "/api/admin/stats/ranking";
        let tools = scene.get(&format!("{path}?by=tool")).await;
        assert_eq!((tools.status, &tools.json["total"]), (200, &json!(2)), "{}", tools.json);
        let echo = &tools.json["items"][0];
        assert_eq!((&echo["id"], &echo["name"]), (&json!(tool.to_string()), &json!("echo")));
        assert_eq!((&echo["upstreamId"], &echo["upstreamName"]), (&json!(upstreams[0]), &json!("a")));
        assert_eq!(
            (&echo["count"], &echo["errors"], &echo["bytesOut"]),
            (&json!(20), &json!(5), &json!(2_000))
        );
        assert!(tools.json["items"][1]["id"].is_null(), "no list has it");
        let slowest = scene.get(&format!("{path}?by=upstream&sort=p95Ms&limit=1")).await;
        let first = &slowest.json["items"];
        assert_eq!((first.as_array().unwrap().len(), &first[0]["name"]), (1, &json!("b")));
        assert_eq!((&first[0]["id"], &slowest.json["total"]), (&json!(upstreams[1]), &json!(2)));
        let by_key = scene.get(&format!("{path}?by=key&upstreamId={}", upstreams[1])).await;
        assert_eq!(
            (&by_key.json["items"][0]["id"], &by_key.json["items"][0]["name"]),
            (&json!(keys[1]), &json!("two"))
        );
    }

    #[tokio::test]
    async fn what_is_gone_keeps_its_calls() {
        let (scene, upstreams, _) = busy().await;
        let path = format!("/api/admin/upstreams/{}", upstreams[0]);
        let version = scene.get(&path).await.headers["etag"].to_str().unwrap().to_owned();
        let gone = scene.send("DELETE", &path, None, &[("if-match", &version)]).await;
        assert_eq!(gone.status, 204, "{}", gone.json);
        let ranking = scene.get("/api/admin/stats/ranking?by=upstream").await;
        let first = &ranking.json["items"][0];
        assert_eq!(
            (&first["id"], &first["name"], &first["count"]),
            (&json!(upstreams[0]), &json!(null), &json!(20))
        );
    }

    #[tokio::test]
    async fn says_all_that_is_wrong() {
        let (scene, ..) = busy().await;
        let answer = scene.get("/api/admin/stats/ranking?by=color&sort=x&limit=0&to=x").await;
        assert_eq!(
            (answer.status, answer.pointers()),
            (422, ["/by", "/sort", "/limit", "/to"].map(String::from).to_vec())
        );
        let answer = scene.get("/api/admin/stats/ranking").await;
        assert_eq!((answer.status, answer.pointers()), (422, vec!["/by".to_owned()]));
    }
}
