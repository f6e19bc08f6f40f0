//! From an HTTP/1.1 request to a WebSocket (RFC 6455, section 4.1).
//!
//! The request carries what every request to this upstream carries, and is made by the HTTP client that
//! makes the others, so that a refusal is read and told like theirs.

use bytes::Bytes;
use http::header::{
    ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::tasks::Tasks;
use crate::upstream::dial::Dialler;
use crate::upstream::link::{OpenError, Stage};
use crate::upstream::target::Target;

/// What a client of MCP offers, and a server may take or leave.
const SUBPROTOCOL: &str = "mcp";
/// The head of the answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Opens a socket that has been upgraded.
pub(super) async fn upgrade(
    target: &Target,
    dialler: &Dialler,
    tasks: &Tasks,
) -> Result<TokioIo<Upgraded>, OpenError> {
    let stream = dialler.open_for_upgrade(target.uri()).await?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(stream).await.map_err(broke_off)?;
    // Ends with the upgrade, or when both the sender and the answer are dropped.
    tasks.spawn("websocket upgrade", async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a WebSocket's connection failed");
        }
    });
    let key = generate_key();
    target.pass().ready().await;
    let request = request(target, &key)?;
    let response = sender.send_request(request).await.map_err(broke_off)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let error = target.refusal(response.status(), response.headers());
        let (stage, reason) = (Stage::Initialize, error.to_string());
        return Err(OpenError { stage, reason, source: Some(Box::new(error)) });
    }
    check(&response, &key).map_err(|reason| OpenError::new(Stage::Initialize, reason))?;
    hyper::upgrade::on(response).await.map(TokioIo::new).map_err(broke_off)
}

fn broke_off(error: hyper::Error) -> OpenError {
    let reason = "the connection broke off before it became a WebSocket".into();
    OpenError { stage: Stage::Initialize, reason, source: Some(Box::new(error)) }
}

fn request(target: &Target, key: &str) -> Result<Request<Empty<Bytes>>, OpenError> {
    let invalid = || OpenError::new(Stage::Resolve, "not a valid URL");
    let uri = target.uri();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let mut request = target
        .head(Method::GET, None, None)
        .uri(path.parse::<Uri>().map_err(|_| invalid())?)
        .body(Empty::new())
        .map_err(|_| invalid())?;
    let headers = request.headers_mut();
    headers.remove(ACCEPT);
    headers.insert(HOST, host.ok_or_else(invalid)?);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_str(key).map_err(|_| invalid())?);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    Ok(request)
}

/// Whether the answer makes it a WebSocket; if not, why.
fn check<B>(response: &Response<B>, key: &str) -> Result<(), String> {
    let headers = response.headers();
    let upgrades = text(headers, &UPGRADE).is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    if !upgrades || text(headers, &SEC_WEBSOCKET_ACCEPT) != Some(&derive_accept_key(key.as_bytes())) {
        return Err("the upstream does not answer as a WebSocket server".into());
    }
    if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err("the upstream uses an extension of WebSocket that was not offered".into());
    }
    match headers.get(SEC_WEBSOCKET_PROTOCOL) {
        Some(chosen) if chosen != SUBPROTOCOL => {
            Err("the upstream chose a subprotocol that was not offered".into())
        }
        // One that knows no subprotocols speaks MCP all the same, or will show that it doesn't.
        Some(_) | None => Ok(()),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_must_be_one_to_this_request() {
        let key = generate_key();
        let good = || {
            Response::builder()
                .status(101)
                .header("upgrade", "WebSocket")
                .header("sec-websocket-accept", derive_accept_key(key.as_bytes()))
        };
        let reason = |response: http::response::Builder| {
            check(&response.body(()).expect("a response"), &key).err().unwrap_or_default()
        };
        assert_eq!(reason(good()), "");
        assert_eq!(reason(good().header("sec-websocket-protocol", "mcp")), "");
        assert!(reason(good().header("sec-websocket-protocol", "mqtt")).contains("subprotocol"));
        assert!(
            reason(good().header("sec-websocket-extensions", "permessage-deflate")).contains("extension")
        );
        assert!(reason(Response::builder().status(101)).contains("not answer as a WebSocket server"));
        let other = Response::builder().status(101).header("upgrade", "websocket");
        let other = other.header("sec-websocket-accept", derive_accept_key(b"another"));
        assert!(reason(other).contains("not answer as a WebSocket server"));
    }
}
