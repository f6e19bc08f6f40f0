//! `GET /api/admin/health`: how the gateway fares, in detail.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use proxy::bridge::degraded::Reason;
use proxy::cache::CacheHealth;
use proxy::jobs::{JobOutcome, JobStatus};
use proxy::relay::RelayReach;
use serde::Serialize;
use sql::StoreError;
use sql::model::{PageRequest, Timestamp, XiaozhiState};
use sql::xiaozhi_endpoints::{self, XiaozhiFilter};
use utoipa::ToSchema;

use crate::App;
use crate::doc;
use crate::extract::Admin;

/// Unreadable rows in one answer: whoever has more has a backup to look for.
const UNREADABLE_SHOWN_MAX: usize = 100;

/// How the gateway fares.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HealthView {
    /// `ok`, or `degraded` if something below isn't as it should be.
    status: &'static str,
    /// The gateway's version.
    version: &'static str,
    /// Where clients reach the gateway, if the operator says so.
    public_url: Option<String>,
    /// Whether the store answers.
    store: bool,
    /// Whether a catalog is published: whether calls are served.
    ready: bool,
    /// The revision of configuration that is served.
    revision: i64,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    published_at: Option<Timestamp>,
    /// Why the newest configuration isn't served, if it isn't.
    problem: Option<String>,
    /// Stored rows that can't be read and are passed over, at most 100 of them: altered, or sealed with
    /// another key. The rest is served.
    unreadable: Vec<UnreadableView>,
    /// What became of the records of calls, since this process started.
    call_records: CallRecordsView,
    /// What is done on a schedule, and when it was due last.
    jobs: Vec<JobView>,
    /// Upstreams by the state of their connection.
    upstreams: BTreeMap<String, u64>,
    /// Tools in the catalog.
    tools: u64,
    /// Calls that wait for an upstream.
    calls_in_flight: u64,
    /// Streams that clients hold open.
    streams: u64,
    /// Calls that wait for a modern client to come back with what their upstream asked.
    parked_calls: u64,
    /// What clients could not be given: how often, by the letter of the reason, of all upstreams.
    #[schema(value_type = BTreeMap<String, u64>)]
    degraded: BTreeMap<Reason, u64>,
    /// The Redis that replicas share; null where there is none.
    redis: Option<RedisView>,
    /// How far streams and waiting calls are reached at other replicas: `here` (they work only where they
    /// are: there is no Redis), `redis` (everywhere, up to 256 KiB a message), `peers` (everywhere), `lost`
    /// (only where they are, until Redis is back).
    #[schema(value_type = String)]
    relay: RelayReach,
    /// The XiaoZhi endpoints of all replicas; null while the store is away.
    xiaozhi: Option<XiaozhiHealthView>,
}

/// The XiaoZhi endpoints.
#[derive(Serialize, ToSchema)]
#[schema(as = XiaozhiHealth)]
pub(crate) struct XiaozhiHealthView {
    /// Those that are switched on.
    enabled: u64,
    /// Those that have a live socket.
    connected: u64,
}

/// How Redis fares, as this replica sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RedisHealth)]
pub(crate) struct RedisView {
    /// Whether it serves. Without it each replica goes on by itself.
    up: bool,
    /// Since when it does or doesn't.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Why it doesn't.
    problem: Option<String>,
    /// The replicas known to be running.
    replicas: u32,
}

impl From<CacheHealth> for RedisView {
    fn from(health: CacheHealth) -> Self {
        let CacheHealth { up, since, problem, replicas } = health;
        Self { up, since, problem, replicas }
    }
}

/// A stored row that can't be read.
#[derive(Serialize, ToSchema)]
pub(crate) struct UnreadableView {
    /// Its table.
    table: &'static str,
    /// Its id, or what else tells it apart.
    id: String,
    /// The first of its columns that can't be read.
    column: String,
}

/// What became of the records of calls.
#[derive(Serialize, ToSchema)]
pub(crate) struct CallRecordsView {
    /// Written to the store.
    written: u64,
    /// Waiting in memory for the store.
    buffered: u64,
    /// Lost: more came than could be queued, or kept while the store was away.
    lost: u64,
    /// Dropped from the store, the oldest, since there were more than are kept.
    surplus: u64,
}

/// A job: something that is done on a schedule, by one replica for all.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JobView {
    /// Which.
    job: &'static str,
    /// When it was due last; null: never since this process started.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_run_at: Option<Timestamp>,
    /// What came of it then: `done` here, `elsewhere` (another replica has it), `failed`.
    #[schema(schema_with = doc::job_outcome)]
    last_outcome: Option<JobOutcome>,
    /// How long that took, in milliseconds.
    last_ms: u64,
    /// How often it was done here, since this process started.
    done: u64,
    /// How often it failed here, since this process started.
    failed: u64,
}

