//! The one pooled HTTP client towards upstreams, on the checking dialler.
//!
//! In clear it is ours (`http1`); over TLS, where a server may choose HTTP/2, hyper's. Redirects are answers like
//! any other here: following one would carry a credential elsewhere (T09).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::call::CallError;
use super::dial::Dialler;
use super::http1::{Broken, Http1, IDLE_PER_ORIGIN_MAX, IDLE_TIMEOUT};
use super::link::OpenError;
use crate::tasks::Tasks;

/// An HTTP/2 connection, which many calls share, is checked this often.
const H2_KEEPALIVE: Duration = Duration::from_secs(20);

/// The client. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Pool {
    in_clear: Http1,
    over_tls: Client<Dialler, Full<Bytes>>,
    dialler: Dialler,
}

/// The body of an answer. Dropped before its end, it ends its request.
pub(crate) enum Body {
    /// In clear.
    Http1(super::http1::Body),
    /// Over TLS.
    Hyper(Incoming),
}

impl Pool {
    /// A client that reaches upstreams through `dialler` alone; `tasks` owns what closes idle connections.
    pub(crate) fn new(dialler: Dialler, tasks: Tasks) -> Self {
        let over_tls = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_ORIGIN_MAX)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(H2_KEEPALIVE)
            .build(dialler.clone());
        Self { in_clear: Http1::new(tasks), over_tls, dialler }
    }

    /// The dialler below.
    pub(crate) fn dialler(&self) -> &Dialler {
        &self.dialler
    }

    /// Sends one request and waits for the head of its answer.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, CallError> {
        if request.uri().scheme() == Some(&Scheme::HTTP) {
            let answer = self.in_clear.send(&self.dialler, request).await;
            return answer.map(|answer| answer.map(Body::Http1));
        }
        // A large future, of which calls in clear are to know nothing.
        let answer = Box::pin(self.over_tls.request(request.map(Full::new))).await;
        answer.map(|answer| answer.map(Body::Hyper)).map_err(|error| failure(&error))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx),
            Self::Hyper(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(Broken::Hyper)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Hyper(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Hyper(body) => body.size_hint(),
        }
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
