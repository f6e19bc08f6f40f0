//! Every deliberate no: its status, its headers, its body.
//!
//! The only file that names the statuses of the edge. What a refusal says is for the client; why
//! exactly is for the log ([`Refusal::reason`]), because a stranger must not learn which of the ways in
//! which a key can be wrong was theirs.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use sql::model::QuotaSpan;

use crate::http_bridge::{Reply, ReplyBody};
use crate::wire::compose;

/// JSON-RPC's code for what has no code of its own.
const INTERNAL_ERROR: i64 = -32603;

/// When to come back after a refusal that has nothing to do with the client: long enough for a replica
/// to start or a connection to end, short enough not to be noticed.
const UNAVAILABLE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request isn't served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No key was sent.
    #[error("no API key was sent")]
    MissingKey,
    /// A key that doesn't exist, or something that isn't a key.
    #[error("the API key isn't known")]
    UnknownKey,
    /// Two different keys, or one header twice: whose request it is can't be said.
    #[error("more than one API key was sent")]
    AmbiguousKey,
    /// The key is switched off.
    #[error("the API key is disabled")]
    KeyDisabled,
    /// The key's time is over.
    #[error("the API key has expired")]
    KeyExpired,
    /// The key may not be used from this address.
    #[error("the key doesn't allow this address")]
    AddressNotAllowed,
    /// A trusted proxy says where the client is, but in words that can't be read.
    #[error("the forwarded address can't be read")]
    AddressUnreadable,
    /// The host asked for isn't ours; a browser may have been tricked into asking.
    #[error("the host isn't allowed")]
    HostNotAllowed,
    /// A page of another origin asks.
    #[error("the origin isn't allowed")]
    OriginNotAllowed,
    /// The key's messages are used up for now.
    #[error("the rate limit of {limit} messages in {window_s} s is used up")]
    RateLimited {
        /// When one message is allowed again.
        retry_after: Duration,
        /// Messages in a window.
        limit: u32,
        /// The window, in seconds.
        window_s: u32,
    },
    /// The key's messages of this day or month are used up.
    #[error("the quota of {quota} messages a {span} is used up")]
    QuotaExceeded {
        /// When the day or month ends.
        retry_after: Duration,
        /// Messages in it.
        quota: u64,
        /// A day or a month.
        span: QuotaSpan,
        /// How long it is, in seconds.
        window_s: u64,
    },
    /// Limits are kept with the other replicas, which can't be reached, and may not be passed meanwhile.
    #[error("the rate limit can't be kept at the moment")]
    LimitsLost {
        /// When to try again.
        retry_after: Duration,
    },
    /// The key has as many open streams as it may have.
    #[error("the key has {limit} open streams, which is its limit")]
    TooManyStreams {
        /// Streams that a key may have open.
        limit: u32,
    },
    /// The request line or a header isn't HTTP that has one reading only.
    #[error("the request isn't valid HTTP: {0}")]
    Malformed(&'static str),
    /// The header section is larger than we read.
    #[error("the request header is larger than {limit} bytes")]
    HeadTooLarge {
        /// In bytes.
        limit: usize,
    },
    /// The header section didn't come in time.
    #[error("the request header didn't come within {} s", deadline.as_secs())]
    HeadTooSlow {
        /// From its first byte, or from the connection's start.
        deadline: Duration,
    },
    /// The body is larger than we read.
    #[error("the request body is larger than {limit} bytes")]
    BodyTooLarge {
        /// In bytes.
        limit: usize,
    },
    /// The body didn't come in time.
    #[error("the request body didn't come within {} s", deadline.as_secs())]
    BodyTooSlow {
        /// For the whole of it.
        deadline: Duration,
    },
    /// The body ended early, or its chunks are broken.
    #[error("the request body could not be read")]
    BodyUnreadable,
    /// The body isn't said to be JSON.
    #[error("the Content-Type must be application/json")]
    UnsupportedMediaType,
    /// The body is compressed.
    #[error("a request with a Content-Encoding isn't read")]
    UnsupportedEncoding,
    /// The client takes neither of the forms in which we may have to answer.
    #[error("the Accept header must allow both application/json and text/event-stream")]
    NotAcceptable,
    /// The path is served, but not with this method.
    #[error("the method isn't allowed here; allowed: {allow}")]
    MethodNotAllowed {
        /// The methods that are, as in an `Allow` header.
        allow: &'static str,
    },
    /// Nothing is served at this path.
    #[error("nothing is served at this path")]
    NotFound,
    /// As many connections are open as may be.
    #[error("too many connections are open")]
    TooManyConnections,
    /// The endpoint is there for WebSocket alone, in the version that has a standard.
    #[error("this endpoint speaks WebSocket, version 13, over HTTP/1.1")]
    UpgradeRequired,
    /// Still starting.
    #[error("the gateway is starting")]
    Starting,
    /// About to end: what runs may finish, nothing new begins.
    #[error("the gateway is stopping")]
    Stopping,
    /// What the request is about is at another replica, which can't be reached now.
    #[error("the replica that serves this session can't be reached, try again")]
    ReplicaUnavailable,
    /// We failed; the log says how.
    #[error("the gateway failed to answer")]
    Internal,
}

