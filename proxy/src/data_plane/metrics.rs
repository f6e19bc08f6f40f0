//! What the data plane puts on the page for Prometheus: what its parts know of themselves at that moment.

use std::time::Duration;

use sql::model::{CallOutcome, Kind as ItemKind, Timestamp, Upstream};
use tokio::time::timeout;

use super::{DataPlane, Parts};
use crate::bridge::degraded::Reason;
use crate::jobs::JobOutcome;
use crate::metrics::calls::{BOUNDS_US, UpstreamCalls};
use crate::metrics::drops::{self, Queue};
use crate::metrics::page::{Kind, Page};
use crate::spans::Spans;
use crate::upstream::states::ConnectionState;

/// How long the database may take to answer before it counts as away: a scrape waits for it.
const DATABASE_ANSWERS_WITHIN: Duration = Duration::from_secs(2);

const MICROS_PER_SECOND: f64 = 1e6;

impl DataPlane {
    /// Puts on the page how the data plane fares.
    pub async fn show_metrics(&self, page: &mut Page) {
        let parts = &self.0;
        let answers = timeout(DATABASE_ANSWERS_WITHIN, parts.store.healthy()).await;
        page.one(
            "mpg_db_up",
            Kind::Gauge,
            "Whether the database answers",
            (matches!(answers, Ok(Ok(())))).into(),
        );
        // What isn't there has no value, but its name: so a dashboard that asks for it asks for something.
        let pool = parts.store.pool();
        let connections = page.family("mpg_db_connections", Kind::Gauge, "Connections to the database");
        if let Some(pool) = pool {
            connections.add(&[("state", "idle")], pool.idle);
            connections.add(&[("state", "used")], pool.open.saturating_sub(pool.idle));
        }
        let waiting = page.family("mpg_db_waiting", Kind::Gauge, "Transactions that wait for a connection");
        if let Some(pool) = pool {
            waiting.add(&[], pool.waiting);
        }
        let redis = parts.cache.health();
        let up = page.family("mpg_redis_up", Kind::Gauge, "Whether Redis serves");
        if let Some(redis) = &redis {
            up.add(&[], redis.up.into());
        }
        let replicas = redis.map_or(1, |redis| redis.replicas);
        page.one("mpg_replicas", Kind::Gauge, "Replicas known to be running", replicas.into());
        parts.show_catalog(page);
        parts.show_calls(page);
        parts.show_spans(page);
        parts.show_upstreams(page);
        parts.show_lost(page);
        parts.show_jobs(page);
        page.one(
            "mpg_audit_failures",
            Kind::Counter,
            "Audit events that could not be written, and the acts with them",
            parts.store.audit_failures(),
        );
    }
}

impl Parts {
    fn show_catalog(&self, page: &mut Page) {
        let snapshot = self.published.current();
        let age = self.store.clock().now().since(snapshot.published_at);
        let tools = snapshot.catalog.count(ItemKind::Tool) as u64;
        page.family("mpg_snapshot_age_seconds", Kind::Gauge, "How long ago the catalog was published")
            .add_real(&[], age.as_secs_f64());
        let problem = self.published.problem().is_some();
        page.one(
            "mpg_snapshot_stale",
            Kind::Gauge,
            "Whether newer configuration can't be served",
            problem.into(),
        );
        page.one("mpg_tools", Kind::Gauge, "Tools in the catalog", tools);
        page.one("mpg_stream_clients", Kind::Gauge, "Streams that clients hold open", self.streams.total());
        let sessions = page.family(
            "mpg_sessions",
            Kind::Gauge,
            "Sessions of clients that have a connection, a stream or a call here",
        );
        for (transport, count) in self.live.counts() {
            sessions.add(&[("transport", transport.as_str())], count);
        }
        page.one(
            "mpg_parked_calls",
            Kind::Gauge,
            "Calls that wait for their client",
            self.parking.len() as u64,
        );
    }

    fn show_calls(&self, page: &mut Page) {
        let catalog = std::sync::Arc::clone(&self.published.current().catalog);
        let named: Vec<(String, UpstreamCalls)> = {
            let mut meters = self.call_log.meters().open();
            meters.keep(|id| catalog.upstreams().any(|upstream| upstream.id == id));
            catalog.upstreams().map(|upstream| (upstream.name.clone(), meters.of(upstream.id))).collect()
        };
        let calls =
            page.family("mpg_upstream_calls", Kind::Counter, "Calls that were routed, by how they ended");
        for (name, counted) in &named {
            for (outcome, count) in CallOutcome::ALL.iter().zip(counted.outcomes) {
                calls.add(&[("upstream", name), ("outcome", outcome.as_str())], count);
            }
        }
        let took =
            page.family("mpg_upstream_call_duration_seconds", Kind::Histogram, "From routing to the answer");
        for (name, counted) in &named {
            let bounds = BOUNDS_US.iter().map(|us| seconds(*us)).chain([f64::INFINITY]);
            took.add_histogram(
                &[("upstream", name)],
                seconds(counted.latency_us),
                bounds.zip(counted.buckets).collect(),
            );
        }
        let bytes = page.family("mpg_upstream_call_bytes", Kind::Counter, "Parameters in and results out");
        for (name, counted) in &named {
            bytes.add(&[("upstream", name), ("direction", "in")], counted.bytes_in);
            bytes.add(&[("upstream", name), ("direction", "out")], counted.bytes_out);
        }
        let records = self.call_log.counts();
        page.one("mpg_stats_written", Kind::Counter, "Call records written", records.written);
        page.one(
            "mpg_stats_buffered",
            Kind::Gauge,
            "Call records that wait for the database",
            records.buffered,
        );
        page.one("mpg_stats_dropped", Kind::Counter, "Call records lost", records.lost);
        page.one(
            "mpg_stats_surplus",
            Kind::Counter,
            "Call records dropped beyond records_max",
            records.surplus,
        );
    }

