//! One call over HTTP: its POST, what comes before the answer, the answer, and how it is given up.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::FutureExt;
use futures::stream::{Stream, StreamExt};
use http::{Method, Response, StatusCode};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::Parts;
use super::asks::Asks;
use super::events::{Media, events, media, whole};
use crate::downstream::conversation::Conversation;
use crate::trace;
use crate::upstream::call::{Answer, Call, CallError};
use crate::upstream::frame::{self, Addressee, Incoming};
use crate::upstream::link::{Dropped, Era, next_id};
use crate::upstream::pool::Body;
use crate::wire::envelope::Params;
use crate::wire::headers::{MCP_METHOD, MCP_NAME, MCP_SESSION_ID, encode_value, name_of};
use crate::wire::text::Text;

/// The body of an error status is read up to here: enough for a JSON-RPC error.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;

/// How long a stream that has answered may take to end before its connection is closed.
const END_WITHIN: Duration = Duration::from_secs(1);

/// Sends one call and waits for its answer.
pub(super) async fn exchange(parts: &Arc<Parts>, call: Call) -> Result<Answer, CallError> {
    let id = next_id();
    let invalid = |_| CallError::Invalid { reason: "the _meta of the request is not usable" };
    let outgoing = frame::request(id, call.method, &call.params).map_err(invalid)?;
    let entered = parts.in_flight.enter_with(id, &call.conversation, outgoing.progress_token.as_ref());
    let mut farewell = Farewell::new(parts, id, call.method);
    let ends_at = Instant::now() + call.total_timeout;
    let exchange = Exchange { parts, id, call: &call, ends_at, asks: Asks::new(parts), garbage: false };
    let outcome = tokio::select! {
        biased;
        () = call.cancel.cancelled() => Err(CallError::Cancelled),
        outcome = exchange.run(outgoing.body) => outcome,
        // The gateway ends, and its clients are to hear what became of their calls.
        () = parts.wiring.tasks.stopping().cancelled() => Err(CallError::ClosedMidCall),
    };
    farewell.settle(&outcome);
    let is_given_up =
        matches!(outcome, Err(CallError::Cancelled | CallError::ClosedMidCall | CallError::TimedOut { .. }));
    if !is_given_up {
        entered.ended();
    }
    outcome.and_then(|answer| frame::usable(answer, call.conversation.owner()))
}

/// Tells a legacy upstream that the answer is no longer wanted, unless it came: closing its stream isn't
/// a cancellation there. For a modern one the end of the stream says it all.
struct Farewell<'a> {
    parts: &'a Arc<Parts>,
    id: u64,
    reason: Option<&'static str>,
}

impl<'a> Farewell<'a> {
    fn new(parts: &'a Arc<Parts>, id: u64, method: &str) -> Self {
        // Lifecycle: `initialize` must not be cancelled.
        let owed = parts.era() == Era::Legacy && method != "initialize";
        Self { parts, id, reason: owed.then_some("the client went away") }
    }

    fn settle(&mut self, outcome: &Result<Answer, CallError>) {
        let reason = match outcome {
            Err(CallError::Cancelled) => "the client cancelled",
            Err(CallError::TimedOut { .. }) => "no answer in time",
            Err(CallError::TooLarge { .. }) => "the answer is too large",
            Err(CallError::ClosedMidCall) => "the connection broke",
            // It has answered, or never began.
            _ => {
                self.reason = None;
                return;
            }
        };
        self.reason = self.reason.and(Some(reason));
    }
}

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        let Some(reason) = self.reason else { return };
        let (parts, message) = (Arc::clone(self.parts), frame::cancelled(self.id, reason));
        self.parts.wiring.tasks.spawn("upstream cancel", async move { parts.post_reply(message).await });
    }
}

/// A moment, and how long it was until then.
#[derive(Clone, Copy)]
struct Patience {
    ends_at: Instant,
    after: Duration,
}

impl Patience {
    /// One timer for silence and for the whole call: each that is set and not waited for costs both sides.
    async fn wait_for<F: Future>(self, future: F) -> Result<F::Output, CallError> {
        timeout_at(self.ends_at, future).await.map_err(|_| CallError::TimedOut { after: self.after })
    }
}

