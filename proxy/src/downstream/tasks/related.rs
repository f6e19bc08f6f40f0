//! Messages beside a task that name it: `_meta["io.modelcontextprotocol/related-task"]` (2025-11-25).
//!
//! On a channel that clients share, such a message says whose it is. It goes to the client that the
//! task was given to, under the id which that client knows, or to nobody: that another client's call
//! happens to be the only one in flight doesn't make it this one's.

use bytes::Bytes;
use memchr::memmem;
use sql::model::{ApiKeyId, UpstreamId};

use super::Tasks;
use super::given::{Holder, Theirs};
use crate::downstream::conversation::{AskRefused, Owner, Relaying};
use crate::upstream::call::Answer;
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::meta::RELATED_TASK;

/// What a key that names a task has in it however it is spelled, but for `\u`: its slash may be escaped, too.
const TAIL: &[u8] = b"related-task";

/// What stands between one call's client and its upstream.
pub(super) struct Relay {
    tasks: Tasks,
    key: ApiKeyId,
    upstream: UpstreamId,
    owner: Owner,
}

impl Relay {
    pub(super) fn new(tasks: Tasks, key: ApiKeyId, upstream: UpstreamId, owner: Owner) -> Self {
        Self { tasks, key, upstream, owner }
    }

    /// The client's id for a task that is its own.
    fn ours(&self, theirs: &str) -> Option<String> {
        let task = Theirs { upstream: self.upstream, id: theirs.into() };
        let holder = Holder { key: self.key, session: self.owner.0 };
        let is_own = self.tasks.given.get(&task).is_some_and(|given| given.holder == holder);
        if is_own { self.tasks.ids.seal(self.key, self.upstream, theirs) } else { None }
    }

    fn theirs(&self, ours: &str) -> Option<String> {
        let at = self.tasks.ids.open(self.key, ours)?;
        (at.upstream == self.upstream).then_some(at.theirs)
    }
}

impl Relaying for Relay {
    fn concerns(&self, params: &Bytes) -> Option<bool> {
        match rename(params, |theirs| self.ours(theirs)) {
            Renamed::Unrelated => None,
            Renamed::Done(_) => Some(true),
            Renamed::Unknown => Some(false),
        }
    }

    fn to_client(&self, params: Option<Bytes>) -> Result<Option<Bytes>, AskRefused> {
        let Some(params) = params else { return Ok(None) };
        match rename(&params, |theirs| self.ours(theirs)) {
            Renamed::Unrelated => Ok(Some(params)),
            Renamed::Done(renamed) => Ok(Some(renamed)),
            Renamed::Unknown => Err(AskRefused::unattributable()),
        }
    }

    fn to_upstream(&self, answer: Answer) -> Answer {
        let Answer::Result(raw) = answer else { return answer };
        match rename(&raw, |ours| self.theirs(ours)) {
            Renamed::Done(raw) => Answer::Result(raw),
            // A client that names another task answers this one all the same.
            Renamed::Unrelated | Renamed::Unknown => Answer::Result(raw),
        }
    }
}

/// What became of an object that may name a task.
pub(super) enum Renamed {
    /// It names none.
    Unrelated,
    /// It names a task by the other side's id now.
    Done(Bytes),
    /// It names one that has no such id.
    Unknown,
}

/// Gives the task that an object's `_meta` names another id; every other byte stays.
pub(super) fn rename(raw: &Bytes, id: impl FnOnce(&str) -> Option<String>) -> Renamed {
    // Most messages name no task; a key may be spelled with escapes, so those are looked into as well.
    let may_name = memmem::find(raw, TAIL).is_some() || memmem::find(raw, b"\\u").is_some();
    if !may_name {
        return Renamed::Unrelated;
    }
    let Ok(mut object) = Object::parse(raw) else { return Renamed::Unrelated };
    let meta = object.get("_meta").and_then(|meta| Object::parse(&meta).ok());
    let Some((mut meta, related)) = meta.and_then(|meta| meta.get(RELATED_TASK).map(|raw| (meta, raw)))
    else {
        return Renamed::Unrelated;
    };
    let Ok(mut related) = Object::parse(&related) else { return Renamed::Unknown };
    let Some(named) = related.text("taskId").and_then(|named| id(named.as_str())) else {
        return Renamed::Unknown;
    };
    related.set("taskId", compose::string(&named));
    meta.set(RELATED_TASK, related.into_bytes());
    object.set("_meta", meta.into_bytes());
    Renamed::Done(object.into_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use sql::clock::Clock;
    use uuid::Uuid;

    use super::*;
    use crate::downstream::tasks::given::GivenTasks;
    use crate::downstream::tasks::ids::tests::ids;

    fn params(id: &str) -> Bytes {
        let related = json!({ RELATED_TASK: { "taskId": id, "x": 1 } });
        Bytes::from(json!({ "message": "ok?", "_meta": related }).to_string())
    }

    fn named(raw: &[u8]) -> String {
        let value: Value = serde_json::from_slice(raw).expect("JSON");
        value["_meta"][RELATED_TASK]["taskId"].as_str().expect("a task").to_owned()
    }

    #[test]
    fn a_task_has_the_id_of_the_side_that_reads() {
        let clock = Clock::system();
        let (upstream, key, session) = (UpstreamId::new(&clock), ApiKeyId::new(&clock), Uuid::from_u128(1));
        let tasks = Tasks { ids: ids(), given: GivenTasks::default() };
        tasks.given.hold(Theirs { upstream, id: "task-1".into() }, Holder { key, session });
        let relay = Relay::new(tasks.clone(), key, upstream, Owner(session));
        let told = relay.to_client(Some(params("task-1"))).expect("its own").expect("params");
        assert_eq!(Some(named(&told)), tasks.ids.seal(key, upstream, "task-1"));
        let Answer::Result(answer) = relay.to_upstream(Answer::Result(told)) else { panic!("a result") };
        assert_eq!(answer, params("task-1"));
        // Another session of the same key, and another key, are nobody here.
        for (key, session) in [(key, Uuid::from_u128(2)), (ApiKeyId::new(&clock), session)] {
            let other = Relay::new(tasks.clone(), key, upstream, Owner(session));
            assert!(other.to_client(Some(params("task-1"))).is_err());
        }
        assert!(relay.to_client(Some(params("task-2"))).is_err(), "nobody's");
    }

    #[test]
    fn what_names_no_task_stays_as_it_came() {
        for raw in [r#"{ "a":"\u0041","_meta":{"x":1.0} }"#, r#"{"_meta":null,"a":"\u0041"}"#, "{}"] {
            let raw = Bytes::from_static(raw.as_bytes());
            assert!(matches!(rename(&raw, |_| None), Renamed::Unrelated));
        }
        for key in [r"io.modelcontextprotocol\/relate\u0064-task", r"io.modelcontextprotocol\/related-task"] {
            let spelled = Bytes::from(format!(r#"{{"_meta":{{"{key}":{{"taskId":"a"}}}}}}"#));
            assert!(matches!(rename(&spelled, |_| None), Renamed::Unknown), "{key}");
        }
    }
}
