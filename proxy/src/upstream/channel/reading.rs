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

use super::{Broken, Clock, Pending, Shared, Source};
use crate::downstream::conversation::{AskRefused, Conversation, Owner};
use crate::upstream::call::{Answer, CallError};
use crate::upstream::frame::{self, Incoming, Reply};
use crate::upstream::link::{Attribution, Dropped, GATEWAY, Roots};

/// Questions of one upstream that clients have yet to answer: a person answers one at a time.
const QUESTIONS_MAX: usize = 64;

/// Reads until the end.
pub(super) async fn run(shared: Arc<Shared>, mut source: impl Source) {
    let mut questions = Questions::default();
    let reason = loop {
        tokio::select! {
            () = shared.cut.cancelled() => break "the connection is closed".to_owned(),
            answered = questions.next(), if !questions.is_empty() => shared.answer_question(answered),
            message = source.next() => match message {
                Ok(Some(_)) if shared.closing.is_cancelled() => {} // Nobody waits for it any more.
                Ok(Some(message)) => match frame::read(&message) {
                    Ok(incoming) => shared.route(incoming, &mut questions),
                    Err(_) => {
                        source.unreadable(&message);
                        shared.wiring.listener.dropped(Dropped::Garbage);
                    }
                },
                Ok(None) => break "the upstream closed the connection".to_owned(),
                Err(Broken(reason)) => break reason,
            },
        }
    };
    shared.end(&reason);
}

impl Shared {
    fn route(&self, incoming: Incoming, questions: &mut Questions) {
        match incoming {
            Incoming::Answer { id, answer } => self.finish(id, answer),
            Incoming::Request { id, method, params } => self.asked(id, &method, params, questions),
            Incoming::Notification { method, params } => match method.as_str() {
                "notifications/progress" => self.progressed(params),
                "notifications/cancelled" => self.withdrawn(params.as_ref(), questions),
                "notifications/message" => self.logged(&method, params),
                _ => self.notified(&method, params),
            },
        }
    }

    /// An answer: to the call with its id, once.
    fn finish(&self, id: Option<u64>, answer: Answer) {
        let pending = id.and_then(|id| self.calls().pending.remove(&id));
        let Some(pending) = pending else { return self.wiring.listener.dropped(Dropped::Answer) };
        let (Answer::Result(body) | Answer::Error(body)) = &answer;
        let outcome = if body.len() > pending.response_bytes_max {
            Err(CallError::TooLarge { limit: pending.response_bytes_max })
        } else {
            Ok(answer)
        };
        let _ = pending.answer.send(outcome); // The caller may have left this very moment.
    }

    /// Progress: to the call whose token it has, with the token that its client chose.
    fn progressed(&self, params: Option<Bytes>) {
        let restored = params.and_then(|params| {
            let calls = self.calls();
            let pending = calls.pending.get(&frame::progress_token(&params)?)?;
            let token = pending.progress_token.as_ref()?;
            let params = frame::restore_progress_token(&params, token)?;
            pending.clock.heard.notify_one();
            Some((pending.conversation.clone(), params))
        });
        match restored {
            Some((conversation, params)) => conversation.notify("notifications/progress", Some(params)),
            None => self.wiring.listener.dropped(Dropped::Progress),
        }
    }

    /// A log message: to the one client that has calls in flight; while nobody has, to all who listen.
    fn logged(&self, method: &str, params: Option<Bytes>) {
        match self.in_flight.sole() {
            Attribution::One(conversation) => conversation.notify(method, params),
            Attribution::Nobody => self.wiring.listener.notification(method, params),
            Attribution::Several => self.wiring.listener.dropped(Dropped::Unattributed),
        }
    }

    /// Any other notification: to its subscription if it names one, else to all who listen.
    fn notified(&self, method: &str, params: Option<Bytes>) {
        let subscription = params.as_ref().and_then(frame::subscription_id);
        let conversation = subscription.and_then(|id| {
            let calls = self.calls();
            let pending = calls.pending.get(&id)?;
            pending.clock.heard.notify_one();
            Some(pending.conversation.clone())
        });
        match conversation {
            Some(conversation) => conversation.notify(method, params),
            None => self.wiring.listener.notification(method, params),
        }
    }

