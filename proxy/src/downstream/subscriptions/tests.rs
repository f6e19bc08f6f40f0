//! What long-lived streams are told, and when they end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::StatusCode;
use serde_json::{Value, json};
use sql::model::ApiKey;

use super::watch::CHANGE_INTERVAL;
use super::*;
use crate::access::Admitted;
use crate::access::keys::tests::{key, policy_of};
use crate::catalog::UpstreamLists;
use crate::catalog::testing::{catalog, upstream_with};
use crate::downstream::resource_updates::tests::Asked;
use crate::downstream::stream::KEEP_ALIVE;
use crate::http_bridge::ReplyBody;
use crate::testing::pass;
use crate::wire::envelope::{self, Message};
use crate::wire::meta;

struct Scene {
    subscriptions: Subscriptions,
    key: ApiKey,
    lists: Vec<Arc<UpstreamLists>>,
}

fn scene() -> Scene {
    let (key, keys) = (key().0, Keys::default());
    keys.upsert(key.clone(), policy_of(&key));
    let subscriptions = Subscriptions {
        published: Published::new(sql::clock::Clock::system()),
        keys,
        live: LiveSessions::default(),
        updates: ResourceUpdates::new(Arc::new(Asked::default())),
        logs: LogFeed::default(),
        streams: CallsInFlight::default(),
        draining: CancellationToken::new(),
        task_ids: crate::downstream::tasks::ids::tests::ids(),
        tasks: Tasks::new(tokio::runtime::Handle::current()),
    };
    let mut scene = Scene { subscriptions, key, lists: Vec::new() };
    scene.publish("first");
    scene
}

impl Scene {
    /// Publishes one more upstream, with this tool.
    fn publish(&mut self, tool: &str) {
        self.lists.push(upstream_with(&[tool.to_owned()]));
        self.subscriptions.published.publish(catalog(&self.lists));
    }

    fn caller(&self) -> Caller {
        Admitted::for_test(self.key.clone()).caller().clone()
    }

    fn listen(&self, notifications: &Value) -> Reply {
        let params = json!({"notifications": notifications});
        let body =
            json!({"jsonrpc": "2.0", "id": "l\n1", "method": "subscriptions/listen", "params": params});
        let Ok(Message::Request(request)) = envelope::parse(Bytes::from(body.to_string())) else {
            panic!("a request")
        };
        self.subscriptions.listen(&request, self.caller(), None, "r")
    }

    fn get(&self, session: &Session) -> Reply {
        self.subscriptions.stream(session, self.caller(), "r")
    }

    fn session(&self) -> Session {
        let capabilities = serde_json::value::to_raw_value(&json!({})).expect("JSON");
        let version = crate::wire::meta::LEGACY_LATEST;
        Session::new(self.key.id, "/mcp/http".into(), version, self.key.created_at, capabilities, None)
    }
}

struct Events(mpsc::Receiver<Bytes>);

impl Events {
    fn of(reply: Reply) -> Self {
        assert_eq!(reply.status(), StatusCode::OK);
        let ReplyBody::Stream(events) = reply.into_body() else { panic!("a stream") };
        Self(events)
    }

    /// The next message; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let event = self.0.recv().await?;
            let text = std::str::from_utf8(&event).expect("UTF-8");
            let data = text.lines().find_map(|line| line.strip_prefix("data: "));
            // The empty event is but there for its id.
            if let Some(data) = data.filter(|data| !data.is_empty()) {
                return Some(serde_json::from_str(data).expect("JSON"));
            }
        }
    }

    async fn quiet(&mut self, time: Duration) {
        assert!(tokio::time::timeout(time, self.next()).await.is_err(), "nothing is said");
    }
}

