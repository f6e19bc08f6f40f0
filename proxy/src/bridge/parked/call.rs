//! A call at a legacy upstream that outlives the requests of its client.
//!
//! While a client attends, what the upstream says goes on to it in the order it came. Between two
//! requests of the client the call is kept: its questions wait, its notifications are held back, its
//! answer, should it come, too.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::questions::Questions;
use super::{Begun, Outcome, Presence, Visit};
use crate::bridge::degraded::Marks;
use crate::downstream::conversation::{Outbound, Outbox};
use crate::upstream::call::CallError;
use crate::wire::edit::Object;
use crate::wire::meta::PROGRESS_TOKEN;

/// From the first question until the client is told: what a server asks side by side goes together.
const GATHER: Duration = Duration::from_millis(30);

/// Notifications that are held back between two requests of a client: half of what its queue takes, so
/// that there is room for what comes meanwhile. The oldest make room.
const HELD_BACK_MAX: usize = 128;

/// Bytes of them: many log messages, and no more than 1 GiB for all calls that may be parked.
const HELD_BACK_BYTES_MAX: usize = 1024 * 1024;

/// The modern era has done away with it: a client that wants to know comes back and sees (2026-07-28,
/// elicitation in URL mode).
const ELICITATION_COMPLETE: &str = "notifications/elicitation/complete";

pub(super) struct ParkedCall {
    pub(super) id: Uuid,
    pub(super) round: u32,
    pub(super) questions: Questions,
    pub(super) marks: Marks,
    /// From the first time it is parked.
    pub(super) presence: Option<Presence>,
    cancel: CancellationToken,
    outbox: Option<Outbox>,
    answer: AnswerState,
    held_back: HeldBack,
    progress_token: Option<Bytes>,
}

/// What the client has yet to be told, in the order it came.
#[derive(Default)]
struct HeldBack {
    notifications: VecDeque<(String, Option<Bytes>)>,
    bytes: usize,
}

enum AnswerState {
    Awaited(BoxFuture<'static, Outcome>),
    Here(Outcome),
    Gone,
}

/// How far a call came while its client attended.
pub(super) enum Attended {
    /// It is over.
    Over(Outcome),
    /// Its client is to be asked.
    Asks,
}

/// What happened to a kept call.
pub(super) enum Kept {
    /// Something was held back or arrived; it goes on.
    On,
    /// It ran into its deadline: nothing is left to wait for.
    TimedOut,
}

impl ParkedCall {
    pub(super) fn new(begun: Begun, progress_token: Option<Bytes>, brought: Option<Object>) -> Self {
        Self {
            id: Uuid::now_v7(),
            round: 0,
            questions: Questions::answered_by(brought),
            marks: begun.marks,
            presence: None,
            cancel: begun.cancel,
            outbox: Some(begun.outbox),
            answer: AnswerState::Awaited(begun.answer),
            held_back: HeldBack::default(),
            progress_token,
        }
    }

    /// Lets the client follow the call until it is over or asks something.
    pub(super) async fn attend(&mut self, visit: &Visit<'_>) -> Attended {
        self.marks.set_parked(false);
        let held_back = std::mem::take(&mut self.held_back).notifications;
        if !held_back.is_empty() {
            for (method, params) in held_back {
                self.tell(visit, &method, params);
            }
            tokio::task::yield_now().await; // The client's queue is drained before it gets more.
        }
        let mut ask_at = Instant::now() + GATHER;
        loop {
            tokio::select! {
                biased; // What came before the answer goes before it.
                message = next(&mut self.outbox) => match message {
                    Some(Outbound::Notification { method, params }) => self.tell(visit, &method, params),
                    Some(Outbound::Ask(ask)) => {
                        if self.questions.is_empty() {
                            ask_at = Instant::now() + GATHER;
                        }
                        self.questions.add(ask);
                    }
                    None => self.outbox = None,
                },
                outcome = self.answer.outcome() => {
                    self.tell_rest(visit);
                    return Attended::Over(outcome);
                }
                () = visit.cancel.cancelled(), if !self.cancel.is_cancelled() => self.cancel.cancel(),
                () = sleep_until(ask_at), if !self.questions.is_empty() => {
                    if self.questions.wait_for(visit.abilities) {
                        self.marks.set_parked(true);
                        return Attended::Asks;
                    }
                }
            }
        }
    }

