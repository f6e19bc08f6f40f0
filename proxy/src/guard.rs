//! What happens before a request exists: connections are counted, and header sections come whole, in
//! time, and with one reading only.
//!
//! Pingora reads a header with a deadline per read and a limit of a megabyte, and offers no hook before
//! that. So the guard stands between the listener and Pingora's HTTP application: it reads the header
//! section itself, and hands it over as the bytes that were read ahead. Between two requests of one
//! connection it waits in the same place, which is where an idle connection ends.
//!
//! It never looks at a body. What came behind a header in the same read goes on with it.

mod carried;
mod connections;
mod head;
mod listener;
mod tls;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::{ALPN, Stream};
use pingora::proxy::{HttpProxy, ProxyHttp};
use pingora::server::ShutdownWatch;
use sql::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use self::carried::Carried;
pub use self::connections::Connections;
pub use self::listener::Listener;
pub use self::tls::{Tls, TlsError, TlsFiles};
use crate::context;
use crate::http_bridge;
use crate::refusal::Refusal;

/// Bytes of a header section. Tokens and cookies of real clients fit several times over (T30).
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Read at once: most requests of a client fit, header and body.
const READ_BYTES: usize = 4 * 1024;
/// What a client says first on HTTP/2 (RFC 9113, 3.4).
const H2_PREFACE_BYTES: usize = 24;
/// How long a refusal may take to be written to somebody who doesn't read.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(2);
/// Read and thrown away after a refusal, so that closing doesn't destroy the answer on its way (a socket
/// that is closed with unread bytes is reset).
const LINGER_BYTES_MAX: usize = 64 * 1024;

/// The deadlines of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// For a whole header section: from its first byte, for the first one from the connection's start (T31).
    pub head: Duration,
    /// Between the end of an answer and the next request.
    pub idle: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { head: Duration::from_secs(10), idle: Duration::from_mins(1) }
    }
}

/// Pingora's HTTP application behind the guard; what a listening service runs.
pub struct Guard<P> {
    http: Arc<HttpProxy<P>>,
    connections: Connections,
    tls: Option<Tls>,
    deadlines: Deadlines,
    clock: Clock,
}

/// How the wait for a header section ended.
enum Head {
    /// It is whole; what was read behind it follows.
    Complete(BytesMut),
    /// Closed by the client, idle for too long, or shutting down: nobody waits for an answer.
    Over,
    Refused(Refusal),
}

impl<P> Guard<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    /// Puts a guard before `http`; with `tls`, nothing else is spoken.
    pub fn new(
        http: HttpProxy<P>,
        connections: Connections,
        tls: Option<Tls>,
        deadlines: Deadlines,
        clock: Clock,
    ) -> Self {
        Self { http: Arc::new(http), connections, tls, deadlines, clock }
    }

    /// Serves a connection that has its place, over TLS or not.
    async fn serve_any(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) {
        let stream = match &self.tls {
            None => stream,
            Some(tls) => match tls.accept(stream).await {
                Some(stream) => stream,
                None => return,
            },
        };
        if !matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            return self.serve(stream, shutdown).await;
        }
        // HTTP/2 has framing of its own, whose limits are Pingora's; but not for its first words.
        if let Ok(Some(stream)) = timeout(self.deadlines.head, preface(stream)).await {
            ServerApp::process_new(&self.http, stream, shutdown).await;
        }
    }

    /// Serves one request after another until the connection ends.
    async fn serve(&self, mut stream: Stream, shutdown: &ShutdownWatch) {
        let mut settings = None;
        let opened = Instant::now();
        let mut head = self.first_head(&mut stream, opened, shutdown).await;
        loop {
            match head {
                Head::Over => return,
                Head::Refused(refusal) => return self.refuse(stream, &refusal).await,
                Head::Complete(bytes) => {
                    let mut session = ServerSession::new_http1(stream);
                    session.set_keepalive(Some(self.deadlines.idle.as_secs()));
                    if let Some(settings) = Option::take(&mut settings) {
                        pingora::apps::HttpPersistentSettings::apply_to_session(settings, &mut session);
                    }
                    session.set_pipelined_prefix(bytes);
                    let Some(reused) = self.http.process_new_http(session, shutdown).await else { return };
                    (stream, settings) = reused.consume();
                }
            }
            head = self.next_head(&mut stream, shutdown).await;
        }
    }

    /// The first header of a connection: one deadline from the start, so that connecting and waiting
    /// gains nobody time.
    async fn first_head(&self, stream: &mut Stream, opened: Instant, shutdown: &ShutdownWatch) -> Head {
        let deadline = opened + self.deadlines.head;
        match first_byte(stream, deadline, shutdown).await {
            Some(byte) => self.rest_of_head(stream, byte, deadline).await,
            None => Head::Over,
        }
    }

    /// A later header: the connection may idle, but once a byte came the header's deadline runs.
    async fn next_head(&self, stream: &mut Stream, shutdown: &ShutdownWatch) -> Head {
        match first_byte(stream, Instant::now() + self.deadlines.idle, shutdown).await {
            Some(byte) => self.rest_of_head(stream, byte, Instant::now() + self.deadlines.head).await,
            None => Head::Over,
        }
    }

    async fn rest_of_head(&self, stream: &mut Stream, first: u8, deadline: Instant) -> Head {
        match timeout_at(deadline, read_head(stream, first)).await {
            Ok(head) => head,
            Err(_) => Head::Refused(Refusal::HeadTooSlow { deadline: self.deadlines.head }),
        }
    }

    /// Says no to a connection that has no request yet, and closes it.
    async fn refuse(&self, mut stream: Stream, refusal: &Refusal) {
        let request_id = context::new_request_id(&self.clock);
        tracing::info!(
            request.id = %request_id,
            client.address = peer_of(&stream).map(tracing::field::display),
            refusal.reason = refusal.reason(),
            "connection refused"
        );
        let secure = stream.get_ssl_digest().is_some();
        let answer = http_bridge::closing_answer(&refusal.respond(&request_id), &request_id, secure);
        let farewell = async {
            stream.write_all(&answer).await?;
            AsyncWriteExt::shutdown(&mut stream).await?;
            let mut rest = stream.take(LINGER_BYTES_MAX as u64);
            tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
        };
        // Whether it was read is the client's concern.
        let _ = timeout(REFUSAL_DEADLINE, farewell).await;
    }
}

