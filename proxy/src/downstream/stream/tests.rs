//! One call towards its client: the test is the upstream, and reads what the client would.

use std::pin::Pin;

use futures::FutureExt as _;
use http::StatusCode;
use serde_json::json;
use serde_json::value::to_raw_value;
use sql::model::{Mode, Timestamp};
use tokio::sync::oneshot;

use super::*;
use crate::access::Admitted;
use crate::access::keys::tests::key;
use crate::downstream::conversation::{self, Conversation, Owner};
use crate::downstream::dispatch::ModernClient;
use crate::downstream::replay::EventId;
use crate::testing::pass;
use crate::upstream::call::Answer;
use crate::wire::meta::RequestMeta;

/// A call whose upstream is the test.
struct Scene {
    caller: Caller,
    around: Surroundings,
    cancel: CancellationToken,
    conversation: Conversation,
    answer: oneshot::Sender<Answered>,
    running: Option<Running>,
    /// Ends when the call is dropped.
    dropped: Pin<Box<dyn Future<Output = ()> + Send>>,
}

fn scene() -> Scene {
    let cancel = CancellationToken::new();
    let (conversation, outbox) = conversation::open(Owner(uuid::Uuid::nil()), cancel.child_token());
    let (answer, answered) = oneshot::channel();
    let (held, dropped) = oneshot::channel::<()>();
    let call = async move {
        let _held = held;
        answered.await.expect("the test answers, or drops the call")
    };
    Scene {
        caller: Admitted::for_test(key().0).caller().clone(),
        around: Surroundings {
            tasks: Tasks::new(tokio::runtime::Handle::current()),
            live: LiveSessions::default(),
            gone: CancellationToken::new(),
        },
        running: Some(Running { outbox, answer: call.boxed(), cancel: cancel.clone() }),
        cancel,
        conversation,
        answer,
        dropped: dropped.map(|_| ()).boxed(),
    }
}

impl Scene {
    fn respond(&mut self, client: Client) -> impl Future<Output = Reply> + Send + 'static {
        let around = Surroundings {
            tasks: self.around.tasks.clone(),
            live: self.around.live.clone(),
            gone: self.around.gone.clone(),
        };
        respond(self.running.take().expect("one call"), client, self.caller.clone(), around)
    }
}

fn legacy(capabilities: &serde_json::Value, version: Version) -> Client {
    let (key, _) = key();
    let capabilities = to_raw_value(capabilities).expect("JSON");
    let session =
        Session::new(key.id, "/mcp/http".into(), version, Timestamp::from_millis(0), capabilities, None);
    Client::Legacy(Arc::new(session))
}

fn modern(log_level: Option<LogLevel>) -> Client {
    let meta = RequestMeta { log_level, ..RequestMeta::default() };
    Client::Modern(ModernClient::of(meta, "/mcp/http", Mode::Full))
}

