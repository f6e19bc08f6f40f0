//! HTTP+SSE, the transport of 2024-11-05: the endpoint it names, and who may post there.

use serde_json::{Value, json};

use crate::harness::{LEGACY_LATEST, Line, Sse, TestGateway};

fn ping(id: u64) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "ping"}).to_string()
}

fn code_of(body: &str) -> i64 {
    let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in {body}"));
    body["error"]["code"].as_i64().expect("a code")
}

#[tokio::test]
async fn the_endpoint_is_a_path_without_the_key_on_the_face_that_was_asked() {
    let gateway = TestGateway::start().with_key().await;
    for face in ["/mcp/sse", "/mcp/full/sse", "/mcp/smart/sse"] {
        let sse = Sse::open_at(&gateway, gateway.key(), face).await;
        let reference = sse.endpoint.strip_prefix(&format!("{face}/messages?sessionId="));
        let reference = reference.unwrap_or_else(|| panic!("{}", sse.endpoint));
        assert!(reference.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert!(!sse.endpoint.contains(gateway.key()));
        let (status, body) = sse.post(ping(1)).await;
        assert_eq!((status.as_u16(), body.as_str()), (202, "Accepted"));
    }
    // A browser can't set headers on a stream.
    let url = format!("{}/mcp/sse?api_key={}", gateway.url(), gateway.key());
    let mut stream = reqwest::get(url).await.unwrap();
    let first = stream.chunk().await.unwrap().unwrap();
    let first = std::str::from_utf8(&first).unwrap();
    assert!(first.starts_with("event: endpoint\ndata: /mcp/sse/messages?sessionId="), "{first}");
    assert!(!first.contains("mpg_") && !gateway.log().contains("mpg_"));
}

#[tokio::test]
async fn behind_a_path_of_a_proxy_the_endpoint_has_it_too() {
    let scene = TestGateway::start().with_env("MPG_PUBLIC_URL", "https://gateway.example.com/tools/");
    let gateway = scene.with_key().await;
    let open = async |host: Option<&str>| {
        let mut request = reqwest::Client::new().get(format!("{}/mcp/sse", gateway.url()));
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let mut stream = request.bearer_auth(gateway.key()).send().await.unwrap();
        assert_eq!(stream.status(), 200);
        String::from_utf8(stream.chunk().await.unwrap().unwrap().to_vec()).unwrap()
    };
    let first = open(Some("gateway.example.com")).await;
    assert!(first.contains("data: /tools/mcp/sse/messages?sessionId="), "{first}");
    // Asked directly, there is no such path.
    let first = open(None).await;
    assert!(first.contains("data: /mcp/sse/messages?sessionId="), "{first}");
}

#[tokio::test]
async fn a_post_needs_a_stream_of_its_own_key_on_its_own_path_t03() {
    let gateway = TestGateway::start().with_key().await;
    let (other, _) = gateway.mcp_with("other", json!({})).await;
    let mut sse = Sse::open(&gateway, gateway.key()).await;
    let (status, body) = sse.post_as(other.key(), ping(1)).await;
    assert_eq!((status.as_u16(), code_of(&body)), (404, -32001));
    let answer = sse.post_request().body(ping(1)).send().await.unwrap();
    assert_eq!(answer.status(), 401, "the reference is no key");
    let own = sse.endpoint.clone();
    for (endpoint, expected) in [
        ("/mcp/sse/messages".to_owned(), 400),
        ("/mcp/sse/messages?sessionId=".to_owned(), 404),
        ("/mcp/sse/messages?sessionId=AAAA".to_owned(), 404),
        (format!("{own}&sessionId=AAAA"), 400),
        (own.replace("/mcp/sse", "/mcp/full/sse"), 404),
        (own.replace("/mcp/sse", "/mcp/smart/sse"), 404),
    ] {
        sse.endpoint = endpoint.clone();
        assert_eq!(sse.post(ping(1)).await.0, expected, "{endpoint}");
    }
    // A session of the other transport isn't one of this, and the other way round.
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    sse.endpoint = format!("/mcp/sse/messages?sessionId={}", session.id());
    assert_eq!(sse.post(ping(1)).await.0, 404);
    let reference = own.split_once('=').unwrap().1;
    let shown = gateway.mcp().post().header("mcp-session-id", reference).body(ping(1)).send().await.unwrap();
    assert_eq!(shown.status(), 404);
    // Whatever was tried, the stream goes on.
    sse.endpoint = own;
    let mut line = Line::Sse(Box::new(sse));
    line.request(9, "ping", json!({})).await;
    assert_eq!(line.expect().await["id"], 9);
}

#[tokio::test]
async fn with_its_stream_a_session_is_over() {
    let gateway = TestGateway::start().with_key().await;
    let sse = Sse::open(&gateway, gateway.key()).await;
    let mut later = Sse::open(&gateway, gateway.key()).await;
    later.endpoint = sse.endpoint.clone();
    assert_eq!(later.post(ping(1)).await.0, 202);
    drop(sse);
    // The gateway notices by itself that the client has left.
    let gone = async {
        while later.post(ping(1)).await.0 != 404 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, gone).await.expect("its reference is unknown");
}

#[tokio::test]
async fn a_post_that_is_no_message_is_refused_where_it_was_sent() {
    let gateway = TestGateway::start().with_setting("mcp_api", "request_body_max_mib", 1).with_key().await;
    let sse = Sse::open(&gateway, gateway.key()).await;
    for (body, code) in [("", -32700), ("}{", -32700), ("[]", -32600), (r#"{"jsonrpc":"1.0"}"#, -32600)] {
        let (status, answer) = sse.post(body).await;
        assert_eq!((status.as_u16(), code_of(&answer)), (400, code), "{body}");
    }
    assert_eq!(sse.post("x".repeat(1024 * 1024 + 1)).await.0, 413);
    let plain = sse.post_request().bearer_auth(gateway.key()).header("content-type", "text/plain");
    assert_eq!(plain.body(ping(1)).send().await.unwrap().status(), 415);
}

#[tokio::test]
async fn the_guard_against_rebinding_stands_before_both_halves_t01() {
    let gateway = TestGateway::start().with_key().await;
    let sse = Sse::open(&gateway, gateway.key()).await;
    let client = reqwest::Client::new();
    let stream = || client.get(format!("{}/mcp/sse", gateway.url())).bearer_auth(gateway.key());
    let post = || sse.post_request().bearer_auth(gateway.key()).body(ping(1));
    for (name, value) in [
        ("host", "evil.example.com"),
        ("host", "127.0.0.1.evil.com"),
        ("origin", "http://evil.example.com"),
        ("origin", "null"),
        ("origin", "http://localhost:8080@evil.com"),
    ] {
        for request in [stream(), post()] {
            let status = request.header(name, value).send().await.unwrap().status();
            assert_eq!(status, 403, "{name}: {value}");
        }
    }
    assert_eq!(stream().header("origin", gateway.url()).send().await.unwrap().status(), 200);
    assert_eq!(post().header("origin", gateway.url()).send().await.unwrap().status(), 202);
}
