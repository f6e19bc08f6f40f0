//! The opening of a WebSocket (RFC 6455, section 4.2): what a client must ask for, and the answer.

use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::http_bridge::{Reply, ReplyBody, Upgrade};
use crate::refusal::Refusal;

/// The subprotocol that clients of the protocol offer; one that offers none is as welcome.
const SUBPROTOCOL: &str = "mcp";

/// A nonce of 16 bytes in base64.
const KEY_CHARS: usize = 24;

/// What the answer to a handshake depends on.
pub(super) struct Handshake {
    accept: HeaderValue,
    offers_subprotocol: bool,
}

/// Checks what a client asks for.
pub(super) fn check(head: &Parts) -> Result<Handshake, Refusal> {
    let headers = &head.headers;
    let is_asked = head.version == Version::HTTP_11
        && has_token(headers, &CONNECTION, "upgrade")
        && has_token(headers, &UPGRADE, "websocket")
        && single(headers, &SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    if !is_asked {
        return Err(Refusal::UpgradeRequired);
    }
    let key = single(headers, &SEC_WEBSOCKET_KEY)
        .filter(|key| key.len() == KEY_CHARS)
        .ok_or(Refusal::Malformed("the Sec-WebSocket-Key"))?;
    let accept = derive_accept_key(key.as_bytes());
    Ok(Handshake {
        accept: accept.try_into().expect("base64 is a header value"),
        offers_subprotocol: has_exact_token(headers, &SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL),
    })
}

impl Handshake {
    /// The answer; the connection is then served by `upgrade`.
    pub(super) fn accept(self, upgrade: Upgrade) -> Reply {
        let mut reply = Response::new(ReplyBody::Upgrade(upgrade));
        *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = reply.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if self.offers_subprotocol {
            // A browser that offered one and hears of none gives up.
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        reply
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let only = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(only)
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|listed| listed.eq_ignore_ascii_case(token))
}

/// Subprotocols are told apart by case.
fn has_exact_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|listed| listed == token)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The handshake of RFC 6455, section 1.3, with these changes; an empty value takes a header away.
    fn checked(changes: &[(&str, &str)]) -> Result<HeaderMap, Refusal> {
        let mut lines = vec![
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for change in changes {
            lines.retain(|(name, _)| name != &change.0);
            lines.push(*change);
        }
        let mut request = http::Request::builder().uri("/mcp/ws");
        for (name, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(name, value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        Ok(check(&head)?.accept(Upgrade::new(|_| async {})).into_parts().0.headers)
    }

    #[test]
    fn the_example_of_the_standard_is_answered_as_it_says() {
        let headers = checked(&[]).unwrap();
        assert_eq!(headers[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(headers[UPGRADE], "websocket");
    }

    #[test]
    fn the_subprotocol_is_echoed_if_it_is_offered() {
        for (offered, is_echoed) in
            [("", false), ("mcp", true), ("chat, mcp", true), ("MCP", false), ("x", false)]
        {
            let headers = checked(&[("sec-websocket-protocol", offered)]).unwrap();
            assert_eq!(headers.get(SEC_WEBSOCKET_PROTOCOL).is_some(), is_echoed, "{offered}");
        }
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        for (name, value) in [
            ("connection", ""),
            ("connection", "keep-alive"),
            ("upgrade", ""),
            ("upgrade", "h2c"),
            ("sec-websocket-version", "8"),
        ] {
            assert_eq!(checked(&[(name, value)]), Err(Refusal::UpgradeRequired), "{name}: {value}");
        }
        for key in ["", "c2hvcnQ="] {
            let refused = Refusal::Malformed("the Sec-WebSocket-Key");
            assert_eq!(checked(&[("sec-websocket-key", key)]), Err(refused), "{key}");
        }
    }
}