/// The one body of all refusals (RFC 9457).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Problem<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: String,
    code: &'static str,
    request_id: &'a str,
}

impl Refusal {
    /// The answer. `request_id` is what the log calls this request.
    pub fn respond(&self, request_id: &str) -> Reply {
        let (status, code) = self.status();
        let problem = Problem {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: self.detail(),
            code,
            request_id,
        };
        let body = serde_json::to_vec(&problem).expect("strings and a number always serialise");
        let mut reply = Reply::new(ReplyBody::Whole(Bytes::from(body)));
        *reply.status_mut() = status;
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.add_headers(headers);
        reply
    }

    /// The same as the object of a JSON-RPC error, for a message that came on a stream.
    pub fn error_object(&self) -> Bytes {
        let (_, code) = self.status();
        let mut data = serde_json::json!({ "code": code });
        if let Some(retry_after) = self.passes_after() {
            data["retryAfterMs"] = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX).into();
        }
        compose::error_object(INTERNAL_ERROR, &self.detail(), Some(data.to_string().as_bytes()))
    }

    /// For a refusal that is about how much a key sends, when it passes: what it was shown on may go on.
    pub fn passes_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. }
            | Self::QuotaExceeded { retry_after, .. }
            | Self::LimitsLost { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// The status and the code that clients may rely on.
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Malformed(_) | Self::BodyUnreadable => (StatusCode::BAD_REQUEST, "VALIDATION"),
            Self::MissingKey
            | Self::UnknownKey
            | Self::AmbiguousKey
            | Self::KeyDisabled
            | Self::KeyExpired => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            Self::AddressNotAllowed
            | Self::AddressUnreadable
            | Self::HostNotAllowed
            | Self::OriginNotAllowed => (StatusCode::FORBIDDEN, "FORBIDDEN"),
            Self::NotFound => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "VALIDATION"),
            Self::NotAcceptable => (StatusCode::NOT_ACCEPTABLE, "VALIDATION"),
            Self::HeadTooSlow { .. } | Self::BodyTooSlow { .. } => {
                (StatusCode::REQUEST_TIMEOUT, "VALIDATION")
            }
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "VALIDATION"),
            Self::UnsupportedMediaType | Self::UnsupportedEncoding => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "VALIDATION")
            }
            Self::RateLimited { .. } | Self::TooManyStreams { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED")
            }
            Self::QuotaExceeded { .. } => (StatusCode::TOO_MANY_REQUESTS, "QUOTA_EXCEEDED"),
            Self::HeadTooLarge { .. } => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "VALIDATION"),
            Self::UpgradeRequired => (StatusCode::UPGRADE_REQUIRED, "VALIDATION"),
            Self::TooManyConnections
            | Self::Starting
            | Self::Stopping
            | Self::ReplicaUnavailable
            | Self::LimitsLost { .. } => (StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
        }
    }

    /// What the client is told, with what it can do about it.
    fn detail(&self) -> String {
        match self {
            Self::MissingKey
            | Self::UnknownKey
            | Self::AmbiguousKey
            | Self::KeyDisabled
            | Self::KeyExpired => {
                "a valid API key is needed, as `Authorization: Bearer` or `X-API-Key`".into()
            }
            Self::HostNotAllowed => {
                "the Host of this request isn't allowed; the operator can allow it in MPG_ALLOWED_HOSTS"
                    .into()
            }
            Self::OriginNotAllowed => {
                "the Origin of this request isn't allowed; the operator can allow it in MPG_ALLOWED_ORIGINS"
                    .into()
            }
            _ => self.to_string(),
        }
    }

    fn add_headers(&self, headers: &mut http::HeaderMap) {
        match self {
            Self::MissingKey
            | Self::UnknownKey
            | Self::AmbiguousKey
            | Self::KeyDisabled
            | Self::KeyExpired => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::MethodNotAllowed { allow } => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            Self::RateLimited { retry_after, limit, window_s } => {
                add_limit(headers, "key", *retry_after, u64::from(*limit), u64::from(*window_s));
            }
            Self::QuotaExceeded { retry_after, quota, span, window_s } => {
                add_limit(headers, span.as_str(), *retry_after, *quota, *window_s);
            }
            Self::LimitsLost { retry_after } => {
                headers.insert(RETRY_AFTER, whole_seconds(*retry_after).into());
            }
            Self::UpgradeRequired => {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            Self::TooManyConnections
            | Self::Starting
            | Self::Stopping
            | Self::ReplicaUnavailable
            | Self::TooManyStreams { .. } => {
                headers.insert(RETRY_AFTER, whole_seconds(UNAVAILABLE_RETRY_AFTER).into());
            }
            _ => {}
        }
    }

    /// Whether it is for want of the right to be here, and not for what was sent or how much.
    pub fn denies_access(&self) -> bool {
        matches!(self.status().0, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
    }

    /// Its name in logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::MissingKey => "missing_key",
            Self::UnknownKey => "unknown_key",
            Self::AmbiguousKey => "ambiguous_key",
            Self::KeyDisabled => "key_disabled",
            Self::KeyExpired => "key_expired",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::AddressUnreadable => "address_unreadable",
            Self::HostNotAllowed => "host_not_allowed",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::RateLimited { .. } => "rate_limited",
            Self::QuotaExceeded { .. } => "quota_exceeded",
            Self::LimitsLost { .. } => "limits_lost",
            Self::TooManyStreams { .. } => "too_many_streams",
            Self::Malformed(_) => "malformed",
            Self::HeadTooLarge { .. } => "head_too_large",
            Self::HeadTooSlow { .. } => "head_too_slow",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyTooSlow { .. } => "body_too_slow",
            Self::BodyUnreadable => "body_unreadable",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::NotAcceptable => "not_acceptable",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::NotFound => "not_found",
            Self::TooManyConnections => "too_many_connections",
            Self::UpgradeRequired => "upgrade_required",
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::ReplicaUnavailable => "replica_unavailable",
            Self::Internal => "internal",
        }
    }
}

