//! Every way a request to the control plane can fail, and the one function that says so to a client.
//!
//! Handlers return an [`ApiError`]; it travels in the response's extensions up to
//! [`crate::frame`], which knows the request's id and calls [`respond`]. What goes to the log and
//! what goes to the client are two texts: a body never holds SQL, a path or the text of a source.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use proxy::control::SyncError;
use serde::Serialize;
use sql::StoreError;
use sql::model::FieldError;
use utoipa::ToSchema;

/// How long a client should wait when the store is away: about as long as a restart of it takes.
const STORE_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why a request is refused or fails, by what the client can do about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// Fields that must be corrected, all of them.
    #[error("{} fields are not valid", .0.len())]
    Invalid(Vec<FieldError>),
    /// A backup that isn't restored, and why, all of it.
    #[error("the backup is not restored")]
    BackupInvalid(Vec<FieldError>),
    /// The body can't be read at all.
    #[error("the body can't be read: {0}")]
    Malformed(String),
    /// The body isn't declared as JSON.
    #[error("the body must be application/json")]
    WrongMediaType,
    /// The body is too large.
    #[error("the body is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The most a body may have.
        limit_bytes: usize,
    },
    /// No token, or one that doesn't hold.
    #[error("an admin token is required")]
    Unauthenticated,
    /// A login that doesn't hold; says not which half was wrong.
    #[error("wrong username or password")]
    WrongPassword,
    /// Known, or deliberately open, but not allowed this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// Nothing has this path or id.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// No tool has this id.
    #[error("no such tool")]
    ToolNotFound,
    /// The path exists, but not for this method.
    #[error("the method isn't allowed here")]
    MethodNotAllowed,
    /// It can't be done in the state things are in.
    #[error("{detail}")]
    Conflict {
        /// In words.
        detail: String,
        /// The fields that clash, if it is about fields.
        problems: Vec<FieldError>,
    },
    /// A change without `If-Match`.
    #[error("If-Match with the ETag of what you changed is required")]
    PreconditionRequired,
    /// It was changed since the client read it.
    #[error("it was changed meanwhile: read it again")]
    PreconditionFailed,
    /// Too many attempts.
    #[error("too many attempts")]
    RateLimited {
        /// When the next attempt may be made.
        retry_after: Duration,
    },
    /// The upstream could not do its part.
    #[error("{reason}")]
    UpstreamUnavailable {
        /// In words.
        reason: String,
    },
    /// The upstream did not answer in time.
    #[error("the upstream did not answer in time")]
    UpstreamTimeout,
    /// The store answered with an error.
    #[error("the store failed")]
    Store(#[source] Arc<StoreError>),
    /// The request took longer than any should.
    #[error("the request took too long")]
    TimedOut,
    /// A bug, or a machine in trouble.
    #[error("{doing} failed")]
    Internal {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A handler panicked; the panic hook has said where.
    #[error("a handler panicked")]
    Panicked,
}

impl ApiError {
    /// One field that must be corrected.
    pub(crate) fn field(pointer: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError::new(pointer, message)])
    }

    /// A state that forbids what was asked.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::Conflict { detail: detail.into(), problems: Vec::new() }
    }

    /// A value that another one of its kind has already.
    pub(crate) fn taken(pointer: &str, detail: &str) -> Self {
        Self::Conflict { detail: detail.into(), problems: vec![FieldError::new(pointer, detail)] }
    }

    /// Whether the store has what was asked for, but damaged.
    pub(crate) fn is_unreadable_row(&self) -> bool {
        matches!(self, Self::Store(error) if matches!(**error, StoreError::Corrupt { .. }))
    }

    /// What a client is told where this isn't the whole answer: a code, and a text for a person.
    pub(crate) fn told(&self) -> (&'static str, String) {
        let (_, code, detail) = face(self);
        (code, detail)
    }

    /// Something of our own failed while `doing`.
    pub(crate) fn internal(doing: &'static str, source: impl StdError + Send + Sync + 'static) -> Self {
        Self::Internal { doing, source: Box::new(source) }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<SyncError> for ApiError {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::Unknown => Self::NotFound("upstream"),
            SyncError::Disabled => Self::conflict("the upstream is disabled"),
            SyncError::Unavailable { reason } => Self::UpstreamUnavailable { reason },
            SyncError::TimedOut => Self::UpstreamTimeout,
            SyncError::Store(error) => Self::Store(error),
        }
    }
}

