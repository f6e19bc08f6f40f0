//! How many calls a key has in flight, and the limit to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::DashMap;
use sql::model::ApiKeyId;

/// Calls in flight by key. Keys without calls take no room.
#[derive(Clone, Default)]
pub struct CallsInFlight {
    keys: Arc<DashMap<ApiKeyId, Arc<AtomicU32>>>,
}

/// One call's place; it is given back when this is dropped.
pub struct Permit {
    calls: CallsInFlight,
    key: ApiKeyId,
    count: Arc<AtomicU32>,
}

impl CallsInFlight {
    /// All that are taken.
    pub fn total(&self) -> u64 {
        self.keys.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).sum()
    }

    /// A place for one more call of `key`, unless it has `limit` already.
    pub fn enter(&self, key: ApiKeyId, limit: u32) -> Option<Permit> {
        // Counted under the entry's lock, so that a count that fell to nothing isn't removed meanwhile.
        let entry = self.keys.entry(key).or_default();
        if entry.load(Ordering::Relaxed) >= limit {
            return None;
        }
        entry.fetch_add(1, Ordering::Relaxed);
        Some(Permit { calls: self.clone(), key, count: Arc::clone(&entry) })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.calls.keys.remove_if(&self.key, |_, count| count.load(Ordering::Relaxed) == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use sql::clock::Clock;

    use super::*;

    #[test]
    fn a_key_has_as_many_places_as_its_limit() {
        let calls = CallsInFlight::default();
        let (a, b) = (ApiKeyId::new(&Clock::system()), ApiKeyId::new(&Clock::system()));
        let first = calls.enter(a, 2);
        let second = calls.enter(a, 2);
        assert!(first.is_some() && second.is_some());
        assert!(calls.enter(a, 2).is_none());
        assert!(calls.enter(b, 2).is_some());
        drop(first);
        assert!(calls.enter(a, 2).is_some());
        drop(second);
        assert!(calls.keys.is_empty());
    }
}