impl From<JobStatus> for JobView {
    fn from(status: JobStatus) -> Self {
        let JobStatus { job, last_run_at, last_outcome, last_ms, done, failed } = status;
        Self { job: job.as_str(), last_run_at, last_outcome, last_ms, done, failed }
    }
}

/// Read how the gateway fares
#[utoipa::path(get, path = "/api/admin/health", tag = "health", responses((status = 200, body = HealthView)))]
pub(crate) async fn health(_admin: Admin, State(app): State<App>) -> Json<HealthView> {
    Json(view(&app).await)
}

/// How the gateway fares now.
pub(crate) async fn view(app: &App) -> HealthView {
    let store = app.store.healthy().await.is_ok();
    let data_plane = app.control.health();
    let mut upstreams = BTreeMap::new();
    for status in app.control.statuses() {
        *upstreams.entry(status.state.as_str().to_owned()).or_insert(0) += 1;
    }
    let unreadable: Vec<_> = data_plane
        .unreadable
        .into_iter()
        .take(UNREADABLE_SHOWN_MAX)
        .map(|row| UnreadableView { table: row.table, id: row.id, column: row.column })
        .collect();
    let records = data_plane.call_records;
    // An upstream that is away is its own matter, and shown; it degrades nothing else.
    let redis = data_plane.redis.as_ref().is_none_or(|redis| redis.up);
    let well = store && redis && data_plane.ready && data_plane.problem.is_none() && unreadable.is_empty();
    HealthView {
        status: if well { "ok" } else { "degraded" },
        version: app.version,
        public_url: app.public_url.clone(),
        store,
        ready: data_plane.ready,
        revision: data_plane.revision,
        published_at: data_plane.published_at,
        problem: data_plane.problem,
        unreadable,
        call_records: CallRecordsView {
            written: records.written,
            buffered: records.buffered,
            lost: records.lost,
            surplus: records.surplus,
        },
        jobs: data_plane.jobs.into_iter().map(JobView::from).collect(),
        upstreams,
        tools: data_plane.tools,
        calls_in_flight: data_plane.calls_in_flight,
        streams: data_plane.streams,
        parked_calls: data_plane.parked_calls,
        degraded: data_plane.degraded,
        redis: data_plane.redis.map(RedisView::from),
        relay: data_plane.relay,
        xiaozhi: xiaozhi(app).await.ok(),
    }
}

async fn xiaozhi(app: &App) -> Result<XiaozhiHealthView, StoreError> {
    let mut tx = app.store.read().await?;
    let (one, filter) =
        (PageRequest { limit: 1, ..PageRequest::default() }, XiaozhiFilter { enabled: Some(true) });
    let enabled = xiaozhi_endpoints::page(&mut tx, &one, &filter).await?.total;
    let reports = xiaozhi_endpoints::reports(&mut tx).await?;
    let connected = reports.iter().filter(|report| report.state == XiaozhiState::Connected).count();
    Ok(XiaozhiHealthView { enabled, connected: connected as u64 })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Scene, status};

    #[tokio::test]
    async fn counts_upstreams_by_state() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        scene.plane.set_status(status(id.parse().unwrap()));
        let answer = scene.get("/api/admin/health").await;
        assert_eq!((answer.status, &answer.json["status"]), (200, &json!("ok")));
        assert_eq!(answer.json["upstreams"], json!({"unavailable": 1}));
        assert_eq!(answer.json["store"], true);
        let job = json!({
            "job": "rollups", "lastRunAt": "1970-01-01T00:00:00.000Z", "lastOutcome": "done", "lastMs": 12,
            "done": 3, "failed": 0
        });
        assert_eq!(answer.json["jobs"], json!([job]));
        assert_eq!(answer.json["redis"], json!(null));
        assert_eq!(answer.json["relay"], "here");
        assert_eq!(answer.json["xiaozhi"], json!({"enabled": 0, "connected": 0}));
        scene.xiaozhi("room").await;
        let answer = scene.get("/api/admin/health").await;
        assert_eq!(answer.json["xiaozhi"], json!({"enabled": 1, "connected": 0}));
    }

    #[tokio::test]
    async fn a_lost_redis_is_shown_and_degrades() {
        let scene = Scene::logged_in().await;
        scene.plane.set_redis(CacheHealth {
            up: false,
            since: Timestamp::from_millis(0),
            problem: Some("not reachable".into()),
            replicas: 3,
        });
        let answer = scene.get("/api/admin/health").await;
        assert_eq!(answer.json["status"], "degraded");
        let redis = json!({
            "up": false, "since": "1970-01-01T00:00:00.000Z", "problem": "not reachable", "replicas": 3
        });
        assert_eq!(answer.json["redis"], redis);
    }
}
