//! What the replicas of an installation share beside the database: short-lived values and messages.
//!
//! In this process alone, or in Redis where `MPG_REDIS_ADDR` names one. Nothing in it is the only copy of
//! anything: losing all of it loses no correctness. Every operation may therefore answer [`Lost`], at once
//! or within [`COMMAND_TIMEOUT`], and the caller goes on without. While Redis is lost no operation waits
//! for it: one task looks for it in the background, and the others see only whether it is there.
//!
//! Keys and channels are named without the installation: the prefix that keeps two installations in one
//! Redis apart is put before them here.

mod address;
mod channels;
mod memory;
pub mod redis;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use sql::model::Timestamp;

pub use self::address::RedisAddress;
pub use self::channels::{Heard, Subscription};
use self::memory::Memory;
use self::redis::Redis;

/// How long one command may take. Longer and a call is better served without what it would have said.
pub const COMMAND_TIMEOUT: Duration = Duration::from_millis(500);

/// The cache isn't there now, or can't do what was asked; what it would have said must be done without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cache is lost")]
pub struct Lost;

/// Where replicas meet. Clones are one cache.
#[derive(Clone)]
pub enum Cache {
    /// There is one replica: this process.
    Memory(Arc<Memory>),
    /// Any number of replicas.
    Redis(Redis),
}

/// How the cache fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheHealth {
    /// Whether it is there. What lies in this process always is.
    pub up: bool,
    /// When that began.
    pub since: Timestamp,
    /// Why it isn't there, in words for a person; no address, no secret.
    pub problem: Option<String>,
    /// The replicas known to be running, this one among them; at least 1.
    pub replicas: u32,
}

impl Default for Cache {
    fn default() -> Self {
        Self::Memory(Arc::default())
    }
}

impl Cache {
    /// The Redis behind it, if there is one: for scripts, which run nowhere else.
    pub fn redis(&self) -> Option<&Redis> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(redis) => Some(redis),
        }
    }

    /// The value at `key`, unless there is none or its time is over.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Lost> {
        match self {
            Self::Memory(memory) => Ok(memory.get(key)),
            Self::Redis(redis) => redis.get(key).await,
        }
    }

    /// Puts `value` at `key` for `ttl`, whatever was there.
    pub async fn set(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), Lost> {
        match self {
            Self::Memory(memory) => memory.set(key, value, ttl),
            Self::Redis(redis) => redis.set(key, value, ttl).await,
        }
    }

    /// Puts `value` at `key` for `ttl` if exactly `expected` (`None`: nothing) is there; answers whether
    /// it did.
    pub async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool, Lost> {
        match self {
            Self::Memory(memory) => memory.compare_and_set(key, expected, value, ttl),
            Self::Redis(redis) => redis.compare_and_set(key, expected, value, ttl).await,
        }
    }

    /// Removes what is at `key`.
    pub async fn delete(&self, key: &str) -> Result<(), Lost> {
        match self {
            Self::Memory(memory) => {
                memory.delete(key);
                Ok(())
            }
            Self::Redis(redis) => redis.delete(key).await,
        }
    }

    /// Removes what is at `key` if it is exactly `expected`; answers whether it was.
    pub async fn delete_if(&self, key: &str, expected: &[u8]) -> Result<bool, Lost> {
        match self {
            Self::Memory(memory) => Ok(memory.delete_if(key, expected)),
            Self::Redis(redis) => redis.delete_if(key, expected).await,
        }
    }

    /// Tells everyone who listens to `channel`; answers how many replicas did.
    pub async fn publish(&self, channel: &str, message: &[u8]) -> Result<u64, Lost> {
        match self {
            Self::Memory(memory) => Ok(memory.channels().publish(channel, message)),
            Self::Redis(redis) => redis.publish(channel, message).await,
        }
    }

    /// Listens to `channel`, through every loss and return. See [`Heard`] for what may be missed.
    pub fn subscribe(&self, channel: &str) -> Subscription {
        match self {
            Self::Memory(memory) => memory.channels().subscribe_joined(channel),
            Self::Redis(redis) => redis.subscribe(channel),
        }
    }

    /// The replicas known to be running, this one among them: while Redis is lost, as last known.
    pub fn replicas(&self) -> u32 {
        match self {
            Self::Memory(_) => 1,
            Self::Redis(redis) => redis.replicas(),
        }
    }

    /// How it fares; `None` where there is nothing that could fail.
    pub fn health(&self) -> Option<CacheHealth> {
        self.redis().map(Redis::health)
    }
}
