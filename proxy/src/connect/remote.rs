//! Requests to the gateway: what each carries, and how long one waits for a gateway that restarts.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http::{HeaderName, Method, Request, Response, StatusCode, Uri};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::trouble::Trouble;
use super::{ConnectError, Options};
use crate::tasks::Tasks;
use crate::upstream::backoff::{self, Backoff};
use crate::upstream::call::CallError;
use crate::upstream::dial::Dialler;
use crate::upstream::egress::Egress;
use crate::upstream::pool::{Body, Pool};

/// How long a message waits for a gateway that isn't there: longer than a restart takes, and shorter
/// than a client waits for an answer.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Between two attempts; also for streams that broke.
pub(super) const RETRY: Backoff =
    Backoff { initial: Duration::from_millis(100), multiplier: 2.0, max: Duration::from_secs(2) };
/// Of the time a message waits, one attempt may take half.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The gateway.
pub(super) struct Remote {
    pool: Pool,
    uri: Uri,
    headers: HeaderMap,
}

/// Headers of one request beside those of all.
pub(super) type Extra = Vec<(HeaderName, HeaderValue)>;

impl Remote {
    pub(super) fn new(options: &Options, tasks: Tasks) -> Result<Self, ConnectError> {
        let uri = options.url.as_str().parse().map_err(|_| ConnectError::Url)?;
        let agent = concat!("mcp-proxy-gateway-connect/", env!("CARGO_PKG_VERSION"));
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        if let Some(key) = &options.key {
            let bearer = HeaderValue::from_str(&format!("Bearer {}", key.expose()));
            let mut bearer = bearer.map_err(|_| ConnectError::Key)?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        for (name, value) in &options.headers {
            headers.insert(name.clone(), value.clone());
        }
        // The user names the address: there is nobody to be kept from it.
        let (_, connect_timeout) = watch::channel(CONNECT_TIMEOUT);
        let pool = Pool::new(Dialler::trusting_as_the_machine(Egress::Any, connect_timeout), tasks);
        Ok(Self { pool, uri, headers })
    }

    /// Posts a message, and waits for a gateway that can't be reached or that says it is starting:
    /// nothing was carried out then.
    pub(super) async fn post(&self, message: &Bytes, extra: &Extra) -> Result<Response<Body>, Trouble> {
        let deadline = Instant::now() + WAIT_MAX;
        let mut failures = 0;
        loop {
            let sent = self.pool.send(self.request(Method::POST, message.clone(), extra)).await;
            failures += 1;
            let pause = RETRY.after(failures, backoff::jitter());
            let may_wait = Instant::now() + pause < deadline;
            match sent {
                Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE && may_wait => {}
                Ok(response) => return Ok(response),
                Err(CallError::Unavailable { .. }) if may_wait => {}
                Err(CallError::Unavailable { reason }) => return Err(Trouble::Unreachable(reason)),
                Err(_) => return Err(Trouble::Broken),
            }
            sleep(pause).await;
        }
    }

    /// One GET or DELETE, once.
    pub(super) async fn ask(&self, method: Method, extra: &Extra) -> Result<Response<Body>, Trouble> {
        self.pool.send(self.request(method, Bytes::new(), extra)).await.map_err(|error| match error {
            CallError::Unavailable { reason } => Trouble::Unreachable(reason),
            _ => Trouble::Broken,
        })
    }

    fn request(&self, method: Method, body: Bytes, extra: &Extra) -> Request<Bytes> {
        let posts = method == Method::POST;
        let accept = if posts { "application/json, text/event-stream" } else { "text/event-stream" };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        if posts {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        headers.extend(extra.iter().cloned());
        request
    }
}
