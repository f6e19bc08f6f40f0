//! A running call towards its client: as one JSON answer where nothing comes before it, else as an
//! event stream.
//!
//! The stream is written by one task that drains the call's one queue, so that what came first goes
//! first and the answer last (Streamable HTTP, sending messages to the server). What the end of the
//! connection means differs: a modern client that leaves has cancelled, a legacy one has not.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::conversation::{Ask, AskRefused, Outbound, Outbox};
use super::dispatch::{Answered, Client, Running};
use super::live::{Live, LiveSessions};
use super::session::Session;
use crate::access::Caller;
use crate::http_bridge::{Reply, ReplyBody};
use crate::tasks::Tasks;
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::meta::{LogLevel, Version};
use crate::wire::sse;

/// A call that is silent for this long is answered by a stream, so that proxies in between see life.
const QUIET_MAX: Duration = Duration::from_secs(10);

/// Between two signs of life on a stream that has nothing to say. Below it lie the idle limits of
/// common proxies (30 s and 60 s).
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Up to here copying an event costs less than writing it in pieces.
const JOIN_BYTES_MAX: usize = 16 * 1024;

/// Events that may wait for one connection, on top of what the call's queue holds.
const EVENTS_MAX: usize = 32;

/// What a stream needs to know of its surroundings.
pub struct Surroundings {
    /// Owner of the writing task.
    pub tasks: Tasks,
    /// What hangs off legacy sessions.
    pub live: LiveSessions,
    /// Cancelled when the client's connection closes.
    pub gone: CancellationToken,
}

/// Answers a running call. Dropping the call ends it: the upstream is told that nobody waits.
pub async fn respond(mut running: Running, client: Client, caller: Caller, around: Surroundings) -> Reply {
    let deadline = Instant::now() + QUIET_MAX;
    let first = tokio::select! {
        biased;
        () = running.cancel.cancelled() => return unanswered(),
        () = leaves_by_closing(&client, &around.gone) => return unanswered(),
        () = caller.revoked().cancelled() => return unanswered(),
        first = running.outbox.next() => first,
        answered = &mut running.answer => return finished(answered, running.outbox, client, around),
        () = tokio::time::sleep_until(deadline) => None,
    };
    streamed(first, running, client, &caller, around)
}

/// What a withdrawn request gets where HTTP wants a response and the protocol no answer (cancellation:
/// the receiver should not answer): a stream that ends.
fn unanswered() -> Reply {
    event_stream(mpsc::channel(1).1)
}

/// The answer is there. What the upstream said just before it still goes first.
fn finished(answered: Answered, mut outbox: Outbox, client: Client, around: Surroundings) -> Reply {
    let Some(first) = outbox.next_ready() else { return json(answered) };
    let running = Running { outbox, answer: Box::pin(async { answered }), cancel: CancellationToken::new() };
    let (events, body) = mpsc::channel(EVENTS_MAX);
    let tasks = around.tasks.clone();
    let pump = Pump { running, events, client: Recipient::new(client, &around), gone: around.gone };
    tasks.spawn_here("mcp answer stream", pump.run(Some(first), CancellationToken::new()));
    event_stream(body)
}

fn streamed(
    first: Option<Outbound>,
    running: Running,
    client: Client,
    caller: &Caller,
    around: Surroundings,
) -> Reply {
    let (events, body) = mpsc::channel(EVENTS_MAX);
    let tasks = around.tasks.clone();
    let pump = Pump { running, events, client: Recipient::new(client, &around), gone: around.gone };
    tasks.spawn_here("mcp answer stream", pump.run(first, caller.revoked().clone()));
    event_stream(body)
}

/// Resolves when a client that means it leaves: for a modern client the end of the connection is the
/// cancellation of its request; a legacy one cancels by a notification, and may come back.
async fn leaves_by_closing(client: &Client, gone: &CancellationToken) {
    match client {
        Client::Modern(_) => gone.cancelled().await,
        Client::Legacy(_) => std::future::pending().await,
    }
}

