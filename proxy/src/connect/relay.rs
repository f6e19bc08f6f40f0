//! What each message of the client means, and a request's way to its answer.
//!
//! Notifications and answers go out one after the other, as the client sent them; requests run beside
//! each other. Whatever comes back goes through one queue, and what belongs to a request comes before
//! its answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Response};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::answers::Answers;
use super::mirror::Mirror;
use super::remote::{RETRY, Remote};
use super::session::Sessions;
use super::trouble::Trouble;
use crate::tasks::Tasks;
use crate::upstream::backoff;
use crate::upstream::frame::taken_back;
use crate::upstream::link::next_id;
use crate::upstream::pool::Body;
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::envelope::{self, Message, Notification, Params, Request, ResponseBody};
use crate::wire::ids::Id;
use crate::wire::meta::{EraDecision, detect_era};

/// Requests under way at once: one client's, and what the gateway allows a key.
const IN_FLIGHT_MAX: usize = 256;
/// Pages of a list of tools that are read to learn which arguments are mirrored.
const PAGES_MAX: usize = 100;
/// A header and the body disagree; here that a mirrored argument is missing.
const HEADER_MISMATCH: &[u8] = b"-32020";
const INVALID_REQUEST: i64 = -32600;
const LISTEN: &str = "subscriptions/listen";
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// One client's conversation with its gateway.
pub(super) struct Relay {
    shared: Arc<Shared>,
}

/// What requests under way share.
pub(super) struct Shared {
    pub(super) remote: Remote,
    pub(super) sessions: Sessions,
    pub(super) tasks: Tasks,
    pub(super) ended: CancellationToken,
    mirror: Mirror,
    out: mpsc::Sender<Bytes>,
    in_flight: Mutex<HashMap<Id, Flight>>,
    /// How many of them are to be answered before an orderly end.
    awaited: watch::Sender<usize>,
}

/// A request under way.
struct Flight {
    is_modern: bool,
    /// Streams that end only when somebody ends them.
    listens: bool,
    /// Cancelled when the client no longer wants the answer.
    unwanted: CancellationToken,
}

/// The answer to a request.
pub(super) struct Final {
    /// As it goes to the client.
    pub(super) message: Bytes,
    pub(super) body: ResponseBody,
}

