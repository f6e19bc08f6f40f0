//! `GET /api/admin/events`: what happens, as it happens, for a console that watches.
//!
//! Server-sent events, read with `fetch` since they need the header. What the gateway does is heard from it, of this
//! replica; what is in the audit log is read from there, of all. One who reads too slowly is closed and comes again; so
//! is everybody whose session ends. Nothing is kept for anybody: a console that comes again reads the lists first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use proxy::feed::Happened;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sql::audit_log::{self, AuditFilter};
use sql::model::{CallRecord, Timestamp, TokenId};
use sql::{StoreError, admin_users};
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio::time::{Interval, MissedTickBehavior, interval};
use utoipa::IntoParams;

use crate::App;
use crate::api::audit::wire::AuditRow;
use crate::api::health;
use crate::error::ApiError;
use crate::extract::{Admin, Query};
use crate::log_ring::LogLine;

/// Consoles that watch one replica at once. Each costs a connection, and a query every second.
pub(crate) const WATCHERS_MAX: usize = 64;
/// When one who found no room may come again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How often the store is asked for what is new, and whether the session goes on.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Looks between two looks at the health.
const HEALTH_LOOKS: u64 = 5;
/// Looks between two signs of life: proxies close what is silent for a minute.
const SIGN_LOOKS: u64 = 15;
/// Looks in a row that the store may leave unanswered. Nobody watches for longer without being asked who it is.
const UNSEEN_MAX: u32 = 60;
/// Audit events that are told at once; a console that wants the rest reads the list.
const AUDIT_MAX: u32 = 100;

/// Every kind of event.
const KINDS: [&str; 5] = ["upstream", "call", "log", "audit", "health"];

/// What is to be told.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// The kinds of events, with commas between: `upstream`, `call`, `log`, `audit`, `health`. All, if not said.
    kinds: Option<String>,
}

/// Watch what happens
///
/// An `upstream` event holds its status, `call` a call that ended (or `more`: how many of a moment aren't told one by
/// one), `log` a line of the gateway's log, `audit` an event of the audit log, `health` what `/api/admin/health` shows.
#[utoipa::path(get, path = "/api/admin/events", tag = "events", params(EventsQuery),
    responses((status = 200, body = String, content_type = "text/event-stream")))]
pub(crate) async fn events(
    admin: Admin,
    State(app): State<App>,
    Query(query): Query<EventsQuery>,
) -> Result<Response, ApiError> {
    let kinds = kinds(query.kinds.as_deref())?;
    let place = Arc::clone(&app.watchers).try_acquire_owned();
    let place = place.map_err(|_| ApiError::RateLimited { retry_after: RETRY_AFTER })?;
    let happening = app.control.feed().watch().ok_or(ApiError::TimedOut)?;
    let mut tx = app.store.read().await?;
    let audited = audit_log::extent(&mut tx).await?.head;
    drop(tx);
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watching = Watching {
        lines: app.logs.watch(),
        token: admin.token,
        app,
        kinds,
        happening,
        looks,
        looked: 0,
        standing: Standing::default(),
        audited,
        health: Value::Null,
        told: VecDeque::new(),
        _place: place,
    };
    let stream = futures::stream::unfold(watching, async |mut watching: Watching| {
        let event = watching.next().await?;
        Some((Ok::<_, std::convert::Infallible>(event), watching))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(stream)).into_response())
}

fn kinds(asked: Option<&str>) -> Result<Vec<&'static str>, ApiError> {
    let Some(asked) = asked else { return Ok(KINDS.to_vec()) };
    let known = |kind: &str| KINDS.into_iter().find(|known| *known == kind);
    let kinds: Option<Vec<_>> = asked.split(',').map(|kind| known(kind.trim())).collect();
    kinds.ok_or_else(|| ApiError::field("/kinds", format!("must be some of {}", KINDS.join(", "))))
}

/// One console.
struct Watching {
    app: App,
    token: TokenId,
    kinds: Vec<&'static str>,
    happening: broadcast::Receiver<Happened>,
    lines: broadcast::Receiver<Arc<LogLine>>,
    looks: Interval,
    looked: u64,
    standing: Standing,
    /// The number of the last audit event that it knows of.
    audited: i64,
    /// What it was told last.
    health: Value,
    /// What is to be told next.
    told: VecDeque<Bytes>,
    _place: OwnedSemaphorePermit,
}

