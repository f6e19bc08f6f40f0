//! The peer listener: where other replicas bring what this one has the rest of.
//!
//! It is a socket of its own (`MPG_PEER_ADDR`), never the public one, and serves nothing without a pass. What
//! comes is served by the endpoints that serve clients, as if the client had come here: its key and its
//! address are checked again, its messages were counted where they came in. What came this way is never
//! handed on.

use std::convert::Infallible;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, Limited, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sql::clock::Clock;
use sql::model::Settings;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::carried::{self, Carried, HEAD_BYTES_MAX};
use super::pass::{BodyDigest, NotPassed, Passes};
use super::reach::{PASS, PATH, SERVED};
use super::seldom::Seldom;
use crate::access::{Keys, api_key, ip_allowlist, rate_limit};
use crate::http_bridge::{McpRequest, McpService, Reply, ReplyBody, Via};
use crate::refusal::Refusal;
use crate::tasks::Tasks;

/// Connections of other replicas: as many exchanges as two of them may have with this one.
const CONNECTIONS_MAX: usize = 8192;
/// How long a request's head and body may take: replicas are near.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// Between two attempts to take a connection while that fails: a process without a free descriptor is refused
/// at once each time, and connections wait in the socket's queue meanwhile.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
const BYTES_PER_MIB: usize = 1024 * 1024;

/// What answers other replicas.
pub struct PeerService {
    /// Answers as it answers clients.
    pub mcp: Arc<dyn McpService>,
    /// The keys that callers may show.
    pub keys: Keys,
    /// The settings in force.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// For the validity of keys.
    pub clock: Clock,
    /// Owner of the connections' tasks.
    pub tasks: Tasks,
}

/// The listener with what it needs.
pub(super) struct Listener {
    service: PeerService,
    passes: Arc<Passes>,
    /// Said of requests that were refused: anybody who finds the address can make some.
    refusals: Seldom,
    /// Said of connections that could not be taken.
    accepting: Seldom,
}

type Answer = Response<AnswerBody>;

impl Listener {
    /// One that answers with `service` who shows a pass.
    pub(super) fn new(service: PeerService, passes: Arc<Passes>) -> Self {
        Self { service, passes, refusals: Seldom::default(), accepting: Seldom::default() }
    }

    /// Serves until the task group stops; what is being answered then is cut.
    pub(super) async fn run(self: Arc<Self>, socket: TcpListener) {
        let listening = socket.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(socket));
        let socket = match listening {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(error = %error, "the peer listener could not be started");
                return;
            }
        };
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let listener = self;
        let stopping = listener.service.tasks.stopping().clone();
        loop {
            // Beyond the limit connections wait in the socket's queue.
            let place = tokio::select! {
                place = Arc::clone(&places).acquire_owned() => place,
                () = stopping.cancelled() => return,
            };
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = stopping.cancelled() => return,
            };
            let connection = match accepted {
                Ok((connection, _)) => connection,
                Err(error) => {
                    if let Some(more) = listener.accepting.due() {
                        tracing::warn!(error = %error, more, "the peer listener could not take a connection");
                    }
                    tokio::select! {
                        () = tokio::time::sleep(ACCEPT_RETRY) => continue,
                        () = stopping.cancelled() => return,
                    }
                }
            };
            let (listener, stopping) = (Arc::clone(&listener), stopping.clone());
            let tasks = listener.service.tasks.clone();
            tasks.spawn_here("peer connection", async move {
                let _ = connection.set_nodelay(true);
                let service = service_fn(move |request| Arc::clone(&listener).answer(request));
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(READ_DEADLINE)
                    .serve_connection(TokioIo::new(connection), service);
                tokio::select! {
                    served = served => if let Err(error) = served {
                        tracing::debug!(error = %error, "the connection of a replica broke");
                    },
                    () = stopping.cancelled() => {}
                }
                drop(place);
            });
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Infallible> {
        Ok(match self.carried(request).await {
            Ok(carried) => self.serve(carried).await,
            Err(status) => {
                let mut answer = Response::new(AnswerBody { inner: empty(), _gone: None });
                *answer.status_mut() = status;
                answer
            }
        })
    }

    /// The request in the request, proved to be another replica's.
    async fn carried(&self, request: Request<Incoming>) -> Result<Carried, StatusCode> {
        if request.method() != Method::POST || request.uri().path() != PATH {
            return Err(StatusCode::NOT_FOUND);
        }
        let pass = request.headers().get(PASS).and_then(|pass| pass.to_str().ok());
        let digest = self.verified(pass.unwrap_or_default())?;
        let body_mib_max = self.service.settings.borrow().mcp_api.request_body_max_mib;
        let bytes_max = body_mib_max as usize * BYTES_PER_MIB + HEAD_BYTES_MAX + 4;
        let body = Limited::new(request.into_body(), bytes_max).collect();
        let body = tokio::time::timeout(READ_DEADLINE, body).await;
        let body = body.map_err(|_| StatusCode::REQUEST_TIMEOUT)?.map_err(|_| StatusCode::BAD_REQUEST)?;
        let body = body.to_bytes();
        if !digest.is_of(&body) {
            return Err(NotPassed::Invalid.status());
        }
        carried::unpack(body).map_err(|_| StatusCode::BAD_REQUEST)
    }

    /// What a pass is for, if it is good here; else the status that says why not.
    pub(super) fn verified(&self, pass: &str) -> Result<BodyDigest, StatusCode> {
        self.passes.verify(pass).map_err(|refused| {
            // It may be anybody who found the address, or a replica whose clock or key isn't ours.
            if let Some(more) = self.refusals.due() {
                tracing::warn!(reason = %refused, more, "a request of another replica was refused");
            }
            refused.status()
        })
    }

    async fn serve(&self, carried: Carried) -> Answer {
        let gone = CancellationToken::new();
        // Dropped with the connection, which is closed when the client leaves.
        let guard = gone.clone().drop_guard();
        answer_of(self.reply(carried, gone).await, guard)
    }

    /// Serves it as if its client had come here; `gone` is cancelled when that leaves.
    pub(super) async fn reply(&self, carried: Carried, gone: CancellationToken) -> Reply {
        let request_id = Arc::clone(&carried.context.request_id);
        match self.admitted(carried, gone) {
            Err(refusal) => refusal.respond(&request_id),
            Ok(request) => {
                let mcp = Arc::clone(&self.service.mcp);
                // A task of its own: what the end of the connection means is the endpoint's to know.
                let serving =
                    self.service.tasks.spawn_here("relayed request", async move { mcp.serve(request).await });
                serving.await.unwrap_or_else(|_| Refusal::Internal.respond(&request_id))
            }
        }
    }

    fn admitted(&self, carried: Carried, gone: CancellationToken) -> Result<McpRequest, Refusal> {
        let Carried { head, path, context, body } = carried;
        let service = &self.service;
        let caller = api_key::authenticate(&head.uri, &head.headers, &service.keys, service.clock.now())?;
        ip_allowlist::check(&caller, context.address)?;
        // Its message was counted where it came in, but for those that are counted by their stream.
        let admitted = rate_limit::admit_without_message(caller);
        Ok(McpRequest { head, body, admitted, path, context, gone, via: Via::Replica })
    }
}

