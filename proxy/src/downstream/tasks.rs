//! Tasks: work at an upstream that outlives the call which began it.
//!
//! There are two forms, and nothing of one means anything in the other: the extension of 2026-07-28
//! (`io.modelcontextprotocol/tasks`), where the server decides what becomes a task, and the tasks of
//! 2025-11-25 ([`legacy`]), where the client does. Each is offered to clients of its own era alone, and
//! only where an upstream of that era has it. Here stands what both share, and the extension.
//!
//! A client knows a task by an id of ours ([`ids`]), which says at which upstream it is. Only the key
//! that began a task can use it: to any other its id is as unknown as a made-up one. [`given`] remembers
//! who began which, as far as lists and notifications need that; no request depends on it. [`related`]
//! rewrites ids where messages beside a task name it, and [`status`] finds whom a word of one is for.

pub mod given;
pub mod ids;
mod legacy;
mod related;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sql::model::{Era, Upstream};
use tokio_util::sync::CancellationToken;

use self::given::GivenTasks;
use self::ids::TaskIds;
use super::bounds::{self, Bounds};
use super::conversation::{self, Conversation};
use super::dispatch::{Asked, Client, Dispatch, Outcome, Running, answered, done_error, failed, owner};
use crate::bridge;
use crate::catalog::{Audience, Item};
use crate::upstream::Peer;
use crate::upstream::call::{Answer, Call, CallError};
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::envelope::{Field, Params};
use crate::wire::headers;
use crate::wire::meta::{self, RequestMeta};

pub(super) use self::legacy::wish;

const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
const INTERNAL_ERROR: i64 = -32603;
const MISSING_CAPABILITY: i64 = -32021;

/// What is needed to know tasks again.
#[derive(Clone)]
pub struct Tasks {
    /// Makes and opens the ids of clients.
    pub ids: TaskIds,
    /// Which were given to whom.
    pub given: GivenTasks,
}

/// A method about one task.
struct Verb {
    /// The method, of clients and upstreams alike.
    method: &'static str,
    /// The form of tasks that it is part of.
    era: Era,
    /// How long the upstream may be silent.
    patience: Patience,
}

enum Patience {
    /// As long as in any call.
    Usual,
    /// As long as a call may take in all: the answer comes when the task is over.
    UntilItIsOver,
}

const EXTENSION: [Verb; 3] = [
    Verb { method: "tasks/get", era: Era::Modern, patience: Patience::Usual },
    Verb { method: "tasks/update", era: Era::Modern, patience: Patience::Usual },
    Verb { method: "tasks/cancel", era: Era::Modern, patience: Patience::Usual },
];

/// A request about a task on its way.
struct TaskCall {
    verb: &'static Verb,
    upstream: Arc<Upstream>,
    /// The id that the upstream knows.
    theirs: String,
    conversation: Conversation,
    cancel: CancellationToken,
}

impl Dispatch {
    /// Answers a method of tasks, in the form that the client's era has.
    pub(super) fn task(self: &Arc<Self>, asked: Asked) -> Outcome {
        let session = match &asked.client {
            Client::Legacy(session) => Some(Arc::clone(session)),
            Client::Modern(_) => None,
        };
        match session {
            Some(session) => self.legacy_task(asked, &session),
            None => self.extension(asked),
        }
    }

    fn extension(self: &Arc<Self>, asked: Asked) -> Outcome {
        let method = asked.request.method.as_str();
        let verb = EXTENSION.iter().find(|verb| verb.method == method);
        let Some(verb) = verb.filter(|_| asked.view.offered().tasks_extension) else {
            return done_error(&asked, METHOD_NOT_FOUND, &format!("Method not found: {method}"));
        };
        if !declares_tasks(asked.request.params.as_ref()) {
            return Outcome::Done(answered(&asked, Answer::Error(missing_capability())));
        }
        self.about(asked, verb)
    }

