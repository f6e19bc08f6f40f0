//! What is known of a client before it is known who it is.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use http::HeaderMap;
use sql::clock::Clock;
use uuid::{Builder, Uuid};

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

/// Whether a client reaches the gateway over TLS, its own or that of a trusted proxy in front: the scheme of the
/// address that the client knows it by. A request extension for the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReachedByTls(pub bool);

/// The name that the client or a proxy gave the request, if it can be one; else a new one.
pub fn request_id(headers: &HeaderMap, clock: &Clock) -> Arc<str> {
    let given = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
    given.filter(|text| is_request_id(text)).map_or_else(|| new_request_id(clock), Arc::from)
}

/// A new name: its beginning is the time, so names sort as the requests came.
pub fn new_request_id(clock: &Clock) -> Arc<str> {
    static STARTED: LazyLock<Uuid> = LazyLock::new(Uuid::now_v7);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // A name has to differ from all others, of other replicas as well, but not to be beyond guessing: the kernel is
    // asked for randomness once, and every request gets another number below it.
    let (start, count) = STARTED.as_u64_pair();
    let count = count.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
    let mut random = [0; 10];
    random[..2].copy_from_slice(&start.to_be_bytes()[6..]);
    random[2..].copy_from_slice(&count.to_be_bytes());
    let millis = u64::try_from(clock.now().millis()).unwrap_or_default();
    let id = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    Arc::from(&*id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()))
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
    fn every_request_has_another_name() {
        let clock = Clock::manual(sql::model::Timestamp::from_millis(1_700_000_000_000));
        let ids: std::collections::BTreeSet<_> = (0..1_000).map(|_| new_request_id(&clock)).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(ids.iter().all(|id| id.starts_with("018bcfe5-6800-7")));
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
