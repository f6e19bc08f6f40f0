//! Between a Pingora session and `http` types.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::access::Admitted;
use crate::context::ClientContext;
use crate::facet::McpPath;

/// The body of an answer.
#[derive(Debug)]
pub enum ReplyBody {
    /// None.
    Empty,
    /// In one piece.
    Whole(Bytes),
    /// In several pieces that are known now; written without being joined.
    Chain(Vec<Bytes>),
    /// In pieces that come later. Each is written and flushed as it comes, and the answer ends when the
    /// sender is dropped. When the client is gone, the receiver is dropped.
    Stream(mpsc::Receiver<Bytes>),
}

/// An answer.
pub type Reply = http::Response<ReplyBody>;

/// A client's request that passed every check, with its body read.
#[derive(Debug)]
pub struct McpRequest {
    /// Method, target and headers as they came.
    pub head: http::request::Parts,
    /// The whole body; its size was checked.
    pub body: Bytes,
    /// Who asks.
    pub admitted: Admitted,
    /// Which endpoint was asked.
    pub path: McpPath,
    /// Where the request comes from and what it is called.
    pub context: ClientContext,
    /// Cancelled when the client closes its connection before the answer is written. The handler isn't
    /// dropped then: what a disconnect means depends on the era, and the handler knows it.
    pub gone: CancellationToken,
}

/// What answers clients of the protocol.
#[async_trait]
pub trait McpService: Send + Sync {
    /// Answers one request. A handler sets `content-type`; framing and `x-request-id` are added.
    async fn serve(&self, request: McpRequest) -> Reply;
}
