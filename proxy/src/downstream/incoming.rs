//! What messages of a legacy client mean, whatever transport they came over: `initialize`, batches, and
//! what isn't a request.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use serde_json::value::RawValue;
use sql::model::Timestamp;
use uuid::Uuid;

use super::conversation::Owner;
use super::dispatch::{Asked, Client, Dispatch, Outcome, Running, response};
use super::initialize::{self, InitializeParams};
use super::live::{self, LiveSessions};
use super::mode::ModeOf;
use super::outlet::Pieces;
use super::resource_updates::ResourceUpdates;
use super::session::Session;
use super::session_log::SessionLog;
use crate::access::Caller;
use crate::facet::McpPath;
use crate::http_bridge::McpRequest;
use crate::relay::{ReplicaId, Told};
use crate::tasks::Tasks;
use crate::upstream::Upstreams;
use crate::upstream::call::Answer;
use crate::wire::compose;
use crate::wire::envelope::{self, Field, Message, Notification, Request, Response, ResponseBody};
use crate::wire::ids::Id;
use crate::wire::meta::LogLevel;

const INVALID_REQUEST: i64 = -32600;
const INVALID_PARAMS: i64 = -32602;

const ROOTS_CHANGED: &str = "notifications/roots/list_changed";

/// A new session and the answer that tells of it; where there can be none, the answer that says why.
pub async fn initialize(
    dispatch: &Dispatch,
    caller: &Caller,
    path: McpPath,
    now: Timestamp,
    request: &Request,
) -> Result<(Session, Pieces), Pieces> {
    let params = request
        .params
        .as_ref()
        .and_then(|params| serde_json::from_slice::<InitializeParams>(params.raw()).ok())
        .filter(|params| params.capabilities.get().starts_with('{'));
    let Some(params) = params else {
        let text = "initialize needs protocolVersion, capabilities and clientInfo";
        return Err(vec![compose::error(Some(&request.id), INVALID_PARAMS, text, None)]);
    };
    let version = initialize::negotiate(&params.protocol_version);
    let view = dispatch.view(caller).await;
    let (key, face) = (caller.key().id, path.full_path.into());
    let session = Session::new(key, face, version, now, params.capabilities, params.client_info);
    let session = Session { mode: ModeOf::Path(path.mode).now(caller.key(), view.settings()), ..session };
    let result = Answer::Result(initialize::initialize(&view, version, session.mode));
    Ok((session, response(&request.id, result)))
}

/// A notification of a client that has a session. What other replicas are to be told of it, if there are any.
pub fn notified_in(
    dispatch: &Dispatch,
    tasks: &Tasks,
    session: &Session,
    notification: &Notification,
) -> Option<Told> {
    if notification.method.as_str() == ROOTS_CHANGED && session.abilities().roots {
        let params = notification.params.as_ref().map(|params| params.raw().clone());
        let told = Told::roots_changed(session.id, params.as_ref());
        roots_changed(dispatch.upstreams.clone(), tasks, session.id, params);
        return told;
    }
    notified(&dispatch.live, session.id, notification)
}

/// Roots are told to those upstreams alone that may ask for them: where the session is this client's
/// own. The client doesn't wait for them.
fn roots_changed(upstreams: Upstreams, tasks: &Tasks, session: Uuid, params: Option<Bytes>) {
    tasks.spawn("roots changed", async move {
        upstreams.notify_own(Owner(session), ROOTS_CHANGED, params).await;
    });
}

/// A notification of a client that may have no session. A call that is to end and isn't here may be
/// elsewhere.
pub fn notified(live: &LiveSessions, session: Uuid, notification: &Notification) -> Option<Told> {
    if notification.method.as_str() != "notifications/cancelled" {
        return None;
    }
    let id = notification.params.as_ref().and_then(|params| params.id(Field::RequestId))?;
    let is_here = live.get(session).is_some_and(|live| live.cancel(&id));
    if is_here { None } else { Told::cancelled(session, &id) }
}

/// Takes what another replica was told by a client.
pub fn told(
    live: &LiveSessions,
    updates: &ResourceUpdates,
    upstreams: &Upstreams,
    tasks: &Tasks,
    told: Told,
) {
    let raw = |raw: Box<RawValue>| Bytes::from(Box::<str>::from(raw).into_string());
    match told {
        Told::Cancelled { session, id } => {
            let id = Id::read(&raw(id));
            if let Some((live, id)) = live.get(session).zip(id) {
                live.cancel(&id);
            }
        }
        Told::Ended { session, until } => {
            live.end(session, until);
            updates.end(session);
        }
        Told::RootsChanged { session, params } => {
            roots_changed(upstreams.clone(), tasks, session, params.map(raw));
        }
    }
}

