//! The ids under which clients know tasks.
//!
//! An upstream's id says nothing of the upstream and nothing of the client, and two upstreams may use
//! the same. So a client gets it sealed together with both: every replica can open it, before and after
//! a restart, and no other key can. The same task has the same id each time, since clients compare.

use sql::model::{ApiKeyId, UpstreamId};
use sql::seal::Sealer;
use uuid::Uuid;

/// What the seal is bound to, so that no other token of ours passes for a task.
const PURPOSE: &str = "mcp-task";

/// The longest id of an upstream that is taken: sealed, it goes into a header (`Mcp-Name`), of which
/// proxies in between take a few thousand bytes.
const THEIRS_BYTES_MAX: usize = 1024;

/// The longest id that is looked at: more than the longest that is made.
const OURS_BYTES_MAX: usize = 2048;

const UUID_BYTES: usize = 16;

/// Seals task ids and opens them again.
#[derive(Clone)]
pub struct TaskIds(Sealer);

/// A task where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskAt {
    /// The upstream that runs it.
    pub upstream: UpstreamId,
    /// The id that the upstream knows.
    pub theirs: String,
}

impl TaskIds {
    /// `sealer` holds the key of the installation.
    pub fn new(sealer: Sealer) -> Self {
        Self(sealer)
    }

    /// The id that clients with `key` get for an upstream's; `None` if that is empty or too long.
    pub fn seal(&self, key: ApiKeyId, upstream: UpstreamId, theirs: &str) -> Option<String> {
        if theirs.is_empty() || theirs.len() > THEIRS_BYTES_MAX {
            return None;
        }
        let plain = [upstream.uuid().as_bytes(), theirs.as_bytes()].concat();
        Some(self.0.seal_name(PURPOSE, &plain, key.uuid().as_bytes()))
    }

    /// The task behind an id, if the id was made here for `key`.
    pub fn open(&self, key: ApiKeyId, ours: &str) -> Option<TaskAt> {
        if ours.len() > OURS_BYTES_MAX {
            return None;
        }
        let plain = self.0.unseal_token(PURPOSE, ours, key.uuid().as_bytes()).ok()?;
        let (upstream, theirs) = plain.split_at_checked(UUID_BYTES)?;
        let upstream = UpstreamId::from_uuid(Uuid::from_slice(upstream).ok()?);
        Some(TaskAt { upstream, theirs: String::from_utf8(theirs.to_vec()).ok()? })
    }
}

#[cfg(test)]
pub(in crate::downstream) mod tests {
    use sql::clock::Clock;
    use sql::seal::MasterKey;

    use super::*;

    pub(in crate::downstream) fn ids() -> TaskIds {
        let (key, _) = MasterKey::from_env_text(MasterKey::generate_hex().expose()).expect("a key");
        TaskIds::new(Sealer::new(&key))
    }

    #[test]
    fn an_id_opens_for_its_key_alone_and_is_the_same_each_time() {
        let (ids, clock) = (ids(), Clock::system());
        let (key, other) = (ApiKeyId::new(&clock), ApiKeyId::new(&clock));
        let (one, two) = (UpstreamId::new(&clock), UpstreamId::new(&clock));
        let ours = ids.seal(key, one, "täsk 1").expect("it is short");
        assert_eq!(ids.open(key, &ours), Some(TaskAt { upstream: one, theirs: "täsk 1".into() }));
        assert_eq!(ids.seal(key, one, "täsk 1"), Some(ours.clone()));
        assert_ne!(ids.seal(key, two, "täsk 1"), Some(ours.clone()), "the same id elsewhere");
        assert_ne!(ids.seal(other, one, "täsk 1"), Some(ours.clone()));
        assert_eq!(ids.open(other, &ours), None);
        assert!(ours.bytes().all(|byte| byte.is_ascii_graphic()));
    }

    #[test]
    fn what_was_not_made_here_does_not_open() {
        let (ids, clock) = (ids(), Clock::system());
        let key = ApiKeyId::new(&clock);
        let ours = ids.seal(key, UpstreamId::new(&clock), "task-1").expect("it is short");
        for foreign in ["", "task-1", &ours[1..], &"A".repeat(OURS_BYTES_MAX + 1)] {
            assert_eq!(ids.open(key, foreign), None, "{foreign}");
        }
        assert_eq!(self::ids().open(key, &ours), None, "another installation's");
    }

    #[test]
    fn an_id_fits_a_header_or_is_not_taken() {
        let (ids, clock) = (ids(), Clock::system());
        let (key, upstream) = (ApiKeyId::new(&clock), UpstreamId::new(&clock));
        let longest = ids.seal(key, upstream, &"x".repeat(THEIRS_BYTES_MAX)).expect("it just fits");
        assert!(longest.len() <= OURS_BYTES_MAX && ids.open(key, &longest).is_some());
        assert_eq!(ids.seal(key, upstream, &"x".repeat(THEIRS_BYTES_MAX + 1)), None);
        assert_eq!(ids.seal(key, upstream, ""), None);
    }
}
