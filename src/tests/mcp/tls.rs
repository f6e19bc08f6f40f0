//! The MCP endpoint over TLS, by HTTP/2 and by HTTP/1.1; and the certificate, from start to replacement.

use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode, Version};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::{
    Authority, GatewayCommand, LEGACY_LATEST, Mcp, PATIENCE, Peer, TestGateway, plain, send, success_of,
};

/// What a handshake may take, and what a busy machine adds to it.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5 + 5);

async fn secure(authority: &Authority, peer: &Peer) -> TestGateway {
    let gateway = TestGateway::start().with_tls(authority).with_peer("peer", peer).with_key().await;
    gateway.mcp().by(authority.client(true)).lists(&["echo", "wait"]).await;
    gateway
}

/// The client over each version of HTTP, which is checked to be that one.
async fn both(authority: &Authority, gateway: &TestGateway) -> [(Version, Mcp); 2] {
    let versions = [(Version::HTTP_2, true), (Version::HTTP_11, false)];
    let clients = versions.map(|(version, h2)| (version, authority.client(h2)));
    for (version, client) in &clients {
        let answer = client.get(format!("{}/healthz", gateway.url())).send().await.expect("an answer");
        assert_eq!((answer.version(), answer.status()), (*version, StatusCode::OK));
        assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");
    }
    clients.map(|(version, client)| (version, gateway.mcp().by(client)))
}

#[tokio::test]
async fn calls_and_streams_of_both_eras_go_over_both_versions_of_http() {
    let (authority, mut round) = (Authority::new(), 0);
    let peer = Peer::start().await;
    let gateway = secure(&authority, &peer).await;
    for (version, mcp) in both(&authority, &gateway).await {
        let echo = json!({"message": "hello"});
        assert_eq!(success_of(&mcp.call("echo", echo.clone()).await), "echo: hello", "{version:?}");
        let progress = json!({"name": "progress", "arguments": {}, "_meta": {"progressToken": "p"}});
        let (before, _) = mcp.modern("tools/call", progress.clone()).await.all().await;
        assert_eq!(before.len(), 3, "{version:?}: {before:?}");

        let session = mcp.initialize(LEGACY_LATEST).await;
        assert_eq!(success_of(&session.call("echo", echo).await), "echo: hello", "{version:?}");
        let (before, _) = session.request("tools/call", progress).await.all().await;
        assert_eq!(before.len(), 3, "{version:?}: {before:?}");

        let mut stream = session.stream().await;
        let listen = json!({"notifications": {"toolsListChanged": true}});
        let mut listening = mcp.modern("subscriptions/listen", listen).await;
        assert!(stream.is_stream() && listening.is_stream(), "{version:?}");
        let acknowledged = listening.expect().await;
        assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged", "{version:?}");
        round += 1;
        let mut tools = vec![plain("echo"), plain("wait"), plain("progress")];
        tools.push(plain(format!("new_{round}")));
        peer.change_tools(tools).await;
        for heard in [stream.expect().await, listening.expect().await] {
            assert_eq!(heard["method"], "notifications/tools/list_changed", "{version:?}");
        }
        assert!(session.delete().await.is_success(), "{version:?}");
    }
}

#[tokio::test]
async fn a_modern_client_that_goes_away_has_cancelled_over_both_versions_of_http() {
    let authority = Authority::new();
    for h2 in [true, false] {
        let peer = Peer::start().await;
        let gateway = secure(&authority, &peer).await;
        let mcp = gateway.mcp().by(authority.client(h2));
        // Another request of the same connection, which isn't concerned.
        let session = mcp.initialize(LEGACY_LATEST).await;
        let mut calls = JoinSet::new();
        let call = mcp.modern_request(1, "tools/call", json!({"name": "wait", "arguments": {}}));
        calls.spawn(send(call));
        peer.counts_reach(|counts| counts.parked == 1).await;
        calls.abort_all();
        peer.counts_reach(|counts| counts.cancelled == 1 && counts.parked == 0).await;
        assert_eq!(success_of(&session.call("echo", json!({"message": "x"})).await), "echo: x");
    }
}

#[tokio::test]
async fn a_refusal_reaches_its_client_over_both_versions_of_http() {
    let (authority, peer) = (Authority::new(), Peer::start().await);
    let gateway = secure(&authority, &peer).await;
    for h2 in [true, false] {
        let stranger = gateway.mcp_as("mpg_nobody").by(authority.client(h2));
        let refused = stranger.send(vec![b'x'; 100_000]).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(refused.header("strict-transport-security"), "max-age=31536000");
        let body = String::from_utf8(refused.bytes().await).unwrap();
        assert!(body.contains("UNAUTHORIZED"), "{body}");
    }
}

