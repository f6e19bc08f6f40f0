//! HTTP+SSE, the transport of 2024-11-05: a stream for what the client hears, posts for what it says.
//!
//! The stream is the session. Its first event names the endpoint for posts, a path with a sealed
//! reference to the stream, bound to its key and path; with another key, or when the stream is gone, it
//! is unknown. A key is never part of it. A post is accepted with 202 and answered on the stream.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use dashmap::DashMap;
use http::request::Parts;
use http::{StatusCode, header};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use url::Url;
use uuid::Uuid;

use super::connection::{Connection, Connections, Ended, Opened, jittered};
use super::dispatch::Answered;
use super::session::{Session, SessionSealer};
use super::stream::{self, KEEP_ALIVE};
use crate::http_bridge::{McpRequest, Reply, ReplyBody};
use crate::wire::compose;
use crate::wire::envelope::{self, EnvelopeError};
use crate::wire::meta::Version;
use crate::wire::sse;

/// Pieces of events that may wait for one stream, on top of the messages that do.
const PIECES_MAX: usize = 8;

/// The parameter of the endpoint that names the stream; clients copy it as it is.
const SESSION_ID: &str = "sessionId";

const INVALID_REQUEST: i64 = -32600;
/// The session is unknown, as over Streamable HTTP.
const SESSION_NOT_FOUND: i64 = -32001;

/// A reference is as good as its stream, which ends by itself.
const REFERENCE_TTL_S: u32 = u32::MAX;

/// The endpoint.
pub struct Sse {
    connections: Connections,
    sealer: SessionSealer,
    public_url: Option<Url>,
    streams: Arc<DashMap<Uuid, Arc<Connection>>>,
}

/// Why a post has no stream.
enum NoStream {
    Missing,
    Unknown,
}

impl Sse {
    /// An endpoint without streams.
    pub fn new(connections: Connections, sealer: SessionSealer, public_url: Option<Url>) -> Self {
        Self { connections, sealer, public_url, streams: Arc::default() }
    }

    /// Opens a stream.
    pub fn stream(&self, http: &McpRequest) -> Reply {
        let face = http.path.full_path;
        let opened = match self.connections.open(http.admitted.caller().clone(), http.path) {
            Ok(opened) => opened,
            Err(refusal) => return refusal.respond(&http.context.request_id),
        };
        let id = opened.connection.id();
        let endpoint = format!(
            "{}{face}/messages?{SESSION_ID}={}",
            self.base_path(&http.head),
            self.reference(http, id)
        );
        let (pieces, body) = mpsc::channel(PIECES_MAX);
        // The channel is new and empty, so this can't fail.
        let _ = pieces.try_send(endpoint_event(&endpoint));
        self.streams.insert(id, Arc::clone(&opened.connection));
        let stream = Stream { opened, pieces, streams: Arc::clone(&self.streams) };
        self.connections.tasks.spawn_here("mcp sse stream", stream.run());
        stream::event_stream(body)
    }

    /// Takes a message, whose answer goes to the stream.
    pub async fn message(&self, http: McpRequest) -> Reply {
        let connection = match self.connection(&http) {
            Ok(connection) => connection,
            Err(refused) => return refused.into_reply(),
        };
        let charged = http.admitted.charge();
        let message = match envelope::parse(http.body) {
            Ok(message) => message,
            Err(bad) => return malformed(&bad),
        };
        match charged {
            Ok(()) => connection.receive(&http.admitted, message).await,
            Err(refusal) => connection.refuse(&refusal, &message).await,
        }
        text(StatusCode::ACCEPTED, "Accepted")
    }

