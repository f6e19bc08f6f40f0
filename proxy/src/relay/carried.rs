//! A client's request as one replica hands it to another: what it was, and where it came from.
//!
//! The head as JSON with its length in front, then the body as it is. What was proved at the first replica
//! isn't part of it: the key goes along as the client sent it, and is checked again.

use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::context::ClientContext;
use crate::facet::{Facet, McpPath};
use crate::http_bridge::McpRequest;

/// Bytes of the head: the guard reads no more of one, and JSON may need more than the wire.
pub(super) const HEAD_BYTES_MAX: usize = 256 * 1024;

/// What is between two hops and no part of the request.
const OF_THE_HOP: [HeaderName; 8] =
    [CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// A request that has arrived, with nothing proved.
pub(super) struct Carried {
    pub(super) head: Parts,
    pub(super) path: McpPath,
    pub(super) context: ClientContext,
    pub(super) body: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Head {
    #[serde(rename = "m")]
    method: String,
    #[serde(rename = "u")]
    uri: String,
    #[serde(rename = "h")]
    headers: Vec<(String, String)>,
    #[serde(rename = "a")]
    address: IpAddr,
    #[serde(rename = "r")]
    request_id: String,
}

/// What came isn't a request for an endpoint of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a request that can be served")]
pub(super) struct Malformed;

/// The request in bytes, with `body` as its body.
pub(super) fn pack(request: &McpRequest, body: &[u8]) -> Bytes {
    let head = Head {
        method: request.head.method.as_str().to_owned(),
        uri: request.head.uri.to_string(),
        headers: texts(&request.head.headers),
        address: request.context.address,
        request_id: request.context.request_id.as_ref().to_owned(),
    };
    let head = serde_json::to_vec(&head).expect("it is made of strings");
    let mut packed = BytesMut::with_capacity(4 + head.len() + body.len());
    packed.put_u32(u32::try_from(head.len()).unwrap_or(u32::MAX));
    packed.extend_from_slice(&head);
    packed.extend_from_slice(body);
    packed.freeze()
}

/// The headers, those too that aren't ASCII: that one is there may matter more than what it says.
fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let own = headers.iter().filter(|(name, _)| !OF_THE_HOP.contains(name));
    let text = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect();
    own.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// The value that [`texts`] made a text of: each of its bytes is one character.
fn value_of(text: &str) -> Result<HeaderValue, Malformed> {
    let bytes = text.chars().map(u8::try_from).collect::<Result<Vec<u8>, _>>().map_err(|_| Malformed)?;
    HeaderValue::from_bytes(&bytes).map_err(|_| Malformed)
}

/// Reads what [`pack`] wrote.
pub(super) fn unpack(mut packed: Bytes) -> Result<Carried, Malformed> {
    let length = packed.first_chunk::<4>().map(|length| u32::from_be_bytes(*length)).ok_or(Malformed)?;
    let _ = packed.split_to(4);
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    if length > packed.len().min(HEAD_BYTES_MAX) {
        return Err(Malformed);
    }
    let head: Head = serde_json::from_slice(&packed.split_to(length)).map_err(|_| Malformed)?;
    let mut request = http::Request::builder().method(head.method.as_str()).uri(head.uri.as_str());
    for (name, value) in &head.headers {
        request = request.header(name.as_str(), value_of(value)?);
    }
    let (parts, ()) = request.body(()).map_err(|_| Malformed)?.into_parts();
    let Facet::Mcp(path) = Facet::of(parts.uri.path()) else { return Err(Malformed) };
    let context = ClientContext { address: head.address, request_id: head.request_id.into() };
    Ok(Carried { head: parts, path, context, body: packed })
}

#[cfg(test)]
mod tests {
    use sql::clock::Clock;
    use sql::model::{ApiKey, ApiKeyId, PlaintextKey};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::access::Admitted;
    use crate::http_bridge::Via;

    fn request(uri: &str) -> McpRequest {
        let head = http::Request::post(uri)
            .header("authorization", "Bearer mpg_x")
            .header("connection", "close")
            .header("content-length", "7")
            .header("mcp-session-id", "s")
            .header("last-event-id", HeaderValue::from_bytes(b"\xc3\xa9\xff").unwrap())
            .header("x-twice", "1")
            .header("x-twice", "2")
            .body(())
            .unwrap()
            .into_parts()
            .0;
        let Facet::Mcp(path) = Facet::of(head.uri.path()) else { panic!("{uri}") };
        let clock = Clock::system();
        let key = ApiKey::create(ApiKeyId::new(&clock), "k", &PlaintextKey::generate(), clock.now());
        McpRequest {
            head,
            body: Bytes::from_static(b"{\"a\":1}"),
            admitted: Admitted::for_test(key),
            path,
            context: ClientContext { address: "192.0.2.1".parse().unwrap(), request_id: "r".into() },
            gone: CancellationToken::new(),
            via: Via::Client,
        }
    }

    #[test]
    fn a_request_arrives_as_it_left_but_for_what_is_of_the_hop() {
        let request = request("/mcp/sse/messages?sessionId=x");
        let carried = unpack(pack(&request, &request.body)).unwrap();
        assert_eq!(carried.head.method, request.head.method);
        assert_eq!(carried.head.uri, request.head.uri);
        assert_eq!(carried.path, request.path);
        assert_eq!(carried.context, request.context);
        assert_eq!(carried.body, request.body);
        assert_eq!(carried.head.headers["authorization"], "Bearer mpg_x");
        assert_eq!(carried.head.headers.get_all("x-twice").iter().count(), 2);
        assert_eq!(carried.head.headers["last-event-id"].as_bytes(), b"\xc3\xa9\xff");
        assert!(!carried.head.headers.contains_key(CONNECTION));
        assert!(!carried.head.headers.contains_key(CONTENT_LENGTH));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let request = request("/mcp/http");
        let good = pack(&request, b"{}");
        for cut in [0, 3, 4, 20] {
            assert!(unpack(good.slice(..cut)).is_err(), "{cut} bytes");
        }
        let head = |json: &str| {
            let mut packed = BytesMut::new();
            packed.put_u32(u32::try_from(json.len()).unwrap());
            packed.extend_from_slice(json.as_bytes());
            packed.freeze()
        };
        let with = |method: &str, uri: &str, header: &str| {
            head(&format!(r#"{{"m":"{method}","u":"{uri}","h":[["{header}","v"]],"a":"192.0.2.1","r":"r"}}"#))
        };
        assert!(unpack(with("GET", "/mcp/http", "a")).is_ok());
        for (method, uri, header) in [
            ("GET", "/api/admin/health", "a"),
            ("GET", "/healthz", "a"),
            ("G T", "/mcp/http", "a"),
            ("GET", "", "a"),
            ("GET", "/mcp/http", "a b"),
        ] {
            assert!(unpack(with(method, uri, header)).is_err(), "{method} {uri} {header}");
        }
        assert!(unpack(head("{}")).is_err());
        assert!(unpack(Bytes::from_static(&[255, 255, 255, 255, 0])).is_err());
    }
}
