//! The tasks of 2025-11-25, between a client and an upstream that both have them.
//!
//! The client says of a call that it is to be a task; the result comes later, and what the upstream
//! asks meanwhile comes beside the request for the result. A list is made of what its key was given,
//! each asked for anew: what an upstream lists of its own is everybody's.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream;
use sql::model::{Era, Upstream};
use tokio_util::sync::CancellationToken;

use super::given::{Holder, Listed, Theirs};
use super::related::{self, Renamed};
use super::{INVALID_PARAMS, METHOD_NOT_FOUND, Patience, Verb};
use crate::catalog::Item;
use crate::downstream::bounds::{self, Bounds};
use crate::downstream::conversation::Conversation;
use crate::downstream::dispatch::{Asked, Client, Dispatch, Outcome, done_error};
use crate::downstream::session::Session;
use crate::downstream::verbs::CALL_TOOL;
use crate::upstream::Peer;
use crate::upstream::call::{Answer, Call};
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::envelope::{Field, Params};
use crate::wire::meta::Version;

const METHODS: [Verb; 3] = [
    Verb { method: "tasks/get", era: Era::Legacy, patience: Patience::Usual },
    Verb { method: "tasks/cancel", era: Era::Legacy, patience: Patience::Usual },
    Verb { method: "tasks/result", era: Era::Legacy, patience: Patience::UntilItIsOver },
];

/// Tasks on a page: each is a request to its upstream.
const PAGE_TASKS_MAX: usize = 50;

/// How many of them are asked for at a time.
const AT_ONCE: usize = 8;

/// Whether an upstream has tasks of this form.
pub(super) fn has_tasks(peer: &Peer) -> bool {
    peer.offers.task_calls
}

/// Whether a session has.
pub(in crate::downstream) fn takes_tasks(session: &Session) -> bool {
    session.version == Version::V2025_11_25
}

impl Dispatch {
    pub(super) fn legacy_task(self: &Arc<Self>, asked: Asked, session: &Session) -> Outcome {
        let method = asked.request.method.as_str();
        let offered = asked.view.offered();
        if !takes_tasks(session) || !offered.task_calls {
            return done_error(&asked, METHOD_NOT_FOUND, &format!("Method not found: {method}"));
        }
        if method == "tasks/list" {
            return self.list_tasks(asked);
        }
        match METHODS.iter().find(|verb| verb.method == method) {
            Some(verb) => self.about(asked, verb),
            None => done_error(&asked, METHOD_NOT_FOUND, &format!("Method not found: {method}")),
        }
    }

    /// The answer to a call: a task that it was to be, and is, gets an id of ours.
    pub(in crate::downstream) fn task_begun(
        &self,
        wish: Wish,
        asked: &Asked,
        upstream: &Upstream,
        answer: Answer,
    ) -> Answer {
        let Answer::Result(raw) = answer else { return answer };
        if wish == Wish::None {
            return Answer::Result(raw);
        }
        let Ok(mut result) = Object::parse(&raw) else { return Answer::Result(raw) };
        let Some(mut task) = result.get("task").and_then(|task| Object::parse(&task).ok()) else {
            return Answer::Result(raw);
        };
        let theirs = task.text("taskId").map(|theirs| theirs.to_string()).unwrap_or_default();
        let key = asked.caller.key().id;
        let Some(ours) = self.tasks.ids.seal(key, upstream.id, &theirs) else {
            let text = "the upstream began a task without a usable id";
            return Answer::Error(compose::error_object(super::INTERNAL_ERROR, text, None));
        };
        self.hold(asked, upstream, &theirs);
        task.set("taskId", compose::string(&ours));
        result.set("task", task.into_bytes());
        let raw = result.into_bytes();
        Answer::Result(match related::rename(&raw, |_| Some(ours)) {
            Renamed::Done(renamed) => renamed,
            Renamed::Unrelated | Renamed::Unknown => raw,
        })
    }

    pub(super) fn hold(&self, asked: &Asked, upstream: &Upstream, theirs: &str) {
        if let Client::Legacy(session) = &asked.client {
            let task = Theirs { upstream: upstream.id, id: theirs.into() };
            self.tasks.given.hold(task, Holder { key: asked.caller.key().id, session: session.id });
        }
    }

