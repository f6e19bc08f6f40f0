//! The cache of a replica that is alone: values with a time to live, in this process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Lost;
use super::channels::Channels;

/// Values kept at a time: with the largest that are put in (4 KiB) some 400 MiB, and with those that
/// are usual (100 bytes) some 20.
const VALUES_MAX: usize = 100_000;

/// Values and channels of this process.
#[derive(Default)]
pub struct Memory {
    values: Mutex<HashMap<String, Value>>,
    channels: Channels,
}

struct Value {
    bytes: Bytes,
    until: Instant,
}

impl Memory {
    pub(super) fn get(&self, key: &str) -> Option<Bytes> {
        let now = Instant::now();
        self.lock().get(key).filter(|value| value.until > now).map(|value| value.bytes.clone())
    }

    pub(super) fn set(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), Lost> {
        put(&mut self.lock(), key, value, ttl)
    }

    pub(super) fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool, Lost> {
        let mut values = self.lock();
        if !is_at(&values, key, expected) {
            return Ok(false);
        }
        put(&mut values, key, value, ttl).map(|()| true)
    }

    pub(super) fn delete(&self, key: &str) {
        self.lock().remove(key);
    }

    pub(super) fn delete_if(&self, key: &str, expected: &[u8]) -> bool {
        let mut values = self.lock();
        is_at(&values, key, Some(expected)) && values.remove(key).is_some()
    }

    pub(super) fn channels(&self) -> &Channels {
        &self.channels
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Value>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_at(values: &HashMap<String, Value>, key: &str, expected: Option<&[u8]>) -> bool {
    let now = Instant::now();
    let found = values.get(key).filter(|value| value.until > now).map(|value| &value.bytes[..]);
    found == expected
}

fn put(values: &mut HashMap<String, Value>, key: &str, value: &[u8], ttl: Duration) -> Result<(), Lost> {
    let now = Instant::now();
    if values.len() >= VALUES_MAX && !values.contains_key(key) {
        values.retain(|_, value| value.until > now);
        if values.len() >= VALUES_MAX {
            return Err(Lost);
        }
    }
    values.insert(key.to_owned(), Value { bytes: Bytes::copy_from_slice(value), until: now + ttl });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_value_is_there_until_its_time_is_over() {
        let memory = Memory::default();
        memory.set("a", b"1", TTL).unwrap();
        assert_eq!(memory.get("a").as_deref(), Some(&b"1"[..]));
        tokio::time::advance(TTL).await;
        assert_eq!(memory.get("a"), None);
        assert!(memory.compare_and_set("a", None, b"2", TTL).unwrap());
    }

    #[test]
    fn a_value_is_exchanged_for_the_expected_one_only() {
        let memory = Memory::default();
        assert!(!memory.compare_and_set("a", Some(b"0"), b"1", TTL).unwrap());
        assert!(memory.compare_and_set("a", None, b"1", TTL).unwrap());
        assert!(!memory.compare_and_set("a", None, b"2", TTL).unwrap());
        assert!(memory.compare_and_set("a", Some(b"1"), b"2", TTL).unwrap());
        assert!(!memory.delete_if("a", b"1"));
        assert!(memory.delete_if("a", b"2"));
        assert_eq!(memory.get("a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_memory_makes_room_or_says_that_it_can_t() {
        let memory = Memory::default();
        for number in 0..VALUES_MAX {
            memory.set(&number.to_string(), b"", TTL).unwrap();
        }
        assert_eq!(memory.set("more", b"", TTL), Err(Lost));
        memory.set("0", b"again", TTL).unwrap();
        tokio::time::advance(TTL).await;
        memory.set("more", b"", TTL).unwrap();
        assert_eq!(memory.lock().len(), 1);
    }
}
