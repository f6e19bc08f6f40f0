//! HTTP+SSE towards an upstream: the transport of 2024-11-05, where one stream of events carries all that the
//! server says, and every message of ours is a POST.
//!
//! The stream is opened with GET. Its first event of the type `endpoint` says where messages go, relative to
//! the URL: to the same origin only, since the upstream's credential goes along (T09, T27). From then on it is a
//! [`Channel`]: answers come on the stream in any order. It can't be resumed: where it ends, the
//! connection is lost.
//!
//! Messages are posted one after the other, so that they arrive in order. There are servers that leave a
//! POST unanswered until they have worked on its message, so after a moment the next follows regardless.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use sql::model::{Transport, Upstream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

use super::call::CallError;
use super::channel::{Broken, Channel, Receipt, Sink, Source};
use super::egress::Egress;
use super::link::{Link, Listener, OpenError, Stage, Wiring};
use super::pool::{Body, Pool};
use super::stream_link::{StreamLink, open_in_time};
use super::streamable_http::events::{Heard, Media, media, next_event, whole};
use super::target::Target;
use crate::tasks::Tasks;
use crate::wire::sse::Reader;

/// From the GET to the event that names the endpoint.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// One event: a message as large as on the other transports.
const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest address of an endpoint; browsers and proxies begin to cut at about a quarter of this.
const ENDPOINT_BYTES_MAX: usize = 8 * 1024;
/// How long a message is waited for before the next is posted beside it.
const TAKEN_WITHIN: Duration = Duration::from_millis(250);
/// POSTs that the upstream hasn't answered: as many as calls may be in flight. Beyond it the writer waits,
/// and takes an upstream that answers none at all for one that hangs.
const POSTS_MAX: usize = 256;
/// Nobody needs the body of an answer to a POST; it is read so that the connection can be kept.
const ACK_BYTES_MAX: usize = 64 * 1024;

/// Opens the stream and waits for the endpoint.
pub(crate) async fn open(spec: &Upstream, pool: &Pool, wiring: Wiring) -> Result<Arc<dyn Link>, OpenError> {
    let target = Arc::new(Target::of(spec, pool.dialler().egress(), &wiring.pass)?);
    let opening = begin(pool.clone(), Arc::clone(&target));
    let (mut stream, endpoint) = open_in_time(&wiring.tasks, OPEN_TIMEOUT, opening).await?;
    let gone = CancellationToken::new();
    stream.gone = Some(gone.clone().drop_guard());
    let posts = Posts {
        pool: pool.clone(),
        target,
        endpoint,
        tasks: wiring.tasks.clone(),
        listener: Arc::clone(&wiring.listener),
        places: Arc::new(Semaphore::new(POSTS_MAX)),
        gone: gone.clone(),
    };
    let channel = Channel::open(stream, posts, wiring);
    // The server has no way to close its side in answer to ours.
    Ok(StreamLink::over(channel, gone, Duration::ZERO))
}

async fn begin(pool: Pool, target: Arc<Target>) -> Result<(Events, Uri), OpenError> {
    let failed = |reason: String| OpenError::new(Stage::Initialize, reason);
    target.pass().ready().await;
    let request = target.head(Method::GET, None, None).body(Bytes::new());
    let request = request.map_err(|_| failed("the request has invalid headers".into()))?;
    let response = pool.send(request).await.map_err(|error| {
        let reason = error.to_string();
        OpenError { stage: Stage::Connect, reason, source: Some(Box::new(error)) }
    })?;
    let status = response.status();
    if !status.is_success() {
        let error = target.refusal(status, response.headers());
        let (stage, reason) = (Stage::Initialize, error.to_string());
        return Err(OpenError { stage, reason, source: Some(Box::new(error)) });
    }
    if media(&response) != Media::Events {
        return Err(failed("the upstream answered with something else than a stream of events".into()));
    }
    let mut events = Events { body: response.into_body(), reader: Reader::new(EVENT_BYTES_MAX), gone: None };
    loop {
        let event = next_event(&mut events.body, &mut events.reader).await;
        let event = event.map_err(|_| failed(TOO_LARGE.into()))?;
        let Heard::Event(event) = event else {
            return Err(failed("the stream ended before it named an endpoint".into()));
        };
        if event.event.as_deref() == Some("endpoint") {
            let endpoint = resolve(target.uri(), &event.data, pool.dialler().egress());
            return endpoint.map(|endpoint| (events, endpoint)).map_err(|reason| failed(reason.into()));
        }
    }
}

/// What an event of more than [`EVENT_BYTES_MAX`] is called.
const TOO_LARGE: &str = "the upstream sent an event of more than 16 MiB";