    /// Nothing where there is no collector.
    fn show_spans(&self, page: &mut Page) {
        let counts = self.spans.as_ref().map(Spans::counts);
        let calls = page.family("mpg_traced_calls", Kind::Counter, "Calls by what became of their spans");
        if let Some(counts) = counts {
            calls.add(&[("outcome", "sent")], counts.sent);
            calls.add(&[("outcome", "lost")], counts.lost);
        }
    }

    fn show_upstreams(&self, page: &mut Page) {
        let statuses = self.upstreams.statuses();
        let catalog = std::sync::Arc::clone(&self.published.current().catalog);
        let upstreams: Vec<_> = catalog
            .upstreams()
            .filter_map(|upstream: &std::sync::Arc<Upstream>| {
                Some((upstream.name.clone(), statuses.get(&upstream.id)?))
            })
            .collect();
        let up = page.family("mpg_upstream_up", Kind::Gauge, "Whether calls to an upstream pass");
        for (name, status) in &upstreams {
            up.add(&[("upstream", name)], (status.state == ConnectionState::Available).into());
        }
        let states = page.family(
            "mpg_upstream_state",
            Kind::Gauge,
            "The state of an upstream's connection: 1 for the one it is in",
        );
        for (name, status) in &upstreams {
            states.add(&[("upstream", name), ("state", status.state.as_str())], 1);
        }
        let breaker = page.family(
            "mpg_upstream_breaker_open",
            Kind::Gauge,
            "Whether calls to an upstream fail at once",
        );
        for (name, status) in &upstreams {
            breaker.add(&[("upstream", name)], status.breaker_open.into());
        }
        let in_flight =
            page.family("mpg_upstream_calls_in_flight", Kind::Gauge, "Calls that wait for an upstream");
        for (name, status) in &upstreams {
            in_flight.add(&[("upstream", name)], status.calls_in_flight as u64);
        }
        let sessions = page.family("mpg_upstream_sessions", Kind::Gauge, "Sessions with an upstream");
        for (name, status) in &upstreams {
            sessions.add(&[("upstream", name)], status.sessions as u64);
        }
        let unattributed = page.family(
            "mpg_upstream_unattributed",
            Kind::Counter,
            "Requests and messages of an upstream that belong to no one client",
        );
        for (name, status) in &upstreams {
            unattributed.add(&[("upstream", name)], status.unattributed);
        }
        let restarts =
            page.family("mpg_child_restarts", Kind::Counter, "Child processes that were started again");
        for (name, status) in &upstreams {
            restarts.add(&[("upstream", name)], status.child_restarts);
        }
        let pins = page.family(
            "mpg_pins_held",
            Kind::Gauge,
            "Changed definitions that are held back until an admin approves them",
        );
        for (upstream, count) in catalog.held_back() {
            pins.add(&[("upstream", upstream.name.as_str())], count as u64);
        }
        let lines = page.family(
            "mpg_upstream_dropped_lines",
            Kind::Counter,
            "Lines and events that were no messages",
        );
        for (name, status) in &upstreams {
            lines.add(&[("upstream", name)], status.dropped_lines);
        }
    }

    fn show_lost(&self, page: &mut Page) {
        let totals = self.upstreams.degraded().totals();
        let degraded = page.family(
            "mpg_bridge_degraded",
            Kind::Counter,
            "What clients could not be given, by the letter of the reason",
        );
        for reason in Reason::ALL {
            degraded.add(&[("reason", reason.letter())], totals.get(&reason).copied().unwrap_or_default());
        }
        let dropped = page.family("mpg_queue_dropped", Kind::Counter, "What bounded queues had no room for");
        for queue in Queue::ALL {
            dropped.add(&[("queue", queue.as_str())], drops::total(queue));
        }
        let slow = drops::total(Queue::Conversation) + drops::total(Queue::Connection);
        page.one(
            "mpg_slow_clients_dropped",
            Kind::Counter,
            "Calls and connections of clients that didn't read",
            slow,
        );
    }

    /// By `task`: Prometheus itself labels what it scrapes with `job`.
    fn show_jobs(&self, page: &mut Page) {
        let jobs = self.jobs.statuses();
        let last = page.family(
            "mpg_job_last_run_timestamp_seconds",
            Kind::Gauge,
            "When a job was due last, here or at another replica",
        );
        for job in &jobs {
            if let Some(at) = job.last_run_at {
                last.add_real(&[("task", job.job.as_str())], unix_seconds(at));
            }
        }
        let runs =
            page.family("mpg_job_runs", Kind::Counter, "Jobs that this replica did, by what came of them");
        for job in &jobs {
            runs.add(&[("task", job.job.as_str()), ("outcome", JobOutcome::Done.as_str())], job.done);
            runs.add(&[("task", job.job.as_str()), ("outcome", JobOutcome::Failed.as_str())], job.failed);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a sum of microseconds is exact for 285 years")]
fn seconds(us: u64) -> f64 {
    us as f64 / MICROS_PER_SECOND
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 have 41 bits")]
fn unix_seconds(at: Timestamp) -> f64 {
    at.millis() as f64 / 1e3
}
