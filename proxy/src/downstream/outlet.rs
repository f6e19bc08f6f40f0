//! Where messages for a client go: the event stream of one answer, or the one channel that a connection
//! has for everything.
//!
//! Either way messages leave in the order in which they were put there. A queue is bounded: an answer
//! waits for room, what nobody asked for doesn't, and a client that leaves no room is given up.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::replay::StreamLog;
use super::stream;

use crate::metrics::drops::{self, Queue};

/// Messages that may wait for one connection. Each call has a queue of its own before it, so this one
/// only has to bridge the time that a write takes.
const QUEUE_MESSAGES_MAX: usize = 64;

/// A message in pieces, which are written as one.
pub type Pieces = Vec<Bytes>;

/// A way to a client.
#[derive(Clone)]
pub enum Outlet {
    /// An event stream of its own.
    Events(mpsc::Sender<Bytes>),
    /// A stream that outlives its connection.
    Log(Arc<StreamLog>),
    /// The channel of a connection.
    Shared(Outgoing),
}

/// The sending end of a connection's channel. Clones share it.
#[derive(Clone)]
pub struct Outgoing {
    queue: mpsc::Sender<Pieces>,
    overflow: CancellationToken,
}

/// A connection's channel, and the end that its transport writes from.
pub fn outgoing() -> (Outgoing, mpsc::Receiver<Pieces>) {
    let (queue, waiting) = mpsc::channel(QUEUE_MESSAGES_MAX);
    (Outgoing { queue, overflow: CancellationToken::new() }, waiting)
}

impl Outlet {
    /// Puts a message behind those before it, when there is room. `false`: the client is gone.
    pub async fn send(&self, message: Pieces) -> bool {
        match self {
            Self::Events(events) => {
                for piece in stream::event_of(message) {
                    if events.send(piece).await.is_err() {
                        return false;
                    }
                }
                true
            }
            Self::Log(log) => log.send(message).await,
            Self::Shared(outgoing) => outgoing.send(message).await,
        }
    }

    /// Puts a short message behind those before it, without waiting. `false`: the client is gone, or
    /// doesn't read.
    pub fn offer(&self, message: &[u8]) -> bool {
        match self {
            Self::Events(events) => events.try_send(stream::event(message)).is_ok(),
            Self::Log(log) => log.offer(message),
            Self::Shared(outgoing) => outgoing.offer(vec![Bytes::copy_from_slice(message)]),
        }
    }

    /// The same, but waits for room. Dropped before it has resolved, it has put nothing there.
    pub async fn offer_in_turn(&self, message: &[u8]) -> bool {
        match self {
            Self::Events(events) => events.send(stream::event(message)).await.is_ok(),
            Self::Log(log) => log.send(vec![Bytes::copy_from_slice(message)]).await,
            Self::Shared(outgoing) => outgoing.send(vec![Bytes::copy_from_slice(message)]).await,
        }
    }

    /// Gives a sign of life, where that isn't the connection's own business. `false` as above.
    pub fn keep_alive(&self) -> bool {
        match self {
            Self::Events(events) => events.try_send(stream::keep_alive()).is_ok(),
            Self::Log(_) | Self::Shared(_) => true,
        }
    }

    /// Whether both are the same way, and not just to the same client.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Events(one), Self::Events(other)) => one.same_channel(other),
            (Self::Log(one), Self::Log(other)) => Arc::ptr_eq(one, other),
            (Self::Shared(one), Self::Shared(other)) => one.queue.same_channel(&other.queue),
            _ => false,
        }
    }

    /// Whether at least half of the queue is free.
    pub fn has_room(&self) -> bool {
        match self {
            Self::Events(events) => events.capacity() >= events.max_capacity() / 2,
            Self::Log(log) => log.has_room(),
            Self::Shared(Outgoing { queue, .. }) => queue.capacity() >= queue.max_capacity() / 2,
        }
    }

    /// Whether the client is gone.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Events(events) => events.is_closed(),
            Self::Log(log) => log.is_over(),
            Self::Shared(outgoing) => outgoing.queue.is_closed(),
        }
    }

    /// Resolves when the client is gone, and where it could come back, when it has not.
    pub async fn closed(&self) {
        match self {
            Self::Events(events) => events.closed().await,
            Self::Log(log) => log.abandoned().await,
            Self::Shared(outgoing) => outgoing.queue.closed().await,
        }
    }
}

impl Outgoing {
    /// Puts a message behind those before it, when there is room. `false`: the client is gone.
    pub async fn send(&self, message: Pieces) -> bool {
        self.queue.send(message).await.is_ok()
    }

    /// Puts a message behind those before it, without waiting. Without room the client is too slow, and
    /// the whole connection is given up: what is left out here, nobody would notice.
    pub fn offer(&self, message: Pieces) -> bool {
        match self.queue.try_send(message) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                drops::count(Queue::Connection, 1);
                self.overflow.cancel();
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// Resolves when there was no room for what can't wait.
    pub async fn overflowed(&self) {
        self.overflow.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_leaves_no_room_is_given_up() {
        let (outgoing, mut waiting) = outgoing();
        let outlet = Outlet::Shared(outgoing.clone());
        for _ in 0..QUEUE_MESSAGES_MAX {
            assert!(outlet.offer(b"{}"));
        }
        assert!(!outgoing.overflow.is_cancelled());
        assert!(!outlet.offer(b"{}"));
        outgoing.overflowed().await;
        // What was taken is still there, for an end in good order.
        assert_eq!(waiting.recv().await, Some(vec![Bytes::from_static(b"{}")]));
        assert!(outgoing.send(vec![Bytes::from_static(b"last")]).await, "an answer finds room");
    }

    #[tokio::test]
    async fn both_kinds_notice_that_the_client_left() {
        let (outgoing, waiting) = outgoing();
        let (events, body) = mpsc::channel(1);
        drop((waiting, body));
        for outlet in [Outlet::Shared(outgoing), Outlet::Events(events)] {
            outlet.closed().await;
            assert!(!outlet.offer(b"{}") && !outlet.send(vec![Bytes::from_static(b"{}")]).await);
        }
    }

    #[tokio::test]
    async fn an_event_stream_gets_events_and_a_channel_gets_messages() {
        let (events, mut body) = mpsc::channel(4);
        let outlet = Outlet::Events(events);
        assert!(outlet.send(vec![Bytes::from_static(b"{"), Bytes::from_static(b"}")]).await);
        assert!(outlet.keep_alive());
        assert_eq!(body.recv().await, Some(Bytes::from_static(b"event: message\ndata: {}\n\n")));
        assert_eq!(body.recv().await, Some(Bytes::from_static(b": keep-alive\n\n")));
        let (outgoing, mut waiting) = outgoing();
        assert!(Outlet::Shared(outgoing.clone()).keep_alive());
        assert!(outgoing.send(vec![Bytes::from_static(b"{}")]).await);
        assert_eq!(waiting.recv().await, Some(vec![Bytes::from_static(b"{}")]));
    }
}