    /// A request about one task, at the upstream that has it.
    fn about(self: &Arc<Self>, asked: Asked, verb: &'static Verb) -> Outcome {
        let Some(ours) = asked.request.params.as_ref().and_then(|params| params.text(Field::TaskId)) else {
            return done_error(&asked, INVALID_PARAMS, "params.taskId must be a string");
        };
        let known = self.tasks.ids.open(asked.caller.key().id, &ours).and_then(|at| {
            let upstream = asked.view.upstreams().find(|lists| lists.upstream.id == at.upstream)?;
            Some((Arc::clone(&upstream.upstream), at.theirs))
        });
        let Some((upstream, theirs)) = known else {
            return Outcome::Done(answered(&asked, unknown_task()));
        };
        self.begin(asked, move |dispatch, asked, conversation, cancel| async move {
            let call = TaskCall { verb, upstream, theirs, conversation, cancel };
            let answer = dispatch.carry_task(&asked, &call).await;
            let answer = answer.unwrap_or_else(|error| failed(&asked, &call.upstream, &error));
            (asked, answer)
        })
    }

    /// Runs `work` as a call among those of its key.
    pub(super) fn begin<W, F>(self: &Arc<Self>, asked: Asked, work: W) -> Outcome
    where
        W: FnOnce(Arc<Self>, Asked, Conversation, CancellationToken) -> F + Send + 'static,
        F: Future<Output = (Asked, Answer)> + Send + 'static,
    {
        let limit = asked.view.settings().limits.calls_in_flight_per_key;
        let Some(permit) = self.in_flight.enter(asked.caller.key().id, limit) else {
            let text = format!("this key has {limit} calls in flight, which is its limit");
            return done_error(&asked, INTERNAL_ERROR, &text);
        };
        let cancel = CancellationToken::new();
        // As in any call: a queue that overflows ends it but not the wish for an answer.
        let token = cancel.child_token();
        let (conversation, outbox) = conversation::open(owner(&asked), token.clone());
        let conversation = conversation.of_key(asked.caller.key().id);
        let dispatch = Arc::clone(self);
        let answer = Box::pin(async move {
            let (asked, answer) = work(dispatch, asked, conversation, token).await;
            drop(permit);
            answered(&asked, answer)
        });
        Outcome::Running(Running { outbox, answer, cancel })
    }

    async fn carry_task(&self, asked: &Asked, call: &TaskCall) -> Result<Answer, CallError> {
        let (verb, upstream) = (call.verb, &call.upstream);
        let peer = self.upstreams.peer(upstream.id).await?;
        // An upstream may have changed its era since: then it has no such task.
        if peer.era != verb.era || (verb.era == Era::Legacy && !legacy::has_tasks(&peer)) {
            return Ok(unknown_task());
        }
        // An upstream that began anew may have given the same id to another key.
        let key = asked.caller.key().id;
        if verb.era == Era::Legacy && self.tasks.given.is_anothers(upstream.id, &call.theirs, key) {
            return Ok(unknown_task());
        }
        let Some(params) = asked.request.params.as_ref() else { return Ok(unknown_task()) };
        // Before the upstream is asked: what it asks in return is for the session that asks now.
        self.hold(asked, upstream, &call.theirs);
        let conversation = self.relayed(asked, &peer, upstream, call.conversation.clone());
        let Bounds { idle, total, response_bytes_max } = bounds::of(asked, upstream);
        let named = || (headers::MCP_NAME, headers::encode_value(&call.theirs));
        let answer = self.upstreams.call(
            upstream.id,
            Call {
                method: verb.method,
                params: params.with(&[(Field::TaskId, &compose::string(&call.theirs))]),
                headers: if verb.era == Era::Modern { vec![named()] } else { Vec::new() },
                conversation,
                idle_timeout: verb.idle_timeout(idle, total),
                total_timeout: total,
                response_bytes_max,
                cancel: call.cancel.clone(),
            },
        );
        let ours = params.get(Field::TaskId).unwrap_or_default();
        Ok(match (answer.await?, verb.era) {
            (Answer::Result(raw), Era::Modern) => {
                let raw = asked.view.task_with_exposed_uris(upstream.id, &raw);
                Answer::Result(modern_result(raw, &ours))
            }
            (Answer::Result(raw), Era::Legacy) => {
                let raw = asked.view.with_exposed_uris(upstream.id, &raw);
                Answer::Result(legacy::result(asked, verb.method, raw, &ours))
            }
            (error, _) => error,
        })
    }