    /// The stream that a post names, if it is one of this key on this path and is still open.
    fn connection(&self, http: &McpRequest) -> Result<Arc<Connection>, NoStream> {
        let query = http.head.uri.query().unwrap_or_default();
        let mut named = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == SESSION_ID);
        let (Some((_, reference)), None) = (named.next(), named.next()) else {
            return Err(NoStream::Missing);
        };
        let key = http.admitted.key().id;
        let session = self
            .sealer
            .open(&reference, key, http.path.full_path, REFERENCE_TTL_S)
            .ok_or(NoStream::Unknown)?;
        let open = self.streams.get(&session.id).ok_or(NoStream::Unknown)?;
        Ok(Arc::clone(&open))
    }

    fn reference(&self, http: &McpRequest, id: Uuid) -> String {
        let (key, face) = (http.admitted.key().id, http.path.full_path.into());
        let nothing = RawValue::from_string("{}".into()).expect("an empty object is JSON");
        let session = Session::new(key, face, Version::V2024_11_05, self.sealer.now(), nothing, None);
        self.sealer.seal(&Session { id, ..session })
    }

    /// What stands before our paths where the client is: behind a proxy that serves us below a path of its
    /// own, and that is the host the client asked for.
    fn base_path(&self, head: &Parts) -> &str {
        let Some(public) = &self.public_url else { return "" };
        let asked = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let asked =
            asked.map(|host| format!("{}://{host}/", public.scheme())).and_then(|url| Url::parse(&url).ok());
        let is_public = asked.is_some_and(|asked| {
            asked.host() == public.host() && asked.port_or_known_default() == public.port_or_known_default()
        });
        if is_public { public.path().trim_end_matches('/') } else { "" }
    }
}

impl NoStream {
    fn into_reply(self) -> Reply {
        let (status, code, message) = match self {
            Self::Missing => (
                StatusCode::BAD_REQUEST,
                INVALID_REQUEST,
                "sessionId is needed, once; the first event of the stream has it",
            ),
            Self::Unknown => (StatusCode::NOT_FOUND, SESSION_NOT_FOUND, "Session not found"),
        };
        stream::json(Answered { status, message: vec![compose::error(None, code, message, None)] })
    }
}

fn malformed(bad: &EnvelopeError) -> Reply {
    let message = vec![compose::error(bad.id(), bad.code(), &bad.to_string(), None)];
    stream::json(Answered { status: StatusCode::BAD_REQUEST, message })
}

fn text(status: StatusCode, text: &'static str) -> Reply {
    http::Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "text/plain")
        .body(ReplyBody::Whole(Bytes::from_static(text.as_bytes())))
        .expect("a status and a constant header")
}

fn endpoint_event(endpoint: &str) -> Bytes {
    let mut out = BytesMut::new();
    sse::write_event(&mut out, Some("endpoint"), None, None, endpoint.as_bytes());
    out.freeze()
}

/// An open stream.
struct Stream {
    opened: Opened,
    pieces: mpsc::Sender<Bytes>,
    streams: Arc<DashMap<Uuid, Arc<Connection>>>,
}

impl Stream {
    async fn run(mut self) {
        let connection = Arc::clone(&self.opened.connection);
        let ended = tokio::select! {
            ended = connection.ended() => Some(ended),
            () = write(&mut self.opened.queue, &self.pieces) => None,
        };
        self.streams.remove(&connection.id());
        if ended == Some(Ended::Draining) {
            while let Ok(message) = self.opened.queue.try_recv() {
                if send(&self.pieces, message).await.is_none() {
                    break;
                }
            }
        }
        // Of the rest it can't be said whether the client left or did not read.
        tracing::info!(stream.ended_by = ended.map(tracing::field::debug), "stream closed");
    }
}

/// Writes what waits, and a sign of life when nothing does; returns when the client is gone.
async fn write(queue: &mut mpsc::Receiver<Vec<Bytes>>, pieces: &mpsc::Sender<Bytes>) {
    let mut quiet_until = Instant::now() + jittered(KEEP_ALIVE);
    loop {
        let written = tokio::select! {
            biased;
            () = pieces.closed() => None,
            Some(message) = queue.recv() => send(pieces, message).await,
            () = sleep_until(quiet_until) => pieces.send(stream::keep_alive()).await.ok(),
        };
        if written.is_none() {
            return;
        }
        quiet_until = Instant::now() + jittered(KEEP_ALIVE);
    }
}

/// `None`: the client is gone, or too slow for the deadline that each piece has.
async fn send(pieces: &mpsc::Sender<Bytes>, message: Vec<Bytes>) -> Option<()> {
    for piece in stream::event_of(message) {
        pieces.send(piece).await.ok()?;
    }
    Some(())
}
