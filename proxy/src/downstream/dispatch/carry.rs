//! One call at its upstream, over the bridge that it needs.
//!
//! Four ways lead from a client of either era to an upstream of either era. Where the eras agree the call
//! passes through; a legacy client at a modern upstream is asked for input in rounds; a modern client at
//! a legacy upstream may have its call parked between two requests.

use bytes::Bytes;
use sql::model::Era;
use tokio_util::sync::CancellationToken;

use super::{Asked, Client, Dispatch, ModernClient};
use crate::bridge::parked::{Begun, Parking, Shown, Visit};
use crate::bridge::{degraded, legacy_to_modern, modern_to_legacy};
use crate::catalog::Item;
use crate::downstream::bounds::{self, Bounds};
use crate::downstream::conversation::{self, Conversation};
use crate::downstream::session::Session;
use crate::downstream::tasks;
use crate::downstream::verbs::{self, Subject, Verb};
use crate::trace::Traced;
use crate::upstream::Peer;
use crate::upstream::call::{Answer, Call, CallError};
use crate::wire::edit::Object;
use crate::wire::envelope::Field;
use crate::wire::headers;
use crate::wire::meta::LogLevel;

/// What a legacy session that named no level is sent from modern upstreams.
const LOG_LEVEL_DEFAULT: LogLevel = LogLevel::Info;

/// A call on its way: where it goes and what bounds it.
struct Route<'a> {
    verb: &'static Verb,
    item: &'a Item,
    /// What the upstream calls what the client asks for, where a header has it.
    mirrored: Option<&'a str>,
    conversation: Conversation,
    cancel: CancellationToken,
    timeouts: Bounds,
    /// The trace it belongs to.
    traced: Option<Traced>,
}

impl Dispatch {
    /// Carries a call out.
    pub(super) async fn carry(
        &self,
        asked: &Asked,
        verb: &'static Verb,
        item: &Item,
        subject: &Subject,
        conversation: Conversation,
        cancel: CancellationToken,
    ) -> Result<Answer, CallError> {
        let given = asked.request.params.as_ref();
        let params = given.map_or(Bytes::from_static(b"{}"), |params| subject.rename(params, item));
        let given = given.map_or(Bytes::from_static(b"{}"), |params| params.raw().clone());
        let traced = Traced::of(asked.request.params.as_ref(), asked.trace.as_ref());
        let traced = match &asked.span {
            Some(span) => Some(span.passed_on(traced)),
            None => traced,
        };
        let params = match &traced {
            Some(traced) => traced.within(params),
            None => params,
        };
        let mirrored = subject.is_mirrored().then(|| item.subject_upstream(&subject.name));
        let route = Route {
            verb,
            item,
            mirrored: mirrored.as_deref(),
            conversation,
            cancel,
            timeouts: bounds::of(asked, &item.upstream),
            traced,
        };
        if let Some(span) = &asked.span {
            span.sent();
        }
        let answer = match &asked.client {
            Client::Legacy(session) => self.of_legacy(&route, asked, session.as_ref(), params).await,
            Client::Modern(client) => self.of_modern(&route, asked, client, &given, params).await,
        };
        if let Some(span) = &asked.span {
            span.answered();
        }
        answer.map(|answer| match answer {
            Answer::Result(result) => {
                let result = item.with_exposed_uris(result);
                Answer::Result(degraded::annotate(result, &route.conversation.marks().reasons()))
            }
            error @ Answer::Error(_) => error,
        })
    }

    async fn of_legacy(
        &self,
        route: &Route<'_>,
        asked: &Asked,
        session: &Session,
        params: Bytes,
    ) -> Result<Answer, CallError> {
        let peer = self.upstreams.peer(route.item.upstream.id).await?;
        if let Some(answer) = verbs::nothing_to_complete(route.verb, &peer, false) {
            return Ok(answer);
        }
        let (params, wish) = match tasks::wish(asked, route.verb.method, route.item, params) {
            Ok(settled) => settled,
            Err(refused) => return Ok(refused),
        };
        match peer.era {
            Era::Legacy => {
                let sent = self.send_relayed(route, asked, &peer, params).await;
                sent.map(|answer| self.task_begun(wish, asked, &route.item.upstream, answer))
            }
            Era::Modern => self.rounds(route, session, params).await,
        }
    }