/// The body of an answer; dropped before its end, it says that nobody waits for the rest.
pub(super) struct AnswerBody {
    inner: UnsyncBoxBody<Bytes, Infallible>,
    _gone: Option<DropGuard>,
}

fn answer_of(reply: Reply, gone: DropGuard) -> Answer {
    let (mut head, body) = reply.into_parts();
    head.headers.insert(SERVED, http::HeaderValue::from_static("1"));
    let inner = match body {
        ReplyBody::Whole(bytes) => Full::new(bytes).boxed_unsync(),
        ReplyBody::Chain(pieces) => Full::new(Bytes::from(pieces.concat())).boxed_unsync(),
        ReplyBody::Stream(mut pieces) => {
            let frames = futures::stream::poll_fn(move |context| {
                pieces.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
            });
            StreamBody::new(frames).boxed_unsync()
        }
        // None of the endpoints that are reached this way answers so.
        ReplyBody::Empty | ReplyBody::Frames(_) | ReplyBody::Upgrade(_) => empty(),
    };
    Response::from_parts(head, AnswerBody { inner, _gone: Some(gone) })
}

fn empty() -> UnsyncBoxBody<Bytes, Infallible> {
    Empty::new().boxed_unsync()
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use rustix::net::{Shutdown, shutdown};

    use super::super::testing::{Installation, Nothing};
    use crate::testing::pass;

    use super::*;

    /// How long the test waits for what takes no time on a paused clock.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_socket_that_takes_no_connection_is_tried_now_and_then() {
        let (tell, told) = mpsc::channel();
        // On a thread of its own: a loop that never waits would hold up whoever looks.
        let work = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
            runtime.expect("a runtime").block_on(async move {
                let replica = Installation::new().replica(1, Nothing);
                let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
                // What it answers from now on is an error, and at once.
                shutdown(&socket, Shutdown::Both).expect("it listened");
                let running = replica.tasks.spawn("peer listener", Arc::clone(&replica.listener).run(socket));
                pass(Duration::from_secs(65)).await;
                assert!(!running.is_finished(), "it goes on");
                assert_eq!(replica.listener.accepting.due(), None, "it was said");
                replica.tasks.stop().await;
                tell.send(()).expect("it is waited for");
            });
        });
        told.recv_timeout(PATIENCE).expect("time passes: the loop waits");
        work.join().expect("it doesn't panic");
    }
}
