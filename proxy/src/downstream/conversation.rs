//! One call's ordered queue towards the client.
//!
//! While a call runs, its upstream may send progress, log messages and requests of its own. They
//! pass through one bounded queue per call, and the answer is written after what came before it, so
//! nothing overtakes and nothing is lost. The upstream side holds a [`Conversation`]; the transport
//! towards the client drains the [`Outbox`].
//!
//! Nobody waits on a slow client: a full queue cancels the call, because the one that would wait is
//! the reader of a channel that other clients share.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::channel::mpsc;
use sql::model::ApiKeyId;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::bridge::degraded::Marks;
use crate::downstream::abilities::Abilities;
use crate::metrics::drops::{self, Queue};
use crate::upstream::call::Answer;
use crate::wire::meta::LogLevel;

/// Messages that may wait for one client: enough for a burst of progress, little enough for 10,000 calls.
const QUEUE_MESSAGES_MAX: usize = 256;

/// Whose call it is: a legacy session, or the key of a modern client. On a channel that many calls
/// share, what the upstream sends can be attributed only while all calls have one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(pub Uuid);

/// A message for the client, in the order it came from the upstream.
#[derive(Debug)]
pub enum Outbound {
    /// A notification: its method and the raw object of its params.
    Notification {
        /// For example `notifications/progress`.
        method: Arc<str>,
        /// The raw JSON object, if there is one.
        params: Option<Bytes>,
    },
    /// A request of the upstream that the client is to answer.
    Ask(Ask),
}

/// A request towards the client and the place for its answer.
#[derive(Debug)]
pub struct Ask {
    /// For example `elicitation/create`.
    pub method: Arc<str>,
    /// The raw JSON object, if there is one.
    pub params: Option<Bytes>,
    /// Takes the answer; dropping it means the client went away.
    pub reply: oneshot::Sender<Result<Answer, AskRefused>>,
}

/// Why a request towards the client was not put to it; becomes a JSON-RPC error for the upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AskRefused {
    /// The JSON-RPC code the upstream gets.
    pub code: i64,
    /// In words.
    pub message: String,
}

impl AskRefused {
    /// The client has not declared what this needs.
    pub fn unsupported(method: &str) -> Self {
        Self { code: -32601, message: format!("the client does not support {method}") }
    }

    /// The client is gone or did not answer in time.
    pub fn unanswered() -> Self {
        Self { code: -32603, message: "the client did not answer".into() }
    }

    /// Calls of several clients share the channel this came on.
    pub fn unattributable() -> Self {
        Self { code: -32603, message: "cannot be attributed to one client".into() }
    }
}

/// What stands between a call's client and its upstream where what they say names things that each
/// knows by another id.
pub trait Relaying: Send + Sync {
    /// Whether a message of the upstream with these params is for this client alone; `None` if it names
    /// nobody.
    fn concerns(&self, params: &Bytes) -> Option<bool>;

    /// The params of a message to the client; refused if they name what isn't the client's.
    fn to_client(&self, params: Option<Bytes>) -> Result<Option<Bytes>, AskRefused>;

    /// The client's answer to a request of the upstream.
    fn to_upstream(&self, answer: Answer) -> Answer;
}

/// The upstream's side of the queue. Cheap to clone.
#[derive(Clone)]
pub struct Conversation {
    owner: Owner,
    /// Whose key the call came with, where one is known.
    key: Option<Owner>,
    /// The least severe log message that the client wants of this call, where it said so.
    log_level: Option<LogLevel>,
    /// What its client can be asked, where it says so with each request.
    abilities: Option<Abilities>,
    /// Bounded by whoever puts something in. Most calls never do, so an empty queue has to cost little: one of
    /// tokio's is made with room for 32 messages.
    outbound: mpsc::UnboundedSender<Outbound>,
    overflow: CancellationToken,
    marks: Marks,
    relay: Option<Arc<dyn Relaying>>,
}

/// The client's side of the queue.
pub struct Outbox {
    inbound: mpsc::UnboundedReceiver<Outbound>,
}

/// A new queue. `cancel` is the call's own token: an overflowing queue cancels it.
pub fn open(owner: Owner, cancel: CancellationToken) -> (Conversation, Outbox) {
    let (outbound, inbound) = mpsc::unbounded();
    let marks = Marks::default();
    let conversation = Conversation {
        owner,
        key: None,
        log_level: None,
        abilities: None,
        outbound,
        overflow: cancel,
        marks,
        relay: None,
    };
    (conversation, Outbox { inbound })
}

impl Conversation {
    /// The same, known to belong to this key.
    #[must_use]
    pub fn of_key(self, key: ApiKeyId) -> Self {
        Self { key: Some(Owner(key.uuid())), ..self }
    }

    /// The same, with ids put right on the way.
    #[must_use]
    pub fn relayed(self, relay: Arc<dyn Relaying>) -> Self {
        Self { relay: Some(relay), ..self }
    }

    /// What puts ids right, where something does.
    pub fn relay(&self) -> Option<&dyn Relaying> {
        self.relay.as_deref()
    }

