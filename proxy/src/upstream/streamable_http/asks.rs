//! Requests of the upstream's own: put to a client, answered in its name, and taken back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio_util::sync::CancellationToken;

use super::Parts;
use crate::bridge::degraded::Reason;
use crate::downstream::conversation::{AskRefused, Conversation};
use crate::upstream::frame::{self, Reply};
use crate::upstream::link::{Attribution, Dropped, Era, Roots};
use crate::wire::envelope::Params;
use crate::wire::ids::Id;

/// Requests that may wait for a client on one stream: more than any dialogue needs.
const ASKS_MAX: usize = 16;

/// The requests on one stream that wait for their answers, or whose answers are being sent.
pub(super) struct Asks {
    parts: Arc<Parts>,
    waiting: FuturesUnordered<Pin<Box<dyn Future<Output = Id> + Send>>>,
    taken: Vec<(Id, CancellationToken)>,
}

impl Asks {
    /// None yet.
    pub(super) fn new(parts: &Arc<Parts>) -> Self {
        Self { parts: Arc::clone(parts), waiting: FuturesUnordered::new(), taken: Vec::new() }
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Waits until one of them is done; for ever if there is none.
    pub(super) async fn one_done(&mut self) {
        match self.waiting.next().await {
            Some(id) => self.taken.retain(|(waiting, _)| *waiting != id),
            None => std::future::pending().await,
        }
    }

    /// Answers what the gateway answers by itself; puts the rest to `client`, if it is known.
    pub(super) fn put(
        &mut self,
        client: Option<&Conversation>,
        id: Id,
        method: &str,
        params: Option<&Params>,
    ) {
        if method == "ping" {
            let pong = frame::pong(&id);
            return self.send(id, pong);
        }
        if self.parts.era() == Era::Modern {
            // Streamable HTTP, 2026-07-28: servers send no requests, and clients no answers to any.
            return self.parts.wiring.listener.dropped(Dropped::Unattributed);
        }
        if method == "roots/list" && self.parts.wiring.roots == Roots::Undeclared {
            return self.refuse(id, AskRefused::unsupported(method));
        }
        let Some(client) = client else {
            let refused = self.nobody_known(method);
            return self.refuse(id, refused);
        };
        if self.waiting.len() >= ASKS_MAX {
            let message = "too many requests wait for the client".into();
            return self.refuse(id, AskRefused { code: -32603, message });
        }
        let answer = client.ask(method, params.map(|params| params.raw().clone()));
        let (parts, back) = (Arc::clone(&self.parts), CancellationToken::new());
        self.taken.push((id.clone(), back.clone()));
        self.waiting.push(Box::pin(async move {
            if let Some(reply) = back.run_until_cancelled(answer).await {
                parts.post_reply(frame::reply(&id, &reply)).await;
            }
            id
        }));
    }

    /// The upstream takes a request back: nobody waits for its answer any longer.
    pub(super) fn take_back(&mut self, id: &Id) {
        if let Some((_, back)) = self.taken.iter().find(|(waiting, _)| waiting == id) {
            back.cancel();
        }
    }

    /// No one client can be asked: there is none, or there are several.
    fn nobody_known(&self, method: &str) -> AskRefused {
        let listener = &self.parts.wiring.listener;
        listener.dropped(Dropped::Unattributed);
        if matches!(self.parts.in_flight.sole(), Attribution::Nobody) {
            listener.degraded(Reason::AskedOutsideCalls);
            return AskRefused::unsupported(method);
        }
        listener.degraded(Reason::AskOfSeveral);
        self.parts.in_flight.mark(Reason::AskOfSeveral);
        AskRefused::unattributable()
    }

    fn refuse(&mut self, id: Id, refused: AskRefused) {
        let reply: Reply = Err(refused);
        let message = frame::reply(&id, &reply);
        self.send(id, message);
    }

    fn send(&mut self, id: Id, message: Bytes) {
        // A flood of requests isn't worth answering: the answers would queue up here.
        if self.waiting.len() >= 2 * ASKS_MAX {
            return self.parts.wiring.listener.dropped(Dropped::Unattributed);
        }
        let parts = Arc::clone(&self.parts);
        self.waiting.push(Box::pin(async move {
            parts.post_reply(message).await;
            id
        }));
    }
}
