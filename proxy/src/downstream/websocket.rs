//! WebSocket: one message a text frame, in both directions; the connection is the session.
//!
//! No revision of the protocol describes it; this is what the official SDKs do. The subprotocol `mcp` is
//! echoed and optional. Every frame passes the checks that a post would: a key that isn't valid any more
//! ends the connection (1008), one that is over its limit is told so by an error. There is no compression,
//! so a message is as large as it looks.

mod handshake;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use sql::clock::Clock;
use sql::model::Settings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message as Received};

use super::connection::{Connections, Ended, Opened, jittered};
use super::outlet::Pieces;
use super::stream::KEEP_ALIVE;
use crate::access::{self, Keys};
use crate::http_bridge::{Duplex, McpRequest, Reply, Upgrade, Upgraded};
use crate::refusal::Refusal;
use crate::wire::compose;
use crate::wire::envelope;

/// Bytes of one frame: a larger message comes in several.
const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Taken for each connection at once, so little: a message that is larger grows it.
const READ_BUFFER_BYTES: usize = 4 * 1024;
const BYTES_PER_MIB: usize = 1024 * 1024;
/// Pings without any sign of life after which a client is gone.
const PINGS_MISSED_MAX: u32 = 2;
/// How long a message of up to [`WRITE_BYTES`] may take to leave, and each further such part.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
const WRITE_BYTES: usize = 256 * 1024;
/// How long, and how many bytes, a connection that closes is still read, so that the client reads the
/// reason before the end.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: u64 = 8 * 1024 * 1024;

type Socket = WebSocketStream<Box<dyn Duplex>>;
type Sink = SplitSink<Socket, Received>;

/// The endpoint.
pub struct Websocket {
    /// Opens connections.
    pub connections: Connections,
    /// Looked in for every message.
    pub keys: Keys,
    /// How large a message may be.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// For the same checks.
    pub clock: Clock,
}

/// One connection's checks and pace.
struct Served {
    opened: Opened,
    keys: Keys,
    clock: Clock,
    address: IpAddr,
    message_bytes_max: usize,
    pace: Pace,
}

/// How fast things have to go.
#[derive(Clone, Copy)]
struct Pace {
    ping: Duration,
    write: Duration,
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client closed it, or it broke.
    Left,
    /// No sign of life.
    Silent,
    /// A message could not be written in time, or too many wait.
    TooSlow,
    /// What isn't text.
    Binary,
    NotUtf8,
    TooLarge,
    /// What isn't WebSocket.
    Malformed,
    /// The key is no longer valid.
    Unauthorized,
    Stopping,
}

impl Websocket {
    /// Answers the handshake; from then on the connection is served here.
    pub fn upgrade(&self, http: &McpRequest) -> Reply {
        self.open(http).unwrap_or_else(|refusal| refusal.respond(&http.context.request_id))
    }

    fn open(&self, http: &McpRequest) -> Result<Reply, Refusal> {
        let handshake = handshake::check(&http.head)?;
        let served = Served {
            opened: self.connections.open(http.admitted.caller().clone(), http.path)?,
            keys: self.keys.clone(),
            clock: self.clock.clone(),
            address: http.context.address,
            message_bytes_max: self.settings.borrow().mcp_api.request_body_max_mib as usize * BYTES_PER_MIB,
            pace: Pace { ping: KEEP_ALIVE, write: WRITE_DEADLINE },
        };
        Ok(handshake.accept(Upgrade::new(|upgraded| served.run(upgraded))))
    }
}

impl Served {
    async fn run(mut self, upgraded: Upgraded) {
        let Upgraded { io, read_ahead } = upgraded;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .max_message_size(Some(self.message_bytes_max))
            .max_frame_size(Some(FRAME_BYTES_MAX.min(self.message_bytes_max)));
        let socket =
            WebSocketStream::from_partially_read(io, read_ahead.into(), Role::Server, Some(config)).await;
        let (mut sink, mut stream) = socket.split();
        let connection = Arc::clone(&self.opened.connection);
        let missed = AtomicU32::new(0);
        let (queue, pace) = (&mut self.opened.queue, self.pace);
        let checks = Checks { keys: &self.keys, clock: &self.clock, address: self.address };
        let end = tokio::select! {
            ended = connection.ended() => End::from(ended),
            end = read(&mut stream, &checks, &connection, &missed) => end,
            end = write(&mut sink, queue, &missed, pace) => end,
        };
        if matches!(end, End::Stopping | End::Unauthorized) {
            // What was said before goes first.
            while let Ok(message) = queue.try_recv() {
                if send(&mut sink, message, pace.write).await.is_err() {
                    break;
                }
            }
        }
        tracing::info!(websocket.end = ?end, "websocket closed");
        drop(self);
        close(sink, stream, end).await;
    }
}

/// What every message has to pass.
struct Checks<'a> {
    keys: &'a Keys,
    clock: &'a Clock,
    address: IpAddr,
}

