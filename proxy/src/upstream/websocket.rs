//! WebSocket towards an upstream: one JSON-RPC message a text frame, each way.
//!
//! No revision of the protocol has it; servers of the first SDKs do. The socket is dialled and checked like
//! any other ([`Dialler`]) and begins as an HTTP/1.1 request with the upstream's own headers (`upgrade`), which
//! offers the subprotocol `mcp` and takes a server that doesn't know it. From then on it is a [`Channel`].
//!
//! Pings show whether the other side lives while calls are in flight and the protocol's own pings rest. What
//! ends the connection is told in words (`farewell`).

mod farewell;
mod upgrade;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use sql::model::Upstream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::call::CallError;
use super::channel::{Broken, Channel, Receipt, Sink, Source};
use super::dial::Dialler;
use super::link::{Dropped, Link, Listener, OpenError, Wiring};
use super::stream_link::{StreamLink, open_in_time};
use super::target::Target;

/// From the first lookup to the answered upgrade.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// One message, in however many frames: as large as on the other transports.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Held for each connection from the start; the library's own 128 KiB would be too much for many idle ones.
const BUFFER_BYTES: usize = 16 * 1024;
/// Below the minute after which intermediaries cut what is idle.
const PING_EVERY: Duration = Duration::from_secs(25);
/// Unanswered pings in a row after which nobody is there.
const PINGS_MISSED_MAX: u32 = 2;
/// How long a ping may wait for a writer that is busy; one that hangs is its own watchdog's matter.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the other side may take to close after either side said so.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Opens a socket and upgrades it.
pub(crate) async fn open(
    spec: &Upstream,
    dialler: &Dialler,
    wiring: Wiring,
) -> Result<Arc<dyn Link>, OpenError> {
    let target = Target::of(spec, dialler.egress(), &wiring.pass)?;
    let (dialler, tasks) = (dialler.clone(), wiring.tasks.clone());
    let opening = async move {
        let socket = upgrade::upgrade(&target, &dialler, &tasks).await?;
        Ok(WebSocketStream::from_raw_socket(socket, Role::Client, Some(config())).await)
    };
    let socket = open_in_time(&wiring.tasks, OPEN_TIMEOUT, opening).await?;
    Ok(link(socket, wiring))
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
}

/// What is spoken over.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Socket for S {}

/// The link over a socket that has been upgraded.
pub(super) fn link<S: Socket>(socket: WebSocketStream<S>, wiring: Wiring) -> Arc<dyn Link> {
    let (sink, stream) = socket.split();
    let sink = Arc::new(Mutex::new(sink));
    let vitals = Arc::new(Vitals::default());
    let gone = CancellationToken::new();
    let pings = Pings {
        sink: Arc::clone(&sink),
        vitals: Arc::clone(&vitals),
        gone: gone.clone(),
        stopping: wiring.tasks.stopping().clone(),
    };
    wiring.tasks.spawn("upstream pings", pings.run());
    let frames = Frames {
        stream,
        vitals: Arc::clone(&vitals),
        listener: Arc::clone(&wiring.listener),
        said_farewell: None,
        _gone: gone.clone().drop_guard(),
    };
    StreamLink::over(Channel::open(frames, Messages { sink, vitals }, wiring), gone, CLOSE_TIMEOUT)
}

/// What the halves of a connection know of each other.
struct Vitals {
    /// Something came since the last ping.
    heard: AtomicBool,
    /// Pings stay without an answer.
    silent: CancellationToken,
    /// What our close frame is to say.
    close_code: AtomicU16,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            heard: AtomicBool::new(true),
            silent: CancellationToken::new(),
            close_code: AtomicU16::new(CloseCode::Normal.into()),
        }
    }
}

/// Messages from the upstream.
struct Frames<S> {
    stream: SplitStream<WebSocketStream<S>>,
    vitals: Arc<Vitals>,
    listener: Arc<dyn Listener>,
    /// The other side closes, for this reason, and has until then to do so.
    said_farewell: Option<(String, Instant)>,
    _gone: DropGuard,
}

impl<S: Socket> Frames<S> {
    /// What the next frame brings: a message, nothing, or the end.
    async fn frame(&mut self) -> Result<Option<Bytes>, Broken> {
        if let Some((reason, until)) = &self.said_farewell {
            // Our own close frame leaves while the rest is read.
            return match timeout_at(*until, self.stream.next()).await {
                Ok(Some(Ok(_))) => Ok(None),
                Ok(Some(Err(_)) | None) | Err(_) => Err(Broken(reason.clone())),
            };
        }
        let frame = tokio::select! {
            biased;
            frame = self.stream.next() => frame,
            () = self.vitals.silent.cancelled() => {
                return Err(Broken(format!("the upstream left {PINGS_MISSED_MAX} pings unanswered")));
            }
        };
        self.vitals.heard.store(true, Ordering::Relaxed);
        match frame {
            Some(Ok(Message::Text(text))) => return Ok(Some(text.into())),
            Some(Ok(Message::Binary(_))) => self.listener.dropped(Dropped::Garbage),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(frame))) => {
                let reason = farewell::of_close(frame.map(|frame| frame.code));
                self.said_farewell = Some((reason, Instant::now() + CLOSE_TIMEOUT));
            }
            Some(Err(error)) => {
                let (reason, code) = farewell::of_error(&error);
                self.vitals.close_code.store(code.into(), Ordering::Relaxed);
                return Err(Broken(reason));
            }
            None => return Err(Broken(farewell::of_close(None))),
        }
        Ok(None)
    }
}

impl<S: Socket> Source for Frames<S> {
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            if let Some(message) = self.frame().await? {
                return Ok(Some(message));
            }
        }
    }
}

type Half<S> = Arc<Mutex<SplitSink<WebSocketStream<S>, Message>>>;

/// Messages to the upstream.
struct Messages<S> {
    sink: Half<S>,
    vitals: Arc<Vitals>,
}

impl<S: Socket> Sink for Messages<S> {
    async fn send(&mut self, message: Bytes, receipt: Receipt) -> Result<(), Broken> {
        let Ok(text) = Utf8Bytes::try_from(message) else {
            receipt.refused(CallError::Invalid { reason: "the message is not UTF-8" });
            return Ok(());
        };
        let sent = self.sink.lock().await.send(Message::Text(text)).await;
        sent.map_err(|error| Broken(farewell::of_error(&error).0))
    }

    async fn finish(self) {
        let code = self.vitals.close_code.load(Ordering::Relaxed).into();
        let close = Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::default() }));
        // To one that is gone nothing is said.
        let _ = self.sink.lock().await.send(close).await;
    }
}

/// Asks the other side whether it lives, as long as the connection does.
struct Pings<S> {
    sink: Half<S>,
    vitals: Arc<Vitals>,
    gone: CancellationToken,
    stopping: CancellationToken,
}

impl<S: Socket> Pings<S> {
    async fn run(self) {
        tokio::select! {
            () = self.gone.cancelled() => {}
            () = self.stopping.cancelled() => {}
            () = self.ask() => {}
        }
    }

    async fn ask(&self) {
        let mut ticks = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut missed = 0;
        loop {
            ticks.tick().await;
            missed = if self.vitals.heard.swap(false, Ordering::Relaxed) { 0 } else { missed + 1 };
            if missed == PINGS_MISSED_MAX {
                break;
            }
            let ping = async { self.sink.lock().await.send(Message::Ping(Bytes::new())).await };
            let _ = timeout(PING_TIMEOUT, ping).await; // That it can't be written, the others notice.
        }
        self.vitals.silent.cancel();
    }
}
