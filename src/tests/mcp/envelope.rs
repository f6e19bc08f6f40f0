//! What is no message, what is no request, and what is a request nobody knows (T08): one table each.

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{LEGACY_LATEST, Mcp, Peer, TestGateway, send};

async fn gateway_before(peer: &Peer) -> TestGateway {
    let gateway = TestGateway::start().with_peer_in("legacy", "peer", peer).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    gateway
}

#[tokio::test]
async fn what_is_not_json_or_not_a_message_is_refused_and_goes_nowhere_t08() {
    let peer = Peer::start().await;
    let gateway = gateway_before(&peer).await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#;
    let utf16: Vec<u8> = call.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{}{}}}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    let not_json: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", b"".to_vec()),
        ("half a message", call.as_bytes()[..40].to_vec()),
        ("a byte order mark", [b"\xef\xbb\xbf", call.as_bytes()].concat()),
        ("UTF-16", utf16),
        ("a byte that is no UTF-8", call.replace("echo", "ec#o").replace('#', "\u{1}").into_bytes()),
        ("bad UTF-8", [&b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}"[..]].concat()),
        ("a lone surrogate", call.replace("echo", r"\ud800").into_bytes()),
        ("something behind it", format!("{call} x").into_bytes()),
        ("two messages", format!("{call}{call}").into_bytes()),
        ("NaN", call.replace("1,", "NaN,").into_bytes()),
        ("single quotes", call.replace('"', "'").into_bytes()),
        ("an id beyond numbers", call.replace(r#""id":1"#, r#""id":1e999"#).into_bytes()),
        ("too deep", deep.into_bytes()),
    ];
    for (case, body) in not_json {
        let (status, code) = session.send(body).await.refusal().await;
        assert_eq!((status, code), (400, -32700), "{case}");
    }
    let not_a_message = [
        ("a string", r#""tools/list""#.to_owned()),
        ("a number", "1".to_owned()),
        ("null", "null".to_owned()),
        ("an empty object", "{}".to_owned()),
        ("two methods", call.replace(r#""params""#, r#""method":"tools/list","params""#)),
        ("two ids", call.replace(r#""params""#, r#""id":2,"params""#)),
        ("a second name", call.replace(r#""name":"echo""#, r#""name":"echo","name":"evil""#)),
        ("a name of another case", call.replace(r#""name":"echo""#, r#""name":"echo","Name":"evil""#)),
        ("an escaped second name", call.replace(r#""name":"echo""#, r#""name":"echo","n\u0061me":"evil""#)),
        ("a method of another case", call.replace(r#""params""#, r#""Method":"x","params""#)),
        ("no version", call.replace(r#""jsonrpc":"2.0","#, "")),
        ("another version", call.replace("2.0", "1.0")),
        ("an id that is null", call.replace(r#""id":1"#, r#""id":null"#)),
        ("an id with a fraction", call.replace(r#""id":1"#, r#""id":1.5"#)),
        ("an id that is a list", call.replace(r#""id":1"#, r#""id":[1]"#)),
        ("a method that is a number", call.replace(r#""tools/call""#, "7")),
        ("params that are a list", call.replace(r#"{"name":"echo"}"#, r#"["echo"]"#)),
        ("params that are null", call.replace(r#"{"name":"echo"}"#, "null")),
        ("a method and a result", call.replace(r#""params""#, r#""result":{},"params""#)),
        ("neither a method nor an answer", r#"{"jsonrpc":"2.0","id":1}"#.to_owned()),
        ("an answer with two faces", r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#.to_owned()),
    ];
    for (case, body) in not_a_message {
        let (status, code) = session.send(body).await.refusal().await;
        assert_eq!((status, code), (400, -32600), "{case}");
    }
    assert_eq!(peer.seen_of("tools/call").len(), 0);
}

#[tokio::test]
async fn ids_come_back_as_they_were() {
    let gateway = TestGateway::start().with_key().await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let ids = [
        "0",
        "1",
        "-7",
        r#""1""#,
        r#""""#,
        r#""\u0041\"""#,
        "9007199254740993",
        "123456789012345678901234567890",
    ];
    for id in ids {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
        let answer = String::from_utf8(session.send(body).await.bytes().await).unwrap();
        assert!(answer.contains(&format!(r#""id":{id},"#)), "{id}: {answer}");
    }
}

#[tokio::test]
async fn what_is_accepted_is_forwarded_as_it_came_t08() {
    let peer = Peer::start().await;
    let gateway = gateway_before(&peer).await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let arguments =
        r#"{ "message":"\u00e9/\/","big":12345678901234567890123, "f": 1.0,"e":1E2 ,"d":{"a":1,"A":2}}"#;
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{{"name":"echo","arguments":{arguments},"extra":[ ]}}}}"#
    );
    session.send(body).await;
    let seen = peer.seen_of("tools/call");
    let seen = std::str::from_utf8(&seen[0].body).unwrap();
    assert!(seen.contains(&format!(r#""arguments":{arguments}"#)), "{seen}");
    assert!(seen.contains(r#""extra":[ ]"#), "{seen}");
    assert!(!seen.contains(r#""id":"x""#), "the client's id is its own: {seen}");
}

#[tokio::test]
async fn a_method_nobody_knows_is_not_found_in_the_way_of_the_era() {
    let gateway = TestGateway::start().with_key().await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    for method in ["nonsense", "tools/List", "", "server/tools", "rpc.discover", "tools/call/x"] {
        let refusal = session.request(method, json!({})).await.refusal().await;
        assert_eq!(refusal, (200, -32601), "{method:?}");
    }
    let removed = ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];
    for method in ["nonsense", "tools/List"].iter().chain(&removed) {
        let refusal = gateway.mcp().modern(method, json!({})).await.refusal().await;
        assert_eq!(refusal, (404, -32601), "{method:?}");
    }
}

#[tokio::test]
async fn a_notification_nobody_knows_is_accepted_and_an_answer_nobody_waits_for_too() {
    let gateway = TestGateway::start().with_key().await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    for body in [
        r#"{"jsonrpc":"2.0","method":"notifications/nonsense"}"#,
        r#"{"jsonrpc":"2.0","id":99,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":"x","error":{"code":1,"message":"m"}}"#,
    ] {
        let answer = session.send(body).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{body}");
        assert_eq!(answer.bytes().await, b"", "{body}");
    }
}

#[tokio::test]
async fn params_of_wrong_types_are_invalid() {
    let peer = Peer::start().await;
    let gateway = gateway_before(&peer).await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    for (method, params) in [
        ("tools/call", json!({})),
        ("tools/call", json!({"name": 7})),
        ("tools/call", json!({"name": null})),
        ("tools/call", json!({"name": "nobody"})),
        ("prompts/get", json!({"name": ["x"]})),
        ("tools/list", json!({"cursor": 7})),
    ] {
        let refusal = session.request(method, params.clone()).await.refusal().await;
        assert_eq!(refusal, (200, -32602), "{method} {params}");
    }
    let bad_handshakes =
        [json!({}), json!({"protocolVersion": 1, "capabilities": {}}), json!({"protocolVersion": "x"})];
    for params in bad_handshakes {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
        let exchange = gateway.mcp().send(message.to_string()).await;
        assert!(!exchange.headers().contains_key("mcp-session-id"));
        assert_eq!(exchange.refusal().await, (200, -32602), "{params}");
    }
    assert_eq!(peer.counts().calls, 0);
}

/// The status of a problem, which has the body of one.
async fn problem(request: reqwest::RequestBuilder) -> u16 {
    let exchange = send(request).await;
    let status = exchange.status().as_u16();
    assert_eq!(exchange.header("content-type"), "application/problem+json");
    let body: Value = serde_json::from_slice(&exchange.bytes().await).expect("JSON");
    assert_eq!(body["status"], status);
    assert!(["code", "detail", "requestId", "title"].iter().all(|field| body[field].is_string()), "{body}");
    status
}

fn post(mcp: &Mcp, content_type: &str, accept: &str) -> reqwest::RequestBuilder {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    mcp.request(Method::POST).header(CONTENT_TYPE, content_type).header(ACCEPT, accept).body(body)
}

#[tokio::test]
async fn media_types_sizes_and_methods_have_statuses_of_their_own() {
    let gateway = TestGateway::start().with_setting("mcp_api", "request_body_max_mib", 1).with_key().await;
    let mcp = gateway.mcp();
    let both = "application/json, text/event-stream";
    for content_type in ["text/plain", "application/xml", "application/jsonp", ""] {
        assert_eq!(problem(post(&mcp, content_type, both)).await, 415, "{content_type}");
    }
    let compressed = post(&mcp, "application/json", both).header("content-encoding", "gzip");
    assert_eq!(problem(compressed).await, 415);
    for accept in ["application/json", "text/event-stream", "text/html", ""] {
        assert_eq!(problem(post(&mcp, "application/json", accept)).await, 406, "{accept}");
    }
    for accept in ["*/*", "text/*, application/*", both] {
        // Past the media types, what is missing is the session.
        let answer = send(post(&mcp, "application/json; charset=utf-8", accept)).await;
        assert_eq!(answer.refusal().await, (400, -32600), "{accept}");
    }
    let large = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{}"}}"#, "x".repeat(1024 * 1024));
    assert_eq!(problem(mcp.post().body(large.clone())).await, 413);
    // Without a length it is counted as it comes.
    let chunks =
        futures::stream::iter(large.into_bytes().chunks(64 * 1024).map(<[u8]>::to_vec).collect::<Vec<_>>());
    let chunks = futures::StreamExt::map(chunks, Ok::<_, std::io::Error>);
    assert_eq!(problem(mcp.post().body(reqwest::Body::wrap_stream(chunks))).await, 413);
    for method in [Method::PUT, Method::PATCH, Method::HEAD, Method::OPTIONS] {
        let status = send(mcp.request(method.clone())).await.status().as_u16();
        assert!(matches!(status, 404 | 405), "{method}: {status}");
    }
    for path in ["/mcp/http/x", "/mcp/nothing", "/mcp/sse/x", "/mcp/ws/x"] {
        assert_eq!(problem(post(&mcp.at(path), "application/json", both)).await, 404, "{path}");
    }
    for method in [Method::GET, Method::DELETE] {
        let answer = send(mcp.request(method).header("mcp-protocol-version", "2026-07-28")).await;
        assert_eq!((answer.status().as_u16(), answer.header("allow")), (405, "POST"));
    }
}

#[tokio::test]
async fn a_batch_is_answered_as_one_in_sessions_of_2025_03_26() {
    let peer = Peer::start().await;
    let gateway = gateway_before(&peer).await;
    let session = gateway.mcp().initialize("2025-03-26").await;
    let call = json!({"name": "echo", "arguments": {"message": "hi"}});
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "method": "notifications/nonsense"},
        {"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": call},
        {"jsonrpc": "2.0", "id": 1.5, "method": "ping"},
        {"jsonrpc": "2.0", "id": 3, "method": "initialize", "params": {}},
        {"jsonrpc": "2.0", "id": 4, "method": "nonsense"},
    ]);
    let answers = session.send(batch.to_string()).await.answer().await;
    let answers = answers.as_array().expect("an array").clone();
    assert_eq!(answers.len(), 5, "{answers:?}");
    let of = |id: Value| {
        answers.iter().find(|answer| answer["id"] == id).unwrap_or_else(|| panic!("{id}: {answers:?}"))
    };
    assert_eq!(of(json!(1))["result"], json!({}));
    assert_eq!(of(json!("a"))["result"]["content"][0]["text"], "echo: hi");
    assert_eq!(of(json!(3))["error"]["code"], -32600);
    assert_eq!(of(json!(4))["error"]["code"], -32601);
    let nameless = answers.iter().find(|answer| answer["id"].is_null()).expect("the bad one has no id");
    assert_eq!(nameless["error"]["code"], -32600);

    let notifications = json!([
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}},
    ]);
    let accepted = session.send(notifications.to_string()).await;
    assert_eq!(accepted.status(), StatusCode::ACCEPTED);
    assert_eq!(accepted.bytes().await, b"");
}

#[tokio::test]
async fn a_batch_is_refused_everywhere_else() {
    let gateway = TestGateway::start().with_key().await;
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let batch = json!([ping]).to_string();
    for version in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let session = gateway.mcp().initialize(version).await;
        assert_eq!(session.send(batch.clone()).await.refusal().await, (400, -32600), "{version}");
    }
    assert_eq!(gateway.mcp().send(batch.clone()).await.refusal().await, (400, -32600), "no session");
    let modern = gateway.mcp().post().header("mcp-protocol-version", "2026-07-28").body(batch);
    assert_eq!(send(modern).await.refusal().await, (400, -32600), "2026-07-28");
    let session = gateway.mcp().initialize("2025-03-26").await;
    for batch in [json!([]), Value::from(vec![ping; 101])] {
        assert_eq!(session.send(batch.to_string()).await.refusal().await, (400, -32600));
    }
}
