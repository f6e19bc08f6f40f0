//! The stdio face of a gateway: MCP on standard input and output, Streamable HTTP to a gateway elsewhere.
//!
//! Reading order: [`run`] reads the client's messages in order and writes all that comes back through
//! one queue; `relay` decides what each message means and carries a request to its answer; `session` is
//! what the legacy era keeps (its session, made anew when the gateway no longer knows it, and its
//! stream); `mirror` is what the modern era repeats in headers; `remote` sends, and waits for a gateway
//! that restarts; `answers` takes a response apart; `trouble` is what the client is told.
//!
//! It adds nothing of its own to what is said: what the client speaks is what the gateway hears, in
//! either era.

mod answers;
mod mirror;
mod relay;
mod remote;
mod session;
mod trouble;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use sql::model::Secret;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::relay::Relay;
use self::remote::Remote;
use crate::tasks::Tasks;
use crate::upstream::stdio::lines::{LINE_BYTES_MAX, Lines, one_line};
use crate::upstream::target::OURS;

/// Messages that may wait for a client that reads slowly; behind them, the gateway's streams wait.
const WAITING_MAX: usize = 64;
/// How long calls in flight may go on once the client has closed our input. Clients of the official SDKs
/// send a signal after as long.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// How long what is written already may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Which gateway, and as whom.
#[derive(Debug)]
pub struct Options {
    /// Its MCP endpoint.
    pub url: Url,
    /// The API key.
    pub key: Option<Secret<String>>,
    /// More headers for every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Why it ended, other than by the client's or a signal's will.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address can't stand in a request.
    #[error("the URL is not valid")]
    Url,
    /// The key can't stand in a header.
    #[error("the key is not valid")]
    Key,
    /// The client's message is longer than any could be, or its pipe broke.
    #[error("reading from the client failed: {0}")]
    Read(String),
}

/// Whether a header belongs to HTTP or to the protocol, and so is nobody's to set.
pub fn is_ours(name: &HeaderName) -> bool {
    OURS.contains(&name.as_str()) || name.as_str().starts_with("mcp-")
}

/// Serves the client on `input` and `output` until it closes `input`, or until `stop` is cancelled.
pub async fn run<R, W>(
    options: Options,
    input: R,
    output: W,
    tasks: Tasks,
    stop: CancellationToken,
) -> Result<(), ConnectError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (out, messages) = mpsc::channel(WAITING_MAX);
    let ended = CancellationToken::new();
    let writer = tasks.spawn("client output", write(output, messages, ended.clone()));
    let relay = Relay::new(Remote::new(&options, tasks.clone())?, out, tasks, ended.clone());
    let mut lines = Lines::new(input, LINE_BYTES_MAX);
    let read = async {
        loop {
            match lines.next().await {
                Ok(Some(line)) if line.trim_ascii().is_empty() => {}
                Ok(Some(line)) => relay.take(line).await,
                Ok(None) => return Ok(()),
                Err(error) => return Err(ConnectError::Read(error.to_string())),
            }
        }
    };
    let outcome = tokio::select! {
        outcome = read => outcome,
        () = stop.cancelled() => Ok(()),
        () = ended.cancelled() => Ok(()), // The client no longer reads.
    };
    tokio::select! {
        _ = timeout(LAST_ANSWERS, relay.answered()) => {}
        () = stop.cancelled() => {}
        () = ended.cancelled() => {}
    }
    relay.end().await;
    drop(relay);
    // Whoever doesn't read it doesn't want it.
    let _ = timeout(LAST_WORDS, writer).await;
    outcome
}

/// Writes one message after the other, each as a line. That the client no longer reads ends everything.
async fn write(
    mut output: impl AsyncWrite + Unpin,
    mut messages: mpsc::Receiver<Bytes>,
    ended: CancellationToken,
) {
    while let Some(message) = messages.recv().await {
        let line = one_line(message);
        let written = async {
            output.write_all(&line).await?;
            output.write_all(b"\n").await?;
            output.flush().await
        };
        if written.await.is_err() {
            break;
        }
    }
    ended.cancel();
}
