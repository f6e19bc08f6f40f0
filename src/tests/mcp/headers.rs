//! What of a client's headers reaches a server: nothing but what the server's own record says (T09).

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::{LEGACY_LATEST, Peer, TestGateway, send, success_of};

/// What an HTTP request of the gateway may carry beside what its upstream's record says.
const OWN: [&str; 11] = [
    "accept",
    "accept-encoding",
    "content-length",
    "content-type",
    "host",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "transfer-encoding",
    "user-agent",
];

/// What no server may ever see.
const FOREIGN: [(&str, &str); 9] = [
    ("cookie", "a=CANARY"),
    ("x-internal", "CANARY"),
    ("x-api-key", "KEY"),
    ("x-forwarded-for", "203.0.113.9"),
    ("x-forwarded-host", "CANARY.example"),
    ("forwarded", "for=203.0.113.9"),
    ("proxy-authorization", "Basic CANARY"),
    ("mcp-init-host", "CANARY"),
    ("x-request-id", "CANARY"),
];

#[tokio::test]
async fn a_server_sees_its_own_credential_and_nothing_of_the_client_t09() {
    for era in ["legacy", "modern"] {
        let (with, without) = (Peer::named(["with".into()]).await, Peer::named(["without".into()]).await);
        let placed = Peer::named(["placed".into()]).await;
        let body = |name: &str, peer: &Peer, headers: serde_json::Value| {
            json!({
                "name": name, "transport": "streamable-http", "protocol": era,
                "connParams": {"url": peer.url(), "headers": headers},
            })
        };
        let mut bearer = body("with", &with, json!({"X-Org": "shown", "X-Token": {"secret": "s3cret"}}));
        bearer["credential"] = "its-own".into();
        let mut header = body("placed", &placed, json!({"X-Key": "key=${credential}"}));
        header["credential"] = "elsewhere".into();
        let scene = TestGateway::start().with_upstream(bearer).with_upstream(header);
        let gateway = scene.with_upstream(body("without", &without, json!({}))).with_key().await;
        let mcp = gateway.mcp();
        mcp.lists(&["with", "without", "placed"]).await;
        let session = mcp.initialize(LEGACY_LATEST).await;
        for name in ["with", "without", "placed"] {
            let params = json!({"name": name, "arguments": {}});
            let modern = mcp.modern_request(1, "tools/call", params.clone());
            let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
            let legacy = session.with_headers(mcp.post()).body(message.to_string());
            for request in [modern, legacy] {
                let foreign =
                    |(name, value): &(&'static str, &str)| (*name, value.replace("KEY", gateway.key()));
                let request = FOREIGN
                    .iter()
                    .map(foreign)
                    .fold(request, |request, (name, value)| request.header(name, value));
                assert_eq!(success_of(&send(request).await.result().await), format!("{name} got {{}}"));
            }
        }
        let bearer = [("authorization", "Bearer its-own"), ("x-org", "shown"), ("x-token", "s3cret")];
        let header = [("x-key", "key=elsewhere")];
        for (peer, configured) in [(&with, &bearer[..]), (&placed, &header), (&without, &[])] {
            assert_eq!(peer.seen_of("tools/call").len(), 2, "{era}");
            // Of every request, those of the handshake and the streams included.
            for seen in peer.seen() {
                let allowed: BTreeSet<&str> =
                    OWN.into_iter().chain(configured.iter().map(|(name, _)| *name)).collect();
                let names: BTreeSet<&str> = seen.headers.keys().map(http::HeaderName::as_str).collect();
                let strange: Vec<_> = names.difference(&allowed).collect();
                assert!(strange.is_empty(), "{era}: {strange:?} in {seen:?}");
                for (name, value) in configured {
                    assert_eq!(seen.headers[*name], *value, "{era}");
                }
                let shown = format!("{:?}{}", seen.headers, String::from_utf8_lossy(&seen.body));
                for secret in ["CANARY", gateway.key(), session.id()] {
                    assert!(!shown.contains(secret), "{era}: {secret} in {shown}");
                }
            }
        }
    }
}

#[tokio::test]
async fn trace_context_in_meta_passes_on() {
    let peer = Peer::named(["traced".into()]).await;
    for era in ["legacy", "modern"] {
        let gateway = TestGateway::start().with_peer_in(era, "peer", &peer).with_key().await;
        gateway.mcp().lists(&["traced"]).await;
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let params =
            json!({"name": "traced", "arguments": {}, "_meta": {"traceparent": traceparent, "mine/own": 1}});
        gateway.mcp().modern("tools/call", params).await.result().await;
        let seen = peer.seen_of("tools/call").pop().expect("a call").message();
        assert_eq!(seen["params"]["_meta"]["traceparent"], traceparent, "{era}");
        assert_eq!(seen["params"]["_meta"]["mine/own"], 1, "{era}");
    }
}
