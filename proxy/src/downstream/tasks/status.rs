//! Telling clients of 2025-11-25 that a task has another status.
//!
//! An upstream may say so on any stream, and on a channel that all its clients share. Here it reaches the
//! session that began the task, or where that has no stream (any more) the one of the same key that spoke
//! of it last. What reaches nobody in this way is dropped: nobody may rely on such word.

use bytes::Bytes;
use sql::model::UpstreamId;

use super::Tasks;
use super::given::Theirs;
use crate::access::Keys;
use crate::catalog::follow::Published;
use crate::downstream::live::LiveSessions;
use crate::wire::compose;
use crate::wire::edit::Object;

const METHOD: &str = "notifications/tasks/status";

/// Hands status notifications on.
pub struct TaskStatus {
    /// Which task was given to whom.
    pub tasks: Tasks,
    /// The catalog in force.
    pub published: Published,
    /// The keys as they are now: a task may outlive what its key was allowed.
    pub keys: Keys,
    /// The sessions' streams.
    pub live: LiveSessions,
}

impl TaskStatus {
    /// An upstream says that a task has another status.
    pub fn tell(&self, upstream: UpstreamId, params: &Bytes) {
        if self.tell_holder(upstream, params).is_none() {
            tracing::debug!(upstream.id = %upstream, "the status of a task was dropped, nobody listens");
        }
    }

    fn tell_holder(&self, upstream: UpstreamId, params: &Bytes) -> Option<()> {
        let mut status = Object::parse(params).ok()?;
        let theirs = status.text("taskId")?;
        let given = self.tasks.given.get(&Theirs { upstream, id: theirs.as_str().into() })?;
        let policy = self.keys.policy(given.holder.key)?;
        if !self.published.current().shows(&policy, upstream) {
            return None;
        }
        let ours = self.tasks.ids.seal(given.holder.key, upstream, theirs.as_str())?;
        status.set("taskId", compose::string(&ours));
        let message = compose::notification(METHOD, Some(&status.into_bytes()));
        let mut sessions = [given.first, given.holder.session].into_iter();
        sessions.any(|id| self.live.get(id).is_some_and(|live| live.push(&message))).then_some(())
    }
}