/// The stream is over.
#[derive(Debug)]
struct Over;

/// What is known of the session that watches.
#[derive(Default)]
struct Standing {
    /// When it ends by itself, as it was last seen.
    until: Option<Timestamp>,
    /// Looks since then.
    unseen: u32,
}

impl Standing {
    /// It goes on, until then.
    fn seen(&mut self, until: Timestamp) {
        *self = Self { until: Some(until), unseen: 0 };
    }

    /// The store is away: nobody knows whether it was ended, only when it ends by itself.
    fn not_seen(&mut self, now: Timestamp) -> Result<(), Over> {
        self.unseen += 1;
        let is_over = self.unseen > UNSEEN_MAX || self.until.is_some_and(|until| until <= now);
        if is_over { Err(Over) } else { Ok(()) }
    }
}

impl Watching {
    /// The next event as it is sent; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Some(event);
            }
            let heard = tokio::select! {
                // Whoever is too far behind is closed, as is everybody when the gateway stops.
                happened = self.happening.recv() => happened.map_err(|_| Over).and_then(|it| self.happened(&it)),
                line = self.lines.recv() => line.map_err(|_| Over).map(|line| self.tell("log", &*line)),
                _ = self.looks.tick() => self.look().await,
            };
            heard.ok()?;
        }
    }

    fn tell(&mut self, kind: &'static str, data: &impl Serialize) {
        if self.kinds.contains(&kind) {
            let data = serde_json::to_string(data).unwrap_or_default();
            self.told.push_back(Bytes::from(format!("event: {kind}\ndata: {data}\n\n")));
        }
    }

    fn happened(&mut self, happened: &Happened) -> Result<(), Over> {
        match happened {
            Happened::Upstream(id) => {
                if let Some(status) = self.app.control.status(*id) {
                    self.tell("upstream", &status);
                }
            }
            Happened::Call(record) => self.tell("call", &call(record)),
            Happened::Calls(more) => self.tell("call", &json!({"more": more})),
            Happened::End => return Err(Over),
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<(), Over> {
        match self.look_into_store().await {
            Ok(true) => {}
            Ok(false) => return Err(Over),
            // While the store is away nothing is new.
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a console can't be told what is new"
                );
                self.standing.not_seen(self.app.store.clock().now())?;
            }
        }
        if self.looked.is_multiple_of(HEALTH_LOOKS) && self.kinds.contains(&"health") {
            let health = serde_json::to_value(health::view(&self.app).await).unwrap_or_default();
            if health != self.health {
                self.tell("health", &health);
                self.health = health;
            }
        }
        if self.looked.is_multiple_of(SIGN_LOOKS) && self.told.is_empty() {
            self.told.push_back(Bytes::from_static(b":\n\n"));
        }
        self.looked += 1;
        Ok(())
    }

    /// Whether the session goes on; what is new in the audit log is told.
    async fn look_into_store(&mut self) -> Result<bool, StoreError> {
        let mut tx = self.app.store.read().await?;
        let Some(row) = admin_users::token(&mut tx, self.token).await? else { return Ok(false) };
        if row.expires_at <= self.app.store.clock().now() {
            return Ok(false);
        }
        self.standing.seen(row.expires_at);
        if !self.kinds.contains(&"audit") {
            return Ok(true);
        }
        let head = audit_log::extent(&mut tx).await?.head;
        if head > self.audited {
            let from = self.audited.max(head - i64::from(AUDIT_MAX));
            let all = AuditFilter::default();
            for event in audit_log::after(&mut tx, &all, None, (from, head), AUDIT_MAX).await? {
                self.tell("audit", &AuditRow::from(event.event));
            }
            self.audited = head;
        }
        Ok(true)
    }
}

