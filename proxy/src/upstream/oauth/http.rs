//! How what OAuth asks travels: through the dialler for upstreams, so that every address is checked (T27).
//!
//! Metadata is written by strangers, so each of its URLs is looked at before it is dialled, and the dialler
//! looks at each address that its name has. Redirects are answers like any other: rmcp follows those of
//! discovery that stay at their origin, each a request of its own here, and no others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, Response};
use rmcp::transport::auth::{OAuthHttpClient, OAuthHttpClientFuture, OAuthHttpRequest};
use tokio::time::timeout;

use crate::upstream::call::CallError;
use crate::upstream::pool::Pool;
use crate::upstream::streamable_http::events::whole;

/// One request, from the lookup of its name to the last byte of its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Metadata and tokens are a few kilobytes; a list of servers in it is compared each with each.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Requests of one step: what is asked says where to ask next, which ends after a few, or never.
const REQUESTS_MAX: usize = 32;

/// Why a request came to nothing; in words for an admin, without the address.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Failed(pub(super) String);

/// Sends what one step of OAuth asks.
pub(super) struct Http {
    pool: Pool,
    /// What token endpoints are told that the token is for, instead of what rmcp makes of it: a URL that
    /// is parsed and written again may end in another slash, and is another resource then.
    resource: Option<String>,
    /// Requests so far.
    sent: AtomicUsize,
}

impl Http {
    pub(super) fn new(pool: &Pool, resource: Option<&str>) -> Self {
        Self { pool: pool.clone(), resource: resource.map(str::to_owned), sent: AtomicUsize::new(0) }
    }

    /// Sends one request.
    pub(super) async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Failed> {
        if self.sent.fetch_add(1, Ordering::Relaxed) >= REQUESTS_MAX {
            return Err(Failed("it leads to too many addresses".into()));
        }
        let url = request.uri().to_string();
        self.pool.dialler().egress().check_url(&url).map_err(|error| Failed(error.to_string()))?;
        let (mut head, body) = request.into_parts();
        let body = self.naming_the_resource(&head.headers, body);
        head.headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("mcp-proxy-gateway/", env!("CARGO_PKG_VERSION"))),
        );
        head.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let request = Request::from_parts(head, Bytes::from(body));
        let sent = async {
            let (head, body) = self.pool.send(request).await?.into_parts();
            let body = whole(Response::new(body), ANSWER_BYTES_MAX).await?;
            Ok(Response::from_parts(head, body.to_vec()))
        };
        match timeout(REQUEST_TIMEOUT, sent).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(CallError::Unavailable { reason })) => Err(Failed(reason)),
            Ok(Err(CallError::TooLarge { .. })) => Err(Failed("the answer is too large".into())),
            Ok(Err(_)) => Err(Failed("the connection broke off".into())),
            Err(_) => Err(Failed("no answer in time".into())),
        }
    }

    fn naming_the_resource(&self, headers: &http::HeaderMap, body: Vec<u8>) -> Vec<u8> {
        let is_form = headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
        let Some(resource) = self.resource.as_deref().filter(|_| is_form) else { return body };
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in url::form_urlencoded::parse(&body) {
            form.append_pair(&name, if name == "resource" { resource } else { &value });
        }
        form.finish().into_bytes()
    }
}

impl OAuthHttpClient for Http {
    fn execute(&self, request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        Box::pin(async move { self.send(request.request).await.map_err(Into::into) })
    }
}
