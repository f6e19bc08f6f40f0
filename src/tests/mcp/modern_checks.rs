//! What 2026-07-28 asks a server to check before anything acts on a request (T07).

use reqwest::RequestBuilder;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use crate::harness::{LEGACY_LATEST, META, MODERN, Mcp, Peer, TestGateway, send, success_of, tool};

async fn gateway_before(peer: &Peer) -> TestGateway {
    let gateway = TestGateway::start().with_peer_in("modern", "peer", peer).with_key().await;
    gateway.mcp().lists(&["secret"]).await;
    gateway
}

fn meta() -> Value {
    json!({
        format!("{META}protocolVersion"): MODERN, format!("{META}clientCapabilities"): {},
        format!("{META}clientInfo"): {"name": "t", "version": "1"},
    })
}

/// A call of `secret` with this `_meta` and these headers.
fn call(mcp: &Mcp, meta: Option<Value>, headers: &[(&'static str, &str)]) -> RequestBuilder {
    let mut params = json!({"name": "secret", "arguments": {}});
    if let Some(meta) = meta {
        params["_meta"] = meta;
    }
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let request = mcp.post().body(message.to_string());
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

const VERSION: (&str, &str) = ("mcp-protocol-version", MODERN);
const METHOD: (&str, &str) = ("mcp-method", "tools/call");
const NAME: (&str, &str) = ("mcp-name", "secret");

#[tokio::test]
async fn headers_that_do_not_say_what_the_body_says_are_refused_t07() {
    let peer = Peer::named(["secret".into(), "cheap".into()]).await;
    let gateway = gateway_before(&peer).await;
    let mcp = gateway.mcp();
    let cases: [(&str, &[(&'static str, &str)]); 11] = [
        ("another name", &[VERSION, METHOD, ("mcp-name", "cheap")]),
        ("no name", &[VERSION, METHOD]),
        ("two names", &[VERSION, METHOD, NAME, ("mcp-name", "cheap")]),
        ("a name of another case", &[VERSION, METHOD, ("mcp-name", "Secret")]),
        ("a name that isn't base64", &[VERSION, METHOD, ("mcp-name", "=?base64?!!?=")]),
        ("another name in base64", &[VERSION, METHOD, ("mcp-name", "=?base64?Y2hlYXA=?=")]),
        ("another method", &[VERSION, ("mcp-method", "tools/list"), NAME]),
        ("no method", &[VERSION, NAME]),
        ("an older version", &[("mcp-protocol-version", LEGACY_LATEST), METHOD, NAME]),
        ("no version", &[METHOD, NAME]),
        ("no header at all", &[]),
    ];
    for (case, headers) in cases {
        let refusal = send(call(&mcp, Some(meta()), headers)).await.refusal().await;
        assert_eq!(refusal, (400, -32020), "{case}");
    }
    let latin = call(&mcp, Some(meta()), &[VERSION, METHOD]);
    let latin = latin.header("mcp-name", HeaderValue::from_bytes(b"secr\xe9t").unwrap());
    assert_eq!(send(latin).await.refusal().await, (400, -32020));
    assert_eq!(peer.counts().calls, 0);
    for name in ["secret", "=?base64?c2VjcmV0?="] {
        let answer = send(call(&mcp, Some(meta()), &[VERSION, METHOD, ("mcp-name", name)])).await;
        assert_eq!(success_of(&answer.result().await), "secret got {}", "{name}");
    }
}

#[tokio::test]
async fn what_every_request_must_say_of_itself_is_required() {
    let peer = Peer::named(["secret".into()]).await;
    let gateway = gateway_before(&peer).await;
    let mcp = gateway.mcp();
    let without = |key: &str| {
        let mut meta = meta();
        meta.as_object_mut().unwrap().remove(&format!("{META}{key}"));
        meta
    };
    let with = |key: &str, value: Value| {
        let mut meta = meta();
        meta[format!("{META}{key}")] = value;
        meta
    };
    let all = [VERSION, METHOD, NAME];
    let cases = [
        ("no _meta", None),
        ("no version", Some(without("protocolVersion"))),
        ("no capabilities", Some(without("clientCapabilities"))),
        ("a version that is a number", Some(with("protocolVersion", json!(7)))),
        ("capabilities that are a list", Some(with("clientCapabilities", json!([])))),
        ("a _meta that is a list", Some(json!([]))),
    ];
    for (case, meta) in cases {
        let refusal = send(call(&mcp, meta, &all)).await.refusal().await;
        assert_eq!(refusal, (400, -32602), "{case}");
    }
    let nameless = send(call(&mcp, Some(without("clientInfo")), &all)).await;
    assert_eq!(success_of(&nameless.result().await), "secret got {}", "its name is its own affair");
    assert_eq!(peer.counts().calls, 1);
}

#[tokio::test]
async fn a_version_that_is_not_served_is_answered_with_those_that_are() {
    let gateway = TestGateway::start().with_key().await;
    let mut other = meta();
    other[format!("{META}protocolVersion")] = "2031-01-01".into();
    let headers = [("mcp-protocol-version", "2031-01-01"), METHOD, NAME];
    let answer = send(call(&gateway.mcp(), Some(other), &headers)).await;
    assert_eq!(answer.status(), 400);
    let error = answer.answer().await["error"].take();
    assert_eq!((&error["code"], &error["data"]["requested"]), (&json!(-32022), &json!("2031-01-01")));
    assert_eq!(error["data"]["supported"][0], MODERN);
    assert!(error["data"]["supported"].as_array().unwrap().contains(&json!(LEGACY_LATEST)));
}

#[tokio::test]
async fn what_can_only_be_modern_is_never_answered_as_if_a_session_were_missing() {
    let gateway = TestGateway::start().with_key().await;
    let mcp = gateway.mcp();
    let discover = r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#;
    assert_eq!(mcp.send(discover).await.refusal().await, (400, -32602));
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let with = |name: &'static str, value: &str| mcp.post().header(name, value).body(list);
    assert_eq!(send(with("mcp-protocol-version", MODERN)).await.refusal().await, (400, -32602));
    assert_eq!(send(with("mcp-method", "tools/list")).await.refusal().await, (400, -32602));
    let (status, code) = send(with("mcp-protocol-version", "2031-01-01")).await.refusal().await;
    assert!(status == 400 && [-32602, -32022].contains(&code), "{status} {code}");
    // And what says nothing is a legacy request without its session.
    assert_eq!(mcp.send(list).await.refusal().await, (400, -32600));
}

#[tokio::test]
async fn sessions_mean_nothing_to_a_modern_request() {
    let gateway = TestGateway::start().with_key().await;
    let request = gateway.mcp().modern_request(1, "tools/list", json!({}));
    let answer = send(request.header("mcp-session-id", "made up").header("last-event-id", "7")).await;
    assert_eq!(answer.status(), 200);
    assert!(!answer.headers().contains_key("mcp-session-id"));
    let note = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1, "_meta": meta()}});
    assert_eq!(gateway.mcp().send(note.to_string()).await.status(), 202);
}

/// A tool that mirrors two of its parameters.
fn mirrored() -> rmcp::model::Tool {
    tool(
        "regional",
        json!({
            "type": "object", "properties": {
                "region": {"type": "string", "x-mcp-header": "Region"},
                "attempt": {"type": "integer", "x-mcp-header": "Attempt"},
                "query": {"type": "string"},
            },
        }),
    )
}

fn prefixed(peer: &Peer) -> Value {
    json!({
        "name": "peer", "namePrefix": "my_", "transport": "streamable-http", "protocol": "modern",
        "connParams": {"url": peer.url()},
    })
}

#[tokio::test]
async fn a_renamed_tools_headers_are_made_anew_for_its_server() {
    let peer = Peer::with_tools(vec![mirrored()]).await;
    let gateway = TestGateway::start().with_upstream(prefixed(&peer)).with_key().await;
    let mcp = gateway.mcp();
    mcp.lists(&["my_regional"]).await;
    let arguments = json!({"region": "日本", "attempt": 3, "query": "q"});
    let params = json!({"name": "my_regional", "arguments": arguments});
    let request = mcp.modern_request(1, "tools/call", params.clone());
    let request = request.header("mcp-param-region", "=?base64?5pel5pys?=").header("mcp-param-attempt", "3");
    assert!(success_of(&send(request).await.result().await).starts_with("regional got"));
    // A legacy client knows nothing of such headers; the server gets them all the same.
    let session = mcp.initialize(LEGACY_LATEST).await;
    let result = session.request("tools/call", params).await.result().await;
    assert!(success_of(&result).starts_with("regional got"));
    let calls = peer.seen_of("tools/call");
    assert_eq!(calls.len(), 2);
    for call in calls {
        let header = |name: &str| call.headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("mcp-name"), "regional");
        assert_eq!(header("mcp-method"), "tools/call");
        assert_eq!(header("mcp-protocol-version"), MODERN);
        assert_eq!(header("mcp-param-region"), "=?base64?5pel5pys?=");
        assert_eq!(header("mcp-param-attempt"), "3");
        assert_eq!(call.message()["params"]["name"], "regional");
        assert_eq!(call.message()["params"]["arguments"], arguments);
    }
}

#[tokio::test]
async fn mirrored_parameters_must_say_what_the_arguments_say() {
    let peer = Peer::with_tools(vec![mirrored()]).await;
    let gateway = TestGateway::start().with_upstream(prefixed(&peer)).with_key().await;
    let mcp = gateway.mcp();
    mcp.lists(&["my_regional"]).await;
    let with = |headers: &[(&'static str, &str)]| {
        let arguments = json!({"region": "eu", "attempt": 3});
        let params = json!({"name": "my_regional", "arguments": arguments});
        let request = mcp.modern_request(1, "tools/call", params);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    let (region, attempt) = (("mcp-param-region", "eu"), ("mcp-param-attempt", "3"));
    let wrong: [&[(&'static str, &str)]; 5] = [
        &[],
        &[region],
        &[("mcp-param-region", "us"), attempt],
        &[region, ("mcp-param-attempt", "4")],
        &[region, ("mcp-param-attempt", "three")],
    ];
    for headers in wrong {
        assert_eq!(send(with(headers)).await.refusal().await, (400, -32020), "{headers:?}");
    }
    assert_eq!(peer.counts().calls, 0);
    // Numbers are compared as numbers, and parameters nobody knows are somebody else's.
    for headers in
        [[region, attempt, ("mcp-param-other", "x")], [region, ("mcp-param-attempt", "3.0"), ("x-y", "z")]]
    {
        assert_eq!(send(with(&headers)).await.status(), 200, "{headers:?}");
    }
}
