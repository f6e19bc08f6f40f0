//! Which tasks of 2025-11-25 were given to whom.
//!
//! An upstream that many clients share lists all their tasks, and tells of each on any stream. So what
//! a client is shown is taken from here: lists name the tasks that its key was given, a notification
//! goes to the session that began the task, and a question to the one that asks for its result. It is the memory of one replica and bounded:
//! a task that it no longer has can still be asked for by its id, and is known again then.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sql::model::{ApiKeyId, UpstreamId};
use uuid::Uuid;

/// Tasks of one key: more than a client waits for. Beyond it the oldest are forgotten.
const PER_KEY_MAX: usize = 1000;

/// Tasks of all keys, about 200 bytes each.
const ALL_MAX: usize = 100_000;

/// A task as its upstream knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Theirs {
    /// The upstream that runs it.
    pub upstream: UpstreamId,
    /// The id that the upstream knows.
    pub id: Arc<str>,
}

/// Who speaks of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The key, which began it.
    pub key: ApiKeyId,
    /// The session, which may be another than the one that began it.
    pub session: Uuid,
}

/// Whose a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// Who spoke of it last.
    pub holder: Holder,
    /// The session that began it, or spoke of it first.
    pub first: Uuid,
}

/// A task on a list, and where on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its place: a later task has a greater one.
    pub place: u64,
    /// The task.
    pub task: Theirs,
}

/// The tasks that were given. Clones share them.
#[derive(Clone, Default)]
pub struct GivenTasks(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    tasks: HashMap<Theirs, (Given, u64)>,
    /// By place: the order in which they are forgotten.
    places: BTreeMap<u64, Theirs>,
    by_key: HashMap<ApiKeyId, BTreeMap<u64, Theirs>>,
    last: u64,
}

impl GivenTasks {
    /// A client was given a task, or used one that it was given before.
    pub fn hold(&self, task: Theirs, holder: Holder) {
        let mut state = self.state();
        match state.tasks.get_mut(&task) {
            Some((known, _)) if known.holder.key == holder.key => known.holder = holder,
            known => {
                // An id that comes again for another key is another task: its upstream began anew.
                let former = known.map(|(_, place)| *place);
                if let Some(place) = former {
                    state.forget(place);
                }
                state.enter(task, holder);
            }
        }
    }

    /// Whose a task is, as far as is remembered.
    pub fn get(&self, task: &Theirs) -> Option<Given> {
        self.state().tasks.get(task).map(|(given, _)| *given)
    }

    /// Whether another key was the last to be given this id, as far as is remembered.
    pub fn is_anothers(&self, upstream: UpstreamId, id: &str, key: ApiKeyId) -> bool {
        self.get(&Theirs { upstream, id: id.into() }).is_some_and(|given| given.holder.key != key)
    }

    /// The tasks of a key after a place, in the order in which they were given, at most `count`.
    pub fn of_key(&self, key: ApiKeyId, after: u64, count: usize) -> Vec<Listed> {
        let state = self.state();
        let tasks = state.by_key.get(&key).into_iter().flat_map(|tasks| tasks.range(after + 1..));
        tasks.take(count).map(|(place, task)| Listed { place: *place, task: task.clone() }).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, task: Theirs, holder: Holder) {
        self.last += 1;
        let place = self.last;
        self.places.insert(place, task.clone());
        let of_key = self.by_key.entry(holder.key).or_default();
        of_key.insert(place, task.clone());
        let oldest_of_key = of_key.first_key_value().filter(|_| of_key.len() > PER_KEY_MAX);
        let oldest_of_key = oldest_of_key.map(|(place, _)| *place);
        self.tasks.insert(task, (Given { holder, first: holder.session }, place));
        if let Some(place) = oldest_of_key {
            self.forget(place);
        }
        if self.places.len() > ALL_MAX
            && let Some(oldest) = self.places.first_key_value().map(|(place, _)| *place)
        {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, place: u64) {
        let Some((given, _)) = self.places.remove(&place).and_then(|task| self.tasks.remove(&task)) else {
            return;
        };
        if let Some(of_key) = self.by_key.get_mut(&given.holder.key) {
            of_key.remove(&place);
            if of_key.is_empty() {
                self.by_key.remove(&given.holder.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sql::clock::Clock;

    use super::*;

    fn task(upstream: UpstreamId, id: &str) -> Theirs {
        Theirs { upstream, id: id.into() }
    }

    fn ids(listed: &[Listed]) -> Vec<&str> {
        listed.iter().map(|listed| &*listed.task.id).collect()
    }

    #[test]
    fn a_key_is_shown_its_own_in_order_and_from_any_place() {
        let (given, clock) = (GivenTasks::default(), Clock::system());
        let (upstream, key, other) = (UpstreamId::new(&clock), ApiKeyId::new(&clock), ApiKeyId::new(&clock));
        for (n, key) in [key, other, key, key].into_iter().enumerate() {
            given.hold(task(upstream, &n.to_string()), Holder { key, session: Uuid::nil() });
        }
        let first = given.of_key(key, 0, 2);
        assert_eq!(ids(&first), ["0", "2"]);
        assert_eq!(ids(&given.of_key(key, first[1].place, 2)), ["3"]);
        assert_eq!(ids(&given.of_key(other, 0, 9)), ["1"]);
        assert!(given.of_key(key, u64::MAX - 1, 9).is_empty());
    }

    #[test]
    fn a_task_knows_who_began_it_and_who_spoke_of_it_last() {
        let (given, clock) = (GivenTasks::default(), Clock::system());
        let (task, key) = (task(UpstreamId::new(&clock), "1"), ApiKeyId::new(&clock));
        for session in [1, 2].map(Uuid::from_u128) {
            given.hold(task.clone(), Holder { key, session });
            let first = Uuid::from_u128(1);
            assert_eq!(given.get(&task), Some(Given { holder: Holder { key, session }, first }));
        }
        assert_eq!(given.of_key(key, 0, 9).len(), 1);
    }

    #[test]
    fn an_id_that_comes_again_for_another_key_is_no_longer_the_first_ones() {
        let (given, clock) = (GivenTasks::default(), Clock::system());
        let task = task(UpstreamId::new(&clock), "1");
        let (first, second) = (ApiKeyId::new(&clock), ApiKeyId::new(&clock));
        for key in [first, second] {
            given.hold(task.clone(), Holder { key, session: Uuid::nil() });
        }
        assert!(given.of_key(first, 0, 9).is_empty());
        assert_eq!(given.of_key(second, 0, 9).len(), 1);
    }

    #[test]
    fn the_oldest_of_a_key_are_forgotten_first() {
        let (given, clock) = (GivenTasks::default(), Clock::system());
        let (upstream, key, other) = (UpstreamId::new(&clock), ApiKeyId::new(&clock), ApiKeyId::new(&clock));
        given.hold(task(upstream, "other"), Holder { key: other, session: Uuid::nil() });
        for n in 0..=PER_KEY_MAX {
            given.hold(task(upstream, &n.to_string()), Holder { key, session: Uuid::nil() });
        }
        assert_eq!(ids(&given.of_key(key, 0, 1)), ["1"]);
        assert_eq!(given.get(&task(upstream, "0")), None);
        assert!(given.get(&task(upstream, "other")).is_some());
        assert_eq!(given.0.lock().expect("nobody panics").places.len(), PER_KEY_MAX + 1);
    }
}
