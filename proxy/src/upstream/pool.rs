//! The one pooled HTTP client towards upstreams, on the checking dialler.
//!
//! Redirects are answers like any other here: following one would carry a credential elsewhere (T09).

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::call::CallError;
use super::dial::Dialler;
use super::link::OpenError;

/// Common servers close an idle connection after 5 s. A call written into that closing is lost and must
/// not be repeated, so ours are given up first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Idle connections kept per origin: the calls that one upstream usually has in flight.
const IDLE_PER_ORIGIN_MAX: usize = 32;
/// An HTTP/2 connection, which many calls share, is checked this often.
const H2_KEEPALIVE: Duration = Duration::from_secs(20);

/// The client. Clones share its connections, which live on the runtime of whoever opened them.
#[derive(Clone)]
pub(crate) struct Pool {
    client: Client<Dialler, Full<Bytes>>,
    dialler: Dialler,
}

impl Pool {
    /// A client that reaches upstreams through `dialler` alone.
    pub(crate) fn new(dialler: Dialler) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_ORIGIN_MAX)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(H2_KEEPALIVE)
            .build(dialler.clone());
        Self { client, dialler }
    }

    /// The dialler below.
    pub(crate) fn dialler(&self) -> &Dialler {
        &self.dialler
    }

    /// Sends one request and waits for the head of its answer.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, CallError> {
        self.client.request(request).await.map_err(|error| failure(&error))
    }
}

/// Whether anything was sent decides whether a call may be repeated.
fn failure(error: &Error) -> CallError {
    if !error.is_connect() {
        tracing::debug!(error = error as &dyn std::error::Error, "request to an upstream broke off");
        return CallError::ClosedMidCall;
    }
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(open) = cause.downcast_ref::<OpenError>() {
            return CallError::Unavailable { reason: open.reason.clone() };
        }
        next = cause.source();
    }
    CallError::Unavailable { reason: "the connection could not be opened".into() }
}
