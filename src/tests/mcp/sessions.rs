//! Sessions of the legacy era: whose they are, how long they last, and how they end (T03).

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sql::model::PlaintextKey;

use crate::harness::{LEGACY_LATEST, Mcp, Peer, Session, TestGateway, send, success_of};

/// In which time a revoked key has to be gone everywhere on its gateway.
const REVOKED_MAX: Duration = Duration::from_secs(1);

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

/// Status and code of a POST, status of a GET and of a DELETE, all with this session id.
async fn with_id(mcp: &Mcp, id: &str) -> ((u16, i64), u16, u16) {
    let named = |request: reqwest::RequestBuilder| send(request.header("mcp-session-id", id));
    let post = named(mcp.post().body(PING)).await.refusal().await;
    let get = named(mcp.request(Method::GET).header("accept", "text/event-stream")).await;
    let delete = named(mcp.request(Method::DELETE)).await;
    (post, get.status().as_u16(), delete.status().as_u16())
}

const UNKNOWN: ((u16, i64), u16, u16) = ((404, -32001), 404, 404);

async fn is_alive(session: &Session) -> bool {
    session.request("ping", json!({})).await.answer().await["result"] == json!({})
}

#[tokio::test]
async fn a_session_shown_with_another_key_is_unknown_and_stays_its_owners_t03() {
    let gateway = TestGateway::start().with_key().await;
    let (other, _) = gateway.mcp_with("other", json!({})).await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    assert_eq!(with_id(&other, session.id()).await, UNKNOWN);
    assert!(is_alive(&session).await);
}

#[tokio::test]
async fn a_session_is_known_on_its_own_path_only() {
    let gateway = TestGateway::start().with_key().await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    assert_eq!(with_id(&gateway.mcp().at("/mcp/full/http"), session.id()).await, UNKNOWN);
    assert!(
        is_alive(&session.shown_by(&gateway.mcp().at("/mcp"))).await,
        "the same endpoint by its short name"
    );
}

#[tokio::test]
async fn without_a_session_id_there_is_no_session_t03() {
    let gateway = TestGateway::start().with_key().await;
    let mcp = gateway.mcp();
    // The only session there is must not be taken for the one that was meant.
    let session = mcp.initialize(LEGACY_LATEST).await;
    assert_eq!(mcp.send(PING).await.refusal().await, (400, -32600));
    for method in [Method::GET, Method::DELETE] {
        let answer = send(mcp.request(method).header("accept", "text/event-stream")).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    }
    let twice = session.with_headers(mcp.post()).header("mcp-session-id", session.id()).body(PING);
    assert_eq!(send(twice).await.status(), StatusCode::BAD_REQUEST);
    assert!(is_alive(&session).await);
}

#[tokio::test]
async fn a_made_up_session_id_is_unknown_t03() {
    let gateway = TestGateway::start().with_key().await;
    let mcp = gateway.mcp();
    let session = mcp.initialize(LEGACY_LATEST).await;
    let id = session.id();
    assert!(id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "visible ASCII: {id}");
    for _ in 0..300 {
        let random = PlaintextKey::generate().expose().to_owned();
        assert_eq!(mcp.post_ping(&random).await, (404, -32001));
    }
    // Every place of a real one matters.
    for at in (0..id.len()).step_by(7) {
        let other = if id.as_bytes()[at] == b'A' { "B" } else { "A" };
        let forged = format!("{}{other}{}", &id[..at], &id[at + 1..]);
        assert_eq!(mcp.post_ping(&forged).await, (404, -32001), "changed at {at}");
    }
    assert_eq!(mcp.post_ping(&id[..id.len() - 4]).await, (404, -32001));
    assert!(is_alive(&session).await);
}

impl Mcp {
    async fn post_ping(&self, session_id: &str) -> (u16, i64) {
        send(self.post().header("mcp-session-id", session_id).body(PING)).await.refusal().await
    }
}

