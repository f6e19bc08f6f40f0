//! The task that reads, and the one place that decides where a message of the upstream goes.
//!
//! An answer belongs to the call whose id it has. A progress notification names its call by the token,
//! and a notification of a subscription by the subscription's id. A request and a log message name
//! nobody: they go to a client only while all calls in flight are that client's.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use super::{Broken, Clock, Shared, Source};
use crate::bridge::degraded::Reason;
use crate::downstream::conversation::{AskRefused, Conversation, Owner};
use crate::upstream::call::{Answer, CallError};
use crate::upstream::frame::{self, Addressee, Incoming, Reply};
use crate::upstream::link::{Attribution, Dropped, Roots};
use crate::wire::edit::Object;
use crate::wire::envelope::Params;
use crate::wire::ids::Id;
use crate::wire::meta::SUBSCRIPTION_ID;

/// Questions of one upstream that clients have yet to answer: a person answers one at a time.
pub(super) const QUESTIONS_MAX: usize = 64;

/// The request that lasts as long as its subscription.
const LISTEN: &str = "subscriptions/listen";

/// What a subscription that ends in good order answers.
const GRACEFUL_END: &[u8] = br#"{"resultType":"complete"}"#;

/// Reads until the end.
pub(super) async fn run(shared: Arc<Shared>, mut source: impl Source) {
    let mut questions = Questions::default();
    let reason = loop {
        tokio::select! {
            () = shared.cut.cancelled() => break "the connection is closed".to_owned(),
            answered = questions.next(), if !questions.is_empty() => shared.answer_question(answered),
            message = source.next() => match message {
                Ok(Some(_)) if shared.closing.is_cancelled() => {} // Nobody waits for it any more.
                Ok(Some(message)) => shared.read(&message, &source, &mut questions),
                Ok(None) => break "the upstream closed the connection".to_owned(),
                Err(Broken(reason)) => break reason,
            },
        }
    };
    shared.end(&reason);
}

impl Shared {
    fn read(&self, message: &Bytes, source: &impl Source, questions: &mut Questions) {
        match frame::read(message.clone()) {
            // Batches are of 2025-03-26 only, but whoever sends one means what is in it.
            Ok(Incoming::Batch(messages)) => {
                for message in messages {
                    match frame::read(message.clone()) {
                        Ok(Incoming::Batch(_)) | Err(_) => self.unreadable(&message, source),
                        Ok(incoming) => self.route(incoming, questions),
                    }
                }
            }
            Ok(incoming) => self.route(incoming, questions),
            Err(_) => self.unreadable(message, source),
        }
    }

    fn unreadable(&self, message: &Bytes, source: &impl Source) {
        source.unreadable(message);
        self.wiring.listener.dropped(Dropped::Garbage);
    }

    fn route(&self, incoming: Incoming, questions: &mut Questions) {
        match incoming {
            Incoming::Answer { id, answer } => self.finish(id, answer),
            Incoming::Request { id, method, params } => self.asked(&id, &method, params.as_ref(), questions),
            Incoming::Notification { method, params } => match frame::addressee(&method) {
                Addressee::Progress => self.progressed(params.as_ref()),
                Addressee::Taken => self.taken_back(params.as_ref(), questions),
                Addressee::Everyone => self.announced(&method, params.as_ref()),
                Addressee::Call => self.said(&method, params.as_ref()),
            },
            Incoming::Batch(_) => self.wiring.listener.dropped(Dropped::Garbage),
        }
    }

    /// An answer: to the call with its id, once.
    fn finish(&self, id: Option<u64>, answer: Answer) {
        let pending = id.and_then(|id| self.calls().pending.remove(&id));
        let Some(pending) = pending else {
            if let Some(id) = id {
                self.in_flight.answered_late(id);
            }
            return self.wiring.listener.dropped(Dropped::Answer);
        };
        pending.entered.ended();
        let (Answer::Result(body) | Answer::Error(body)) = &answer;
        let outcome = if body.len() > pending.response_bytes_max {
            Err(CallError::TooLarge { limit: pending.response_bytes_max })
        } else {
            frame::usable(answer, pending.conversation.owner())
        };
        let _ = pending.answer.send(outcome); // The caller may have left this very moment.
    }

    /// Progress: to the call whose token it has, with the token that its client chose.
    fn progressed(&self, params: Option<&Params>) {
        let (Some(params), Some(id)) = (params, frame::progress_of(params)) else {
            return self.wiring.listener.dropped(Dropped::Progress);
        };
        let known = self.calls().pending.get(&id).map(|pending| {
            pending.clock.heard.notify_one();
            (pending.conversation.clone(), pending.progress_token.clone())
        });
        match known {
            Some((conversation, Some(token))) => {
                conversation.notify("notifications/progress", Some(frame::restore_progress(params, &token)));
            }
            Some((_, None)) => {} // Its client didn't ask for it.
            None => self.wiring.listener.dropped(Dropped::Progress),
        }
    }

    /// What concerns everyone; what a subscription brings shows that it is alive.
    fn announced(&self, method: &str, params: Option<&Params>) {
        if let Some(id) = params.and_then(subscription_of)
            && let Some(subscription) = self.calls().pending.get(&id)
        {
            subscription.clock.heard.notify_one();
        }
        self.wiring.listener.notification(method, raw(params));
    }

    /// A log message and the like: to the one client that has calls in flight; to all who listen while
    /// nobody has.
    fn said(&self, method: &str, params: Option<&Params>) {
        match self.in_flight.whose(params) {
            Attribution::One(conversation) => conversation.notify(method, raw(params)),
            Attribution::Nobody => self.wiring.listener.notification(method, raw(params)),
            Attribution::Several => {
                self.wiring.listener.dropped(Dropped::Unattributed);
                if method == "notifications/message" {
                    self.degraded(Reason::LogOfSeveral);
                }
            }
        }
    }