/// A client's answer to a request of ours. One that nobody waits for is dropped: its call may be over. The
/// replica that it may be waited for at, where that isn't here.
pub fn answered(live: &LiveSessions, session: Uuid, response: Response) -> Option<ReplicaId> {
    let asked_at = response.id.as_ref().and_then(live::asked_at);
    let answer = match response.body {
        ResponseBody::Result(raw) => Answer::Result(raw),
        ResponseBody::Error(raw) => Answer::Error(raw),
    };
    let known = live
        .get(session)
        .zip(response.id.and_then(|id| id.as_u64()))
        .is_some_and(|(live, id)| live.answer(id, answer));
    if known {
        return None;
    }
    tracing::debug!("an answer came that nobody here waits for");
    asked_at
}

/// The messages of a batch, each carried out on its own, and their answers as one array; none if none of
/// them wants an answer.
pub async fn batch(
    dispatch: &Arc<Dispatch>,
    tasks: &Tasks,
    session: &Arc<Session>,
    caller: &Caller,
    elements: Vec<Bytes>,
    kept: Option<&Kept<'_>>,
) -> Option<Pieces> {
    let element = |message| element(dispatch, tasks, session, caller, message, kept);
    let answers = join_all(elements.into_iter().map(element)).await;
    let answers: Vec<Pieces> = answers.into_iter().flatten().collect();
    if answers.is_empty() {
        return None;
    }
    let mut message = vec![Bytes::from_static(b"[")];
    for (i, answer) in answers.into_iter().enumerate() {
        if i > 0 {
            message.push(Bytes::from_static(b","));
        }
        message.extend(answer);
    }
    message.push(Bytes::from_static(b"]"));
    Some(message)
}

/// One element of a batch. There is no stream beside a batch's answer, so what an upstream sends
/// in the middle of such a call has nowhere to go: notifications are dropped, requests refused.
async fn element(
    dispatch: &Arc<Dispatch>,
    tasks: &Tasks,
    session: &Arc<Session>,
    caller: &Caller,
    element: Bytes,
    kept: Option<&Kept<'_>>,
) -> Option<Pieces> {
    let request = match envelope::parse(element.clone()) {
        Ok(Message::Request(request)) if request.method.as_str() != "initialize" => request,
        Ok(Message::Notification(notification)) => {
            let told = notified_in(dispatch, tasks, session, &notification);
            if let Some(kept) = kept {
                dispatch.relay.tell(kept.http, told);
            }
            return None;
        }
        Ok(Message::Response(response)) => {
            let elsewhere = answered(&dispatch.live, session.id, response);
            if let Some((kept, replica)) = kept.zip(elsewhere) {
                dispatch.relay.message_at(kept.http, replica, &element).await;
            }
            return None;
        }
        Ok(Message::Request(request)) => {
            let text = "initialize can't be part of a batch";
            return Some(vec![compose::error(Some(&request.id), INVALID_REQUEST, text, None)]);
        }
        Ok(Message::Batch(_)) => {
            return Some(vec![compose::error(None, INVALID_REQUEST, "a batch can't hold a batch", None)]);
        }
        Err(bad) => return Some(vec![compose::error(bad.id(), bad.code(), &bad.to_string(), None)]),
    };
    if let Some(kept) = kept {
        kept.keep_level(session, &request).await;
    }
    let (view, id) = (dispatch.view(caller).await, request.id.clone());
    let client = Client::Legacy(Arc::clone(session));
    let running = match dispatch.request(Asked {
        request,
        client,
        caller: caller.clone(),
        view,
        trace: None,
        span: None,
    }) {
        Outcome::Done(answered) => return Some(answered.message),
        Outcome::Running(running) => cancellable(&dispatch.live, session, id, running),
    };
    tokio::select! {
        biased;
        () = caller.revoked().cancelled() => None,
        answered = running.alone() => answered.map(|answered| answered.message),
    }
}

/// A call that its session can cancel from now on, and that ends with it.
pub fn cancellable(live: &LiveSessions, session: &Session, id: Id, running: Running) -> Running {
    let guard = live.of(session.id, || session.transport()).enter_call(id, running.cancel.clone());
    // The session may have ended after this request was let in and before its call was entered.
    if live.is_ended(session.id) {
        running.cancel.cancel();
    }
    running.holding(guard)
}

/// Where a session's state is kept that outlives the connection.
pub struct Kept<'a> {
    /// The keeper.
    pub log: &'a SessionLog,
    /// What the client sent.
    pub http: &'a McpRequest,
}

impl Kept<'_> {
    /// Keeps the log level, if that is what a request sets.
    pub async fn keep_level(&self, session: &Session, request: &Request) {
        if request.method.as_str() != "logging/setLevel" {
            return;
        }
        let level = request.params.as_ref().and_then(|params| params.text(Field::Level));
        if let Some(level) = level.and_then(|level| LogLevel::parse(&level)) {
            self.log.set_level(session.id, level, session.forgotten_at()).await;
        }
    }
}
