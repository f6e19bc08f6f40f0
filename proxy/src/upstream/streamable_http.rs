//! Streamable HTTP towards an upstream, in both eras, on bytes.
//!
//! Every message is a POST of its own, on the pooled client. A call's answer is the body of its POST or
//! the last message of the stream there; what comes before it goes to the call's conversation, in order
//! (`exchange`). A legacy server may have a session, named at `initialize` and repeated from then on, and
//! a stream outside calls (`listen`); its streams may be resumed (`events`). A modern one has neither.
//!
//! There is no connection whose end could be noticed: whether the upstream lives, a ping must find out.

mod asks;
pub(crate) mod events;
mod exchange;
mod listen;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bytes::Bytes;
use http::request::Builder;
use http::{HeaderValue, Method, StatusCode};
use sql::model::Upstream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::call::{Answer, Call, CallError};
use super::link::{Era, InFlight, Link, Negotiated, OpenError, Wiring};
use super::pool::Pool;
use super::target::Target;
use crate::wire::compose;
use crate::wire::headers::MCP_METHOD;

/// A message that wants no answer is taken within this time, or the upstream hangs.
const POST_TIMEOUT: Duration = Duration::from_secs(10);
/// An upstream that stops is told so, but not waited for.
const DELETE_TIMEOUT: Duration = Duration::from_secs(2);
/// Nobody needs the body of an answer to such a message; it is read so that the connection can be kept.
const ACK_BYTES_MAX: usize = 64 * 1024;

/// Opens a link. Nothing is sent yet: the first request is the handshake's.
pub(crate) fn open(spec: &Upstream, pool: &Pool, wiring: Wiring) -> Result<Arc<dyn Link>, OpenError> {
    let target = Target::of(spec, pool.dialler().egress(), &wiring.pass)?;
    let parts = Parts {
        pool: pool.clone(),
        target,
        wiring,
        spoken: ArcSwapOption::empty(),
        session: ArcSwapOption::empty(),
        in_flight: Arc::default(),
        closed: CancellationToken::new(),
        ended: CancellationToken::new(),
    };
    Ok(Arc::new(HttpLink { parts: Arc::new(parts) }))
}

struct HttpLink {
    parts: Arc<Parts>,
}

/// What the calls and streams of one link share.
struct Parts {
    pool: Pool,
    target: Target,
    wiring: Wiring,
    spoken: ArcSwapOption<Negotiated>,
    session: ArcSwapOption<HeaderValue>,
    in_flight: Arc<InFlight>,
    /// Never cancelled: see above.
    closed: CancellationToken,
    /// Ends the stream outside calls.
    ended: CancellationToken,
}

impl Parts {
    /// Before the handshake says otherwise, legacy: the era in which less is assumed.
    fn era(&self) -> Era {
        self.spoken.load().as_ref().map_or(Era::Legacy, |spoken| spoken.era())
    }

    /// The session that a request of this method is part of.
    fn session_for(&self, method: &str) -> Option<Arc<HeaderValue>> {
        let has_session = self.era() == Era::Legacy && method != "initialize";
        if has_session { self.session.load_full() } else { None }
    }

    fn keep_session(&self, session: Option<&HeaderValue>) {
        // Session management: visible ASCII only.
        let sound = |value: &&HeaderValue| value.as_bytes().iter().all(u8::is_ascii_graphic);
        // Copied: it would keep all that was read with it for as long as the session lives.
        let copied = session.filter(sound).and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
        self.session.store(copied.map(|mut session| {
            session.set_sensitive(true);
            Arc::new(session)
        }));
    }

    /// The head of a request of this method. `initialize` negotiates the version, so it names none.
    fn head_for(&self, http: Method, method: &str) -> Builder {
        let spoken = self.spoken.load();
        let spoken = spoken.as_deref().filter(|_| method != "initialize");
        self.target.head(http, spoken, self.session_for(method).as_deref())
    }

    /// The head of a request that isn't a call.
    fn head(&self, http: Method) -> Builder {
        self.head_for(http, "")
    }

    /// Sends a message that wants no answer.
    async fn post_message(&self, method: &str, message: Bytes) -> Result<(), CallError> {
        self.target.pass().ready().await;
        let mut builder = self.head_for(Method::POST, method);
        if self.era() == Era::Modern
            && let Ok(method) = HeaderValue::from_str(method)
        {
            builder = builder.header(MCP_METHOD, method);
        }
        let request = builder.body(message);
        let request =
            request.map_err(|_| CallError::Invalid { reason: "the message has invalid headers" })?;
        let sent = async {
            let response = self.pool.send(request).await?;
            let status = response.status();
            let outcome = match status {
                status if status.is_success() => Ok(()),
                StatusCode::NOT_FOUND if self.session_for(method).is_some() => Err(CallError::SessionUnknown),
                status => Err(self.target.refusal(status, response.headers())),
            };
            // What it says matters to nobody, only that it is over.
            let _ = events::whole(response, ACK_BYTES_MAX).await;
            outcome
        };
        match timeout(POST_TIMEOUT, sent).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CallError::TimedOut { after: POST_TIMEOUT }),
        }
    }

    /// Sends an answer or a cancellation. Nobody is there to hear that it failed: the upstream will.
    async fn post_reply(&self, message: Bytes) {
        if let Err(error) = self.post_message("", message).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a message did not reach its upstream");
        }
    }
}

#[async_trait]
impl Link for HttpLink {
    async fn request(&self, call: Call) -> Result<Answer, CallError> {
        exchange::exchange(&self.parts, call).await
    }

    async fn notify(&self, method: &str, params: Option<Bytes>) -> Result<(), CallError> {
        self.parts.post_message(method, compose::notification(method, params.as_deref())).await?;
        if method == "notifications/initialized" && self.parts.era() == Era::Legacy {
            self.parts.wiring.tasks.spawn("upstream stream", listen::listen(Arc::clone(&self.parts)));
        }
        Ok(())
    }

    fn set_protocol(&self, protocol: Negotiated) {
        self.parts.spoken.store(Some(Arc::new(protocol)));
    }

    fn closed(&self) -> &CancellationToken {
        &self.parts.closed
    }

    async fn close(&self) {
        let was_closed = self.parts.ended.is_cancelled();
        self.parts.ended.cancel();
        // It stays named by the calls that are on their way: that it is unknown by then says that they were not
        // carried out, where a call without a session would be refused as a bad one.
        if was_closed || self.parts.session_for("").is_none() {
            return;
        }
        let request = self.parts.head(Method::DELETE).body(Bytes::new());
        if let Ok(request) = request {
            // 405 is as good an answer as any: the upstream ends sessions by itself.
            let _ = timeout(DELETE_TIMEOUT, self.parts.pool.send(request)).await;
        }
    }
}