    /// The upstream takes a question back, or (modern) ends a subscription.
    fn taken_back(&self, params: Option<&Params>, questions: &mut Questions) {
        let Some(id) = frame::taken_back(params) else { return };
        questions.withdraw(&id);
        // Cancellation, 2026-07-28: on stdio a server may end a subscription by cancelling it. The result
        // that others send in its place says the same.
        let ended = id.as_u64().and_then(|id| {
            let mut calls = self.calls();
            let listens = calls.pending.get(&id).is_some_and(|call| call.method == LISTEN);
            if listens { calls.pending.remove(&id) } else { None }
        });
        if let Some(ended) = ended {
            let _ = ended.answer.send(Ok(Answer::Result(Bytes::from_static(GRACEFUL_END))));
        }
    }

    /// A request of the upstream's own.
    fn asked(&self, id: &Id, method: &str, params: Option<&Params>, questions: &mut Questions) {
        if method == "ping" {
            return self.send(frame::pong(id));
        }
        if self.is_modern() {
            // stdio, 2026-07-28: a server must not send requests, and a client must not answer any.
            return self.wiring.listener.dropped(Dropped::Garbage);
        }
        if method == "roots/list" && self.wiring.roots == Roots::Undeclared {
            return self.reply(id, &Err(AskRefused::unsupported(method)));
        }
        match self.in_flight.asker(params) {
            Attribution::One(_) if questions.len() >= QUESTIONS_MAX => {
                let message = format!("more than {QUESTIONS_MAX} requests wait for an answer");
                self.reply(id, &Err(AskRefused { code: -32603, message }));
            }
            Attribution::One(conversation) => {
                let asking = self.asking(conversation.owner());
                questions.ask(id, &conversation, method, raw(params), asking);
            }
            Attribution::Several => {
                self.wiring.listener.dropped(Dropped::Unattributed);
                self.degraded(Reason::AskOfSeveral);
                self.reply(id, &Err(AskRefused::unattributable()));
            }
            Attribution::Nobody => {
                self.wiring.listener.dropped(Dropped::Unattributed);
                self.wiring.listener.degraded(Reason::AskedOutsideCalls);
                self.reply(id, &Err(AskRefused::unsupported(method)));
            }
        }
    }

    /// Every call in flight may be the one that this was for.
    fn degraded(&self, reason: Reason) {
        self.wiring.listener.degraded(reason);
        self.in_flight.mark(reason);
    }

    fn answer_question(&self, answered: Option<Answered>) {
        if let Some((id, Some(reply))) = answered {
            self.reply(&id, &reply);
        }
    }

    fn reply(&self, id: &Id, reply: &Reply) {
        self.send(frame::reply(id, reply));
    }

    /// Answers the upstream. One that doesn't read gets no answers: its writer's deadline is near.
    fn send(&self, answer: Bytes) {
        if let Err(error) = self.queue(answer, None) {
            tracing::debug!(%error, "answer to an upstream's request dropped");
        }
    }

    /// Stops the idle clocks of a client's calls while it is being asked.
    fn asking(&self, owner: Owner) -> Asking {
        let calls = self.calls();
        let of_owner = calls.pending.values().filter(|call| call.conversation.owner() == owner);
        Asking::begin(of_owner.map(|call| Arc::clone(&call.clock)).collect())
    }
}

/// The id of a question and what is to be replied; nothing if the upstream took it back.
type Answered = (Id, Option<Reply>);

/// The questions that clients have yet to answer.
#[derive(Default)]
struct Questions {
    waiting: FuturesUnordered<BoxFuture<'static, Answered>>,
    withdrawn: HashMap<Id, CancellationToken>,
}

impl Questions {
    fn len(&self) -> usize {
        self.waiting.len()
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn ask(
        &mut self,
        id: &Id,
        conversation: &Conversation,
        method: &str,
        params: Option<Bytes>,
        asking: Asking,
    ) {
        let id = id.detached(); // A question may outlive many messages.
        let answer = conversation.ask(method, params); // Queued now, in its place among the rest.
        let withdrawn = CancellationToken::new();
        self.withdrawn.insert(id.clone(), withdrawn.clone());
        self.waiting.push(Box::pin(async move {
            let reply = withdrawn.run_until_cancelled(answer).await;
            drop(asking);
            (id, reply)
        }));
    }

    fn withdraw(&mut self, id: &Id) {
        if let Some(question) = self.withdrawn.get(id) {
            question.cancel();
        }
    }

    async fn next(&mut self) -> Option<Answered> {
        let answered = self.waiting.next().await;
        if let Some((id, _)) = &answered {
            self.withdrawn.remove(id);
        }
        answered
    }
}

/// While it lives, the calls it was made for aren't idle.
struct Asking(Vec<Arc<Clock>>);

impl Asking {
    fn begin(clocks: Vec<Arc<Clock>>) -> Self {
        for clock in &clocks {
            clock.asking.fetch_add(1, Ordering::AcqRel);
            clock.heard.notify_one();
        }
        Self(clocks)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        for clock in &self.0 {
            clock.asking.fetch_sub(1, Ordering::AcqRel);
            clock.heard.notify_one();
        }
    }
}

fn raw(params: Option<&Params>) -> Option<Bytes> {
    params.map(|params| params.raw().clone())
}

/// The id of the `subscriptions/listen` that a notification belongs to.
fn subscription_of(params: &Params) -> Option<u64> {
    let meta = Object::parse(&params.meta()?).ok()?;
    Id::read(&meta.get(SUBSCRIPTION_ID)?)?.as_u64()
}
