//! States, wake-ups, lost connections and isolation of failures, over scripted links and real sockets.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::future::{FutureExt, join_all};
use sql::model::{ApiKeyId, Era, Isolation, Kind, Protocol};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::peer::Peer;
use super::*;
use crate::bridge::degraded::Degradations;
use crate::testing::pass;
use crate::upstream::call::CallError;
use crate::upstream::connection::{Connection, Opener, Scope, Surroundings};
use crate::upstream::handshake::Declared;
use crate::upstream::isolation::Served;
use crate::upstream::link::{Link, Negotiated, OpenError, Stage};
use crate::upstream::states::ConnectionState;

/// What the next opening comes to.
pub(super) enum Script {
    Fails,
    Works,
    /// Stands, but answers `tools/call` with silence and pings, too.
    Mute,
}

/// Opens links as it is told, and counts.
#[derive(Default)]
pub(super) struct Scripted {
    next: Mutex<VecDeque<Script>>,
    pub(super) opened: AtomicUsize,
    /// Openings wait for this if it is set.
    gate: Option<Arc<Notify>>,
    pub(super) links: Mutex<Vec<Arc<FakeLink>>>,
}

pub(super) struct FakeLink {
    mute: bool,
    pub(super) closed: CancellationToken,
    pub(super) calls: AtomicUsize,
    pub(super) wiring: Wiring,
}

