//! Who hears of a resource that changed, and who no longer does.

use sql::model::Timestamp;

use super::*;

/// Writes down what is asked of upstreams.
#[derive(Default)]
pub(crate) struct Asked(Mutex<Vec<String>>);

impl Watching for Asked {
    fn watch(&self, _: UpstreamId, topic: &Topic) -> Result<Settling, CallError> {
        let uri = topic.name();
        if uri.starts_with("gone:") {
            return Err(CallError::Unavailable { reason: "it no longer exists".into() });
        }
        self.0.lock().expect("whole").push(format!("+{uri}"));
        Ok(Box::pin(std::future::ready(Ok(()))))
    }

    fn unwatch(&self, _: UpstreamId, topic: &Topic) {
        self.0.lock().expect("whole").push(format!("-{}", topic.name()));
    }
}

struct Scene {
    asked: Arc<Asked>,
    updates: ResourceUpdates,
    upstream: UpstreamId,
    key: ApiKeyId,
}

const ALICE: Uuid = Uuid::from_u128(1);
const BOB: Uuid = Uuid::from_u128(2);

impl Scene {
    fn new() -> Self {
        let asked = Arc::new(Asked::default());
        let updates = ResourceUpdates::new(Arc::clone(&asked) as Arc<dyn Watching>);
        let start = Timestamp::from_millis(0);
        Self { asked, updates, upstream: UpstreamId::at(start), key: ApiKeyId::at(start) }
    }

    fn subscribe(&self, who: Uuid, exposed: &str, uri: &str) -> Result<(), NotEntered> {
        let source = Source { upstream: self.upstream, topic: Topic::resource(uri) };
        self.updates.subscribe(who, self.key, exposed, source).map(drop)
    }

    fn updated(&self, uri: &str) {
        let params = format!(r#"{{"uri":"{uri}","_meta":{{"{}":7}}}}"#, meta::SUBSCRIPTION_ID);
        self.updates.updated(self.upstream, &Topic::resource(uri), &params.into());
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.0.lock().expect("whole"))
    }
}

fn told(attached: &Attached) -> Vec<String> {
    attached
        .take()
        .into_iter()
        .map(|update| String::from_utf8(update.params.to_vec()).expect("UTF-8"))
        .collect()
}

#[tokio::test]
async fn the_upstream_is_asked_for_the_first_and_left_with_the_last() {
    let scene = Scene::new();
    for who in [ALICE, BOB] {
        scene.subscribe(who, "a:1", "a:1").expect("there is room");
    }
    assert!(scene.updates.unsubscribe(ALICE, "a:1"));
    assert!(!scene.updates.unsubscribe(ALICE, "a:1"));
    assert_eq!(scene.asked(), ["+a:1", "+a:1"], "asking twice for one thing asks once");
    scene.updates.end(BOB);
    assert_eq!(scene.asked(), ["-a:1"]);
    let state = scene.updates.state();
    assert!(state.subscribers.is_empty() && state.sources.is_empty() && state.by_key.is_empty());
}

#[tokio::test]
async fn an_update_reaches_those_who_subscribed_under_the_uri_they_use() {
    let scene = Scene::new();
    let streams = [ALICE, BOB].map(|who| scene.updates.attach(who, scene.key));
    scene.subscribe(ALICE, "mpg+00000001:a:1", "a:1").expect("there is room");
    scene.subscribe(BOB, "a:2", "a:2").expect("there is room");
    scene.updated("a:1");
    scene.updated("a:1");
    scene.updated("a:3");
    assert_eq!(
        told(&streams[0]),
        [r#"{"uri":"mpg+00000001:a:1"}"#],
        "folded, and without the upstream's _meta"
    );
    assert!(told(&streams[1]).is_empty());
    scene.updated("a:1/part");
    assert_eq!(told(&streams[0]), [r#"{"uri":"mpg+00000001:a:1/part"}"#]);
    scene.subscribe(BOB, "ui://mpg+00000001/clock", "ui://clock").expect("there is room");
    scene.updated("ui://clock/hand");
    assert_eq!(told(&streams[1]), [r#"{"uri":"ui://mpg+00000001/clock/hand"}"#]);
    scene.updates.updated(
        UpstreamId::at(Timestamp::from_millis(1)),
        &Topic::resource("a:1"),
        &Bytes::from_static(b"{}"),
    );
    assert!(told(&streams[0]).is_empty(), "another upstream may have the same URI");
}

#[tokio::test]
async fn what_could_not_be_sent_waits_for_the_next_stream() {
    let scene = Scene::new();
    scene.subscribe(ALICE, "a:1", "a:1").expect("there is room");
    scene.updated("a:1");
    let first = scene.updates.attach(ALICE, scene.key);
    let updates = first.take();
    assert_eq!(updates.len(), 1);
    first.give_back(updates);
    drop(first);
    let second = scene.updates.attach(ALICE, scene.key);
    second.rung().await;
    assert_eq!(told(&second), [r#"{"uri":"a:1"}"#]);
}

#[tokio::test]
async fn subscriptions_are_bounded_and_refusals_leave_nothing() {
    let scene = Scene::new();
    for count in 0..PER_SUBSCRIBER_MAX {
        scene.subscribe(ALICE, &count.to_string(), "a:1").expect("there is room");
    }
    scene.subscribe(ALICE, "0", "a:1").expect("it has it already");
    let refused = scene.subscribe(ALICE, "one more", "a:1");
    assert!(matches!(refused, Err(NotEntered::TooMany { limit: PER_SUBSCRIBER_MAX })));
    assert!(matches!(scene.subscribe(BOB, "gone:1", "gone:1"), Err(NotEntered::Upstream(_))));
    assert!(!scene.updates.state().subscribers.contains_key(&BOB));
    let sessions = PER_KEY_MAX / PER_SUBSCRIBER_MAX;
    for session in 2..=sessions {
        for count in 0..PER_SUBSCRIBER_MAX {
            let who = Uuid::from_u128(session as u128 + 100);
            scene.subscribe(who, &count.to_string(), "a:1").expect("there is room");
        }
    }
    let refused = scene.subscribe(BOB, "a:1", "a:1");
    assert!(matches!(refused, Err(NotEntered::TooMany { limit: PER_KEY_MAX })));
    scene.updates.end(ALICE);
    scene.subscribe(BOB, "a:1", "a:1").expect("there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_session_without_a_stream_is_taken_for_gone_after_a_while() {
    let scene = Scene::new();
    scene.subscribe(ALICE, "a:1", "a:1").expect("there is room");
    scene.subscribe(BOB, "a:2", "a:2").expect("there is room");
    let _stream = scene.updates.attach(BOB, scene.key);
    scene.asked();
    tokio::time::advance(STREAMLESS_MAX.saturating_sub(Duration::from_secs(1))).await;
    scene.updates.end_streamless();
    assert!(scene.asked().is_empty());
    tokio::time::advance(Duration::from_secs(1)).await;
    scene.updates.end_streamless();
    assert_eq!(scene.asked(), ["-a:1"]);
}

#[tokio::test]
async fn a_listen_ends_with_its_stream() {
    let scene = Scene::new();
    let stream = scene.updates.attach(ALICE, scene.key).to_the_end();
    scene.subscribe(ALICE, "a:1", "a:1").expect("there is room");
    scene.asked();
    drop(stream);
    assert_eq!(scene.asked(), ["-a:1"]);
}