/// An answer as one JSON message.
pub fn json(answered: Answered) -> Reply {
    http::Response::builder()
        .status(answered.status)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(ReplyBody::Chain(answered.message))
        .expect("a status and a constant header")
}

/// The head of an event stream and its body.
pub fn event_stream(body: mpsc::Receiver<Bytes>) -> Reply {
    http::Response::builder()
        .header(http::header::CONTENT_TYPE, "text/event-stream")
        .header(http::header::CACHE_CONTROL, "no-cache")
        .header("x-accel-buffering", "no")
        .body(ReplyBody::Stream(body))
        .expect("constant headers")
}

/// A short message as an event.
pub fn event(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 32);
    sse::write_event(&mut out, Some("message"), None, None, message);
    out.freeze()
}

/// A message in pieces as an event: in one piece where that is cheap, since each piece is a write.
fn event_of(message: Vec<Bytes>) -> Vec<Bytes> {
    if message.iter().map(Bytes::len).sum::<usize>() <= JOIN_BYTES_MAX {
        return vec![event(&message.concat())];
    }
    sse::event_chain(Some("message"), None, None, message)
}

/// A sign of life.
pub fn keep_alive() -> Bytes {
    Bytes::from_static(b": keep-alive\n\n")
}

/// Writes one call's stream.
struct Pump {
    running: Running,
    events: mpsc::Sender<Bytes>,
    client: Recipient,
    gone: CancellationToken,
}

impl Pump {
    /// Until the answer is written, or nobody wants it any more. What is left of the call then is
    /// dropped, which ends it, and the stream with it.
    async fn run(self, first: Option<Outbound>, revoked: CancellationToken) {
        let Self { running, events, client, gone } = self;
        let cancelled = running.cancel.clone();
        tokio::select! {
            biased;
            () = cancelled.cancelled() => {}
            () = revoked.cancelled() => {}
            () = client.leaves(&events, &gone) => {}
            () = write(first, running, &events, &client) => {}
        }
        client.withdraw();
    }
}

/// Everything of a call, in order, the answer last.
async fn write(
    first: Option<Outbound>,
    mut running: Running,
    events: &mpsc::Sender<Bytes>,
    client: &Recipient,
) {
    if let Some(first) = first {
        client.deliver(first, events).await;
    }
    let mut silence = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    let answered = loop {
        tokio::select! {
            biased;
            Some(message) = running.outbox.next() => client.deliver(message, events).await,
            answered = &mut running.answer => break answered,
            _ = silence.tick() => { let _ = events.try_send(keep_alive()); }
        }
    };
    while let Some(message) = running.outbox.next_ready() {
        client.deliver(message, events).await;
    }
    // What it asked the client meanwhile is over before the client hears so.
    client.withdraw();
    for piece in event_of(answered.message) {
        let _ = events.send(piece).await;
    }
}

/// The client as the receiver of messages in the middle of a call.
enum Recipient {
    Legacy {
        session: Arc<Session>,
        sessions: LiveSessions,
        live: Arc<Live>,
        asked: std::sync::Mutex<Vec<u64>>,
    },
    Modern {
        log_level: Option<LogLevel>,
    },
}

impl Recipient {
    fn new(client: Client, around: &Surroundings) -> Self {
        match client {
            Client::Legacy(session) => {
                let live = around.live.of(session.id);
                Self::Legacy {
                    session,
                    live,
                    sessions: around.live.clone(),
                    asked: std::sync::Mutex::default(),
                }
            }
            Client::Modern(client) => Self::Modern { log_level: client.log_level },
        }
    }

    async fn deliver(&self, message: Outbound, events: &mpsc::Sender<Bytes>) {
        match message {
            Outbound::Notification { method, params } => {
                if self.wants(&method, params.as_ref()) {
                    let message = compose::notification(&method, params.as_deref());
                    let _ = events.send(event(&message)).await;
                }
            }
            Outbound::Ask(ask) => self.ask(ask, events).await,
        }
    }

