//! Asking another replica over its peer listener: one request, and its answer as it comes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::Unreached;
use crate::http_bridge::{Reply, ReplyBody};
use crate::tasks::Tasks;

/// Where a peer listener takes requests.
pub(super) const PATH: &str = "/relay";
/// Carries the pass.
pub(super) const PASS: HeaderName = HeaderName::from_static("mpg-relay-pass");
/// Stands on what a replica's endpoints answered, and on nothing that the listener itself did.
pub(super) const SERVED: HeaderName = HeaderName::from_static("mpg-relay-served");

/// Replicas are near: one that doesn't take a connection in this time is taken for gone or cut off.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection whose other end vanished is noticed after about 20 s, whatever it waits for.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_PROBES: u32 = 3;
/// Idle connections are given up long before the other side does so.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections kept for each replica.
const IDLE_PER_PEER_MAX: usize = 64;
/// Exchanges with other replicas at once: each is a connection, and a stream holds one for as long as it
/// stands. A fifth of the connections that clients may have.
const EXCHANGES_MAX: usize = 4096;
/// Pieces of an answer that may wait for the client.
const PIECES_MAX: usize = 8;

/// Asks other replicas.
pub(super) struct Reach {
    client: Client<HttpConnector, Full<Bytes>>,
    places: Arc<Semaphore>,
    tasks: Tasks,
}

impl Reach {
    pub(super) fn new(tasks: Tasks) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        connector.set_keepalive(Some(KEEPALIVE_AFTER));
        connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
        connector.set_keepalive_retries(Some(KEEPALIVE_PROBES));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_PEER_MAX)
            // A request is made once: what it does at the other side may have been done.
            .retry_canceled_requests(false)
            .build(connector);
        Self { client, places: Arc::new(Semaphore::new(EXCHANGES_MAX)), tasks }
    }

    /// Sends a packed request; an answer of more than `bytes_max` in one piece isn't taken.
    pub(super) async fn ask(
        &self,
        peer: SocketAddr,
        pass: String,
        packed: Bytes,
        bytes_max: usize,
    ) -> Result<Reply, Unreached> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::warn!(exchanges.max = EXCHANGES_MAX, "too many exchanges with other replicas");
            return Err(Unreached::Unavailable);
        };
        let request = Request::post(format!("http://{peer}{PATH}")).header(PASS, pass);
        let request = request.body(Full::new(packed)).map_err(|_| Unreached::Unavailable)?;
        let answer = match self.client.request(request).await {
            Ok(answer) => answer,
            Err(error) => {
                let gone = error.is_connect() || is_refused(peer).await;
                let error = &error as &dyn std::error::Error;
                tracing::info!(replica.address = %peer, replica.is_gone = gone, error, "a replica could not be asked");
                return Err(if gone { Unreached::Gone } else { Unreached::Unavailable });
            }
        };
        if !answer.headers().contains_key(SERVED) {
            return Err(refused(peer, answer.status()));
        }
        self.reply(answer, place, bytes_max).await
    }

    async fn reply(
        &self,
        answer: Response<Incoming>,
        place: OwnedSemaphorePermit,
        bytes_max: usize,
    ) -> Result<Reply, Unreached> {
        let (mut head, body) = answer.into_parts();
        for name in [SERVED, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, http::header::DATE] {
            head.headers.remove(name);
        }
        let is_stream = head
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        let body = if is_stream {
            let (pieces, waiting) = mpsc::channel(PIECES_MAX);
            self.tasks.spawn_here("relayed stream", pass_on(body, pieces, place));
            ReplyBody::Stream(waiting)
        } else {
            match Limited::new(body, bytes_max).collect().await {
                Ok(whole) => ReplyBody::Whole(whole.to_bytes()),
                Err(error) => {
                    let too_long = error.downcast_ref::<LengthLimitError>().is_some();
                    tracing::warn!(answer.is_too_long = too_long, "a replica's answer broke off");
                    return Err(Unreached::Unavailable);
                }
            }
        };
        Ok(Response::from_parts(head, body))
    }
}

/// Whether nobody listens there any more: a connection that was kept open ends with its replica as well, and looks
/// like one that merely broke. The request isn't made again.
async fn is_refused(peer: SocketAddr) -> bool {
    match timeout(CONNECT_TIMEOUT, TcpStream::connect(peer)).await {
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Ok(Ok(_)) | Err(_) => false,
    }
}

/// Why the listener of another replica served nothing.
fn refused(peer: SocketAddr, status: StatusCode) -> Unreached {
    match status {
        // Another process has the address by now: the one that was meant is gone.
        StatusCode::MISDIRECTED_REQUEST => Unreached::Gone,
        status => {
            tracing::error!(replica.address = %peer, http.status = status.as_u16(), "a replica took no request from this one");
            Unreached::Unavailable
        }
    }
}

/// Passes pieces on until either side has enough: dropping the body closes the connection, and the other
/// replica sees that the client left.
async fn pass_on(mut body: Incoming, pieces: mpsc::Sender<Bytes>, _place: OwnedSemaphorePermit) {
    loop {
        let frame = tokio::select! {
            biased;
            () = pieces.closed() => return,
            frame = body.frame() => frame,
        };
        match frame {
            Some(Ok(frame)) => {
                let Ok(bytes) = frame.into_data() else { continue };
                if pieces.send(bytes).await.is_err() {
                    return;
                }
            }
            Some(Err(_)) | None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::runtime::Handle;
    use tokio::task::JoinSet;

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nmpg-relay-served: 1\r\ncontent-length: 2\r\n\r\nok";

    /// Reads what came of a request: each is one packet.
    async fn read(stream: &mut TcpStream) {
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    }

    /// Asks a peer that answers once and ends the connection at the second request; with or without its listener.
    async fn second(listens_on: bool) -> Result<Reply, Unreached> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = listener.local_addr().unwrap();
        let reach = Reach::new(Tasks::new(Handle::current()));
        let mut peers = JoinSet::new();
        peers.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read(&mut stream).await;
            stream.write_all(ANSWER).await.unwrap();
            read(&mut stream).await;
            let listener = listens_on.then_some(listener);
            drop(stream);
            listener
        });
        let ask = || reach.ask(peer, "pass".into(), Bytes::from_static(b"x"), 100);
        assert!(ask().await.is_ok(), "the first");
        let second = ask().await;
        drop(peers.join_next().await);
        second
    }

    #[tokio::test]
    async fn a_replica_that_ended_with_its_connection_is_gone() {
        assert!(matches!(second(false).await, Err(Unreached::Gone)));
    }

    #[tokio::test]
    async fn one_whose_connection_broke_is_unavailable() {
        assert!(matches!(second(true).await, Err(Unreached::Unavailable)));
    }
}
