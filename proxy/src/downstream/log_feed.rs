//! Log messages that belong to no call, on their way to the streams and connections of legacy
//! sessions.
//!
//! Each message is composed once and put to all streams, which decide for themselves: whether
//! the session's level admits it and whether its view shows the upstream. A stream that can't follow
//! loses messages and nothing else.

use std::sync::Arc;

use bytes::Bytes;
use sql::model::UpstreamId;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::stream;
use crate::metrics::drops::{self, Queue};
use crate::wire::compose;
use crate::wire::meta::LogLevel;

/// Messages that a stream may be behind.
const BEHIND_MAX: usize = 256;

/// A longer message isn't passed on: there may be thousands of streams.
const PARAMS_BYTES_MAX: usize = 64 * 1024;

/// What a session that named no level is sent.
pub const LEVEL_DEFAULT: LogLevel = LogLevel::Info;

/// A message of an upstream.
#[derive(Debug)]
pub struct LogMessage {
    /// Which upstream.
    pub upstream: UpstreamId,
    /// How severe.
    pub level: LogLevel,
    /// The whole notification.
    pub message: Bytes,
}

/// Where messages come from. Clones share it.
#[derive(Clone)]
pub struct LogFeed(broadcast::Sender<Arc<LogMessage>>);

/// Where one stream hears them.
pub struct Follower(broadcast::Receiver<Arc<LogMessage>>);

impl Default for LogFeed {
    fn default() -> Self {
        Self(broadcast::Sender::new(BEHIND_MAX))
    }
}

impl LogFeed {
    /// Puts a message to all who follow. One without a valid level, or too long, is dropped.
    pub fn publish(&self, upstream: UpstreamId, params: &Bytes) {
        let level = stream::level_of(params).filter(|_| params.len() <= PARAMS_BYTES_MAX);
        let Some(level) = level else {
            tracing::debug!(upstream.id = %upstream, "a log message was dropped: no valid level, or too long");
            return;
        };
        let message = compose::notification("notifications/message", Some(params));
        // Nobody may be there.
        let _ = self.0.send(Arc::new(LogMessage { upstream, level, message }));
    }

    /// Hears what comes from now on.
    pub fn follow(&self) -> Follower {
        Follower(self.0.subscribe())
    }
}

impl Follower {
    /// The next message.
    pub async fn next(&mut self) -> Arc<LogMessage> {
        loop {
            match self.0.recv().await {
                Ok(message) => return message,
                Err(RecvError::Lagged(count)) => {
                    drops::count(Queue::LogFeed, count);
                    tracing::debug!(count, "a stream lost log messages");
                }
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sql::model::Timestamp;

    use super::*;

    #[tokio::test]
    async fn who_is_too_far_behind_loses_the_oldest() {
        let feed = LogFeed::default();
        let upstream = UpstreamId::at(Timestamp::from_millis(0));
        let mut follower = feed.follow();
        feed.publish(upstream, &Bytes::from_static(br#"{"level":"loud","data":0}"#));
        for count in 0..=BEHIND_MAX {
            feed.publish(upstream, &format!(r#"{{"level":"error","data":{count}}}"#).into());
        }
        let first = follower.next().await;
        assert_eq!(first.level, LogLevel::Error);
        let text = String::from_utf8(first.message.to_vec()).expect("UTF-8");
        assert!(text.contains(r#""params":{"level":"error","data":1}"#), "{text}");
    }
}