/// What a limit tells (draft-ietf-httpapi-ratelimit-headers): its name, units left, seconds until there are more;
/// and what it is.
fn add_limit(headers: &mut http::HeaderMap, name: &str, retry_after: Duration, units: u64, window_s: u64) {
    let seconds = whole_seconds(retry_after);
    headers.insert(RETRY_AFTER, seconds.into());
    headers.insert("ratelimit", value(format!("\"{name}\";r=0;t={seconds}")));
    headers.insert("ratelimit-policy", value(format!("\"{name}\";q={units};w={window_s}")));
}

/// Rounded up, so that who waits that long isn't refused again for coming a moment too early.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and ASCII punctuation")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(reply: &Reply) -> &[u8] {
        match reply.body() {
            ReplyBody::Whole(bytes) => bytes,
            other => panic!("a refusal has a whole body, not {other:?}"),
        }
    }

    #[test]
    fn every_wrong_key_gets_one_answer_t04() {
        let wrong = [
            Refusal::MissingKey,
            Refusal::UnknownKey,
            Refusal::AmbiguousKey,
            Refusal::KeyDisabled,
            Refusal::KeyExpired,
        ];
        let first = wrong[0].respond("r1");
        assert_eq!(first.status(), 401);
        assert_eq!(first.headers()[WWW_AUTHENTICATE], "Bearer");
        for refusal in &wrong {
            let reply = refusal.respond("r1");
            assert_eq!(reply.headers(), first.headers());
            assert_eq!(body(&reply), body(&first));
        }
    }

    #[test]
    fn the_body_is_a_problem_with_a_stable_code() {
        let reply = Refusal::NotFound.respond("0198");
        assert_eq!(reply.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(
            body(&reply),
            br#"{"type":"about:blank","title":"Not Found","status":404,"detail":"nothing is served at this path","code":"NOT_FOUND","requestId":"0198"}"#
        );
    }

    #[test]
    fn a_limit_says_when_to_come_back() {
        let refusal =
            Refusal::RateLimited { retry_after: Duration::from_millis(1200), limit: 600, window_s: 60 };
        let reply = refusal.respond("r");
        assert_eq!(reply.status(), 429);
        assert_eq!(reply.headers()[RETRY_AFTER], "2");
        assert_eq!(reply.headers()["ratelimit"], "\"key\";r=0;t=2");
        assert_eq!(reply.headers()["ratelimit-policy"], "\"key\";q=600;w=60");
    }

    #[test]
    fn a_quota_says_when_its_day_or_month_ends() {
        let retry_after = Duration::from_millis(3_599_001);
        let refusal =
            Refusal::QuotaExceeded { retry_after, quota: 5, span: QuotaSpan::Month, window_s: 2_592_000 };
        let reply = refusal.respond("r");
        assert_eq!(
            (reply.status(), reply.headers()[RETRY_AFTER].to_str().unwrap()),
            (StatusCode::TOO_MANY_REQUESTS, "3600")
        );
        assert_eq!(reply.headers()["ratelimit"], "\"month\";r=0;t=3600");
        assert_eq!(reply.headers()["ratelimit-policy"], "\"month\";q=5;w=2592000");
        let error: serde_json::Value = serde_json::from_slice(&refusal.error_object()).unwrap();
        assert_eq!(error["data"], serde_json::json!({"code": "QUOTA_EXCEEDED", "retryAfterMs": 3_599_001}));
    }

    #[test]
    fn limits_that_cannot_be_kept_are_our_fault_and_pass() {
        let refusal = Refusal::LimitsLost { retry_after: Duration::from_secs(1) };
        let reply = refusal.respond("r");
        assert_eq!(
            (reply.status(), reply.headers()[RETRY_AFTER].to_str().unwrap()),
            (StatusCode::SERVICE_UNAVAILABLE, "1")
        );
        assert_eq!(refusal.passes_after(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn on_a_stream_a_limit_is_an_error_with_the_time_to_wait() {
        let refusal =
            Refusal::RateLimited { retry_after: Duration::from_millis(1200), limit: 600, window_s: 60 };
        let error: serde_json::Value = serde_json::from_slice(&refusal.error_object()).unwrap();
        assert_eq!(error["code"], -32603);
        assert_eq!(error["data"], serde_json::json!({"code": "RATE_LIMITED", "retryAfterMs": 1200}));
    }

    #[test]
    fn the_guards_against_rebinding_name_their_variable() {
        let detail = |refusal: Refusal| String::from_utf8_lossy(body(&refusal.respond("r"))).into_owned();
        assert!(detail(Refusal::HostNotAllowed).contains("MPG_ALLOWED_HOSTS"));
        assert!(detail(Refusal::OriginNotAllowed).contains("MPG_ALLOWED_ORIGINS"));
    }
}