fn call(record: &CallRecord) -> Value {
    json!({
        "at": record.at,
        "method": record.method,
        "upstreamId": record.upstream_id,
        "upstreamName": record.upstream_name,
        "name": record.exposed_name,
        "keyId": record.key_id,
        "transport": record.transport,
        "era": record.era,
        "mode": record.mode,
        "outcome": record.outcome,
        "latencyUs": record.latency_us,
        "bytesIn": record.bytes_in,
        "bytesOut": record.bytes_out,
    })
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use proxy::control::ControlPlane as _;
    use serde_json::Map;

    use super::*;
    use crate::testing::{Scene, status};

    /// The stream of a console, event by event.
    struct Console {
        body: axum::body::BodyDataStream,
    }

    impl Console {
        async fn open(scene: &Scene, query: &str) -> Self {
            let answer = scene.ask("GET", &format!("/api/admin/events{query}"), "", &[]).await;
            assert_eq!(answer.status().as_u16(), 200);
            assert_eq!(answer.headers()["content-type"], "text/event-stream");
            Self { body: answer.into_body().into_data_stream() }
        }

        /// Kind and data of the next event; none at the end.
        async fn next(&mut self) -> Option<(String, Value)> {
            loop {
                let next = tokio::time::timeout(Duration::from_secs(10), self.body.next()).await;
                let text = String::from_utf8(next.expect("something comes")?.unwrap().to_vec()).unwrap();
                let Some(event) = text.strip_prefix("event: ") else { continue };
                let (kind, data) = event.split_once("\ndata: ").unwrap();
                return Some((kind.to_owned(), serde_json::from_str(data.trim_end()).unwrap()));
            }
        }

        async fn expect(&mut self, kind: &str) -> Value {
            let (found, data) = self.next().await.expect("an event");
            assert_eq!(found, kind, "{data}");
            data
        }
    }

    #[tokio::test]
    async fn what_happens_is_told_by_kind() {
        let scene = Scene::logged_in().await;
        let id: sql::model::UpstreamId = scene.upstream("a").await.parse().unwrap();
        scene.plane.set_status(status(id));
        let mut console = Console::open(&scene, "").await;
        assert_eq!(console.expect("health").await, scene.get("/api/admin/health").await.json);
        scene.plane.feed().upstream(id);
        assert_eq!(console.expect("upstream").await["state"], "unavailable");
        scene.logs.push(scene.clock.now(), "info", "proxy", "a line", Map::new());
        assert_eq!(console.expect("log").await["message"], "a line");
        scene.upstream("b").await;
        let audited = console.expect("audit").await;
        assert_eq!((&audited["action"], &audited["targetName"]), (&json!("upstream.create"), &json!("b")));

        let mut only = Console::open(&scene, "?kinds=log").await;
        scene.plane.feed().upstream(id);
        scene.logs.push(scene.clock.now(), "info", "proxy", "another", Map::new());
        assert_eq!(only.expect("log").await["message"], "another");
        assert_eq!(scene.get("/api/admin/events?kinds=log,x").await.pointers(), ["/kinds"]);
    }

    /// While the store is away, and nobody can say whether the session was ended.
    #[test]
    fn no_one_watches_beyond_the_end_of_a_session_that_cannot_be_looked_at() {
        let at = Timestamp::from_millis;
        let mut standing = Standing::default();
        standing.seen(at(10));
        assert!(standing.not_seen(at(9)).is_ok());
        assert!(standing.not_seen(at(10)).is_err(), "it ended by itself");
        for known in [None, Some(at(i64::MAX))] {
            let mut standing = Standing { until: known, unseen: 0 };
            for _ in 0..UNSEEN_MAX {
                assert!(standing.not_seen(at(0)).is_ok());
            }
            assert!(standing.not_seen(at(0)).is_err(), "it may have been ended long ago");
            standing.seen(at(i64::MAX));
            assert!(standing.not_seen(at(0)).is_ok());
        }
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_session() {
        let scene = Scene::logged_in().await;
        let mut console = Console::open(&scene, "?kinds=audit").await;
        assert_eq!(scene.post("/api/admin/auth/logout", json!({})).await.status, 204);
        assert_eq!(console.next().await, None);
    }

    #[tokio::test]
    async fn who_is_too_slow_is_closed_and_there_is_room_for_so_many() {
        let scene = Scene::logged_in().await;
        let mut console = Console::open(&scene, "?kinds=log").await;
        for number in 0..2_000 {
            scene.logs.push(scene.clock.now(), "info", "proxy", &number.to_string(), Map::new());
        }
        assert_eq!(console.next().await, None);
        drop(console);
        let mut consoles = Vec::new();
        for _ in 0..WATCHERS_MAX {
            consoles.push(Console::open(&scene, "?kinds=log").await);
        }
        let refused = scene.get("/api/admin/events").await;
        assert_eq!((refused.status, &refused.headers["retry-after"]), (429, &"5".parse().unwrap()));
        consoles.pop();
        drop(Console::open(&scene, "?kinds=log").await);
    }
}
