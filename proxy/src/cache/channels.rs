//! Who listens to which channel in this process, and how they hear of what they may have missed.
//!
//! A channel loses messages while Redis is away, and a listener that is slow loses the oldest. Both hear
//! [`Heard::Gap`] and then everything from there on, so that whoever keeps a state by messages knows when
//! to read it anew. A message that is published is heard at most once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::broadcast::{self, error::RecvError};

/// Messages of one channel that a listener may be behind: messages are hints and small relays, and who
/// is further behind is better told so than given memory.
const BEHIND_MAX: usize = 256;

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Messages may have been missed; from now on they are heard. The first thing that is heard.
    Gap,
    /// A message.
    Message(Bytes),
}

/// An ear at one channel. Dropped, it stops listening.
pub struct Subscription {
    /// Whether the channel was being listened to already, so that nobody will say it once more.
    opens_with_gap: bool,
    heard: broadcast::Receiver<Heard>,
}

impl Subscription {
    /// What is heard next; `None` when nothing will ever be again. Nothing is lost when the wait is
    /// given up.
    pub async fn next(&mut self) -> Option<Heard> {
        if std::mem::take(&mut self.opens_with_gap) {
            return Some(Heard::Gap);
        }
        match self.heard.recv().await {
            Ok(heard) => Some(heard),
            Err(RecvError::Lagged(_)) => Some(Heard::Gap),
            Err(RecvError::Closed) => None,
        }
    }
}

/// The channels that are listened to in this process.
#[derive(Default)]
pub(super) struct Channels(Mutex<HashMap<String, Channel>>);

struct Channel {
    listeners: broadcast::Sender<Heard>,
    /// Whether what is published is heard now.
    joined: bool,
}

impl Channels {
    /// Listens to a channel that has yet to be joined, unless it is already.
    pub(super) fn subscribe(&self, name: &str) -> Subscription {
        let mut channels = self.lock();
        let channel = channels.entry(name.to_owned()).or_insert_with(Channel::new);
        Subscription { opens_with_gap: channel.joined, heard: channel.listeners.subscribe() }
    }

    /// Listens to a channel that needs no joining.
    pub(super) fn subscribe_joined(&self, name: &str) -> Subscription {
        let mut channels = self.lock();
        channels.retain(|_, channel| channel.listeners.receiver_count() > 0);
        let channel = channels.entry(name.to_owned()).or_insert_with(Channel::new);
        channel.joined = true;
        Subscription { opens_with_gap: true, heard: channel.listeners.subscribe() }
    }

    /// Tells the listeners here; answers whether there was any, as a number of replicas.
    pub(super) fn publish(&self, name: &str, message: &[u8]) -> u64 {
        self.deliver(name, Bytes::copy_from_slice(message))
    }

    /// The same with a message that need not be copied.
    pub(super) fn deliver(&self, name: &str, message: Bytes) -> u64 {
        let channels = self.lock();
        let told = channels.get(name).map(|channel| channel.listeners.send(Heard::Message(message)));
        u64::from(matches!(told, Some(Ok(_))))
    }

    /// Notes that a channel is being listened to, and tells its listeners.
    pub(super) fn joined(&self, name: &str) {
        if let Some(channel) = self.lock().get_mut(name).filter(|channel| !channel.joined) {
            channel.joined = true;
            // Nobody listens any more: nobody misses anything.
            let _ = channel.listeners.send(Heard::Gap);
        }
    }

    /// Notes that no channel is heard at present.
    pub(super) fn left_all(&self) {
        self.lock().values_mut().for_each(|channel| channel.joined = false);
    }

    /// The channels to join, and those to leave because nobody listens any more (which are forgotten).
    pub(super) fn changes(&self) -> (Vec<String>, Vec<String>) {
        let mut channels = self.lock();
        let mut leave = Vec::new();
        channels.retain(|name, channel| {
            let is_heard = channel.listeners.receiver_count() > 0;
            if !is_heard && channel.joined {
                leave.push(name.clone());
            }
            is_heard
        });
        let join = channels.iter().filter(|(_, channel)| !channel.joined).map(|(name, _)| name.clone());
        (join.collect(), leave)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Channel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel {
    fn new() -> Self {
        Self { listeners: broadcast::Sender::new(BEHIND_MAX), joined: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_hears_of_the_gap_first_and_then_each_message() {
        let channels = Channels::default();
        let mut early = channels.subscribe("a");
        assert_eq!(channels.changes(), (vec!["a".to_owned()], vec![]));
        channels.joined("a");
        let mut late = channels.subscribe("a");
        assert_eq!(channels.publish("a", b"1"), 1);
        assert_eq!(channels.publish("b", b"1"), 0);
        for listener in [&mut early, &mut late] {
            assert_eq!(listener.next().await, Some(Heard::Gap));
            assert_eq!(listener.next().await, Some(Heard::Message(Bytes::from_static(b"1"))));
        }
        channels.left_all();
        channels.joined("a");
        assert_eq!(early.next().await, Some(Heard::Gap));
    }

    #[tokio::test]
    async fn who_is_too_far_behind_hears_of_a_gap() {
        let channels = Channels::default();
        let mut slow = channels.subscribe_joined("a");
        for _ in 0..=BEHIND_MAX {
            channels.publish("a", b"x");
        }
        assert_eq!(slow.next().await, Some(Heard::Gap));
        assert_eq!(slow.next().await, Some(Heard::Gap));
        assert_eq!(slow.next().await, Some(Heard::Message(Bytes::from_static(b"x"))));
    }

    #[test]
    fn a_channel_that_nobody_listens_to_is_left_and_forgotten() {
        let channels = Channels::default();
        let listener = channels.subscribe("a");
        channels.joined("a");
        drop(listener);
        assert_eq!(channels.changes(), (vec![], vec!["a".to_owned()]));
        assert_eq!(channels.changes(), (vec![], vec![]));
    }
}