#[tokio::test]
async fn an_ended_session_is_unknown_and_its_stream_ends() {
    let gateway = TestGateway::start().with_key().await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let mut stream = session.stream().await;
    assert_eq!(stream.status(), StatusCode::OK);
    assert_eq!(session.delete().await, StatusCode::NO_CONTENT);
    assert_eq!(stream.next().await, None);
    assert_eq!(with_id(&gateway.mcp(), session.id()).await, UNKNOWN);
}

#[tokio::test]
async fn a_second_stream_takes_the_place_of_the_first() {
    let gateway = TestGateway::start().with_key().await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let mut first = session.stream().await;
    let second = session.stream().await;
    assert_eq!(first.next().await, None);
    assert_eq!(second.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_revoked_key_ends_sessions_streams_and_calls_within_a_second() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start()
        .alone("on other replicas it takes up to two seconds")
        .with_peer("peer", &peer)
        .with_key()
        .await;
    gateway.mcp().lists(&["wait"]).await;
    let (mcp, id) = gateway.mcp_with("revoked", json!({})).await;
    let admin = gateway.admin().await;
    mcp.lists(&["wait"]).await;
    let session = mcp.initialize(LEGACY_LATEST).await;
    let mut stream = session.stream().await;
    let wait = json!({"name": "wait", "arguments": {}, "_meta": {"progressToken": 1}});
    let mut legacy = session.request("tools/call", wait.clone()).await;
    let mut modern = mcp.modern("tools/call", wait).await;
    legacy.expect().await;
    modern.expect().await;

    let (status, body) = admin.post(&format!("keys/{id}/disable"), &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let revoked = Instant::now();
    mcp.answers_with(StatusCode::UNAUTHORIZED).await;
    assert_eq!(session.send(PING).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(stream.next().await, None);
    peer.counts_reach(|counts| counts.cancelled == 2).await;
    // A call ends with an answer or without one, but it ends.
    while legacy.next().await.is_some() {}
    while modern.next().await.is_some() {}
    assert!(revoked.elapsed() < REVOKED_MAX, "{:?}", revoked.elapsed());
}

#[tokio::test]
async fn sessions_and_their_ends_outlive_a_restart() {
    let peer = Peer::start().await;
    let mut gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["log"]).await;
    let kept = gateway.mcp().initialize("2025-06-18").await;
    let ended = gateway.mcp().initialize("2025-06-18").await;
    assert_eq!(kept.request("logging/setLevel", json!({"level": "error"})).await.result().await, json!({}));
    assert_eq!(ended.delete().await, StatusCode::NO_CONTENT);
    gateway.kill_9().await;
    gateway.start_again().await;
    assert_eq!(with_id(&gateway.mcp(), ended.id()).await, UNKNOWN);
    assert!(kept.tool_names().await.contains(&"log".to_owned()));
    let (before, answer) =
        kept.request("tools/call", json!({"name": "log", "arguments": {}})).await.all().await;
    assert_eq!(success_of(&answer["result"]), "logged");
    let said: Vec<&Value> = before.iter().map(|message| &message["params"]["data"]).collect();
    assert_eq!(said, ["said at error"], "the level that the session had set");
}

#[tokio::test]
async fn a_version_header_that_is_not_a_legacy_version_is_refused() {
    let gateway = TestGateway::start().with_key().await;
    let session = gateway.mcp().initialize("2025-06-18").await;
    for version in ["1999-01-01", "", "2025-06-18, 2025-11-25"] {
        let request = gateway.mcp().post().header("mcp-session-id", session.id());
        let answer = send(request.header("mcp-protocol-version", version).body(PING)).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{version:?}");
    }
    // Without the header, the version that was agreed counts.
    let request = gateway.mcp().post().header("mcp-session-id", session.id());
    assert_eq!(send(request.body(PING)).await.status(), StatusCode::OK);
}