struct Exchange<'a> {
    parts: &'a Arc<Parts>,
    id: u64,
    call: &'a Call,
    /// When it has taken all the time that it may take.
    ends_at: Instant,
    asks: Asks,
    garbage: bool,
}

impl Exchange<'_> {
    async fn run(mut self, body: Bytes) -> Result<Answer, CallError> {
        let session_sent = self.parts.session_for(self.call.method).is_some();
        let patience = self.patience();
        let response = patience.wait_for(self.post_authorized(body)).await??;
        if !response.status().is_success() {
            let patience = self.patience();
            return patience.wait_for(Box::pin(self.refusal(response, session_sent))).await?;
        }
        if self.call.method == "initialize" {
            self.parts.keep_session(response.headers().get(MCP_SESSION_ID));
        }
        match media(&response) {
            Media::Events => Box::pin(self.stream(response)).await,
            Media::Json => {
                let body = self.patience().wait_for(whole(response, self.call.response_bytes_max)).await??;
                let answer = self.take(body);
                answer.ok_or(CallError::Invalid { reason: "the body is not an answer to the request" })
            }
            Media::Other if response.status() == StatusCode::ACCEPTED => {
                Err(CallError::Invalid { reason: "it was accepted, but not answered" })
            }
            Media::Other => Err(CallError::Invalid { reason: "neither JSON nor an event stream" }),
        }
    }

    /// How long silence is borne from now on.
    fn patience(&self) -> Patience {
        let (idle, total) = (self.call.idle_timeout, self.call.total_timeout);
        let silent_at = Instant::now() + idle;
        if silent_at < self.ends_at {
            Patience { ends_at: silent_at, after: idle }
        } else {
            Patience { ends_at: self.ends_at, after: total }
        }
    }

    /// Posts with a token that hasn't ended, as far as we know; one that the upstream refuses is renewed
    /// once, if it can be: nothing was carried out.
    async fn post_authorized(&mut self, body: Bytes) -> Result<Response<Body>, CallError> {
        let parts = Arc::clone(self.parts);
        let pass = parts.target.pass();
        pass.ready().await;
        if !pass.is_held() {
            return self.post(body).await;
        }
        let stamp = pass.stamp();
        let response = self.post(body.clone()).await?;
        if response.status() == StatusCode::UNAUTHORIZED && pass.renewed(stamp).await {
            return self.post(body).await;
        }
        Ok(response)
    }

    async fn post(&mut self, body: Bytes) -> Result<Response<Body>, CallError> {
        let mut builder = self.parts.head_for(Method::POST, self.call.method);
        if self.parts.era() == Era::Modern
            && let Some(headers) = builder.headers_mut()
        {
            headers.insert(MCP_METHOD, encode_value(self.call.method));
            headers.extend(self.call.headers.iter().cloned());
            if !headers.contains_key(MCP_NAME)
                && let Some(name) = self.name(&body)
            {
                headers.insert(MCP_NAME, encode_value(&name));
            }
        } else if let Some(headers) = builder.headers_mut() {
            // The others are of the modern era alone.
            headers.extend(self.call.headers.iter().filter(|(name, _)| trace::is_header(name)).cloned());
        }
        let request = builder.body(body);
        let request =
            request.map_err(|_| CallError::Invalid { reason: "the request has invalid headers" })?;
        self.parts.pool.send(request).await
    }

    fn name(&self, body: &Bytes) -> Option<Text> {
        crate::wire::headers::named_by(self.call.method)?;
        match frame::read(body.clone()).ok()? {
            Incoming::Request { method, params, .. } => name_of(&method, params.as_ref()),
            _ => None,
        }
    }

    /// An error status: a JSON-RPC error if its body is one, else the status itself.
    async fn refusal(&mut self, response: Response<Body>, session_sent: bool) -> Result<Answer, CallError> {
        let status = response.status();
        if status == StatusCode::NOT_FOUND && session_sent {
            return Err(CallError::SessionUnknown);
        }
        let refused = self.parts.target.refusal(status, response.headers());
        let speaks = media(&response) == Media::Json && !status.is_redirection();
        if !speaks || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(refused);
        }
        let Ok(body) = whole(response, ERROR_BODY_BYTES_MAX).await else { return Err(refused) };
        match self.take(body) {
            Some(Answer::Error(error)) => {
                if session_sent {
                    // Some servers say 400 where a session is unknown: a ping will tell.
                    self.parts.wiring.listener.suspect();
                }
                Ok(Answer::Error(error))
            }
            _ => Err(refused),
        }
    }

    /// Everything on the call's stream, in order, until its answer.
    async fn stream(&mut self, response: Response<Body>) -> Result<Answer, CallError> {
        let answered = Arc::new(AtomicBool::new(false));
        let limit = self.call.response_bytes_max;
        let mut events = Box::pin(events(Arc::clone(self.parts), response, limit, Arc::clone(&answered)));
        let idle = self.call.idle_timeout;
        let mut silent_since = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = self.asks.one_done() => silent_since = Instant::now(),
                data = events.next() => match data {
                    Some(Ok(data)) => {
                        silent_since = Instant::now();
                        if let Some(answer) = self.take(data) {
                            answered.store(true, Ordering::Relaxed);
                            self.let_end(events);
                            return Ok(answer);
                        }
                    }
                    Some(Err(CallError::ClosedMidCall)) if self.garbage => {
                        return Err(CallError::Invalid { reason: "the stream held no answer that can be read" });
                    }
                    Some(Err(error)) => return Err(error),
                    None => return Err(CallError::ClosedMidCall),
                },
                // While the client is asked, it is the upstream that waits.
                () = sleep_until(silent_since + idle), if self.asks.is_empty() => {
                    return Err(CallError::TimedOut { after: idle });
                }
                () = sleep_until(self.ends_at) => {
                    return Err(CallError::TimedOut { after: self.call.total_timeout });
                }
            }
        }
    }

    /// Reads a stream that has answered to its end, which most servers send in the same moment: then the connection
    /// serves the next call.
    fn let_end<S>(&self, mut events: Pin<Box<S>>)
    where
        S: Stream<Item = Result<Bytes, CallError>> + Send + 'static,
    {
        // Nothing is to follow: what does is for nobody. Mostly the end is there already.
        if events.next().now_or_never().is_some() {
            return;
        }
        let over = async move { timeout(END_WITHIN, events.next()).await };
        self.parts.wiring.tasks.spawn_here("end of an upstream's stream", async move { drop(over.await) });
    }

    /// One message; the answer, if it is ours.
    fn take(&mut self, message: Bytes) -> Option<Answer> {
        match frame::read(message) {
            Ok(Incoming::Answer { id, answer }) => {
                // An error without an id is about the one request of this POST.
                let ours = id == Some(self.id) || (id.is_none() && matches!(answer, Answer::Error(_)));
                if ours {
                    return Some(answer);
                }
                self.parts.wiring.listener.dropped(Dropped::Answer);
            }
            Ok(Incoming::Notification { method, params }) => self.notification(&method, params.as_ref()),
            Ok(Incoming::Request { id, method, params }) => {
                self.asks.put(Some(&self.call.conversation), id, &method, params.as_ref());
            }
            // All of it is taken, so that nothing before or beside the answer is lost.
            Ok(Incoming::Batch(messages)) => {
                return messages.into_iter().fold(None, |answer, message| {
                    let next = self.take(message);
                    answer.or(next)
                });
            }
            Err(frame::NotAMessage) => {
                self.garbage = true;
                self.parts.wiring.listener.dropped(Dropped::Garbage);
            }
        }
        None
    }

    fn notification(&mut self, method: &str, params: Option<&Params>) {
        let listener = &self.parts.wiring.listener;
        match frame::addressee(method) {
            Addressee::Progress if frame::progress_of(params) == Some(self.id) => {
                self.parts.in_flight.progress(params);
            }
            Addressee::Progress => listener.dropped(Dropped::Progress),
            Addressee::Taken => {
                if let Some(id) = frame::taken_back(params) {
                    self.asks.take_back(&id);
                }
            }
            Addressee::Everyone => listener.notification(method, params.map(|params| params.raw().clone())),
            Addressee::Call if self.call.conversation.is_for_another(params.map(Params::raw)) => {
                listener.dropped(Dropped::Unattributed);
            }
            Addressee::Call => notify(&self.call.conversation, method, params),
        }
    }
}

/// Hands a notification on.
pub(super) fn notify(conversation: &Conversation, method: &str, params: Option<&Params>) {
    conversation.notify(method, params.map(|params| params.raw().clone()));
}