/// Carries an error from a handler up to [`crate::frame`].
#[derive(Clone)]
pub(crate) struct Failure(pub(crate) Arc<ApiError>);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(Failure(Arc::new(self)));
        response
    }
}

/// The body of every answer that isn't a success (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Problem {
    /// Always `about:blank`: `code` says what happened.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The words of the status.
    title: &'static str,
    /// The status.
    status: u16,
    /// What happened, for a person.
    detail: String,
    /// What happened, for a program: `VALIDATION`, `UNAUTHORIZED`, `FORBIDDEN`, `NOT_FOUND`,
    /// `TOOL_NOT_FOUND`, `CONFLICT`, `PRECONDITION`, `RATE_LIMITED`, `UPSTREAM_UNAVAILABLE`,
    /// `UPSTREAM_TIMEOUT`, `SERVICE_UNAVAILABLE`, `INTERNAL`.
    code: &'static str,
    /// The request's name in the logs.
    request_id: String,
    /// The fields that must be corrected.
    #[schema(value_type = Vec<ProblemField>)]
    errors: Vec<FieldError>,
}

/// A field that must be corrected.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes FieldError in the OpenAPI document")]
pub(crate) struct ProblemField {
    /// A JSON pointer into the body; a query parameter stands as `/name`.
    pointer: String,
    /// In words.
    message: String,
}

/// The answer to a client. No other place of this crate makes a failing status.
pub(crate) fn respond(error: &ApiError, request_id: &str) -> Response {
    let (status, code, detail) = face(error);
    if status.is_server_error() {
        log(error, request_id);
    }
    let problem = Problem {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail,
        code,
        request_id: request_id.to_owned(),
        errors: problems(error),
    };
    let body = serde_json::to_vec(&problem).expect("strings and numbers always serialise");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(wait) = retry_after(error) {
        // Rounded up: a client that waits as told must not come too early.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}

fn face(error: &ApiError) -> (StatusCode, &'static str, String) {
    let said = error.to_string();
    match error {
        ApiError::Invalid(_) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "VALIDATION", "some fields are not valid".into())
        }
        ApiError::BackupInvalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "BACKUP_INVALID", said),
        ApiError::Malformed(_) => (StatusCode::BAD_REQUEST, "VALIDATION", said),
        ApiError::WrongMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "VALIDATION", said),
        ApiError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "VALIDATION", said),
        ApiError::Unauthenticated | ApiError::WrongPassword => {
            (StatusCode::UNAUTHORIZED, "UNAUTHORIZED", said)
        }
        ApiError::Forbidden(_) => (StatusCode::FORBIDDEN, "FORBIDDEN", said),
        ApiError::ToolNotFound => (StatusCode::NOT_FOUND, "TOOL_NOT_FOUND", said),
        ApiError::NotFound(_) => (StatusCode::NOT_FOUND, "NOT_FOUND", said),
        ApiError::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "NOT_FOUND", said),
        ApiError::Conflict { .. } => (StatusCode::CONFLICT, "CONFLICT", said),
        ApiError::PreconditionRequired => (StatusCode::PRECONDITION_REQUIRED, "PRECONDITION", said),
        ApiError::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, "PRECONDITION", said),
        ApiError::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", said),
        ApiError::UpstreamUnavailable { .. } => (StatusCode::BAD_GATEWAY, "UPSTREAM_UNAVAILABLE", said),
        ApiError::UpstreamTimeout => (StatusCode::GATEWAY_TIMEOUT, "UPSTREAM_TIMEOUT", said),
        ApiError::Store(error) => store_face(error),
        ApiError::TimedOut => (StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", said),
        ApiError::Internal { .. } | ApiError::Panicked => internal_face(),
    }
}