    /// Keeps the call going while no client attends, until something happens.
    pub(super) async fn keep(&mut self) -> Kept {
        let awaited = matches!(self.answer, AnswerState::Awaited(_));
        tokio::select! {
            biased;
            message = next(&mut self.outbox) => match message {
                Some(message) => self.hold_back(message),
                None => self.outbox = None,
            },
            outcome = self.answer.outcome(), if awaited => match outcome {
                Err(CallError::TimedOut { .. }) => return Kept::TimedOut,
                outcome => {
                    while let Some(message) = self.outbox.as_mut().and_then(Outbox::next_ready) {
                        self.hold_back(message);
                    }
                    self.answer = AnswerState::Here(outcome);
                }
            },
        }
        Kept::On
    }

    /// Ends the call: the upstream is told, in the way of its transport.
    pub(super) fn give_up(self) {
        self.cancel.cancel();
    }

    fn hold_back(&mut self, message: Outbound) {
        match message {
            Outbound::Ask(ask) => self.questions.add(ask),
            Outbound::Notification { method, params } => {
                self.held_back.push(method.to_string(), params);
            }
        }
    }

    fn tell_rest(&mut self, visit: &Visit<'_>) {
        while let Some(message) = self.outbox.as_mut().and_then(Outbox::next_ready) {
            if let Outbound::Notification { method, params } = message {
                self.tell(visit, &method, params);
            }
        }
    }

    /// Passes a notification on. Progress carries the token of the request that is being answered.
    fn tell(&self, visit: &Visit<'_>, method: &str, params: Option<Bytes>) {
        if method == ELICITATION_COMPLETE {
            return;
        }
        if method != "notifications/progress" || visit.progress_token == self.progress_token {
            return visit.conversation.notify(method, params);
        }
        let Some(token) = &visit.progress_token else { return };
        if let Some(Ok(mut params)) = params.as_ref().map(Object::parse) {
            params.set(PROGRESS_TOKEN, token.clone());
            visit.conversation.notify(method, Some(params.into_bytes()));
        }
    }
}

impl HeldBack {
    fn push(&mut self, method: String, params: Option<Bytes>) {
        self.bytes += bytes_of(params.as_ref());
        self.notifications.push_back((method, params));
        while self.notifications.len() > HELD_BACK_MAX || self.bytes > HELD_BACK_BYTES_MAX {
            let Some((method, params)) = self.notifications.pop_front() else { return };
            self.bytes -= bytes_of(params.as_ref());
            tracing::debug!(mcp.method = %method, "a notification of a parked call was dropped");
        }
    }
}

fn bytes_of(params: Option<&Bytes>) -> usize {
    params.map_or(0, Bytes::len)
}

impl AnswerState {
    /// The outcome, once. Dropping the future loses nothing.
    async fn outcome(&mut self) -> Outcome {
        match self {
            Self::Awaited(answer) => {
                let outcome = answer.await;
                *self = Self::Gone;
                outcome
            }
            Self::Here(_) => match std::mem::replace(self, Self::Gone) {
                Self::Here(outcome) => outcome,
                _ => std::future::pending().await,
            },
            Self::Gone => std::future::pending().await,
        }
    }
}

/// The next message; for ever none when the upstream side is gone and that was said.
async fn next(outbox: &mut Option<Outbox>) -> Option<Outbound> {
    match outbox {
        Some(outbox) => outbox.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room_for_the_newest_in_number_and_in_bytes() {
        let mut held_back = HeldBack::default();
        for count in 0..=HELD_BACK_MAX {
            held_back.push(count.to_string(), None);
        }
        assert_eq!((held_back.notifications.len(), &*held_back.notifications[0].0), (HELD_BACK_MAX, "1"));
        let half = Bytes::from(vec![b' '; HELD_BACK_BYTES_MAX / 2]);
        for name in ["a", "b", "c"] {
            held_back.push(name.to_owned(), Some(half.clone()));
        }
        let names: Vec<_> = held_back.notifications.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names, held_back.bytes), (vec!["b", "c"], HELD_BACK_BYTES_MAX));
        held_back.push("too large".to_owned(), Some(Bytes::from(vec![b' '; HELD_BACK_BYTES_MAX + 1])));
        assert_eq!((held_back.notifications.len(), held_back.bytes), (0, 0));
    }
}