    /// Whether a message with these params names what is another client's.
    pub fn is_for_another(&self, params: Option<&Bytes>) -> bool {
        self.relay.as_ref().zip(params).is_some_and(|(relay, params)| relay.concerns(params) == Some(false))
    }

    /// The same, whose client wants log messages of this level.
    #[must_use]
    pub fn hearing(self, log_level: Option<LogLevel>) -> Self {
        Self { log_level, ..self }
    }

    /// The least severe log message that is wanted, where anything was said of it.
    pub fn log_level(&self) -> Option<LogLevel> {
        self.log_level
    }

    /// The same, whose client said with this request what it can be asked: a modern one.
    #[must_use]
    pub fn able_to(self, abilities: Abilities) -> Self {
        Self { abilities: Some(abilities), ..self }
    }

    /// What its client said with this request that it can be asked; `None` where a handshake said it.
    pub fn abilities(&self) -> Option<Abilities> {
        self.abilities
    }

    /// Whose call it is.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// All clients of the key that the call came with, taken for one; without a key, its owner.
    pub fn key(&self) -> Owner {
        self.key.unwrap_or(self.owner)
    }

    /// What got lost on the way to this client; its answer says so.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Whether its owner is one client. Nothing tells modern clients of one key apart, so the key owns their calls.
    pub fn is_of_one_client(&self) -> bool {
        self.key != Some(self.owner)
    }

    /// Queues a notification. A client that left makes it a no-op, as does one that it isn't for; a full
    /// queue cancels the call.
    pub fn notify(&self, method: &str, params: Option<Bytes>) {
        if let Ok(params) = self.to_client(params) {
            self.push(Outbound::Notification { method: method.into(), params });
        }
    }

    /// Queues a request towards the client, behind what was queued before; the future is its answer.
    pub fn ask(
        &self,
        method: &str,
        params: Option<Bytes>,
    ) -> impl Future<Output = Result<Answer, AskRefused>> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        let refused = match self.to_client(params) {
            Ok(params) => {
                self.push(Outbound::Ask(Ask { method: method.into(), params, reply }));
                None
            }
            Err(refused) => Some(refused),
        };
        let relay = self.relay.clone();
        async move {
            if let Some(refused) = refused {
                return Err(refused);
            }
            let answer = answer.await.unwrap_or_else(|_| Err(AskRefused::unanswered()))?;
            Ok(match relay {
                Some(relay) => relay.to_upstream(answer),
                None => answer,
            })
        }
    }

    fn to_client(&self, params: Option<Bytes>) -> Result<Option<Bytes>, AskRefused> {
        match &self.relay {
            Some(relay) => relay.to_client(params),
            None => Ok(params),
        }
    }

    fn push(&self, message: Outbound) {
        // Two that come at once may both find the last place: what waits stays bounded all the same.
        if self.outbound.len() < QUEUE_MESSAGES_MAX {
            // Refused only when the client is gone.
            drop(self.outbound.unbounded_send(message));
        } else if !self.outbound.is_closed() {
            drops::count(Queue::Conversation, 1);
            tracing::info!(queue.messages_max = QUEUE_MESSAGES_MAX, "client too slow, its call is cancelled");
            self.overflow.cancel();
        }
    }
}

impl Outbox {
    /// The next message; `None` when the upstream side is gone.
    pub async fn next(&mut self) -> Option<Outbound> {
        self.inbound.next().await
    }

    /// The next message if one waits already.
    pub fn next_ready(&mut self) -> Option<Outbound> {
        self.inbound.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> (Conversation, Outbox, CancellationToken) {
        let cancel = CancellationToken::new();
        let (conversation, outbox) = open(Owner(Uuid::nil()), cancel.clone());
        (conversation, outbox, cancel)
    }

    #[tokio::test]
    async fn keeps_notifications_and_requests_in_order() {
        let (conversation, mut outbox, _) = queue();
        conversation.notify("notifications/progress", None);
        let answer = conversation.ask("roots/list", None);
        conversation.notify("notifications/message", None);
        assert!(
            matches!(outbox.next().await, Some(Outbound::Notification { method, .. }) if &*method == "notifications/progress")
        );
        let Some(Outbound::Ask(ask)) = outbox.next().await else { panic!("the request comes second") };
        assert!(
            matches!(outbox.next().await, Some(Outbound::Notification { method, .. }) if &*method == "notifications/message")
        );
        ask.reply.send(Ok(Answer::Result(Bytes::from_static(b"{}")))).expect("the asker waits");
        assert_eq!(answer.await, Ok(Answer::Result(Bytes::from_static(b"{}"))));
    }

    #[tokio::test]
    async fn a_full_queue_cancels_the_call_instead_of_waiting() {
        let (conversation, _outbox, cancel) = queue();
        for _ in 0..QUEUE_MESSAGES_MAX {
            conversation.notify("notifications/progress", None);
        }
        assert!(!cancel.is_cancelled());
        conversation.notify("notifications/progress", None);
        assert!(cancel.is_cancelled());
    }

    #[tokio::test]
    async fn a_client_that_left_leaves_its_requests_unanswered() {
        let (conversation, outbox, _) = queue();
        drop(outbox);
        assert_eq!(conversation.ask("roots/list", None).await, Err(AskRefused::unanswered()));
    }
}
