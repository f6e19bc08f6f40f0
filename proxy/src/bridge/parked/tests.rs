//! Parked calls with an upstream that the test plays itself.

use std::collections::BTreeMap;

use serde_json::{Value, from_slice};
use sql::model::{ConnParams, NewUpstream, Transport, UpstreamId};
use sql::seal::MasterKey;
use tokio::runtime::Handle;

use super::*;
use crate::downstream::conversation::{self, Outbound, Owner};
use crate::testing::pass;
use crate::upstream::call::CallError;
use crate::wire::meta;

const PARAMS: &str = r#"{"name":"ask","arguments":{"x":1},"_meta":{"progressToken":"p1"}}"#;

/// A gateway's parking, a key, and an upstream.
struct Scene {
    parking: Parking,
    tasks: Tasks,
    clock: Clock,
    upstream: Upstream,
    key: ApiKeyId,
    revoked: CancellationToken,
}

/// One request of the client: what it was told, and what a visit borrows.
struct Request {
    params: Bytes,
    abilities: Abilities,
    conversation: Conversation,
    told: Outbox,
    cancel: CancellationToken,
    progress_token: Option<Bytes>,
}

/// The upstream's side of a call.
struct Played {
    conversation: Conversation,
    answer: oneshot::Sender<Outcome>,
    cancel: CancellationToken,
}

impl Scene {
    fn new() -> Self {
        let master_key = MasterKey::from_env_text(MasterKey::generate_hex().expose()).expect("a fresh key").0;
        let (tasks, clock) = (Tasks::new(Handle::current()), Clock::manual(Timestamp::from_millis(0)));
        let degraded = Degradations::default();
        let parking = Parking::new(
            Sealer::new(&master_key),
            clock.clone(),
            tasks.clone(),
            degraded,
            ReplicaId::random(),
        );
        let (upstream, key) = (record(), ApiKeyId::new(&Clock::system()));
        Self { parking, tasks, clock, upstream, key, revoked: CancellationToken::new() }
    }

    fn visit<'a>(&'a self, request: &'a Request) -> Visit<'a> {
        Visit {
            upstream: &self.upstream,
            key: self.key,
            revoked: &self.revoked,
            abilities: request.abilities,
            method: "tools/call",
            params: &request.params,
            progress_token: request.progress_token.clone(),
            conversation: &request.conversation,
            cancel: &request.cancel,
        }
    }

    /// Begins a call; `play` is the upstream until the client is answered.
    async fn begin(&self, request: &Request, play: impl AsyncFnOnce(&Played)) -> (Value, Played) {
        let cancel = CancellationToken::new();
        let (conversation, outbox) = conversation::open(Owner(self.key.uuid()), cancel.clone());
        let (answer, answered) = oneshot::channel();
        let played = Played { conversation: conversation.clone(), answer, cancel: cancel.clone() };
        let answered = Box::pin(async move {
            tokio::select! {
                outcome = answered => outcome.unwrap_or(Err(CallError::ClosedMidCall)),
                () = cancel.cancelled() => Err(CallError::Cancelled),
            }
        });
        let visit = self.visit(request);
        let begun = Begun {
            outbox,
            marks: conversation.marks().clone(),
            cancel: played.cancel.clone(),
            answer: answered,
        };
        let (outcome, ()) = tokio::join!(self.parking.begin(&visit, begun, None), play(&played));
        (value_of(outcome), played)
    }

    fn read(&self, visit: &Visit<'_>) -> Result<Shown, Answer> {
        let state = Object::parse(visit.params).unwrap().get("requestState").expect("a state");
        self.parking.read(visit, &state)
    }

    /// Comes back with a state; `play` is the upstream meanwhile.
    async fn retry(&self, request: &Request, play: impl AsyncFnOnce()) -> Value {
        let visit = self.visit(request);
        match self.read(&visit) {
            Ok(Shown::Parked(ticket)) => {
                let (outcome, ()) = tokio::join!(self.parking.resume(&visit, &ticket), play());
                value_of(outcome)
            }
            Ok(Shown::Nothing) => unreachable!("a state was shown"),
            Ok(Shown::Foreign) => json!("foreign"),
            Ok(Shown::Again) => json!("again"),
            Err(answer) => value_of(Ok(answer)),
        }
    }