#[async_trait]
impl<P> ServerApp for Guard<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        match self.connections.enter(peer_of(&stream)) {
            // Not over TLS: a handshake costs more than what is to be refused here.
            None if self.tls.is_some() => {}
            None => self.refuse(stream, &Refusal::TooManyConnections).await,
            Some(_slot) => self.serve_any(stream, shutdown).await,
        }
        None
    }

    async fn cleanup(&self) {
        self.http.http_cleanup().await;
    }
}

fn peer_of(stream: &Stream) -> Option<IpAddr> {
    let digest = stream.get_socket_digest()?;
    Some(digest.peer_addr()?.as_inet()?.ip().to_canonical())
}

/// Reads the start of an HTTP/2 connection ahead, so that it can have a deadline.
async fn preface(mut stream: Stream) -> Option<Stream> {
    let mut ahead = [0; H2_PREFACE_BYTES];
    stream.read_exact(&mut ahead).await.ok()?;
    Some(Box::new(Carried::new(stream, Bytes::copy_from_slice(&ahead))))
}

/// Waits for the start of a request. A connection that says nothing isn't answered either.
async fn first_byte(stream: &mut Stream, deadline: Instant, shutdown: &ShutdownWatch) -> Option<u8> {
    let mut shutdown = shutdown.clone();
    let mut byte = [0];
    tokio::select! {
        biased; // A request that is there already is served, shutting down or not.
        read = timeout_at(deadline, stream.read(&mut byte)) => match read {
            Ok(Ok(1)) => Some(byte[0]),
            _ => None,
        },
        _ = shutdown.wait_for(|stopping| *stopping) => None,
    }
}

async fn read_head(stream: &mut Stream, first: u8) -> Head {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    buffer.extend_from_slice(&[first]);
    let mut scanned = 0;
    let mut started = false;
    loop {
        if !started && buffer.len() >= 2 {
            started = true;
            if buffer.starts_with(b"\r\n") {
                buffer.advance(2); // RFC 9112, 2.2: one empty line before a request is to be ignored.
            }
        }
        match head::end(&buffer, scanned) {
            Err(refusal) => return Head::Refused(refusal),
            Ok(Some(end)) if end <= HEAD_BYTES_MAX => {
                return match head::check(&buffer[..end]) {
                    Ok(()) => Head::Complete(buffer),
                    Err(refusal) => Head::Refused(refusal),
                };
            }
            Ok(None) if buffer.len() <= HEAD_BYTES_MAX => {}
            Ok(_) => return Head::Refused(Refusal::HeadTooLarge { limit: HEAD_BYTES_MAX }),
        }
        scanned = if started { buffer.len() } else { 0 };
        buffer.reserve(READ_BYTES);
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return Head::Over,
            Ok(_) => {}
        }
    }
}