    /// The upstream takes a question back, or (modern) ends a subscription.
    fn withdrawn(&self, params: Option<&Bytes>, questions: &mut Questions) {
        let Some(id) = params.and_then(frame::cancelled_id) else { return };
        questions.withdraw(&id);
        // Cancellation, 2026-07-28: a server ends a subscription on stdio by cancelling it. The result
        // that other servers send in its place says the same.
        let mut calls = self.calls();
        let ours = std::str::from_utf8(&id).ok().and_then(|id| id.parse::<u64>().ok());
        let listening = |pending: &Pending| pending.method == "subscriptions/listen";
        if let Some(id) = ours.filter(|id| calls.pending.get(id).is_some_and(listening))
            && let Some(pending) = calls.pending.remove(&id)
        {
            let ended = Bytes::from_static(br#"{"resultType":"complete"}"#);
            let _ = pending.answer.send(Ok(Answer::Result(ended)));
        }
    }

    /// A request of the upstream's own.
    fn asked(&self, id: Bytes, method: &str, params: Option<Bytes>, questions: &mut Questions) {
        if method == "ping" {
            return self.reply(&id, &Ok(Answer::Result(Bytes::from_static(b"{}"))));
        }
        if self.is_modern() {
            // stdio, 2026-07-28: a server must not send requests, and a client must not answer any.
            return self.wiring.listener.dropped(Dropped::Garbage);
        }
        if method == "roots/list" && self.wiring.roots == Roots::Undeclared {
            return self.reply(&id, &Err(AskRefused::unsupported(method)));
        }
        match self.in_flight.sole() {
            Attribution::One(_) if questions.len() >= QUESTIONS_MAX => {
                let message = format!("more than {QUESTIONS_MAX} requests wait for an answer");
                self.reply(&id, &Err(AskRefused { code: -32603, message }));
            }
            Attribution::One(conversation) => {
                let asking = self.asking(conversation.owner());
                questions.ask(id, &conversation, method, params, asking);
            }
            Attribution::Several => {
                self.wiring.listener.dropped(Dropped::Unattributed);
                self.reply(&id, &Err(AskRefused::unattributable()));
            }
            Attribution::Nobody => {
                self.wiring.listener.dropped(Dropped::Unattributed);
                self.reply(&id, &Err(AskRefused::unsupported(method)));
            }
        }
    }

    fn answer_question(&self, answered: Option<Answered>) {
        if let Some((id, Some(reply))) = answered {
            self.reply(&id, &reply);
        }
    }

    /// Answers the upstream. One that doesn't read gets no answers: its writer's deadline is near.
    fn reply(&self, id: &Bytes, reply: &Reply) {
        if let Err(error) = self.queue(frame::reply(id, reply), None) {
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
type Answered = (Bytes, Option<Reply>);

/// The questions that clients have yet to answer.
#[derive(Default)]
struct Questions {
    waiting: FuturesUnordered<BoxFuture<'static, Answered>>,
    withdrawn: HashMap<Bytes, CancellationToken>,
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
        id: Bytes,
        conversation: &Conversation,
        method: &str,
        params: Option<Bytes>,
        asking: Asking,
    ) {
        let answer = conversation.ask(method, params); // Queued now, in its place among the rest.
        let withdrawn = CancellationToken::new();
        self.withdrawn.insert(id.clone(), withdrawn.clone());
        self.waiting.push(Box::pin(async move {
            let reply = withdrawn.run_until_cancelled(answer).await;
            drop(asking);
            (id, reply)
        }));
    }

    fn withdraw(&mut self, id: &Bytes) {
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

/// The gateway's own calls have no client to attribute anything to.
const _: () = assert!(GATEWAY.0.is_nil());
