//! Upstreams over TLS on every transport, and the listener's own TLS for connections that stay: one gateway
//! is the upstream of another.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Authority, LEGACY_LATEST, PATIENCE, Peer, TestGateway, success_of};

/// What is shown of an upstream whose certificate is by nobody known.
const UNKNOWN: &str = "the certificate's issuer is unknown";
/// The transports, with the scheme of their address, and where the gateway serves them.
const TRANSPORTS: [(&str, &str, &str); 3] = [
    ("streamable-http", "https", "/mcp/http"),
    ("sse", "https", "/mcp/sse"),
    ("websocket", "wss", "/mcp/ws"),
];

/// A gateway over TLS, before a peer.
async fn inner(authority: &Authority, peer: &Peer) -> TestGateway {
    let gateway = TestGateway::start().with_tls(authority).with_peer("peer", peer).with_key().await;
    gateway.mcp().by(authority.client(true)).lists(&["echo"]).await;
    gateway
}

/// One that has it for an upstream three times, and trusts this authority.
async fn outer(inner: &TestGateway, trusted: &Authority) -> TestGateway {
    let root = trusted.root();
    let mut scene = TestGateway::start().with_env("SSL_CERT_FILE", root.to_str().expect("UTF-8"));
    for (transport, scheme, path) in TRANSPORTS {
        let bearer = format!("Bearer {}", inner.key());
        scene = scene.with_upstream(json!({
            "name": transport, "namePrefix": format!("{transport}_"), "transport": transport,
            "connParams": {
                "url": format!("{scheme}://{}{path}", inner.address()),
                "headers": {"Authorization": {"secret": bearer}},
            },
        }));
    }
    scene.with_key().await
}

#[tokio::test]
async fn every_transport_goes_over_tls_with_an_authority_of_ones_own() {
    let (authority, peer) = (Authority::new(), Peer::start().await);
    let inner = inner(&authority, &peer).await;
    let gateway = outer(&inner, &authority).await;
    let names = TRANSPORTS.map(|(transport, ..)| format!("{transport}_echo"));
    gateway.mcp().lists(&names.each_ref().map(String::as_str)).await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    for (transport, ..) in TRANSPORTS {
        let result = session.call(&format!("{transport}_echo"), json!({"message": transport})).await;
        assert_eq!(success_of(&result), format!("echo: {transport}"));
        let params = json!({
            "name": format!("{transport}_progress"), "arguments": {}, "_meta": {"progressToken": "mine"},
        });
        let (before, answer) = session.request("tools/call", params).await.all().await;
        assert_eq!(before.len(), 3, "{transport}: {before:?}");
        assert_eq!(success_of(&answer["result"]), "done", "{transport}");
    }
}

#[tokio::test]
async fn a_certificate_of_a_stranger_is_refused_by_name() {
    let (authority, stranger, peer) = (Authority::new(), Authority::new(), Peer::start().await);
    let inner = inner(&authority, &peer).await;
    let gateway = outer(&inner, &stranger).await;
    let admin = gateway.admin().await;
    let mut errors = Vec::new();
    let told = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let is_named = |error: &Value| error.as_str().is_some_and(|error| error.ends_with(UNKNOWN));
        while errors.is_empty() || !errors.iter().all(is_named) {
            ticks.tick().await;
            let (_, list) = admin.get("upstreams").await;
            let items = list["items"].as_array().expect("a list");
            assert!(items.iter().all(|item| item["state"] != "available"), "{list}");
            errors = items.iter().map(|item| item["lastError"].clone()).collect();
        }
    };
    let told = tokio::time::timeout(PATIENCE, told).await;
    assert!(told.is_ok(), "{errors:?}");
    // Nothing but handshakes came: the credential stayed here.
    assert!(!gateway.mcp().tool_names().await.iter().any(|name| name.ends_with("_echo")));
}