#[tokio::test]
async fn in_clear_there_is_no_word_of_tls() {
    let gateway = TestGateway::start().await;
    let answer = reqwest::get(format!("{}/healthz", gateway.url())).await.unwrap();
    assert!(!answer.headers().contains_key("strict-transport-security"));
}

#[tokio::test]
async fn whoever_does_not_shake_hands_is_let_go_and_holds_up_nobody() {
    let (authority, peer) = (Authority::new(), Peer::start().await);
    let gateway = secure(&authority, &peer).await;
    let started = Instant::now();
    let mut silent = TcpStream::connect(gateway.address()).await.unwrap();
    let call = gateway.mcp().by(authority.client(false)).call("echo", json!({"message": "x"})).await;
    assert_eq!(success_of(&call), "echo: x");
    let end = tokio::time::timeout(HANDSHAKE_MAX, silent.read(&mut [0; 16])).await;
    assert_eq!(end.expect("closed in time").unwrap_or(0), 0);
    assert!(started.elapsed() > Duration::from_secs(4), "an honest client has some time");
}

#[tokio::test]
async fn healthcheck_asks_over_tls_and_by_address() {
    let authority = Authority::new();
    let gateway = TestGateway::start().with_tls(&authority).await;
    let check = || {
        GatewayCommand::new(["healthcheck", "--listen", &gateway.address()])
            .env("MPG_TLS_CERT", authority.certificate())
            .env("MPG_TLS_KEY", authority.key())
    };
    check().run().assert_success();
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_and_a_bad_one_is_not() {
    let (first, second) = (Authority::new(), Authority::new());
    let scene = TestGateway::start().alone("each replica looks for a new certificate by itself");
    let gateway = scene.with_tls(&first).await;
    let healthz = format!("{}/healthz", gateway.url());
    let lives = async |client: Client| client.get(&healthz).send().await.is_ok();
    assert!(lives(first.client(true)).await && !lives(second.client(true)).await);
    first.replaced_by(&second);
    let becomes = async |is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        while !is_so() {
            assert!(Instant::now() < deadline, "{}", gateway.log());
            ticks.tick().await;
        }
    };
    becomes(&|| gateway.log().contains("the certificate was replaced")).await;
    assert!(lives(second.client(true)).await && !lives(first.client(true)).await);
    std::fs::write(first.certificate(), "CANARY").unwrap();
    becomes(&|| gateway.log().contains("the old one stays in force")).await;
    assert!(lives(second.client(true)).await);
    assert!(!gateway.log().contains("CANARY"));
}

#[test]
fn a_key_of_another_certificate_is_refused_at_start() {
    let (first, second) = (Authority::new(), Authority::new());
    let mut command = GatewayCommand::new(["serve"])
        .env("MPG_TLS_CERT", first.certificate())
        .env("MPG_TLS_KEY", second.key());
    command.run().assert_failure(78, &["MPG_TLS_KEY: the key is not the certificate's"]);
}

/// Where nobody says the public address, snippets say the one that was asked, with the scheme of whoever speaks TLS.
#[tokio::test]
async fn snippets_say_the_scheme_that_clients_need() {
    let said = async |trusted: &str, proto: &str| {
        let gateway = TestGateway::start().with_env("MPG_TRUSTED_PROXIES", trusted).await;
        let admin = gateway.admin().await;
        let request = admin.request(reqwest::Method::GET, "clients").header("x-forwarded-proto", proto);
        let request = request.header("x-forwarded-for", "192.0.2.7");
        let told: serde_json::Value = request.send().await.expect("an answer").json().await.expect("JSON");
        told["url"].as_str().expect("a URL").replace(&gateway.address(), "GATEWAY")
    };
    assert_eq!(said("127.0.0.0/8", "https").await, "https://GATEWAY");
    assert_eq!(said("127.0.0.0/8", "http").await, "http://GATEWAY");
    assert_eq!(said("192.0.2.0/24", "https").await, "http://GATEWAY", "a stranger's word");
}

#[tokio::test]
async fn snippets_of_a_listener_with_tls_say_so() {
    let authority = Authority::new();
    let gateway = TestGateway::start().with_tls(&authority).await;
    let client = authority.client(true);
    let password = json!({"username": "harness", "password": gateway.admin_password()});
    let login = client.post(format!("{}/api/auth/login", gateway.url())).json(&password);
    let session: serde_json::Value = login.send().await.expect("an answer").json().await.expect("JSON");
    let token = session["token"].as_str().expect("a token");
    let request = client.get(format!("{}/api/admin/clients", gateway.url())).bearer_auth(token);
    let told: serde_json::Value = request.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(told["url"], gateway.url());
}