const TOOLS: &str = "notifications/tools/list_changed";
const MOMENT: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_subscription_hears_what_it_asked_for_under_its_own_id() {
    let mut scene = scene();
    let filter = json!({"toolsListChanged": true, "promptsListChanged": false, "unknown": 1});
    let mut events = Events::of(scene.listen(&filter));
    let mut deaf = Events::of(scene.listen(&json!({"promptsListChanged": true})));
    let first = events.next().await.expect("the acknowledgement");
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(first["params"]["notifications"], json!({"toolsListChanged": true}));
    assert!(deaf.next().await.is_some());
    scene.publish("second");
    let changed = events.next().await.expect("a change");
    assert_eq!(changed["method"], TOOLS);
    assert_eq!(changed["params"]["_meta"][meta::SUBSCRIPTION_ID], "l\n1");
    deaf.quiet(MOMENT).await;
    scene.subscriptions.draining.cancel();
    let end = events.next().await.expect("the answer");
    assert_eq!((&end["id"], &end["result"]["resultType"]), (&json!("l\n1"), &json!("complete")));
    assert_eq!(events.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_change_before_the_stream_first_looks_is_not_lost() {
    let mut scene = scene();
    let mut events = Events::of(scene.get(&scene.session()));
    // Its task has not run yet.
    scene.publish("second");
    assert_eq!(events.next().await.expect("a change")["method"], TOOLS);
}

#[tokio::test(start_paused = true)]
async fn changes_in_a_row_are_announced_once_in_a_while_and_the_last_one_too() {
    let mut scene = scene();
    let mut events = Events::of(scene.get(&scene.session()));
    scene.publish("second");
    assert!(events.next().await.is_some());
    scene.publish("third");
    scene.publish("fourth");
    events.quiet(CHANGE_INTERVAL.saturating_sub(MOMENT)).await;
    assert_eq!(events.next().await.expect("the rest")["method"], TOOLS);
    events.quiet(3 * CHANGE_INTERVAL).await;
    // Published again, but the same.
    scene.subscriptions.published.publish(catalog(&scene.lists));
    events.quiet(MOMENT).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_follows_what_its_key_may_see() {
    let mut scene = scene();
    let mut events = Events::of(scene.get(&scene.session()));
    tokio::task::yield_now().await;
    scene.key.upstream_ids = Some(vec![]);
    scene.subscriptions.keys.upsert(scene.key.clone(), policy_of(&scene.key));
    scene.subscriptions.published.remind();
    assert_eq!(events.next().await.expect("its view is empty now")["method"], TOOLS);
    pass(CHANGE_INTERVAL).await;
    scene.publish("hidden");
    events.quiet(MOMENT).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_key_its_session_and_the_gateway_whatever_else_the_session_does() {
    for cause in ["key", "session", "gateway", "another stream"] {
        let scene = scene();
        let (session, caller) = (scene.session(), scene.caller());
        let call = scene.subscriptions.live.of(session.id, || session.transport());
        let mut events = Events::of(scene.subscriptions.stream(&session, caller.clone(), "r"));
        tokio::task::yield_now().await;
        let mut later = None;
        match cause {
            "key" => caller.revoked().cancel(),
            "session" => scene.subscriptions.live.end(session.id, session.forgotten_at()),
            "gateway" => scene.subscriptions.draining.cancel(),
            _ => later = Some(Events::of(scene.get(&session))),
        }
        let end = tokio::time::timeout(MOMENT, events.next()).await;
        assert_eq!(end.expect("it ends at once"), None, "{cause}");
        assert_eq!(call.push(b"{}"), later.is_some(), "{cause}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_left_or_does_not_read_gives_its_place_back() {
    let scene = scene();
    let left = scene.get(&scene.session());
    assert_eq!(scene.subscriptions.streams.total(), 1);
    drop(left);
    pass(MOMENT).await;
    assert_eq!(scene.subscriptions.streams.total(), 0);
    let _unread = scene.get(&scene.session());
    pass(KEEP_ALIVE * 70).await;
    assert_eq!(scene.subscriptions.streams.total(), 0);
}

#[tokio::test]
async fn a_key_has_so_many_streams_and_a_filter_is_one() {
    let scene = scene();
    assert_eq!(scene.listen(&json!(1)).headers()["content-type"], "application/json");
    let limit = scene.subscriptions.published.current().catalog.settings.limits.streams_per_key;
    let open: Vec<_> = (0..limit).map(|_| scene.listen(&json!({}))).collect();
    assert_eq!(scene.listen(&json!({})).status(), StatusCode::TOO_MANY_REQUESTS);
    drop(open);
    assert!(scene.subscriptions.tasks.stop().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_upstreams_log_outside_of_calls_reaches_the_sessions_that_want_it_once() {
    let scene = scene();
    let (quiet, chatty) = (scene.session(), scene.session());
    let mut streams = [Events::of(scene.get(&quiet)), Events::of(scene.get(&chatty))];
    let mut listening = Events::of(scene.listen(&json!({"toolsListChanged": true})));
    listening.next().await.expect("the acknowledgement");
    scene.subscriptions.live.set_level(chatty.id, crate::wire::meta::LogLevel::Debug, scene.key.created_at);
    let upstream = scene.lists[0].upstream.id;
    let log = |upstream, level: &str| {
        let params = json!({"level": level, "data": level}).to_string();
        scene.subscriptions.logs.publish(upstream, &params.into());
    };
    log(upstream, "debug");
    log(sql::model::UpstreamId::at(scene.key.created_at), "error");
    log(upstream, "info");
    let logged = |message: Option<Value>| message.expect("a message")["params"]["data"].clone();
    assert_eq!(logged(streams[0].next().await), "info", "without a level: from info on");
    assert_eq!(logged(streams[1].next().await), "debug");
    assert_eq!(logged(streams[1].next().await), "info", "of an upstream that isn't seen: nothing");
    streams[0].quiet(MOMENT).await;
    streams[1].quiet(MOMENT).await;
    listening.quiet(MOMENT).await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_log_messages_closes_no_stream() {
    let scene = scene();
    let session = scene.session();
    let mut stream = Events::of(scene.get(&session));
    let upstream = scene.lists[0].upstream.id;
    for _ in 0..EVENTS_MAX {
        scene.subscriptions.logs.publish(upstream, &Bytes::from_static(br#"{"level":"error","data":1}"#));
        tokio::task::yield_now().await;
    }
    for _ in 0..EVENTS_MAX / 2 {
        assert!(stream.next().await.is_some());
    }
    scene.subscriptions.logs.publish(upstream, &Bytes::from_static(br#"{"level":"error","data":2}"#));
    let mut last = stream.next().await.expect("it is open");
    while last["params"]["data"] != 2 {
        last = stream.next().await.expect("it is open");
    }
}

#[tokio::test(start_paused = true)]
async fn more_updates_at_once_than_a_queue_holds_close_no_stream_that_is_read() {
    let scene = scene();
    let (session, upstream) = (scene.session(), scene.lists[0].upstream.id);
    let mut events = Events::of(scene.get(&session));
    let tell_all = || {
        for n in 0..3 * EVENTS_MAX {
            let topic = Topic::task(&n.to_string());
            let params = Bytes::from(json!({"taskId": n.to_string()}).to_string());
            scene.subscriptions.updates.updated(upstream, &topic, &params);
        }
    };
    for n in 0..3 * EVENTS_MAX {
        let source = Source { upstream, topic: Topic::task(&n.to_string()) };
        let entered = scene.subscriptions.updates.subscribe(session.id, scene.key.id, &n.to_string(), source);
        entered.expect("there is room").await.expect("it tells");
    }
    tell_all();
    for n in 0..3 * EVENTS_MAX {
        assert!(events.next().await.is_some(), "{n}");
    }
    // One that isn't read is closed all the same.
    tell_all();
    pass(KEEP_ALIVE).await;
    assert_eq!(scene.subscriptions.streams.total(), 1);
    pass(KEEP_ALIVE).await;
    assert_eq!(scene.subscriptions.streams.total(), 0);
}
