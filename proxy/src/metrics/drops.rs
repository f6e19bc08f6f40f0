//! What bounded queues had no room for: counted once for the process, where each of them is full.
//!
//! A static, unlike everything else that is kept: the queues hang off every client and every upstream, each counts
//! nothing but upwards, and nobody decides anything by it. Handing a counter down to each of them would make a
//! parameter of something that none of them needs.

use std::sync::atomic::{AtomicU64, Ordering};

/// A kind of queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Messages of a call to its client; the call is cancelled.
    Conversation,
    /// Messages to a client's connection; the connection is given up.
    Connection,
    /// Messages to an upstream's connection; the call fails.
    Upstream,
    /// What waits for a place among an upstream's calls; the call fails.
    Bulkhead,
    /// Log messages of upstreams to a stream that is behind.
    LogFeed,
    /// Word to other replicas.
    Replicas,
    /// Exchanges with another replica, whose client is too slow.
    Relay,
}

impl Queue {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Conversation,
        Self::Connection,
        Self::Upstream,
        Self::Bulkhead,
        Self::LogFeed,
        Self::Replicas,
        Self::Relay,
    ];

    /// Its word, as a metric labels it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Conversation => "conversation",
            Self::Connection => "connection",
            Self::Upstream => "upstream",
            Self::Bulkhead => "bulkhead",
            Self::LogFeed => "log-feed",
            Self::Replicas => "replicas",
            Self::Relay => "relay",
        }
    }
}

static DROPPED: [AtomicU64; Queue::ALL.len()] = [const { AtomicU64::new(0) }; Queue::ALL.len()];

/// Counts what a queue had no room for.
pub(crate) fn count(queue: Queue, dropped: u64) {
    DROPPED[queue as usize].fetch_add(dropped, Ordering::Relaxed);
}

/// What queues of a kind had no room for, since the process started.
pub fn total(queue: Queue) -> u64 {
    DROPPED[queue as usize].load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_count_of_its_own() {
        let before = Queue::ALL.map(total);
        count(Queue::Relay, 3);
        assert!(total(Queue::Relay) >= before[6] + 3);
        for (at, queue) in Queue::ALL.into_iter().enumerate() {
            assert_eq!(queue as usize, at);
        }
    }
}
