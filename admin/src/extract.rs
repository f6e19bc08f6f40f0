//! What handlers take: the admin, the client, an id, a body, a version.

use std::collections::HashSet;
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use proxy::context::ClientContext;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sql::admin_users;
use sql::model::{AdminUserId, TokenId};

use crate::App;
use crate::error::ApiError;
use crate::fields::{Problems, pointer_to};
use crate::session::Origin;

/// The largest body an operation takes: a settings patch or an upstream with 128 arguments is far smaller.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;

/// A user agent in an audit event.
const USER_AGENT_CHARS_MAX: usize = 256;

/// Where a request comes from and how logs call it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// The client's address.
    pub(crate) address: IpAddr,
    /// The request's name.
    pub(crate) request_id: Arc<str>,
    /// What the client calls itself.
    pub(crate) user_agent: Option<String>,
}

impl Client {
    /// Where a session that opens now comes from.
    pub(crate) fn origin(&self) -> Origin {
        Origin { address: self.address, user_agent: self.user_agent.clone().unwrap_or_default() }
    }
}

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(context) = parts.extensions.get::<ClientContext>() else {
            return Err(ApiError::internal("finding the client's address", NoContext));
        };
        let user_agent = parts.headers.get(header::USER_AGENT).map(|value| {
            String::from_utf8_lossy(value.as_bytes()).chars().take(USER_AGENT_CHARS_MAX).collect()
        });
        Ok(Self { address: context.address, request_id: Arc::clone(&context.request_id), user_agent })
    }
}

/// The listener did not say where a request comes from.
#[derive(Debug, thiserror::Error)]
#[error("the request came without its context")]
struct NoContext;

/// The proof that a request carries a token that holds. Only [`authenticate`] makes one.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    /// Who it is.
    pub(crate) id: AdminUserId,
    /// Under which name.
    pub(crate) username: Arc<str>,
    /// In which session.
    pub(crate) token: TokenId,
    /// Where the request comes from.
    pub(crate) client: Client,
}

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or(ApiError::Unauthenticated)
    }
}

/// Stands before every route of class `Admin`: lets only those pass whose token holds.
pub(crate) async fn authenticate(State(app): State<App>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match admin_of(&app, &mut parts).await {
        Ok(admin) => {
            parts.extensions.insert(admin);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => error.into_response(),
    }
}

async fn admin_of(app: &App, parts: &mut Parts) -> Result<Admin, ApiError> {
    let client = Client::from_request_parts(parts, app).await?;
    let text = bearer(&parts.headers).ok_or(ApiError::Unauthenticated)?;
    let verified = app.tokens.verify(text).ok_or(ApiError::Unauthenticated)?;
    let mut tx = app.store.read().await?;
    // The row, not the signature, says whether the session goes on.
    let row = admin_users::token(&mut tx, verified.token).await?.ok_or(ApiError::Unauthenticated)?;
    if row.admin_id != verified.admin || row.expires_at <= app.store.clock().now() {
        return Err(ApiError::Unauthenticated);
    }
    let user = admin_users::get(&mut tx, verified.admin).await?.ok_or(ApiError::Unauthenticated)?;
    Ok(Admin { id: user.id, username: user.username.into(), token: verified.token, client })
}

/// The one bearer token of a request; two of them are none.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// An id in the path. What isn't an id is the id of nothing.
pub(crate) struct Id<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for Id<T>
where
    S: Send + Sync,
    T: FromStr<Err: Display>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::NotFound("route"))?;
        text.parse().map(Self).map_err(|_| ApiError::NotFound("thing"))
    }
}

/// Two ids in the path, one below the other.
pub(crate) struct TwoIds<A, B>(pub(crate) A, pub(crate) B);

impl<S, A, B> FromRequestParts<S> for TwoIds<A, B>
where
    S: Send + Sync,
    A: FromStr<Err: Display>,
    B: FromStr<Err: Display>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path((upper, lower)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::NotFound("route"))?;
        let missing = || ApiError::NotFound("thing");
        Ok(Self(upper.parse().map_err(|_| missing())?, lower.parse().map_err(|_| missing())?))
    }
}

/// What stands behind the question mark, each name once.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut names = HashSet::new();
        let mut problems = Problems::default();
        for (name, _) in url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            if !names.insert(name.clone()) {
                problems.add(pointer_to("", &name), "is given more than once");
            }
        }
        problems.unless_any(Some(()))?;
        let read = axum::extract::Query::try_from_uri(&parts.uri);
        read.map(|axum::extract::Query(query)| Self(query))
            .map_err(|_| ApiError::field("", "the query is not one that this operation takes"))
    }
}

/// A JSON body, as a value to be read field by field, with the bytes it came as.
pub(crate) struct Json {
    /// What it says.
    pub(crate) value: Value,
    /// As it came.
    pub(crate) bytes: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Json {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !says_json(request.headers()) {
            return Err(ApiError::WrongMediaType);
        }
        let bytes = bytes_of(request).await?;
        let value = parse(&bytes)?;
        Ok(Self { value, bytes })
    }
}

/// A JSON body that may be absent, which counts as `{}`.
pub(crate) struct OptionalJson(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for OptionalJson {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let declared = says_json(request.headers());
        let bytes = bytes_of(request).await?;
        if bytes.is_empty() {
            return Ok(Self(Value::Object(serde_json::Map::new())));
        }
        if !declared {
            return Err(ApiError::WrongMediaType);
        }
        parse(&bytes).map(Self)
    }
}

fn says_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    ["application/json", "application/merge-patch+json"].iter().any(|json| kind.eq_ignore_ascii_case(json))
}

/// Boxed, so that not every handler has the reading of a body in its own code.
fn bytes_of(request: Request) -> BoxFuture<'static, Result<Bytes, ApiError>> {
    Box::pin(async move {
        Bytes::from_request(request, &()).await.map_err(|rejection| match rejection {
            BytesRejection::FailedToBufferBody(error) if error.status().as_u16() == 413 => {
                ApiError::TooLarge { limit_bytes: BODY_BYTES_MAX }
            }
            _ => ApiError::Malformed("it did not come whole".into()),
        })
    })
}

fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        // Where, but not what: the text of the error may quote the body.
        ApiError::Malformed(format!("not JSON at line {}, column {}", error.line(), error.column()))
    })
}

/// The version in `If-Match`, which a change must state.
pub(crate) struct IfMatch(pub(crate) i64);

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let value = parts.headers.get(header::IF_MATCH).ok_or(ApiError::PreconditionRequired)?;
        // What isn't one of our ETags matches nothing.
        let version = value.to_str().ok().and_then(|text| text.trim().strip_prefix('"')?.strip_suffix('"'));
        version.and_then(|text| text.parse().ok()).map(Self).ok_or(ApiError::PreconditionFailed)
    }
}

/// The ETag of a version.
pub(crate) fn etag(version: i64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("quotes and digits make a header value")
}