    fn list_tasks(self: &Arc<Self>, asked: Asked) -> Outcome {
        let params = asked.request.params.as_ref();
        let given = params.and_then(|params| params.get(Field::Cursor)).filter(|raw| raw[..] != b"null"[..]);
        let after = match (params.and_then(Params::cursor), given) {
            (None, None) => 0,
            (Some(cursor), _) => match cursor.parse() {
                Ok(place) if place < u64::MAX => place,
                _ => {
                    return done_error(
                        &asked,
                        INVALID_PARAMS,
                        "the cursor is not valid; start again without one",
                    );
                }
            },
            (None, Some(_)) => return done_error(&asked, INVALID_PARAMS, "params.cursor must be a string"),
        };
        let mut listed = self.tasks.given.of_key(asked.caller.key().id, after, PAGE_TASKS_MAX + 1);
        let has_more = listed.len() > PAGE_TASKS_MAX;
        listed.truncate(PAGE_TASKS_MAX);
        self.begin(asked, move |dispatch, asked, conversation, cancel| async move {
            let next = listed.last().filter(|_| has_more).map(|last| last.place);
            let one = |listed| dispatch.listed(&asked, listed, conversation.clone(), cancel.clone());
            let found = stream::iter(listed).map(one).buffered(AT_ONCE);
            let found: Vec<Bytes> = found.filter_map(std::future::ready).collect().await;
            let page = page(&found, next);
            (asked, Answer::Result(page))
        })
    }

    /// A task as it stands now; nothing where its upstream has it no more, or can't be asked.
    async fn listed(
        &self,
        asked: &Asked,
        listed: Listed,
        conversation: Conversation,
        cancel: CancellationToken,
    ) -> Option<Bytes> {
        let Theirs { upstream: id, id: theirs } = listed.task;
        let upstream = asked.view.upstreams().find(|lists| lists.upstream.id == id)?;
        let ours = self.tasks.ids.seal(asked.caller.key().id, id, &theirs)?;
        let peer = self.upstreams.peer(id).await.ok().filter(has_tasks)?;
        let Bounds { idle, total, response_bytes_max } = bounds::of(asked, &upstream.upstream);
        let call = Call {
            method: "tasks/get",
            params: format!(r#"{{"taskId":{}}}"#, compose::Quoted(&theirs)).into(),
            headers: Vec::new(),
            conversation: self.relayed(asked, &peer, &upstream.upstream, conversation),
            idle_timeout: idle,
            total_timeout: total,
            response_bytes_max,
            cancel,
        };
        match self.upstreams.call(id, call).await {
            Ok(Answer::Result(raw)) => Some(under(raw, &compose::string(&ours))),
            Ok(Answer::Error(_)) | Err(_) => None,
        }
    }
}

/// What is answered about a task, under the id that the client knows.
pub(super) fn result(asked: &Asked, method: &str, raw: Bytes, ours: &Bytes) -> Bytes {
    if method != "tasks/result" {
        return under(raw, ours);
    }
    let ours = asked.request.params.as_ref().and_then(|params| params.text(Field::TaskId));
    match related::rename(&raw, |_| ours.map(|ours| ours.to_string())) {
        Renamed::Done(renamed) => renamed,
        Renamed::Unrelated | Renamed::Unknown => raw,
    }
}

/// A task under the client's own id.
fn under(raw: Bytes, ours: &Bytes) -> Bytes {
    let Ok(mut task) = Object::parse(&raw) else { return raw };
    if task.get("taskId").is_some() {
        task.set("taskId", ours.clone());
    }
    task.into_bytes()
}

fn page(tasks: &[Bytes], next: Option<u64>) -> Bytes {
    let mut page = BytesMut::from(&br#"{"tasks":["#[..]);
    for (n, task) in tasks.iter().enumerate() {
        if n > 0 {
            page.extend_from_slice(b",");
        }
        page.extend_from_slice(task);
    }
    page.extend_from_slice(b"]");
    if let Some(place) = next {
        page.extend_from_slice(format!(r#","nextCursor":"{place}""#).as_bytes());
    }
    page.extend_from_slice(b"}");
    page.freeze()
}

/// Whether a call is to be a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::downstream) enum Wish {
    /// It isn't.
    None,
    /// The upstream is told that it is.
    Granted,
}

/// What becomes of `params.task` in a call of `item`; the answer where it can't be.
pub(in crate::downstream) fn wish(
    asked: &Asked,
    method: &str,
    item: &Item,
    params: Bytes,
) -> Result<(Bytes, Wish), Answer> {
    let given = asked.request.params.as_ref().and_then(|params| params.get(Field::Task));
    // Of a modern client it means nothing; the bridge to a legacy upstream takes it off.
    let (Some(_), Client::Legacy(session)) = (given, &asked.client) else { return Ok((params, Wish::None)) };
    if method != CALL_TOOL.method {
        return Ok((params, Wish::None));
    }
    // 2025-11-25, task support and handling: who wasn't offered tasks is served as if it didn't ask for one.
    if !takes_tasks(session) || !asked.view.offered().task_calls {
        return Ok((without_task(params), Wish::None));
    }
    match &item.as_task {
        Some(_) => Ok((params, Wish::Granted)),
        // Tool-level negotiation.
        None => Err(Answer::Error(compose::error_object(
            METHOD_NOT_FOUND,
            "the tool can't be called as a task",
            None,
        ))),
    }
}

/// `params` without `task`.
fn without_task(params: Bytes) -> Bytes {
    let Ok(mut object) = Object::parse(&params) else { return params };
    object.remove("task");
    object.into_bytes()
}