    /// Begins a call whose upstream answers by itself.
    async fn begin_with(
        &self,
        request: &Request,
        outbox: Outbox,
        marks: Marks,
        answer: BoxFuture<'static, Outcome>,
    ) -> Outcome {
        let begun = Begun { outbox, marks, cancel: request.cancel.clone(), answer };
        self.parking.begin(&self.visit(request), begun, None).await
    }

    /// Begins a call that asks once, and is parked.
    async fn parked(&self) -> (String, oneshot::Receiver<Outcome>, Played) {
        let (told, reply) = oneshot::channel();
        let request = request(PARAMS);
        let (required, played) = self
            .begin(&request, async |played: &Played| {
                let asked = played.conversation.ask("elicitation/create", None);
                self.tasks.spawn("the upstream's own", async move {
                    let _ = told.send(asked.await.map_err(|_| CallError::Cancelled));
                });
            })
            .await;
        assert_eq!(required["resultType"], "input_required", "{required}");
        (required["requestState"].as_str().expect("a state").to_owned(), reply, played)
    }
}

fn record() -> Upstream {
    let params = ConnParams::Http { url: "http://127.0.0.1:1/".into(), headers: BTreeMap::new() };
    let new = NewUpstream::named("files", Transport::StreamableHttp, params);
    Upstream::create(new, UpstreamId::new(&Clock::system()), Timestamp::from_millis(0))
}

