//! Who may speak at all: one answer to every wrong key (T04), and every way to send a right one.

use std::time::Duration;

use reqwest::header::AUTHORIZATION;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sql::clock::Clock;
use sql::model::{PlaintextKey, Timestamp};

use crate::harness::{Peer, TestGateway, send};

/// In which time a key that no longer works has to be refused on the gateway that was told.
const REVOKED_MAX: Duration = Duration::from_secs(1);

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#;

/// Everything of an answer but the id of its request and the time.
async fn shown(request: RequestBuilder) -> (u16, Vec<(String, String)>, Value) {
    let exchange = send(request).await;
    let status = exchange.status().as_u16();
    let mut headers: Vec<(String, String)> = exchange
        .headers()
        .iter()
        .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().expect("ASCII").to_owned()))
        .collect();
    headers.sort();
    // Its length in bytes must not tell either.
    let mut body: Value = serde_json::from_slice(&exchange.bytes().await).expect("JSON");
    assert!(body["requestId"].take().is_string());
    (status, headers, body)
}

#[tokio::test]
async fn every_wrong_key_gets_the_same_answer_t04() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    let admin = gateway.admin().await;
    let (_, disabled) = admin.create_key("disabled", json!({"enabled": false})).await;
    let (deleted_id, deleted) = admin.create_key("deleted", json!({})).await;
    assert_eq!(admin.delete(&format!("keys/{deleted_id}")).await.0, StatusCode::NO_CONTENT);
    let (_, other) = admin.create_key("other", json!({})).await;
    let good = gateway.key();
    // One key in sixteen ends with an A.
    let other_end = if good.ends_with('A') { 'E' } else { 'A' };
    let almost = format!("{}{other_end}", &good[..good.len() - 1]);
    let unknown = PlaintextKey::generate().expose().to_owned();

    let url = format!("{}/mcp/http", gateway.url());
    let client = Client::new();
    let at = |query: &str| {
        let accept = "application/json, text/event-stream";
        let request = client.request(Method::POST, format!("{url}{query}"));
        request.header("accept", accept).header("content-type", "application/json").body(CALL)
    };
    let bearer = |key: &str| at("").header(AUTHORIZATION, format!("Bearer {key}"));
    let cases = [
        ("none", at("")),
        ("empty", bearer("")),
        ("garbage", bearer("garbage")),
        ("unknown", bearer(&unknown)),
        ("one character off", bearer(&almost)),
        ("disabled", bearer(&disabled)),
        ("deleted", bearer(&deleted)),
        ("basic", at("").header(AUTHORIZATION, format!("Basic {good}"))),
        ("twice the header", bearer(good).header(AUTHORIZATION, format!("Bearer {good}"))),
        ("two keys", bearer(good).header("x-api-key", &other)),
        ("two keys, one in the query", at(&format!("?api_key={other}")).bearer_auth(good)),
        ("a wrong one in the header", at("").header("x-api-key", "garbage")),
        ("a wrong one in the query", at("?api_key=garbage")),
    ];
    let mut first = None;
    for (case, request) in cases {
        let answer = shown(request).await;
        assert_eq!(answer.0, 401, "{case}");
        assert!(answer.1.contains(&("www-authenticate".into(), "Bearer".into())), "{case}: {:?}", answer.1);
        assert!(answer.1.contains(&("content-type".into(), "application/problem+json".into())), "{case}");
        assert_eq!(answer.2["code"], "UNAUTHORIZED", "{case}");
        assert_eq!(first.get_or_insert_with(|| answer.clone()), &answer, "{case}");
    }
    assert_eq!(peer.counts().calls, 0);
}

/// Whoever makes something may use it as soon as it is told that it is made.
#[tokio::test]
async fn a_change_is_in_force_when_it_is_answered() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start()
        .alone("on other replicas a change takes a moment")
        .with_peer("peer", &peer)
        .with_key()
        .await;
    gateway.mcp().lists(&["echo"]).await;
    let admin = gateway.admin().await;
    let url = format!("{}/mcp/http", gateway.url());
    let client = Client::new();
    for round in 0..20 {
        let (id, key) = admin.create_key(&format!("key {round}"), json!({})).await;
        // With a right key, what is missing is the session.
        assert_eq!(send(client.get(&url).bearer_auth(&key)).await.status(), StatusCode::BAD_REQUEST);
        assert_eq!(admin.post(&format!("keys/{id}/disable"), &json!({})).await.0, StatusCode::OK);
        assert_eq!(send(client.get(&url).bearer_auth(&key)).await.status(), StatusCode::UNAUTHORIZED);
    }
    let upstream = admin.upstream_id("peer").await;
    let tools = gateway.mcp().tool_names().await;
    for (action, tools) in [("disable", vec![]), ("enable", tools)] {
        let answer = admin.post(&format!("upstreams/{upstream}/{action}"), &json!({})).await;
        assert_eq!(answer.0, StatusCode::OK, "{}", answer.1);
        assert_eq!(gateway.mcp().tool_names().await, tools, "after {action}");
    }
}

#[tokio::test]
async fn a_right_key_may_stand_in_three_places() {
    let gateway = TestGateway::start().with_key().await;
    let key = gateway.key();
    let client = Client::new();
    let url = format!("{}/mcp/http", gateway.url());
    let ways = [
        client.get(&url).bearer_auth(key),
        client.get(&url).header("x-api-key", key),
        client.get(format!("{url}?api_key={key}")),
        client.get(format!("{url}?api_key={key}")).header("x-api-key", key).bearer_auth(key),
    ];
    for request in ways {
        // Past the key, what is missing is the session.
        assert_eq!(send(request).await.status(), StatusCode::BAD_REQUEST);
    }
    assert!(!gateway.log().contains(key), "a key in a query is logged nowhere");
}

#[tokio::test]
async fn a_key_that_has_expired_is_no_key() {
    let gateway = TestGateway::start().with_key().await;
    let admin = gateway.admin().await;
    let (mcp, id) = gateway.mcp_with("short", json!({})).await;
    let answer = admin.request(Method::GET, &format!("keys/{id}")).send().await.unwrap();
    let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
    let soon = Timestamp::from_millis(Clock::system().now().millis() + 500);
    let (status, body) = admin.patch(&format!("keys/{id}"), &etag, &json!({"expiresAt": soon})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let took = mcp.answers_with(StatusCode::UNAUTHORIZED).await;
    assert!(took < REVOKED_MAX + Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn no_answer_of_the_endpoint_sets_a_cookie_and_no_admin_token_opens_it() {
    let gateway = TestGateway::start().with_key().await;
    let answer = gateway.mcp().modern("tools/list", json!({})).await;
    assert!(!answer.headers().contains_key("set-cookie"));
    let login = json!({"username": "harness", "password": gateway.admin_password()});
    let login =
        Client::new().post(format!("{}/api/auth/login", gateway.url())).json(&login).send().await.unwrap();
    let token = login.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned();
    let answer = gateway.mcp_as(&token).modern("tools/list", json!({})).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}