    async fn of_modern(
        &self,
        route: &Route<'_>,
        asked: &Asked,
        client: &ModernClient,
        given: &Bytes,
        params: Bytes,
    ) -> Result<Answer, CallError> {
        let brought = asked.request.params.as_ref().and_then(|params| params.get(Field::RequestState));
        let shown = match brought.filter(|_| route.verb.may_ask) {
            None => Shown::Nothing,
            Some(state) => {
                let visit = visit(asked, client, route, given);
                match self.parking.read(&visit, &state) {
                    // Before the upstream is looked at: it may have gone, and the call with it or not.
                    Ok(Shown::Parked(ticket)) => return self.parking.resume(&visit, &ticket).await,
                    Ok(shown) => shown,
                    Err(refused) => return Ok(refused),
                }
            }
        };
        let peer = self.upstreams.peer(route.item.upstream.id).await?;
        if let Some(answer) = verbs::nothing_to_complete(route.verb, &peer, true) {
            return Ok(answer);
        }
        match (peer.era, shown) {
            (Era::Modern, _) => {
                let sent = self.send(route, params).await;
                sent.and_then(|answer| self.modern_answer(asked, &route.item.upstream, answer))
            }
            (Era::Legacy, Shown::Foreign) => Ok(Parking::unknown_state()),
            (Era::Legacy, _) if !route.verb.may_ask => {
                let sent = self.send_relayed(route, asked, &peer, modern_to_legacy::params(&params)).await;
                sent.map(|answer| modern_to_legacy::answer(answer, route.verb.method))
            }
            (Era::Legacy, shown) => {
                // A queue and an end of its own: the call may outlive this request.
                let cancel = CancellationToken::new();
                let (inner, outbox) = conversation::open(route.conversation.owner(), cancel.clone());
                let inner = inner.of_key(asked.caller.key().id).hearing(route.conversation.log_level());
                let inner = inner.able_to(client.abilities());
                // A word of another client's task isn't for this one.
                let inner = self.relayed(asked, &peer, &route.item.upstream, inner);
                let (upstreams, id) = (self.upstreams.clone(), route.item.upstream.id);
                let (params, marks) = (modern_to_legacy::params(&params), inner.marks().clone());
                let call = Call { cancel: cancel.clone(), ..call_of(route, params, inner) };
                let answer = Box::pin(async move { upstreams.call(id, call).await });
                let begun = Begun { outbox, marks, cancel, answer };
                // After a state of ours they have been read.
                let brought = asked.request.params.as_ref().filter(|_| matches!(shown, Shown::Nothing));
                let brought = brought.and_then(|params| params.get(Field::InputResponses));
                self.parking.begin(&visit(asked, client, route, given), begun, brought.as_ref()).await
            }
        }
    }

    /// A legacy client at a modern upstream: as many rounds as the upstream needs input for, in no more
    /// time than one call may take. A client that never answers a form keeps nothing waiting for ever.
    async fn rounds(&self, route: &Route<'_>, session: &Session, params: Bytes) -> Result<Answer, CallError> {
        let after = route.timeouts.total;
        let rounds = tokio::time::timeout(after, self.rounds_untimed(route, session, params));
        rounds.await.unwrap_or(Err(CallError::TimedOut { after }))
    }

    async fn rounds_untimed(
        &self,
        route: &Route<'_>,
        session: &Session,
        params: Bytes,
    ) -> Result<Answer, CallError> {
        let said = legacy_to_modern::Said {
            capabilities: &session.capabilities,
            client_info: session.client_info.as_deref(),
            log_level: self.live.level(session.id).unwrap_or(LOG_LEVEL_DEFAULT),
        };
        let mut params = legacy_to_modern::params(&params, &said);
        for _ in 0..legacy_to_modern::ROUNDS_MAX {
            let answer = self.send(route, params.clone()).await?;
            let required = match legacy_to_modern::next(answer, route.verb.method) {
                legacy_to_modern::Next::Done(answer) => return Ok(answer),
                legacy_to_modern::Next::Ask(required) => required,
            };
            let retried = tokio::select! {
                retried = legacy_to_modern::retry_params(&params, required, &route.conversation) => retried,
                () = route.cancel.cancelled() => return Err(CallError::Cancelled),
            };
            params = match retried {
                Ok(params) => params,
                Err(answer) => return Ok(answer),
            };
        }
        Ok(legacy_to_modern::internal_error("the upstream asked for input again and again"))
    }

    /// To a legacy upstream, whose words may name another client's task.
    async fn send_relayed(
        &self,
        route: &Route<'_>,
        asked: &Asked,
        peer: &Peer,
        params: Bytes,
    ) -> Result<Answer, CallError> {
        let upstream = &route.item.upstream;
        let conversation = self.relayed(asked, peer, upstream, route.conversation.clone());
        self.upstreams.call(upstream.id, call_of(route, params, conversation)).await
    }

    async fn send(&self, route: &Route<'_>, params: Bytes) -> Result<Answer, CallError> {
        let call = call_of(route, params, route.conversation.clone());
        self.upstreams.call(route.item.upstream.id, call).await
    }
}

fn call_of(route: &Route<'_>, params: Bytes, conversation: Conversation) -> Call {
    Call {
        method: route.verb.method,
        headers: call_headers(route, &params),
        params,
        conversation,
        idle_timeout: route.timeouts.idle,
        total_timeout: route.timeouts.total,
        response_bytes_max: route.timeouts.response_bytes_max,
        cancel: route.cancel.clone(),
    }
}

fn visit<'a>(
    asked: &'a Asked,
    client: &'a ModernClient,
    route: &'a Route<'_>,
    params: &'a Bytes,
) -> Visit<'a> {
    Visit {
        upstream: &route.item.upstream,
        key: asked.caller.key().id,
        revoked: asked.caller.revoked(),
        abilities: client.abilities(),
        method: route.verb.method,
        params,
        progress_token: client.progress_token.as_ref().map(|token| token.raw().clone()),
        conversation: &route.conversation,
        cancel: &route.cancel,
    }
}

/// What 2026-07-28 mirrors into headers: the name the upstream knows, and the marked parameters. And which trace the
/// call belongs to, which upstreams of either era may know.
fn call_headers(route: &Route<'_>, params: &Bytes) -> Vec<(http::HeaderName, http::HeaderValue)> {
    let name = route.mirrored.map(|name| (headers::MCP_NAME, headers::encode_value(name)));
    let mut mirrored: Vec<_> = name.into_iter().collect();
    let item = route.item;
    if !item.param_headers.is_empty() {
        let arguments = Object::parse(params).ok().and_then(|params| params.get("arguments"));
        mirrored.extend(item.param_headers.extract(arguments.as_ref()));
    }
    mirrored.extend(route.traced.iter().flat_map(Traced::headers));
    mirrored
}