impl Relay {
    pub(super) fn new(
        remote: Remote,
        out: mpsc::Sender<Bytes>,
        tasks: Tasks,
        ended: CancellationToken,
    ) -> Self {
        let shared = Shared {
            remote,
            sessions: Sessions::default(),
            tasks,
            ended,
            mirror: Mirror::default(),
            out,
            in_flight: Mutex::default(),
            awaited: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Takes one message of the client.
    pub(super) async fn take(&self, line: Bytes) {
        let shared = &self.shared;
        let message = match envelope::parse(line.clone()) {
            Ok(message) => message,
            Err(bad) => {
                return shared.emit(compose::error(bad.id(), bad.code(), &bad.to_string(), None)).await;
            }
        };
        let is_modern = detect_era(&HeaderMap::new(), &message) == EraDecision::Modern;
        match message {
            Message::Request(request) if !is_modern && request.method == "initialize" => {
                // What follows belongs to the session that this makes.
                let answer = shared.initialize(&request.raw, &request.id).await;
                shared.emit(answer.unwrap_or_else(|trouble| failed(&request.id, &trouble))).await;
            }
            Message::Request(request) => self.start(request, is_modern).await,
            Message::Notification(notification) => shared.notified(&notification, is_modern).await,
            Message::Response(_) => shared.tell(&line).await,
            Message::Batch(messages) => {
                let shared = Arc::clone(shared);
                let spawner = shared.tasks.clone();
                spawner.spawn("batch", async move {
                    let ended = shared.ended.clone();
                    ended.run_until_cancelled(shared.batch(&line, messages)).await;
                });
            }
        }
    }

    /// Waits until what can be answered is.
    pub(super) async fn answered(&self) {
        // It ends with the shared part, which is ours.
        let _ = self.shared.awaited.subscribe().wait_for(|awaited| *awaited == 0).await;
    }

    /// Gives up what is under way, and takes leave of the gateway.
    pub(super) async fn end(&self) {
        self.shared.ended.cancel();
        self.shared.end_session().await;
    }

    async fn start(&self, request: Request, is_modern: bool) {
        let shared = Arc::clone(&self.shared);
        let id = request.id.detached();
        let listens = is_modern && request.method == LISTEN;
        let unwanted = CancellationToken::new();
        let flight = Flight { is_modern, listens, unwanted: unwanted.clone() };
        if let Err(refusal) = shared.enter(&id, flight) {
            return shared.emit(refusal).await;
        }
        self.shared.tasks.spawn("request", async move {
            let carried = async {
                let outcome = if is_modern {
                    shared.carry_modern(&request, listens).await
                } else {
                    shared.carry_legacy(&request).await
                };
                let message = outcome.unwrap_or_else(|trouble| {
                    tracing::warn!(%trouble, method = %request.method, "no answer");
                    failed(&request.id, &trouble)
                });
                shared.emit(message).await;
            };
            tokio::select! {
                () = unwanted.cancelled() => {}
                () = shared.ended.cancelled() => {}
                () = carried => {}
            }
            shared.leave(&id);
        });
    }
}

impl Shared {
    /// Hands the client a message.
    pub(super) async fn emit(&self, message: Bytes) {
        // The client may be gone, which ends everything.
        let _ = self.out.send(message).await;
    }

    /// Passes everything on that comes before the answer, and gives the answer.
    pub(super) async fn answer_of(
        &self,
        response: Response<Body>,
        id: &Id,
        acknowledged: &mut bool,
    ) -> Result<Final, Trouble> {
        let status = response.status();
        let no_answer = || if status.is_success() { Trouble::NoAnswer } else { Trouble::Refused(status) };
        let mut answers = Answers::of(response).ok_or_else(no_answer)?;
        while let Some(message) = answers.next().await? {
            match envelope::parse(message.clone()).map_err(|_| no_answer())? {
                Message::Response(answer) if answer.id.as_ref() == Some(id) => {
                    return Ok(Final { message, body: answer.body });
                }
                // To a request that couldn't be read, as the gateway saw it; we know which one it was.
                Message::Response(envelope::Response { id: None, body: ResponseBody::Error(error) }) => {
                    let message = compose::error_raw(Some(id), &error);
                    return Ok(Final { message, body: ResponseBody::Error(error) });
                }
                // Said once already, before the stream broke.
                Message::Notification(said)
                    if said.method == ACKNOWLEDGED && std::mem::replace(acknowledged, true) => {}
                _ => self.emit(message).await,
            }
        }
        Err(if status.is_success() { Trouble::Broken } else { Trouble::Refused(status) })
    }

    async fn carry_legacy(self: &Arc<Self>, request: &Request) -> Result<Bytes, Trouble> {
        let response = self.post_in_session(&request.raw).await?;
        Ok(self.answer_of(response, &request.id, &mut false).await?.message)
    }

    async fn carry_modern(&self, request: &Request, listens: bool) -> Result<Bytes, Trouble> {
        let (mut acknowledged, mut has_learnt, mut failures) = (false, false, 0);
        loop {
            let answer = self.ask_modern(request, &mut acknowledged).await;
            match answer {
                Ok(answer) if !has_learnt && lacks_mirror(request, &answer.body) => {
                    has_learnt = true;
                    self.learn_tools(request.params.as_ref()).await;
                }
                Ok(answer) => {
                    if let (ResponseBody::Result(result), true) =
                        (&answer.body, request.method == "tools/list")
                    {
                        self.mirror.learn(result);
                    }
                    return Ok(answer.message);
                }
                // A stream that stood is opened again, until the client ends it.
                Err(Trouble::Broken | Trouble::Unreachable(_)) if listens && acknowledged => {
                    failures += 1;
                    sleep(RETRY.after(failures, backoff::jitter())).await;
                }
                Err(trouble) => return Err(trouble),
            }
        }
    }

    async fn ask_modern(&self, request: &Request, acknowledged: &mut bool) -> Result<Final, Trouble> {
        let extra = self.mirror.headers(&request.method, request.params.as_ref());
        let response = self.remote.post(&request.raw, &extra).await?;
        self.answer_of(response, &request.id, acknowledged).await
    }

    /// Reads the list of tools that the client never asked for, to know which arguments are mirrored.
    async fn learn_tools(&self, params: Option<&Params>) {
        let Some(meta) = params.and_then(Params::meta) else { return };
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut params = Object::empty();
            params.set("_meta", meta.clone());
            if let Some(cursor) = &cursor {
                params.set("cursor", compose::string(cursor));
            }
            let message = compose::request(next_id(), "tools/list", Some(&params.into_bytes()));
            let Ok(Message::Request(request)) = envelope::parse(message) else { return };
            let Ok(answer) = self.ask_modern(&request, &mut false).await else { return };
            let ResponseBody::Result(result) = answer.body else { return };
            cursor = self.mirror.learn(&result);
            if cursor.is_none() {
                return;
            }
        }
    }

    async fn notified(self: &Arc<Self>, notification: &Notification, is_modern: bool) {
        let method = notification.method.as_str();
        let cancels = method == "notifications/cancelled";
        let flight = taken_back(notification.params.as_ref())
            .filter(|_| cancels)
            .and_then(|id| self.flights().get(&id).map(|flight| (flight.is_modern, flight.unwanted.clone())));
        if let Some((true, unwanted)) = flight {
            return unwanted.cancel(); // Over HTTP, the end of its stream says so.
        }
        if is_modern {
            let extra = self.mirror.headers(method, notification.params.as_ref());
            accepted(self.remote.post(&notification.raw, &extra).await);
        } else {
            self.tell(&notification.raw).await;
        }
        if let Some((false, unwanted)) = flight {
            unwanted.cancel();
        }
        if method == "notifications/initialized" && !is_modern {
            self.initialized();
        }
    }

    /// Sends what wants no answer.
    async fn tell(self: &Arc<Self>, message: &Bytes) {
        accepted(self.post_in_session(message).await);
    }

    /// Several messages in one, which one of the revisions has.
    async fn batch(self: &Arc<Self>, batch: &Bytes, messages: Vec<Bytes>) {
        let trouble = match self.post_in_session(batch).await {
            Ok(response) if response.status() == http::StatusCode::ACCEPTED => return,
            Ok(response) => {
                let status = response.status();
                match Answers::of(response) {
                    None => Trouble::Refused(status),
                    Some(mut answers) => loop {
                        match answers.next().await {
                            Ok(Some(message)) => self.emit(message).await,
                            Ok(None) => return,
                            Err(trouble) => break trouble,
                        }
                    },
                }
            }
            Err(trouble) => trouble,
        };
        for message in messages {
            if let Ok(Message::Request(request)) = envelope::parse(message) {
                self.emit(failed(&request.id, &trouble)).await;
            }
        }
    }

    fn enter(&self, id: &Id, flight: Flight) -> Result<(), Bytes> {
        let mut flights = self.flights();
        if flights.len() >= IN_FLIGHT_MAX {
            return Err(failed(id, &Trouble::TooMany));
        }
        if flights.contains_key(id) {
            return Err(compose::error(
                Some(id),
                INVALID_REQUEST,
                "a request with this id is under way",
                None,
            ));
        }
        if !flight.listens {
            self.awaited.send_modify(|awaited| *awaited += 1);
        }
        flights.insert(id.clone(), flight);
        Ok(())
    }

    fn leave(&self, id: &Id) {
        if self.flights().remove(id).is_some_and(|flight| !flight.listens) {
            self.awaited.send_modify(|awaited| *awaited -= 1);
        }
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Id, Flight>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(id: &Id, trouble: &Trouble) -> Bytes {
    compose::error_raw(Some(id), &trouble.error())
}

/// Whether a call was refused for a mirrored argument that only a list of tools tells of.
fn lacks_mirror(request: &Request, body: &ResponseBody) -> bool {
    let ResponseBody::Error(error) = body else { return false };
    let code = Object::parse(error).ok().and_then(|error| error.get("code"));
    request.method == "tools/call" && code.is_some_and(|code| code == HEADER_MISMATCH)
}

/// Nobody waits for the answer to such a message, so a person is told.
fn accepted(sent: Result<Response<Body>, Trouble>) {
    match sent {
        Ok(response) if response.status().is_success() => {}
        Ok(response) => {
            let trouble = Trouble::Refused(response.status());
            tracing::warn!(%trouble, "a message was not accepted");
        }
        Err(trouble) => tracing::warn!(%trouble, "a message was lost"),
    }
}