fn answered() -> Answered {
    let message = vec![Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#)];
    Answered { status: StatusCode::OK, message }
}

/// What is left of a body, as text.
async fn text(reply: Reply) -> String {
    match reply.into_body() {
        ReplyBody::Stream(mut pieces) => {
            let mut text = String::new();
            while let Some(piece) = pieces.recv().await {
                text.push_str(std::str::from_utf8(&piece).expect("UTF-8"));
            }
            text
        }
        ReplyBody::Chain(pieces) => String::from_utf8(pieces.concat()).expect("UTF-8"),
        other => panic!("not the body of an answer: {other:?}"),
    }
}

fn message(text: &str, level: &str) -> Bytes {
    Bytes::from(json!({"level": level, "data": text}).to_string())
}

#[tokio::test]
async fn a_call_that_says_nothing_before_its_answer_is_answered_as_json() {
    let mut scene = scene();
    let reply = scene.respond(modern(None));
    scene.answer.send(answered()).ok().expect("it is waited for");
    let reply = reply.await;
    assert_eq!(reply.headers()["content-type"], "application/json");
    assert_eq!(text(reply).await, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
}

#[tokio::test]
async fn what_comes_before_an_answer_is_written_before_it() {
    let mut scene = scene();
    for step in 0..3 {
        let params = Bytes::from(format!(r#"{{"progressToken":1,"progress":{step}}}"#));
        scene.conversation.notify("notifications/progress", Some(params));
    }
    let reply = scene.respond(modern(None));
    scene.answer.send(answered()).ok().expect("it is waited for");
    let text = text(reply.await).await;
    let at = |piece: &str| text.find(piece).unwrap_or_else(|| panic!("{piece} is in {text}"));
    assert!(at("\"progress\":0") < at("\"progress\":1"));
    assert!(at("\"progress\":2") < at("\"result\""));
}

#[tokio::test(start_paused = true)]
async fn a_long_silence_becomes_a_stream_that_shows_life() {
    let mut scene = scene();
    let reply = scene.respond(modern(None)).await;
    assert_eq!(reply.headers()["content-type"], "text/event-stream");
    let ReplyBody::Stream(mut pieces) = reply.into_body() else { panic!("a stream") };
    assert_eq!(pieces.recv().await, Some(keep_alive()));
    scene.answer.send(answered()).ok().expect("it is waited for");
    assert!(pieces.recv().await.is_some_and(|piece| piece.starts_with(b"event: message")));
    assert_eq!(pieces.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_call_of_half_an_hour_is_never_silent_for_a_minute() {
    let idle_max = Duration::from_mins(1);
    for client in
        [legacy(&json!({}), Version::V2025_06_18), legacy(&json!({}), Version::V2025_11_25), modern(None)]
    {
        let mut scene = scene();
        let reply = scene.respond(client);
        let began = Instant::now();
        let upstream = async {
            for step in 0..6 {
                pass(Duration::from_mins(5)).await;
                let params = Bytes::from(format!(r#"{{"progressToken":1,"progress":{step}}}"#));
                scene.conversation.notify("notifications/progress", Some(params));
            }
            scene.answer.send(answered()).ok().expect("it is waited for");
        };
        let client = async {
            let reply = tokio::time::timeout(idle_max, reply).await.expect("a head");
            let ReplyBody::Stream(mut pieces) = reply.into_body() else { panic!("a stream") };
            let mut said = String::new();
            while let Some(piece) =
                tokio::time::timeout(idle_max, pieces.recv()).await.expect("a sign of life")
            {
                said.push_str(std::str::from_utf8(&piece).expect("UTF-8"));
            }
            said
        };
        let ((), said) = tokio::join!(upstream, client);
        assert!(began.elapsed() >= Duration::from_mins(30));
        assert_eq!(said.matches("notifications/progress").count(), 6);
        assert!(said.contains("\"result\""), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_legacy_client_comes_back_for_what_was_said_while_it_was_away() {
    let mut scene = scene();
    let client = legacy(&json!({}), Version::V2025_11_25);
    let Client::Legacy(session) = &client else { unreachable!("it is one") };
    let session = session.id;
    let reply = scene.respond(client).await;
    let ReplyBody::Stream(mut pieces) = reply.into_body() else { panic!("a stream") };
    let first = pieces.recv().await.expect("the priming event");
    let first = std::str::from_utf8(&first).expect("UTF-8");
    let id = first.strip_prefix("id: ").and_then(|rest| rest.strip_suffix("\nretry: 1000\ndata: \n\n"));
    let id = EventId::parse(id.unwrap_or_else(|| panic!("an id and nothing else in {first}")), session);
    let id = id.expect("an id of this session");
    drop(pieces);
    scene.conversation.notify("notifications/progress", None);
    scene.answer.send(answered()).ok().expect("it is waited for");
    // Ended and kept.
    scene.dropped.await;
    let log = scene.around.live.replays.find(session, id.stream).expect("it is there");
    let (events, mut pieces) = mpsc::channel::<Bytes>(1);
    let never = CancellationToken::new;
    let reading = log.resume(id.number, None).expect("it goes on");
    let read = async {
        let mut text = String::new();
        while let Some(piece) = pieces.recv().await {
            text.push_str(std::str::from_utf8(&piece).expect("UTF-8"));
        }
        text
    };
    let ((), text) = tokio::join!(reading.copy(events, never(), never()), read);
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let data: Vec<_> = data.filter(|data| !data.is_empty()).collect();
    assert_eq!(data.len(), 2, "{text}");
    assert!(data[0].contains("progress") && data[1].contains("result"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_call_ends_and_is_not_answered() {
    // Before a stream began, and after.
    for streaming in [false, true] {
        for client in [legacy(&json!({}), Version::V2025_11_25), modern(None)] {
            let mut scene = scene();
            let reply = scene.respond(client);
            let cancel = scene.cancel.clone();
            let reply = if streaming {
                let reply = reply.await;
                cancel.cancel();
                reply
            } else {
                let (reply, ()) = tokio::join!(reply, async { cancel.cancel() });
                reply
            };
            assert_eq!(text(reply).await, "");
            scene.dropped.await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_ends_its_calls_at_once() {
    for streaming in [false, true] {
        let mut scene = scene();
        let reply = scene.respond(legacy(&json!({}), Version::V2025_11_25));
        let revoked = scene.caller.revoked().clone();
        let reply = if streaming {
            // Nobody reads, so the writer is stuck in the middle of an event.
            for _ in 0..2 * EVENTS_MAX {
                scene.conversation.notify("notifications/progress", None);
            }
            let reply = reply.await;
            tokio::task::yield_now().await;
            revoked.cancel();
            reply
        } else {
            let (reply, ()) = tokio::join!(reply, async { revoked.cancel() });
            reply
        };
        scene.dropped.await;
        assert!(!text(reply).await.contains("result"));
    }
}

#[tokio::test(start_paused = true)]
async fn leaving_cancels_for_a_modern_client_only() {
    let mut scene = scene();
    let reply = scene.respond(modern(None)).await;
    drop(reply);
    scene.dropped.await;

    let mut scene = self::scene();
    let reply = scene.respond(legacy(&json!({}), Version::V2025_11_25)).await;
    scene.around.gone.cancel();
    drop(reply);
    pass(Duration::from_mins(1)).await;
    assert!(scene.dropped.now_or_never().is_none());
}

#[tokio::test]
async fn log_messages_go_to_whom_they_concern() {
    let mut scene = scene();
    scene.conversation.notify("notifications/message", Some(message("quiet", "info")));
    scene.conversation.notify("notifications/message", Some(message("loud", "error")));
    let reply = scene.respond(modern(Some(LogLevel::Warning)));
    scene.answer.send(answered()).ok().expect("it is waited for");
    let said = text(reply.await).await;
    assert!(said.contains("loud") && !said.contains("quiet"), "{said}");

    let mut scene = self::scene();
    scene.conversation.notify("notifications/message", Some(message("loud", "error")));
    let reply = scene.respond(modern(None));
    scene.answer.send(answered()).ok().expect("it is waited for");
    assert!(!text(reply.await).await.contains("loud"), "a modern client that named no level wants none");
}

#[tokio::test]
async fn a_client_is_asked_only_what_it_declared() {
    let mut scene = scene();
    let form = || Some(Bytes::from_static(br#"{"mode":"form","message":"Who?"}"#));
    let refused = scene.conversation.ask("sampling/createMessage", None);
    let asked = scene.conversation.ask("elicitation/create", form());
    let client = legacy(&json!({"elicitation": {}}), Version::V2025_06_18);
    let Client::Legacy(session) = &client else { unreachable!("it is one") };
    let live = scene.around.live.of(session.id, || session.transport());
    let reply = scene.respond(client).await;
    assert_eq!(refused.await, Err(AskRefused::unsupported("sampling/createMessage")));
    let ReplyBody::Stream(mut pieces) = reply.into_body() else { panic!("a stream") };
    let question = pieces.recv().await.expect("the question");
    let question = std::str::from_utf8(&question).expect("UTF-8");
    let data = question.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
    let question: serde_json::Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(question["params"], json!({"message": "Who?"}), "without what 2025-06-18 doesn't know");
    let id = question["id"].as_u64().expect("an id of ours");
    assert!(live.answer(id, Answer::Result(Bytes::from_static(b"{}"))));
    assert_eq!(asked.await, Ok(Answer::Result(Bytes::from_static(b"{}"))));
    // What is asked and not answered ends with the call.
    let late = scene.conversation.ask("elicitation/create", form());
    assert!(pieces.recv().await.is_some());
    scene.answer.send(answered()).ok().expect("it is waited for");
    assert_eq!(late.await, Err(AskRefused::unanswered()));
}
