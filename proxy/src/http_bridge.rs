//! Between a Pingora session and `http` types: bodies in, answers out, and a client that leaves.
//!
//! The types here are the seam to what answers requests: it knows `http`, and nothing of Pingora.

mod admin;
mod reply;
mod request;
mod upgrade;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::proxy::Session;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use self::admin::ask;
pub use self::admin::{AdminBody, AdminService, BodyError, admin_service};
pub(crate) use self::reply::{closing_answer, write};
pub(crate) use self::request::{check_event_stream, check_json, check_media_types, read_body};
pub use self::upgrade::{Duplex, Upgrade, Upgraded};
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
    /// What the control plane answers.
    Frames(AdminBody),
    /// None: the connection changes to another protocol (status 101), and is handed over.
    Upgrade(Upgrade),
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
    /// How it came.
    pub via: Via,
}

/// How a request came to this replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// From its client.
    Client,
    /// From the gateway itself, for an admin who calls as a key.
    Console,
    /// Another replica handed it over, because something that it is about is here; it goes no further.
    Replica,
}

/// What answers clients of the protocol.
#[async_trait]
pub trait McpService: Send + Sync {
    /// Answers one request. A handler sets `content-type`; framing and `x-request-id` are added.
    async fn serve(&self, request: McpRequest) -> Reply;
}

/// Waits for `answer`, and cancels `gone` if the client closes its connection meanwhile.
pub(crate) async fn while_connected<F: Future>(
    session: &mut Session,
    answer: F,
    gone: &CancellationToken,
) -> F::Output {
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        output = &mut answer => return output,
        () = closed(session) => gone.cancel(),
    }
    answer.await
}

/// Waits until the client closes its connection (or its half of it). Never ends if the client sends more
/// instead: a request behind this one isn't read, and its connection closes after this answer.
async fn closed(session: &mut Session) {
    let Err(error) = session.read_body_or_idle(true).await else { return std::future::pending().await };
    if matches!(error.etype(), pingora::ErrorType::ConnectError) {
        session.set_keepalive(None);
        std::future::pending::<()>().await;
    }
}