/// Takes messages until there are no more.
async fn read(
    stream: &mut SplitStream<Socket>,
    checks: &Checks<'_>,
    connection: &Arc<super::connection::Connection>,
    missed: &AtomicU32,
) -> End {
    loop {
        let received = match stream.next().await {
            Some(Ok(received)) => received,
            Some(Err(error)) => return End::of(&error),
            None => return End::Left,
        };
        missed.store(0, Ordering::Relaxed);
        match received {
            Received::Text(text) => {
                if let Err(end) = take(text.into(), checks, connection).await {
                    return end;
                }
            }
            Received::Binary(_) => return End::Binary,
            Received::Close(_) => return End::Left,
            Received::Ping(_) | Received::Pong(_) | Received::Frame(_) => {}
        }
    }
}

/// One message through its checks.
async fn take(
    frame: Bytes,
    checks: &Checks<'_>,
    connection: &Arc<super::connection::Connection>,
) -> Result<(), End> {
    let admitted = access::admit_again(checks.keys, connection.caller(), checks.address, checks.clock.now());
    let message = match envelope::parse(frame) {
        Ok(message) => message,
        Err(bad) => {
            let error = match &admitted {
                Ok(_) => compose::error(bad.id(), bad.code(), &bad.to_string(), None),
                Err(refusal) => compose::error_raw(bad.id(), &refusal.error_object()),
            };
            connection.say(vec![error]).await;
            return admitted.map(drop).or_else(|refusal| goes_on(&refusal));
        }
    };
    match admitted {
        Ok(admitted) => {
            connection.receive(&admitted, message).await;
            Ok(())
        }
        Err(refusal) => {
            connection.refuse(&refusal, &message).await;
            goes_on(&refusal)
        }
    }
}

/// A limit passes; a key that may not come in has to leave.
fn goes_on(refusal: &Refusal) -> Result<(), End> {
    match refusal {
        Refusal::RateLimited { .. } => Ok(()),
        _ => Err(End::Unauthorized),
    }
}

/// Writes what waits, and pings, until the client is gone.
async fn write(sink: &mut Sink, queue: &mut mpsc::Receiver<Pieces>, missed: &AtomicU32, pace: Pace) -> End {
    let mut next_ping = Instant::now() + jittered(pace.ping);
    loop {
        let written = tokio::select! {
            biased; // A client that is always busy is pinged as well.
            () = sleep_until(next_ping) => {
                if missed.fetch_add(1, Ordering::Relaxed) >= PINGS_MISSED_MAX {
                    return End::Silent;
                }
                next_ping = Instant::now() + jittered(pace.ping);
                put(sink, Received::Ping(Bytes::new()), pace.write).await
            }
            Some(message) = queue.recv() => send(sink, message, pace.write).await,
        };
        if let Err(end) = written {
            return end;
        }
    }
}

/// A message as one text frame.
async fn send(sink: &mut Sink, message: Pieces, deadline: Duration) -> Result<(), End> {
    let payload = match <[Bytes; 1]>::try_from(message) {
        Ok([whole]) => whole,
        Err(pieces) => Bytes::from(pieces.concat()),
    };
    let parts = u32::try_from(payload.len() / WRITE_BYTES + 1).unwrap_or(u32::MAX);
    // What we compose is JSON, and so is text: it isn't checked again.
    let frame = Frame::message(payload, OpCode::Data(Data::Text), true);
    put(sink, Received::Frame(frame), deadline.saturating_mul(parts)).await
}

async fn put(sink: &mut Sink, message: Received, deadline: Duration) -> Result<(), End> {
    match timeout(deadline, sink.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Left),
        Err(_) => Err(End::TooSlow),
    }
}

/// Says why, and gives the client a moment to read it: closing at once would destroy it on its way.
async fn close(mut sink: Sink, stream: SplitStream<Socket>, end: End) {
    let farewell = async {
        let said = match end.frame() {
            Some(frame) => sink.send(Received::Close(Some(frame))).await,
            None => sink.flush().await, // The echo of the client's own close, if there was one.
        };
        let Ok(mut socket) = sink.reunite(stream) else { return };
        let io = socket.get_mut();
        if said.is_err() || io.shutdown().await.is_err() {
            return;
        }
        let _ = tokio::io::copy(&mut io.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await;
    };
    // At the end of the time the connection closes, read or not.
    let _ = timeout(LINGER, farewell).await;
}

impl End {
    fn of(error: &tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => Self::TooLarge,
            tungstenite::Error::Utf8(_) => Self::NotUtf8,
            tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                Self::Left
            }
            tungstenite::Error::Protocol(_) => Self::Malformed,
            _ => Self::Left,
        }
    }

    /// What the client is told; nothing if it is gone.
    fn frame(self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Left | Self::Silent => return None,
            Self::TooSlow => (CloseCode::Policy, "messages are not read in time"),
            Self::Binary => (CloseCode::Unsupported, "messages are text"),
            Self::NotUtf8 => (CloseCode::Invalid, "messages are UTF-8"),
            Self::TooLarge => (CloseCode::Size, "the message or a frame of it is too large"),
            Self::Malformed => (CloseCode::Protocol, "not WebSocket"),
            Self::Unauthorized => (CloseCode::Policy, "the API key is no longer valid here"),
            Self::Stopping => (CloseCode::Away, "the gateway is stopping"),
        };
        Some(CloseFrame { code, reason: reason.into() })
    }
}

impl From<Ended> for End {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Revoked => Self::Unauthorized,
            Ended::TooSlow => Self::TooSlow,
            Ended::Draining => Self::Stopping,
        }
    }
}