    /// A modern upstream's answer to a modern client's call: a task that it became gets an id of ours.
    pub(super) fn modern_answer(
        &self,
        asked: &Asked,
        upstream: &Upstream,
        answer: Answer,
    ) -> Result<Answer, CallError> {
        let Answer::Result(raw) = answer else { return Ok(answer) };
        let Ok(mut object) = Object::parse(&raw) else { return Ok(Answer::Result(raw)) };
        if object.text("resultType").is_some_and(|kind| kind.as_str() == "task") {
            if !declares_tasks(asked.request.params.as_ref()) {
                return Err(CallError::Invalid { reason: "it is a task, which the client did not ask for" });
            }
            let ours = object
                .text("taskId")
                .and_then(|theirs| self.tasks.ids.seal(asked.caller.key().id, upstream.id, theirs.as_str()));
            let ours = ours.ok_or(CallError::Invalid { reason: "it is a task without a usable id" })?;
            object.set("taskId", compose::string(&ours));
        }
        bridge::name_gateway(&mut object);
        Ok(Answer::Result(object.into_bytes()))
    }

    /// The call's queue, where the upstream may put into it what belongs to a task.
    pub(super) fn relayed(
        &self,
        asked: &Asked,
        peer: &Peer,
        upstream: &Upstream,
        conversation: Conversation,
    ) -> Conversation {
        if !legacy::has_tasks(peer) {
            return conversation;
        }
        let relay = related::Relay::new(self.tasks.clone(), asked.caller.key().id, upstream.id, owner(asked));
        conversation.relayed(Arc::new(relay))
    }
}

impl Verb {
    fn idle_timeout(&self, idle: Duration, total: Duration) -> Duration {
        match self.patience {
            Patience::Usual => idle,
            Patience::UntilItIsOver => total,
        }
    }
}

/// The result of a method of the extension: under the client's own id, and in the gateway's name.
fn modern_result(raw: Bytes, ours: &Bytes) -> Bytes {
    let Ok(mut object) = Object::parse(&raw) else { return raw };
    if object.get("taskId").is_some() {
        object.set("taskId", ours.clone());
    }
    bridge::name_gateway(&mut object);
    object.into_bytes()
}

/// Which lists a client gets.
pub(super) fn audience(client: &Client) -> Audience {
    match client {
        Client::Legacy(session) if legacy::takes_tasks(session) => Audience::Tasks,
        Client::Legacy(_) | Client::Modern(_) => Audience::Plain,
    }
}

/// Whether its client may call a tool as a task, and a tool that it sees can be called so.
pub(super) fn may_call_as_task(asked: &Asked) -> bool {
    audience(&asked.client) == Audience::Tasks && asked.view.offered().task_calls
}

/// The item of a call, unless its client isn't shown it.
pub(super) fn shown(asked: &Asked, item: Option<Arc<Item>>) -> Option<Arc<Item>> {
    item.filter(|item| item.rendered_for(audience(&asked.client)).is_some())
}

/// Whether a modern request says that its client knows tasks.
pub(super) fn declares_tasks(params: Option<&Params>) -> bool {
    let declared = RequestMeta::of(params).ok().and_then(|meta| meta.client_capabilities);
    declared.is_some_and(|capabilities| extension_in(&capabilities))
}

/// Whether raw capabilities, of a client or a server, name the extension.
fn extension_in(capabilities: &Bytes) -> bool {
    let extensions = Object::parse(capabilities).ok().and_then(|declared| declared.get("extensions"));
    let extensions = extensions.and_then(|raw| Object::parse(&raw).ok());
    extensions.is_some_and(|extensions| extensions.get(meta::TASKS_EXTENSION).is_some())
}

/// The error for a client that didn't declare the extension.
pub(super) fn missing_capability() -> Bytes {
    let data = format!(r#"{{"requiredCapabilities":{{"extensions":{{"{}":{{}}}}}}}}"#, meta::TASKS_EXTENSION);
    compose::error_object(MISSING_CAPABILITY, "Missing required client capability", Some(data.as_bytes()))
}

/// A task that isn't there, or isn't this key's: the same answer for both.
fn unknown_task() -> Answer {
    Answer::Error(compose::error_object(INVALID_PARAMS, "Task not found", None))
}
