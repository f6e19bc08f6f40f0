//! What stands around every request of the control plane: its context, its errors, its headers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, header};
use proxy::context::ClientContext;

use crate::app::App;
use crate::error::{self, ApiError, Failure};

/// The longest an ordinary request may take: a few queries, or one password hash behind others.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest a request may take that waits for an upstream: its connect and list deadlines are
/// at most 300 s each by the settings; nobody looks at a spinner for longer than this.
pub(crate) const UPSTREAM_REQUEST_TIMEOUT: Duration = Duration::from_mins(2);

/// Nothing but our own files may load, and nobody may put us in a frame (threat T15). Pictures and sounds may also
/// stand in the page itself: what a tool that is tried answers comes in no other way, and can't run.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; media-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'; connect-src 'self'";

/// Outermost: turns an [`ApiError`] into its body, and dresses the answer.
pub(crate) async fn dress(request: Request, next: Next) -> Response {
    let request_id: Arc<str> = request
        .extensions()
        .get::<ClientContext>()
        .map_or_else(|| Arc::from("-"), |context| Arc::clone(&context.request_id));
    let mut response = next.run(request).await;
    if let Some(Failure(failure)) = response.extensions_mut().remove::<Failure>() {
        response = error::respond(&failure, &request_id);
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Answers of the API are for one admin at one time; the console's files say for themselves.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Answers a change once it is in force here, so that a client that uses what it made finds it.
pub(crate) async fn settle(State(app): State<App>, request: Request, next: Next) -> Response {
    let changes = !request.method().is_safe();
    let response = next.run(request).await;
    if changes && response.status().is_success() {
        app.control.settle().await;
    }
    response
}

/// Ends a request that takes longer than any should.
pub(crate) async fn limit_time(request: Request, next: Next) -> Response {
    within(REQUEST_TIMEOUT, request, next).await
}

/// The same for a request that waits for an upstream.
pub(crate) async fn limit_upstream_time(request: Request, next: Next) -> Response {
    within(UPSTREAM_REQUEST_TIMEOUT, request, next).await
}

async fn within(limit: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::TimedOut.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_too_long_ends() {
        let router = Router::new()
            .route("/", get(std::future::pending::<()>))
            .layer(from_fn(limit_time))
            .layer(from_fn(dress));
        let started = tokio::time::Instant::now();
        let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!((response.status().as_u16(), started.elapsed()), (503, REQUEST_TIMEOUT));
        assert!(response.headers().contains_key(header::RETRY_AFTER));
    }
}
