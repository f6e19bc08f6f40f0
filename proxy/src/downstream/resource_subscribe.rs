//! `resources/subscribe` and `resources/unsubscribe`, which the legacy era has.

use std::sync::Arc;

use bytes::Bytes;
use sql::model::Era;
use tokio_util::sync::CancellationToken;

use super::conversation;
use super::dispatch::{
    Asked, Client, Dispatch, Outcome, Running, answered, done_error, done_result, failed, owner, unknown,
};
use super::resource_updates::{NotEntered, Source};
use super::session::Session;
use super::verbs::Subject;
use crate::bridge::legacy_to_modern::{self, Next};
use crate::catalog::Item;
use crate::upstream::call::{Answer, CallError, SubscribeError};
use crate::upstream::topic::Topic;
use crate::wire::envelope::Params;

const METHOD: &str = "resources/subscribe";

const INVALID_PARAMS: i64 = -32602;
const INTERNAL_ERROR: i64 = -32603;
const METHOD_NOT_FOUND: i64 = -32601;

impl Dispatch {
    /// Subscribes a session; answered when the upstream has taken it, so that no change after the answer
    /// is missed.
    pub(super) fn subscribe(self: &Arc<Self>, asked: Asked, session: Arc<Session>) -> Outcome {
        let Some(subject) = asked.request.params.as_ref().and_then(Subject::resource) else {
            return done_error(&asked, INVALID_PARAMS, "params.uri must be a string");
        };
        let Some(item) = subject.route(&asked.view) else {
            return Outcome::Done(unknown(&asked, &subject));
        };
        if !asked.view.offers(item.upstream.id).subscribe {
            let text = "the upstream of this resource does not tell of changes";
            return done_error(&asked, METHOD_NOT_FOUND, text);
        }
        let limit = asked.view.settings().limits.calls_in_flight_per_key;
        let Some(permit) = self.in_flight.enter(asked.caller.key().id, limit) else {
            let text = format!("this key has {limit} calls in flight, which is its limit");
            return done_error(&asked, INTERNAL_ERROR, &text);
        };
        let cancel = CancellationToken::new();
        // Nothing comes before the answer.
        let (_, outbox) = conversation::open(owner(&asked), cancel.clone());
        let dispatch = Arc::clone(self);
        let answer = Box::pin(async move {
            let answer = dispatch.entered(&asked, &session, &item, &subject.name).await;
            drop(permit);
            answered(&asked, answer)
        });
        Outcome::Running(Running { outbox, answer, cancel })
    }

    async fn entered(&self, asked: &Asked, session: &Session, item: &Item, exposed: &str) -> Answer {
        let upstream = &item.upstream;
        let peer = match self.upstreams.peer(upstream.id).await {
            Ok(peer) => peer,
            Err(error) => return failed(asked, upstream, &error),
        };
        let topic = Topic::resource(&item.subject_upstream(exposed));
        let source = Source { upstream: upstream.id, topic };
        let settling = match self.updates.subscribe(session.id, session.key, exposed, source) {
            Ok(settling) => settling,
            Err(NotEntered::Upstream(error)) => return failed(asked, upstream, &error),
            Err(full @ NotEntered::TooMany { .. }) => {
                return legacy_to_modern::internal_error(&full.to_string());
            }
        };
        let settled = settling.await;
        if self.live.is_ended(session.id) {
            self.updates.end(session.id);
        }
        let error = match settled {
            Ok(()) => return Answer::Result(Bytes::from_static(b"{}")),
            Err(error) => error,
        };
        self.updates.unsubscribe(session.id, exposed);
        match error {
            SubscribeError::Refused(raw) if peer.era == Era::Modern => {
                match legacy_to_modern::next(Answer::Error(raw), METHOD) {
                    Next::Done(answer) => answer,
                    Next::Ask(_) => failed(asked, upstream, &CallError::Invalid { reason: "not an error" }),
                }
            }
            SubscribeError::Refused(raw) => Answer::Error(raw),
            SubscribeError::Failed(error) => failed(asked, upstream, &error),
        }
    }

    /// Ends a subscription. One that isn't there is ended already.
    pub(super) fn unsubscribe(&self, asked: &Asked) -> Outcome {
        let Client::Legacy(session) = &asked.client else {
            return done_error(asked, METHOD_NOT_FOUND, "Method not found");
        };
        let Some(uri) = asked.request.params.as_ref().and_then(Params::uri) else {
            return done_error(asked, INVALID_PARAMS, "params.uri must be a string");
        };
        self.updates.unsubscribe(session.id, &uri);
        done_result(asked, Bytes::from_static(b"{}"))
    }
}