/// Where messages go, if it is of the same origin.
fn resolve(base: &Uri, endpoint: &[u8], egress: Egress) -> Result<Uri, &'static str> {
    const UNREADABLE: &str = "the endpoint that it names is not an address";
    if endpoint.len() > ENDPOINT_BYTES_MAX {
        return Err(UNREADABLE);
    }
    let base = Url::parse(&base.to_string()).map_err(|_| UNREADABLE)?;
    let named = std::str::from_utf8(endpoint).map_err(|_| UNREADABLE)?;
    let mut endpoint = base.join(named).map_err(|_| UNREADABLE)?;
    if endpoint.origin() != base.origin() {
        return Err("the endpoint that it names is of another origin");
    }
    endpoint.set_fragment(None);
    // No other address can come of it, but a user name can.
    let endpoint = egress.check_url_for(Transport::Sse, endpoint.as_str()).map_err(|_| UNREADABLE)?;
    endpoint.as_str().parse().map_err(|_| UNREADABLE)
}

/// Messages from the upstream.
struct Events {
    body: Body,
    reader: Reader,
    gone: Option<DropGuard>,
}

impl Source for Events {
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            let event = next_event(&mut self.body, &mut self.reader).await;
            let Heard::Event(event) = event.map_err(|_| Broken(TOO_LARGE.into()))? else { return Ok(None) };
            // What has another type is not of the protocol.
            let is_message = event.event.as_deref().is_none_or(|kind| kind == "message");
            if is_message && !event.data.is_empty() {
                return Ok(Some(event.data));
            }
        }
    }
}

/// Messages to the upstream.
struct Posts {
    pool: Pool,
    target: Arc<Target>,
    endpoint: Uri,
    tasks: Tasks,
    listener: Arc<dyn Listener>,
    /// For POSTs that the upstream hasn't answered.
    places: Arc<Semaphore>,
    /// The stream is gone, and so nobody waits for an answer.
    gone: CancellationToken,
}

impl Sink for Posts {
    async fn send(&mut self, message: Bytes, receipt: Receipt) -> Result<(), Broken> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| Broken("the connection is closed".into()))?;
        self.target.pass().ready().await;
        let request = self.target.head(Method::POST, None, None).uri(self.endpoint.clone());
        let Ok(request) = request.body(message) else {
            receipt.refused(CallError::Invalid { reason: "the message has invalid headers" });
            return Ok(());
        };
        let (pool, listener, gone) = (self.pool.clone(), Arc::clone(&self.listener), self.gone.clone());
        let target = Arc::clone(&self.target);
        let (ended, taken) = oneshot::channel::<()>();
        self.tasks.spawn("upstream post", async move {
            if let Some(Err(error)) = gone.run_until_cancelled(post(&pool, request, &target)).await {
                if !matches!(error, CallError::Refused { .. } | CallError::Denied(_)) {
                    listener.suspect();
                }
                receipt.refused(error);
            }
            drop((place, ended));
        });
        let _ = timeout(TAKEN_WITHIN, taken).await;
        Ok(())
    }

    async fn finish(self) {}
}

/// Sends one message. What is answered to it comes on the stream.
async fn post(pool: &Pool, request: http::Request<Bytes>, target: &Target) -> Result<(), CallError> {
    let response = pool.send(request).await?;
    let outcome = match response.status() {
        status if status.is_success() => Ok(()),
        StatusCode::NOT_FOUND => Err(CallError::SessionUnknown),
        status => Err(target.refusal(status, response.headers())),
    };
    let _ = whole(response, ACK_BYTES_MAX).await;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_resolved_and_stays_at_its_origin() {
        let base: Uri = "http://127.0.0.1:8000/base/sse?key=a".parse().expect("an address");
        let named = |endpoint: &str| {
            resolve(&base, endpoint.as_bytes(), Egress::Private).map(|endpoint| endpoint.to_string())
        };
        for (endpoint, resolved) in [
            ("/messages?sessionId=1", "http://127.0.0.1:8000/messages?sessionId=1"),
            ("messages/?s=1#part", "http://127.0.0.1:8000/base/messages/?s=1"),
            ("?s=1", "http://127.0.0.1:8000/base/sse?s=1"),
            ("http://127.0.0.1:8000/m", "http://127.0.0.1:8000/m"),
            ("http://127.1:8000/m", "http://127.0.0.1:8000/m"),
        ] {
            assert_eq!(named(endpoint).as_deref(), Ok(resolved));
        }
        for foreign in [
            "http://127.0.0.1:8001/m",
            "http://127.0.0.2:8000/m",
            "https://127.0.0.1:8000/m",
            "//evil.example/m",
            "\\\\evil.example/m",
            "file:///etc/passwd",
        ] {
            assert_eq!(named(foreign), Err("the endpoint that it names is of another origin"), "{foreign}");
        }
        let user = "http://user@127.0.0.1:8000/m";
        for unreadable in [user, "http://", &"a".repeat(ENDPOINT_BYTES_MAX + 1)] {
            assert_eq!(named(unreadable), Err("the endpoint that it names is not an address"));
        }
    }
}