fn store_face(error: &StoreError) -> (StatusCode, &'static str, String) {
    match error {
        StoreError::Conflict { .. } => {
            (StatusCode::CONFLICT, "CONFLICT", "it clashes with what is stored".into())
        }
        StoreError::InvalidCursor | StoreError::InvalidSort | StoreError::Unstorable { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "VALIDATION", "some fields are not valid".into())
        }
        StoreError::Unavailable(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", "the store is unavailable".into())
        }
        StoreError::StorageFull(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", "the store's disk is full".into())
        }
        _ => internal_face(),
    }
}

fn internal_face() -> (StatusCode, &'static str, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "something went wrong on our side".into())
}

/// The fields that must be corrected, whoever found them.
fn problems(error: &ApiError) -> Vec<FieldError> {
    match error {
        ApiError::Invalid(problems)
        | ApiError::BackupInvalid(problems)
        | ApiError::Conflict { problems, .. } => problems.clone(),
        ApiError::Store(error) => match **error {
            StoreError::InvalidCursor => vec![FieldError::new("/cursor", "is not a cursor of this list")],
            StoreError::InvalidSort => vec![FieldError::new("/sort", "is not a field of this list")],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn retry_after(error: &ApiError) -> Option<Duration> {
    match error {
        ApiError::RateLimited { retry_after } => Some(*retry_after),
        ApiError::Store(error) if error.is_transient() => Some(STORE_RETRY_AFTER),
        ApiError::TimedOut => Some(STORE_RETRY_AFTER),
        _ => None,
    }
}

fn log(error: &ApiError, request_id: &str) {
    // An upstream that is away is no fault of ours: nobody needs to look at us.
    if matches!(error, ApiError::UpstreamUnavailable { .. } | ApiError::UpstreamTimeout) {
        tracing::info!(request.id = request_id, %error, "upstream failed an admin request");
        return;
    }
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(source) = cause {
        causes.push(source.to_string());
        cause = source.source();
    }
    tracing::error!(request.id = request_id, %error, ?causes, "admin request failed");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(error: &ApiError) -> u16 {
        respond(error, "r").status().as_u16()
    }

    #[test]
    fn every_variant_has_its_status() {
        let cases = [
            (ApiError::field("/name", "is required"), 422),
            (ApiError::BackupInvalid(Vec::new()), 422),
            (ApiError::Malformed("x".into()), 400),
            (ApiError::WrongMediaType, 415),
            (ApiError::TooLarge { limit_bytes: 1 }, 413),
            (ApiError::Unauthenticated, 401),
            (ApiError::WrongPassword, 401),
            (ApiError::Forbidden("x"), 403),
            (ApiError::NotFound("upstream"), 404),
            (ApiError::ToolNotFound, 404),
            (ApiError::MethodNotAllowed, 405),
            (ApiError::conflict("x"), 409),
            (ApiError::PreconditionRequired, 428),
            (ApiError::PreconditionFailed, 412),
            (ApiError::RateLimited { retry_after: Duration::from_millis(1_200) }, 429),
            (ApiError::UpstreamUnavailable { reason: "x".into() }, 502),
            (ApiError::UpstreamTimeout, 504),
            (ApiError::TimedOut, 503),
            (StoreError::Unavailable("gone".into()).into(), 503),
            (StoreError::StorageFull("full".into()).into(), 503),
            (StoreError::Conflict { constraint: "a.b".into() }.into(), 409),
            (StoreError::InvalidCursor.into(), 422),
            (StoreError::InvalidSort.into(), 422),
            (StoreError::Unstorable { table: "upstreams" }.into(), 422),
            (StoreError::Aborted.into(), 500),
            (ApiError::internal("x", std::fmt::Error), 500),
            (ApiError::Panicked, 500),
        ];
        for (error, expected) in cases {
            assert_eq!(status(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn a_wait_is_rounded_up() {
        let answer = respond(&ApiError::RateLimited { retry_after: Duration::from_millis(1_200) }, "r");
        assert_eq!(answer.headers()[header::RETRY_AFTER], "2");
    }

    #[tokio::test]
    async fn a_source_never_reaches_the_client() {
        let error = ApiError::internal("reading", std::io::Error::other("/secret/place"));
        let body = axum::body::to_bytes(respond(&error, "r").into_body(), 4096).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(!text.contains("/secret/place"), "{text}");
        assert!(text.contains(r#""requestId":"r""#), "{text}");
    }
}