    /// A log message goes to whom it concerns; anything else belongs to the call.
    fn wants(&self, method: &str, params: Option<&Bytes>) -> bool {
        if method != "notifications/message" {
            return true;
        }
        let least = match self {
            // A legacy client that named no level leaves the choice to the server.
            Self::Legacy { session, sessions, .. } => match sessions.level(session.id) {
                Some(level) => level,
                None => return true,
            },
            Self::Modern { log_level: Some(level) } => *level,
            Self::Modern { log_level: None } => return false,
        };
        params.and_then(|raw| level_of(raw)).is_some_and(|level| level >= least)
    }

    async fn ask(&self, ask: Ask, events: &mpsc::Sender<Bytes>) {
        let Self::Legacy { session, live, asked, .. } = self else {
            tracing::info!(mcp.method = %ask.method, "a modern client can't be asked in the middle of a call");
            let _ = ask.reply.send(Err(AskRefused::unsupported(&ask.method)));
            return;
        };
        if !session.abilities().admit(&ask.method, ask.params.as_deref()) {
            let _ = ask.reply.send(Err(AskRefused::unsupported(&ask.method)));
            return;
        }
        let id = live.ask(ask.reply);
        asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(id);
        let params = ask.params.map(|params| without_mode(&ask.method, params, session.version));
        let message = compose::request(id, &ask.method, params.as_deref());
        if events.send(event(&message)).await.is_err() {
            live.withdraw(id);
        }
    }

    /// Resolves when the client has cancelled by leaving.
    async fn leaves(&self, events: &mpsc::Sender<Bytes>, gone: &CancellationToken) {
        match self {
            Self::Modern { .. } => tokio::select! {
                () = events.closed() => {}
                () = gone.cancelled() => {}
            },
            Self::Legacy { .. } => std::future::pending().await,
        }
    }

    /// The call is over: what it asked the client is no longer waited for.
    fn withdraw(&self) {
        if let Self::Legacy { live, asked, .. } = self {
            for id in asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner).drain(..) {
                live.withdraw(id);
            }
        }
    }
}

/// The level of a log message, if it is one.
pub(super) fn level_of(params: &[u8]) -> Option<LogLevel> {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        level: std::borrow::Cow<'a, str>,
    }
    LogLevel::parse(&serde_json::from_slice::<Message<'_>>(params).ok()?.level)
}

/// Before 2025-11-25 an elicitation had no `mode`, and a client may refuse what it doesn't know.
fn without_mode(method: &str, params: Bytes, version: Version) -> Bytes {
    if method != "elicitation/create" || version >= Version::V2025_11_25 {
        return params;
    }
    let Ok(mut object) = Object::parse(&params) else { return params };
    object.remove("mode");
    object.into_bytes()
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures::FutureExt as _;
    use http::StatusCode;
    use serde_json::json;
    use serde_json::value::to_raw_value;
    use sql::model::Timestamp;
    use tokio::sync::oneshot;

    use super::*;
    use crate::access::Admitted;
    use crate::access::keys::tests::key;
    use crate::downstream::conversation::{self, Conversation, Owner};
    use crate::downstream::dispatch::ModernClient;
    use crate::upstream::call::Answer;

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
        Client::Modern(ModernClient { log_level })
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

    #[expect(clippy::unnecessary_wraps, reason = "the form that a conversation takes")]
    fn message(text: &str, level: &str) -> Option<Bytes> {
        Some(Bytes::from(json!({"level": level, "data": text}).to_string()))
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
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert!(scene.dropped.now_or_never().is_none());
    }

    #[tokio::test]
    async fn log_messages_go_to_whom_they_concern() {
        let mut scene = scene();
        scene.conversation.notify("notifications/message", message("quiet", "info"));
        scene.conversation.notify("notifications/message", message("loud", "error"));
        let reply = scene.respond(modern(Some(LogLevel::Warning)));
        scene.answer.send(answered()).ok().expect("it is waited for");
        let said = text(reply.await).await;
        assert!(said.contains("loud") && !said.contains("quiet"), "{said}");

        let mut scene = self::scene();
        scene.conversation.notify("notifications/message", message("loud", "error"));
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
        let live = scene.around.live.of(session.id);
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
}
