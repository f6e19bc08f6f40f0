//! What is known of a client before it is known who it is.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use sql::clock::Clock;
use sql::model::ids::uuid_at;

/// The header that carries a request's name, in and out.
pub const X_REQUEST_ID: &str = "x-request-id";

/// Characters of a request's name: what tracing systems use, and no room to hide things in logs.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// Where a request comes from and what it is called in logs, set in the first phase of the pipeline
/// and handed to the control plane as a request extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientContext {
    /// The client's address after trusted proxies are taken into account; IPv4-mapped IPv6 is unmapped.
    pub address: IpAddr,
    /// The request's name in logs, problem bodies and audit events.
    pub request_id: Arc<str>,
}

/// The name that the client or a proxy gave the request, if it can be one; else a new one.
pub fn request_id(headers: &HeaderMap, clock: &Clock) -> Arc<str> {
    let given = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
    given.filter(|text| is_request_id(text)).map_or_else(|| new_request_id(clock), Arc::from)
}

/// A new name: its beginning is the time, so names sort as the requests came.
pub fn new_request_id(clock: &Clock) -> Arc<str> {
    Arc::from(uuid_at(clock.now()).to_string())
}

fn is_request_id(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=REQUEST_ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn id_for(given: &str) -> Arc<str> {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(given.as_bytes()).unwrap());
        request_id(&headers, &Clock::system())
    }

    #[test]
    fn a_given_name_is_kept_if_it_can_be_one() {
        assert_eq!(&*id_for("0198-ab.C_d"), "0198-ab.C_d");
        for given in ["", "a b", "a\"b", "\u{e9}", &"a".repeat(129)] {
            let id = id_for(given);
            assert_ne!(&*id, given);
            assert_eq!(id.len(), 36);
        }
    }
}
