//! A link that is one channel over one connection: what WebSocket and HTTP+SSE have in common.
//!
//! The connection belongs to the channel's source and is gone with it. The link is closed, or dropped, by
//! ending the channel.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::call::{Answer, Call, CallError};
use super::channel::Channel;
use super::link::{Link, Negotiated, OpenError, Stage};
use crate::tasks::Tasks;

/// A channel and the end of its connection.
pub(crate) struct StreamLink {
    channel: Channel,
    /// Cancelled when the source is gone.
    gone: CancellationToken,
    /// How long the upstream may take to close its side.
    farewell: Duration,
}

impl StreamLink {
    /// `gone` is cancelled by the source of `channel` when it drops.
    pub(crate) fn new(channel: Channel, gone: CancellationToken, farewell: Duration) -> Arc<dyn Link> {
        Arc::new(Self { channel, gone, farewell })
    }

    fn cut(&self) {
        self.channel.close();
        self.channel.cut("the connection was closed");
    }
}

#[async_trait]
impl Link for StreamLink {
    async fn request(&self, call: Call) -> Result<Answer, CallError> {
        self.channel.request(call).await
    }

    async fn notify(&self, method: &str, params: Option<Bytes>) -> Result<(), CallError> {
        self.channel.notify(method, params.as_deref())
    }

    fn set_protocol(&self, protocol: Negotiated) {
        self.channel.set_protocol(protocol);
    }

    fn closed(&self) -> &CancellationToken {
        self.channel.lost()
    }

    async fn close(&self) {
        self.channel.close();
        let _ = timeout(self.farewell, self.gone.cancelled()).await;
        self.cut();
    }

    fn farewell(&self) -> Option<String> {
        self.channel.over()
    }
}

impl Drop for StreamLink {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Opens a connection on the runtime that owns the link, whichever asks for it: the socket belongs to that
/// one's reactor. Bounded in time, and over when the tasks are told to stop.
pub(crate) async fn open_in_time<T: Send + 'static>(
    tasks: &Tasks,
    limit: Duration,
    open: impl Future<Output = Result<T, OpenError>> + Send + 'static,
) -> Result<T, OpenError> {
    let stopping = tasks.stopping().clone();
    let opened = tasks
        .spawn("upstream open", async move { stopping.run_until_cancelled(timeout(limit, open)).await })
        .await;
    match opened {
        Ok(Some(Ok(outcome))) => outcome,
        Ok(Some(Err(_))) => {
            Err(OpenError::new(Stage::Initialize, "the upstream did not open its stream in time"))
        }
        Ok(None) | Err(_) => Err(OpenError::new(Stage::Connect, "the gateway is stopping")),
    }
}
