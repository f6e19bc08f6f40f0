//! HTTP/1.1 in clear towards upstreams: one call, one connection, in the call's own task.
//!
//! A call takes an idle connection (or opens one), writes its request in one piece, and reads the answer
//! itself. No task stands between a call and its socket, so that nothing has to be handed from thread to
//! thread; a call that is dropped closes its connection, and with it the request. Once the answer is read to
//! its end the connection waits for the next call (`idle`).
//!
//! Over TLS, where HTTP/2 may be spoken, hyper does all this (`pool`).

mod body;
mod connection;
mod framing;
mod head;
mod idle;

use bytes::Bytes;
use http::{Request, Response};

pub(crate) use self::body::Body;
use self::connection::Connection;
use self::idle::Idle;
pub(super) use self::idle::{IDLE_PER_ORIGIN_MAX, IDLE_TIMEOUT};
use super::call::CallError;
use super::dial::{Dialler, Stream};
use crate::tasks::Tasks;

/// The connections to all upstreams that are spoken to in clear. Clones share them.
#[derive(Clone)]
pub(super) struct Http1 {
    idle: Idle,
}

/// What can go wrong once there is a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The socket failed.
    #[error("the connection broke")]
    Socket(#[from] std::io::Error),
    /// It ended in the middle of an answer, or before it.
    #[error("the connection ended before the answer did")]
    Ended,
    /// What came is no answer of HTTP/1.1 (RFC 9112).
    #[error("not an answer of HTTP/1.1: {0}")]
    Malformed(&'static str),
    /// Over TLS.
    #[error(transparent)]
    Hyper(hyper::Error),
}

impl Http1 {
    /// No connection yet. `tasks` owns what closes those that nobody needs.
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { idle: Idle::new(tasks) }
    }

    /// Sends one request and waits for the head of its answer.
    pub(super) async fn send(
        &self,
        dialler: &Dialler,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, CallError> {
        let (head, mut body) = request.into_parts();
        let authority = head.uri.authority().ok_or(CallError::Invalid { reason: "the URL has no host" })?;
        let origin = idle::Origin::here(authority.clone());
        let message = head::request(&head, &mut body);
        let idle = self.idle.take(&origin);
        let is_reused = idle.is_some();
        let mut connection = match idle {
            Some(connection) => connection,
            None => Box::pin(dial(dialler, &head.uri)).await?,
        };
        let mut sent = connection.ask(message.clone(), body.clone()).await;
        // The upstream closed it before a byte of this request left: nothing was carried out.
        if sent.is_err() && is_reused && connection.has_sent_nothing() {
            connection = Box::pin(dial(dialler, &head.uri)).await?;
            sent = connection.ask(message, body).await;
        }
        match sent {
            Ok(answer) => Ok(answer.map(|length| Body::of(length, connection, origin, self.idle.clone()))),
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a request to an upstream broke off"
                );
                Err(CallError::ClosedMidCall)
            }
        }
    }
}

async fn dial(dialler: &Dialler, uri: &http::Uri) -> Result<Connection, CallError> {
    match dialler.open(uri).await {
        Ok(Stream::Http(stream)) => Ok(Connection::over(stream.into_inner())),
        Ok(Stream::Https(_)) => Err(CallError::Invalid { reason: "the URL isn't one of plain HTTP" }),
        Err(error) => Err(CallError::Unavailable { reason: error.reason }),
    }
}

#[cfg(test)]
mod tests;