#[async_trait]
impl Link for FakeLink {
    async fn request(&self, call: Call) -> Result<Answer, CallError> {
        match call.method {
            "initialize" => {
                Ok(result(r#"{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{}}"#))
            }
            _ if self.closed.is_cancelled() => Err(CallError::ClosedMidCall),
            _ if self.mute => {
                pass(call.total_timeout.min(call.idle_timeout)).await;
                Err(CallError::TimedOut { after: call.idle_timeout })
            }
            "tools/call" => {
                self.calls.fetch_add(1, Ordering::SeqCst);
                Ok(result("{}"))
            }
            _ => Ok(result("{}")),
        }
    }

    async fn notify(&self, _: &str, _: Option<Bytes>) -> Result<(), CallError> {
        Ok(())
    }

    fn set_protocol(&self, _: Negotiated) {}

    fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    async fn close(&self) {
        self.closed.cancel();
    }
}

#[async_trait]
impl Opener for Scripted {
    async fn open(&self, _: &Upstream, wiring: Wiring) -> Result<Arc<dyn Link>, OpenError> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        let next = self.next.lock().expect("whole").pop_front().unwrap_or(Script::Works);
        if matches!(next, Script::Fails) {
            return Err(OpenError::new(Stage::Connect, "it is down"));
        }
        let mute = matches!(next, Script::Mute);
        let link =
            Arc::new(FakeLink { mute, closed: CancellationToken::new(), calls: AtomicUsize::new(0), wiring });
        self.links.lock().expect("whole").push(Arc::clone(&link));
        Ok(link)
    }
}

pub(super) fn surroundings(
    opener: &Arc<Scripted>,
    settings: Settings,
    events: mpsc::Sender<UpstreamEvent>,
) -> Surroundings {
    Surroundings {
        opener: Arc::clone(opener) as Arc<dyn Opener>,
        settings: watch::channel(Arc::new(settings)).1,
        clock: Clock::manual(Timestamp::from_millis(0)),
        passes: Passes::default(),
        tasks: tasks(),
        events,
        degraded: Degradations::default(),
        scope: Scope::Everyone,
    }
}

fn connection(opener: &Arc<Scripted>) -> (Connection, mpsc::Receiver<UpstreamEvent>) {
    let (events, news) = mpsc::channel(64);
    let surroundings = surroundings(opener, Settings::default(), events);
    let spec = Arc::new(record("http://127.0.0.1:1/", Protocol::Legacy));
    (Connection::start(spec, surroundings, Declared::all(Roots::Undeclared), Arc::default()), news)
}

pub(super) fn scripted(next: Vec<Script>) -> Arc<Scripted> {
    Arc::new(Scripted { next: Mutex::new(next.into()), ..Scripted::default() })
}

/// Waits for the news that it is connected.
pub(super) async fn connected(news: &mut mpsc::Receiver<UpstreamEvent>) {
    while !matches!(news.recv().await.expect("the supervisor lives"), UpstreamEvent::Connected { .. }) {}
}

async fn until(connection: &Connection, news: &mut mpsc::Receiver<UpstreamEvent>, state: ConnectionState) {
    while connection.status().state != state {
        news.recv().await.expect("the supervisor lives");
    }
}

#[tokio::test(start_paused = true)]
async fn fails_backs_off_is_suspended_and_comes_back() {
    let opener = scripted((0..5).map(|_| Script::Fails).collect());
    let (connection, mut news) = connection(&opener);
    until(&connection, &mut news, ConnectionState::Unavailable).await;
    assert_eq!(connection.status().last_error.as_deref(), Some("it is down"));
    until(&connection, &mut news, ConnectionState::Suspended).await;
    let status = connection.status();
    assert_eq!((status.failures, status.breaker_open, opener.opened.load(Ordering::SeqCst)), (5, true, 5));
    let (call, _outbox) = call("{}");
    let began = tokio::time::Instant::now();
    let refusal = connection.call(call).await.expect_err("the breaker is open");
    assert_eq!(refusal.to_string(), "the upstream is unavailable: it can't be reached");
    assert_eq!(began.elapsed(), Duration::ZERO, "an open breaker fails at once");
    connection.reconnect();
    connected(&mut news).await;
    let status = connection.status();
    assert_eq!(
        (status.state, status.last_error, status.breaker_open),
        (ConnectionState::Available, None, false)
    );
    assert_eq!(connection.checks().iter().filter(|check| !check.ok).count(), 5);
    connection.ended().await;
    assert!(opener.links.lock().expect("whole")[0].closed.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn all_callers_share_the_one_attempt_that_they_woke() {
    let opener = scripted(vec![Script::Fails]);
    let (connection, mut news) = connection(&opener);
    until(&connection, &mut news, ConnectionState::Unavailable).await;
    let calls = (0..100).map(|_| async {
        let (call, _outbox) = call("{}");
        connection.call(call).await
    });
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(opener.opened.load(Ordering::SeqCst), 2);
    assert_eq!(opener.links.lock().expect("whole")[0].calls.load(Ordering::SeqCst), 100);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_eight_seconds_for_an_attempt_and_no_longer() {
    let gate = Arc::new(Notify::new());
    let opener = Arc::new(Scripted { gate: Some(Arc::clone(&gate)), ..Scripted::default() });
    let (connection, _news) = connection(&opener);
    let (call, _outbox) = call("{}");
    let began = tokio::time::Instant::now();
    assert!(matches!(connection.call(call).await, Err(CallError::Unavailable { .. })));
    assert_eq!(began.elapsed(), Duration::from_secs(8));
    gate.notify_one();
    connection.peer().await.expect("the attempt went on");
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_noticed_by_itself() {
    let opener = scripted(Vec::new());
    let (connection, mut news) = connection(&opener);
    connected(&mut news).await;
    let first = Arc::clone(&opener.links.lock().expect("whole")[0]);
    first.closed.cancel();
    connected(&mut news).await;
    assert_eq!(connection.status().state, ConnectionState::Available);
    assert_eq!(opener.opened.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_pinged_and_one_that_is_mute_is_lost() {
    let opener = scripted(vec![Script::Works, Script::Mute]);
    let (connection, mut news) = connection(&opener);
    connected(&mut news).await;
    pass(Duration::from_secs(100)).await;
    assert_eq!(connection.checks().len(), 4, "one connect, three pings");
    assert!(connection.checks().iter().all(|check| check.ok));
    connection.reconnect();
    connected(&mut news).await;
    connected(&mut news).await;
    assert_eq!(opener.opened.load(Ordering::SeqCst), 3);
    assert!(connection.checks().iter().any(|check| !check.ok));
}

#[tokio::test(start_paused = true)]
async fn news_reach_a_listener_that_was_busy() {
    let opener = scripted(Vec::new());
    let (_connection, mut news) = connection(&opener);
    connected(&mut news).await;
    let link = Arc::clone(&opener.links.lock().expect("whole")[0]);
    for _ in 0..1000 {
        link.wiring.listener.notification("notifications/tools/list_changed", None);
    }
    let mut lists = 0;
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(1), news.recv()).await {
        lists += usize::from(matches!(event, UpstreamEvent::ListChanged { kind: Kind::Tool, .. }));
    }
    assert!((1..=2).contains(&lists), "{lists}");
}

#[tokio::test(start_paused = true)]
async fn a_disabled_upstream_is_left_alone() {
    let opener = scripted(Vec::new());
    let (events, _news) = mpsc::channel(1);
    let mut spec = record("http://127.0.0.1:1/", Protocol::Auto);
    spec.enabled = false;
    let surroundings =
        Surroundings { clock: Clock::system(), ..surroundings(&opener, Settings::default(), events) };
    let connection =
        Connection::start(Arc::new(spec), surroundings, Declared::all(Roots::Undeclared), Arc::default());
    let (call, _outbox) = call("{}");
    assert!(matches!(connection.call(call).await, Err(CallError::Unavailable { .. })));
    assert_eq!(
        (connection.status().state, opener.opened.load(Ordering::SeqCst)),
        (ConnectionState::Disabled, 0)
    );
    connection.ended().await;
}

// ---- over real sockets

#[tokio::test]
async fn a_session_that_is_unknown_is_made_anew_once_and_the_call_repeated() {
    let sessions = Arc::new(AtomicUsize::new(0));
    let peer = Peer::start(move |mut talk| {
        let sessions = Arc::clone(&sessions);
        async move {
            match talk.seen.method().as_str() {
                "initialize" => {
                    sessions.fetch_add(1, Ordering::SeqCst);
                    talk.legacy().await;
                }
                "tools/call" if sessions.load(Ordering::SeqCst) < 2 => {
                    talk.answer("404 Not Found", "", "").await;
                }
                "tools/call" => talk.result(r#"{"ok":true}"#).await,
                _ => talk.legacy().await,
            }
        }
        .boxed()
    })
    .await;
    let (upstreams, mut news) = upstreams(Egress::Private);
    let spec = Arc::new(record(&peer.url, Protocol::Legacy));
    upstreams.apply(&[Arc::clone(&spec)]);
    connected(&mut news).await;
    let (call, _outbox) = call("{}");
    assert_eq!(
        upstreams.call(spec.id, call).await.expect("the second session knows it"),
        result(r#"{"ok":true}"#)
    );
    let methods = peer.methods();
    let count = |method: &str| methods.iter().filter(|seen| *seen == method).count();
    assert_eq!((count("initialize"), count("tools/call")), (2, 2));
    upstreams.shutdown().await;
}

#[tokio::test]
async fn a_session_that_stays_unknown_is_made_anew_only_once() {
    let peer = Peer::start(|mut talk| {
        async move {
            match talk.seen.method().as_str() {
                "tools/call" => talk.answer("404 Not Found", "", "").await,
                _ => talk.legacy().await,
            }
        }
        .boxed()
    })
    .await;
    let (upstreams, mut news) = upstreams(Egress::Private);
    let spec = Arc::new(record(&peer.url, Protocol::Legacy));
    upstreams.apply(&[Arc::clone(&spec)]);
    connected(&mut news).await;
    let (call, _outbox) = call("{}");
    assert!(matches!(upstreams.call(spec.id, call).await, Err(CallError::SessionUnknown)));
    assert_eq!(peer.methods().iter().filter(|method| *method == "tools/call").count(), 2);
    upstreams.shutdown().await;
}

/// I6: one upstream hangs, one is dead; the third answers at once.
#[tokio::test]
async fn a_hanging_and_a_dead_upstream_take_nothing_from_another() {
    let hanging = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = |listener: &TcpListener| format!("http://{}/", listener.local_addr().expect("it is bound"));
    let (hanging_url, dead_url) = (url(&hanging), url(&gone));
    drop(gone);
    let healthy = Peer::start(|mut talk| {
        async move {
            match talk.seen.method().as_str() {
                "tools/call" => talk.result("{}").await,
                _ => talk.legacy().await,
            }
        }
        .boxed()
    })
    .await;
    let (upstreams, mut news) = upstreams(Egress::Private);
    let specs =
        [hanging_url, dead_url, healthy.url.clone()].map(|url| Arc::new(record(&url, Protocol::Auto)));
    upstreams.apply(&specs);
    let waiting: Vec<_> = (0..300)
        .map(|_| {
            let (upstreams, id) = (upstreams.clone(), specs[0].id);
            Box::pin(async move {
                let (call, _outbox) = call("{}");
                upstreams.call(id, call).await
            })
        })
        .collect();
    let mut waiting = join_all(waiting);
    assert!((&mut waiting).now_or_never().is_none());
    connected(&mut news).await;
    let (call, _outbox) = call("{}");
    assert_eq!(upstreams.call(specs[2].id, call).await.expect("it is healthy"), result("{}"));
    assert_eq!(upstreams.status(specs[2].id).expect("it is there").state, ConnectionState::Available);
    assert_eq!(upstreams.statuses().len(), 3);
    let peer = upstreams.peer(specs[2].id).await.expect("it is available");
    assert_eq!((peer.era, peer.protocol_version), (Era::Legacy, "2025-11-25"));
}

#[tokio::test]
async fn only_what_means_another_connection_restarts_one() {
    let peer = Peer::start(|talk| talk.legacy().boxed()).await;
    let (upstreams, mut news) = upstreams(Egress::Private);
    let mut spec = record(&peer.url, Protocol::Legacy);
    upstreams.apply(&[Arc::new(spec.clone())]);
    connected(&mut news).await;
    (spec.name, spec.version) = ("renamed".into(), 2);
    upstreams.apply(&[Arc::new(spec.clone())]);
    assert_eq!(upstreams.status(spec.id).expect("it is there").state, ConnectionState::Available);
    spec.credential = Some(Secret::from("other"));
    upstreams.apply(&[Arc::new(spec.clone())]);
    connected(&mut news).await;
    let authorizations: Vec<_> = peer
        .seen()
        .iter()
        .filter(|seen| seen.method() == "initialize")
        .map(|seen| seen.header("authorization").to_owned())
        .collect();
    assert_eq!(authorizations, ["Bearer CANARY", "Bearer other"]);
    upstreams.apply(&[]);
    assert!(upstreams.status(spec.id).is_none());
    peer.until("DELETE").await;
}

#[tokio::test]
async fn a_modern_upstream_says_that_its_lists_changed() {
    let peer = Peer::start(|mut talk| {
        async move {
            match talk.seen.method().as_str() {
                "server/discover" => {
                    talk.result(r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"prompts":{}}}"#)
                        .await;
                }
                "subscriptions/listen" => {
                    talk.start_events().await;
                    talk.event(r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{}}"#).await;
                    talk.event(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{}}"#).await;
                    talk.gone().await;
                }
                _ => talk.legacy().await,
            }
        }
        .boxed()
    })
    .await;
    let (upstreams, mut news) = upstreams(Egress::Private);
    let spec = Arc::new(record(&peer.url, Protocol::Auto));
    upstreams.apply(&[Arc::clone(&spec)]);
    connected(&mut news).await;
    while news.recv().await.expect("the supervisor lives")
        != (UpstreamEvent::ListChanged { id: spec.id, kind: Kind::Tool })
    {}
    let listen = peer.until("subscriptions/listen").await;
    assert_eq!(listen.message()["params"]["notifications"], serde_json::json!({"toolsListChanged": true}));
    assert_eq!(listen.header("mcp-method"), "subscriptions/listen");
    upstreams.shutdown().await;
}

// ---- sessions of one's own

/// Calls of two sessions of one key and of one of another, of modern clients of both: who shares a session.
#[tokio::test(start_paused = true)]
async fn a_session_is_shared_by_those_whom_the_isolation_names() {
    for (isolation, expected) in [
        (Isolation::Shared, vec![(5, Roots::OfCalls)]),
        (Isolation::PerKey, vec![(0, Roots::Undeclared), (3, Roots::OfCalls), (2, Roots::OfCalls)]),
        (
            Isolation::PerSession,
            vec![
                (0, Roots::Undeclared),
                (1, Roots::Declared),
                (1, Roots::Declared),
                (1, Roots::Declared),
                (1, Roots::OfCalls),
                (1, Roots::OfCalls),
            ],
        ),
    ] {
        let opener = scripted(Vec::new());
        let (events, mut news) = mpsc::channel(64);
        let surroundings = surroundings(&opener, Settings::default(), events);
        let mut spec = record("http://127.0.0.1:1/", Protocol::Legacy);
        spec.isolation = isolation;
        let served = Served::start(&Arc::new(spec), &surroundings, Arc::default());
        connected(&mut news).await;
        let (alpha, beta) = (Uuid::from_u128(100), Uuid::from_u128(200));
        // Modern clients are owned by their key.
        for (owner, key) in [
            (Uuid::from_u128(1), alpha),
            (Uuid::from_u128(2), alpha),
            (Uuid::from_u128(3), beta),
            (alpha, alpha),
            (beta, beta),
        ] {
            let (mut call, _outbox) = call_of(Owner(owner), "{}");
            call.conversation = call.conversation.of_key(ApiKeyId::from_uuid(key));
            served.call(call).await.expect("it has a session");
        }
        let links = opener.links.lock().expect("whole").clone();
        let seen: Vec<_> =
            links.iter().map(|link| (link.calls.load(Ordering::SeqCst), link.wiring.roots)).collect();
        assert_eq!(seen, expected, "{isolation:?}");
        served.ended().await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_owner_has_a_session_of_its_own_until_it_is_idle() {
    let opener = scripted(Vec::new());
    let (events, mut news) = mpsc::channel(64);
    let mut settings = Settings::default();
    settings.limits.sessions_per_upstream = 2;
    let surroundings = surroundings(&opener, settings, events);
    let mut spec = record("http://127.0.0.1:1/", Protocol::Legacy);
    spec.isolation = Isolation::PerSession;
    let served = Served::start(&Arc::new(spec), &surroundings, Arc::default());
    connected(&mut news).await;
    let ask = async |owner: u128| {
        let (mut call, _outbox) = call_of(Owner(Uuid::from_u128(owner)), "{}");
        call.conversation = call.conversation.of_key(ApiKeyId::from_uuid(Uuid::from_u128(100)));
        served.call(call).await
    };
    for owner in [1, 2, 1] {
        ask(owner).await.expect("it has a session");
    }
    assert!(matches!(ask(3).await, Err(CallError::Unavailable { .. })));
    let links = opener.links.lock().expect("whole").clone();
    let calls: Vec<_> = links.iter().map(|link| link.calls.load(Ordering::SeqCst)).collect();
    let roots: Vec<_> = links.iter().map(|link| link.wiring.roots).collect();
    assert_eq!((calls, roots), (vec![0, 2, 1], vec![Roots::Undeclared, Roots::Declared, Roots::Declared]));
    assert_eq!(served.status().sessions, 3);
    pass(Duration::from_mins(11)).await;
    assert_eq!(links.iter().map(|link| link.closed.is_cancelled()).collect::<Vec<_>>(), [false, true, true]);
    ask(3).await.expect("there is room again");
    served.ended().await;
    assert!(opener.links.lock().expect("whole").iter().all(|link| link.closed.is_cancelled()));
}