fn request(params: &str) -> Request {
    let cancel = CancellationToken::new();
    let (conversation, told) = conversation::open(Owner(Uuid::nil()), cancel.clone());
    let abilities = Abilities { elicitation_form: true, sampling: true, ..Abilities::default() };
    let progress_token = Some(Bytes::from_static(br#""p1""#));
    Request {
        params: Bytes::copy_from_slice(params.as_bytes()),
        abilities,
        conversation,
        told,
        cancel,
        progress_token,
    }
}

/// The same request again, with a state and responses.
fn again(state: &str, responses: &Value) -> Request {
    let params = json!({
        "name": "ask", "arguments": {"x": 1}, "requestState": state, "inputResponses": responses,
    });
    let mut request = request(&params.to_string());
    request.progress_token = Some(Bytes::from_static(b"2"));
    request
}

fn accepted() -> Value {
    json!({"elicitation": {"action": "accept", "content": {"name": "Ada"}}})
}

fn value_of(outcome: Outcome) -> Value {
    match outcome.expect("an answer") {
        Answer::Result(raw) => from_slice(&raw).expect("JSON"),
        Answer::Error(raw) => json!({ "error": from_slice::<Value>(&raw).expect("JSON") }),
    }
}

fn done() -> Answer {
    Answer::Result(Bytes::from_static(br#"{"content":[]}"#))
}

fn told(request: &mut Request) -> Vec<(String, Value)> {
    let mut told = Vec::new();
    while let Some(Outbound::Notification { method, params }) = request.told.next_ready() {
        told.push((method.to_string(), from_slice(&params.unwrap_or_default()).unwrap_or_default()));
    }
    told
}

#[tokio::test(start_paused = true)]
async fn a_call_that_asks_goes_on_with_the_answer() {
    let scene = Scene::new();
    let (state, reply, played) = scene.parked().await;
    assert_eq!(scene.parking.len(), 1);
    let retry = again(&state, &accepted());
    let result = scene
        .retry(&retry, async move || {
            let Ok(Ok(Answer::Result(raw))) = reply.await else { panic!("an answer") };
            assert_eq!(from_slice::<Value>(&raw).unwrap()["content"]["name"], "Ada");
            played.answer.send(Ok(done())).expect("somebody waits");
        })
        .await;
    assert_eq!(result["resultType"], "complete");
    assert!(scene.parking.is_empty());
}

#[tokio::test(start_paused = true)]
async fn questions_that_wait_together_go_together_and_missing_answers_are_asked_for_again() {
    let scene = Scene::new();
    let request = request(PARAMS);
    let mut asked = Vec::new();
    let (required, _played) = scene
        .begin(&request, async |played: &Played| {
            asked
                .push(Box::pin(played.conversation.ask("elicitation/create", None)) as BoxFuture<'static, _>);
            asked.push(Box::pin(played.conversation.ask("sampling/createMessage", None)));
        })
        .await;
    let keys =
        |value: &Value| value["inputRequests"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&required), ["elicitation", "sampling"]);
    let first = required["requestState"].as_str().unwrap();
    let retry = again(first, &json!({"sampling": {"content": {}}, "nobody-asked": {}}));
    let required = scene.retry(&retry, async || ()).await;
    assert_eq!(keys(&required), ["elicitation"]);
    assert!(matches!(asked.remove(1).await, Ok(Answer::Result(_))));
    assert_ne!(required["requestState"], first);
    // The state of the first round was used.
    let replay = scene.retry(&again(first, &accepted()), async || ()).await;
    assert_eq!(replay["error"]["code"], -32602);
    assert_eq!(scene.parking.len(), 1, "the call still waits for its second round");
}

#[tokio::test(start_paused = true)]
async fn a_state_is_taken_once_and_for_its_own_request_alone() {
    let mut scene = Scene::new();
    let (state, _reply, played) = scene.parked().await;
    let other = json!({"name": "ask", "arguments": {"x": 2}, "requestState": state}).to_string();
    let refused = scene.retry(&request(&other), async || ()).await;
    assert_eq!(refused["error"]["code"], -32602);
    assert!(refused["error"]["message"].as_str().unwrap().contains("another request"), "{refused}");
    let own_key = std::mem::replace(&mut scene.key, ApiKeyId::new(&Clock::system()));
    let refused = scene.retry(&again(&state, &accepted()), async || ()).await;
    assert_eq!(refused["error"]["code"], -32602, "another key");
    scene.key = own_key;
    assert_eq!(scene.retry(&again("made up", &accepted()), async || ()).await, "foreign");
    let malformed = scene.retry(&again(&state, &json!({"elicitation": 7})), async || ()).await;
    assert_eq!(malformed["error"]["code"], -32602, "and the state is still good");
    let result = scene
        .retry(&again(&state, &accepted()), async move || {
            played.answer.send(Ok(done())).expect("somebody waits");
        })
        .await;
    assert_eq!(result["resultType"], "complete");
    let replay = scene.retry(&again(&state, &accepted()), async || ()).await;
    assert_eq!(replay["error"]["code"], -32603);
    assert_eq!(replay["error"]["data"]["upstream"], "files");
    assert_eq!(replay["error"]["data"][meta::GATEWAY_DEGRADED][0]["reason"], "a");
    assert_eq!(scene.parking.shared.degraded.of(scene.upstream.id)[&Reason::ParkedCallGone], 1);
}

#[tokio::test(start_paused = true)]
async fn an_expired_state_is_refused_by_its_own_clock() {
    let scene = Scene::new();
    let (state, _reply, _played) = scene.parked().await;
    scene.clock.advance(PARKED_MAX);
    let refused = scene.retry(&again(&state, &accepted()), async || ()).await;
    assert_eq!(refused["error"]["code"], -32603);
    assert_eq!(refused["error"]["data"]["upstream"], "files", "{refused}");
}

#[tokio::test(start_paused = true)]
async fn what_comes_meanwhile_is_told_on_the_retry_in_order_and_bounded() {
    let scene = Scene::new();
    let (state, _reply, played) = scene.parked().await;
    for step in 0..200 {
        let progress = json!({"progressToken": "p1", "progress": step}).to_string();
        played.conversation.notify("notifications/progress", Some(Bytes::from(progress)));
        tokio::task::yield_now().await;
    }
    assert!(!played.cancel.is_cancelled(), "a chatty upstream loses messages, not its call");
    let mut retry = again(&state, &accepted());
    let result = scene
        .retry(&retry, async move || {
            played.conversation.notify("notifications/message", Some(Bytes::from_static(b"{}")));
            played.answer.send(Ok(done())).expect("somebody waits");
        })
        .await;
    assert_eq!(result["resultType"], "complete");
    let told = told(&mut retry);
    let steps: Vec<_> = told.iter().filter_map(|(_, params)| params["progress"].as_u64()).collect();
    assert_eq!(steps, (72..200).collect::<Vec<_>>());
    assert!(told[..128].iter().all(|(_, params)| params["progressToken"] == 2), "the token of the retry");
    assert_eq!(told.last().unwrap().0, "notifications/message");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_meanwhile_waits_for_the_client() {
    let scene = Scene::new();
    let (state, _reply, played) = scene.parked().await;
    played.answer.send(Ok(done())).expect("the parked call waits");
    tokio::task::yield_now().await;
    let result = scene.retry(&again(&state, &accepted()), async || ()).await;
    assert_eq!(result["resultType"], "complete");
}

#[tokio::test(start_paused = true)]
async fn a_parked_call_ends_with_its_time_its_key_and_the_gateway() {
    for end in ["time", "total timeout", "key", "gateway"] {
        let scene = Scene::new();
        let (state, _reply, mut played) = scene.parked().await;
        let cancelled = played.cancel.clone();
        match end {
            "time" => pass(PARKED_MAX).await,
            "total timeout" => {
                let (unused, _) = oneshot::channel();
                let answer = std::mem::replace(&mut played.answer, unused);
                let after = Duration::from_secs(1);
                answer.send(Err(CallError::TimedOut { after })).expect("the parked call waits");
            }
            "key" => scene.revoked.cancel(),
            _ => scene.tasks.stop().await,
        }
        cancelled.cancelled().await;
        tokio::task::yield_now().await;
        assert!(scene.parking.is_empty(), "{end}");
        let late = scene.retry(&again(&state, &accepted()), async || ()).await;
        assert_eq!(late["error"]["code"], -32603, "{end}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_in_the_middle_of_a_retry_has_cancelled() {
    let scene = Scene::new();
    let (state, _reply, played) = scene.parked().await;
    let retry = again(&state, &accepted());
    let visit = scene.visit(&retry);
    let Ok(Shown::Parked(ticket)) = scene.read(&visit) else { panic!("a good state") };
    let leave = async { retry.cancel.cancel() };
    let (outcome, ()) = tokio::join!(scene.parking.resume(&visit, &ticket), leave);
    assert!(matches!(outcome, Err(CallError::Cancelled)));
    assert!(played.cancel.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_key_has_only_so_many_places() {
    let scene = Scene::new();
    let mut held = Vec::new();
    for _ in 0..PARKED_PER_KEY_MAX {
        held.push(scene.parked().await);
    }
    let request = request(PARAMS);
    let (told, was_told) = oneshot::channel();
    let (conversation, outbox) = conversation::open(Owner(Uuid::nil()), request.cancel.clone());
    let asked = conversation.ask("elicitation/create", None);
    let marks = conversation.marks().clone();
    // An upstream that makes do without: it answers once it was refused.
    let answer = Box::pin(async move {
        let _ = told.send(asked.await);
        Ok(done())
    });
    let outcome = scene.begin_with(&request, outbox, marks, answer).await;
    assert_eq!(value_of(outcome)["resultType"], "complete");
    assert_eq!(was_told.await.unwrap().unwrap_err().code, -32603);
    assert_eq!(scene.parking.len(), PARKED_PER_KEY_MAX);
}

#[tokio::test(start_paused = true)]
async fn what_the_client_cannot_do_is_named_only_where_the_upstream_says_nothing_else() {
    let scene = Scene::new();
    let error = |text| Answer::Error(Bytes::from_static(text));
    let answers = [
        (error(br#"{"code":-32601,"message":"no sampling"}"#), Some(-32021)),
        (error(br#"{"code":-32000,"message":"it went wrong"}"#), Some(-32000)),
        (Answer::Result(Bytes::from_static(br#"{"content":["sorry"],"isError":true}"#)), Some(-32021)),
        (Answer::Result(Bytes::from_static(br#"{"content":["guessed"]}"#)), None),
    ];
    for (said, code) in answers {
        let mut request = request(PARAMS);
        request.abilities = Abilities::default();
        let (conversation, outbox) = conversation::open(Owner(Uuid::nil()), request.cancel.clone());
        let asked = conversation.ask("sampling/createMessage", None);
        let marks = conversation.marks().clone();
        let answer = Box::pin(async move {
            assert_eq!(asked.await, Err(AskRefused::unsupported("sampling/createMessage")));
            Ok(said)
        });
        let outcome = scene.begin_with(&request, outbox, marks, answer).await;
        let answer = value_of(outcome);
        assert_eq!(answer["error"]["code"].as_i64(), code, "{answer}");
        if code == Some(-32021) {
            assert_eq!(answer["error"]["data"]["requiredCapabilities"], json!({"sampling": {}}));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pages_to_visit_first_are_asked_for_and_then_the_call_is_made_again() {
    let scene = Scene::new();
    let error = json!({"code": -32042, "message": "visit", "data": {"elicitations": [
        {"mode": "url", "elicitationId": "e", "message": "Log in", "url": "https://example.com/"},
    ]}})
    .to_string();
    let mut request = request(PARAMS);
    let answer = |error: String| -> BoxFuture<'static, Outcome> {
        Box::pin(async move { Ok(Answer::Error(Bytes::from(error))) })
    };
    let (_conversation, outbox) = conversation::open(Owner(Uuid::nil()), request.cancel.clone());
    let outcome = scene.begin_with(&request, outbox, Marks::default(), answer(error.clone())).await;
    let refused = value_of(outcome);
    assert_eq!(refused["error"]["data"]["requiredCapabilities"], json!({"elicitation": {"url": {}}}));
    request.abilities.elicitation_url = true;
    let (_conversation, outbox) = conversation::open(Owner(Uuid::nil()), request.cancel.clone());
    let outcome = scene.begin_with(&request, outbox, Marks::default(), answer(error)).await;
    let required = value_of(outcome);
    let page = json!({"mode": "url", "message": "Log in", "url": "https://example.com/"});
    assert_eq!(
        required["inputRequests"]["elicitation-1"],
        json!({"method": "elicitation/create", "params": page})
    );
    let state = required["requestState"].as_str().unwrap();
    let visited = json!({"elicitation-1": {"action": "accept"}});
    assert_eq!(scene.retry(&again(state, &visited), async || ()).await, "again");
    let declined = json!({"elicitation-1": {"action": "decline"}});
    assert_eq!(scene.retry(&again(state, &declined), async || ()).await["error"]["code"], -32603);
    assert!(scene.parking.is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_two_that_come_back_with_one_state_one_goes_on() {
    let scene = Scene::new();
    let (state, _reply, played) = scene.parked().await;
    let (first, second) = (again(&state, &accepted()), again(&state, &accepted()));
    let answer_last = async || {
        tokio::task::yield_now().await;
        assert_eq!(scene.parking.len(), 1, "the call that goes on keeps its place");
    };
    let one = scene.retry(&first, answer_last);
    let other = async {
        let refused = scene.retry(&second, async || ()).await;
        played.answer.send(Ok(done())).expect("somebody waits");
        refused
    };
    let (result, refused) = tokio::join!(one, other);
    assert_eq!(result["resultType"], "complete");
    assert_eq!(refused["error"]["code"], -32602);
    assert!(refused["error"]["message"].as_str().unwrap().contains("has been used"), "{refused}");
    assert!(scene.parking.is_empty());
}
