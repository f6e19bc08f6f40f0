//! A connection that changes to another protocol: the stream itself, taken out from under Pingora.

use std::fmt;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use tokio::io::{AsyncRead, AsyncWrite};

/// A stream of bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection after its change.
pub struct Upgraded {
    /// The connection itself.
    pub io: Box<dyn Duplex>,
    /// What the client sent behind its request without waiting for the answer. It comes first.
    pub read_ahead: Bytes,
}

/// What serves the connection after its change; the request is over when it returns.
pub struct Upgrade(Box<dyn FnOnce(Upgraded) -> BoxFuture<'static, ()> + Send>);

impl Upgrade {
    /// Serves with `serve`.
    pub fn new<F, Fut>(serve: F) -> Self
    where
        F: FnOnce(Upgraded) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self(Box::new(|upgraded| serve(upgraded).boxed()))
    }

    /// Takes the connection out of a session whose answer is written. A session without a connection is
    /// left in its place, which ends by itself.
    pub(super) async fn hand_over(self, session: &mut Session) {
        let read_ahead = read_ahead(session);
        let nowhere = ServerSession::new_http1(Box::new(tokio::io::duplex(1).0));
        let taken = std::mem::replace(&mut *session.downstream_session, nowhere);
        session.set_keepalive(None);
        let ServerSession::H1(taken) = taken else {
            tracing::error!("a connection that isn't HTTP/1.1 can't change its protocol");
            return;
        };
        let io = Box::new(taken.into_inner());
        (self.0)(Upgraded { io, read_ahead }).await;
    }
}

/// What came glued to the request. It lies in the session's buffer, where it would be lost; Pingora gives
/// it out as the first piece of the body that an upgraded connection has for it.
fn read_ahead(session: &mut Session) -> Bytes {
    // Never waits: without such bytes this looks at the socket once, and takes only what is there.
    match session.read_request_body().now_or_never() {
        Some(Ok(Some(bytes))) => bytes,
        // Nothing came, or the connection broke: whoever reads next finds out.
        _ => Bytes::new(),
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgrade")
    }
}
