//! Eras and versions against peers of all kinds, over HTTP.

use futures::future::{BoxFuture, FutureExt};
use sql::model::{Era, Protocol};

use super::peer::{Peer, Talk};
use super::*;
use crate::downstream::abilities::Abilities;
use crate::upstream::handshake::{Declared, Greeting, shake};
use crate::upstream::link::OpenError;
use crate::upstream::streamable_http;

async fn shaken<F>(
    protocol: Protocol,
    known: Option<Era>,
    script: F,
) -> (Result<Greeting, OpenError>, Vec<String>)
where
    F: Fn(Talk) -> BoxFuture<'static, ()> + Send + Sync + 'static,
{
    let peer = Peer::start(script).await;
    let heard = Arc::new(Heard::default());
    let spec = record(&peer.url, protocol);
    let link = streamable_http::open(&spec, &pool(Egress::Private), wiring(&heard)).expect("a good record");
    let outcome = shake(&*link, protocol, known, Declared::all(Roots::Undeclared), PATIENCE).await;
    let methods = peer.methods().into_iter().filter(|method| method != "GET").collect();
    (outcome, methods)
}

/// Answers `server/discover` so, and all else as a legacy server.
fn discover(
    status: &'static str,
    body: &'static str,
) -> impl Fn(Talk) -> BoxFuture<'static, ()> + Send + Sync {
    move |mut talk| {
        async move {
            if talk.seen.method() != "server/discover" {
                return talk.legacy().await;
            }
            let body = body.replace("ID", &talk.seen.message()["id"].to_string());
            talk.json(status, &body).await;
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_modern_server_is_discovered() {
    let script = discover(
        "200 OK",
        r#"{"jsonrpc":"2.0","id":ID,"result":{"resultType":"complete","supportedVersions":["2026-07-28","2025-11-25"],"capabilities":{"tools":{"listChanged":true}},"instructions":"hi","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"m"}}}}"#,
    );
    let (greeting, methods) = shaken(Protocol::Auto, None, script).await;
    let greeting = greeting.expect("it is modern");
    assert_eq!((greeting.spoken.era(), greeting.spoken.version.as_str()), (Era::Modern, "2026-07-28"));
    assert_eq!(
        (&greeting.server_info[..], greeting.instructions.as_deref()),
        (&br#"{"name":"m"}"#[..], Some("hi"))
    );
    assert_eq!(greeting.spoken.capabilities, r#"{"tools":{"listChanged":true}}"#);
    assert_eq!(methods, ["server/discover"]);
}

#[tokio::test]
async fn anything_but_a_modern_error_means_legacy() {
    let table = [
        ("400 Bad Request", ""),
        ("400 Bad Request", r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no session"}}"#),
        ("404 Not Found", ""),
        ("405 Method Not Allowed", ""),
        ("500 Internal Server Error", "oops"),
        ("200 OK", r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"what?"}}"#),
        ("200 OK", r#"{"jsonrpc":"2.0","id":ID,"result":{}}"#),
        ("200 OK", "garbage"),
        ("202 Accepted", ""),
        // Dual, but of legacy versions only.
        (
            "400 Bad Request",
            r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32022,"message":"","data":{"supported":["2025-11-25"]}}}"#,
        ),
    ];
    for (status, body) in table {
        let (greeting, methods) = shaken(Protocol::Auto, None, discover(status, body)).await;
        let greeting = greeting.unwrap_or_else(|error| panic!("{status} {body}: {error}"));
        assert_eq!(greeting.spoken.version.as_str(), "2025-11-25");
        assert_eq!(
            methods,
            ["server/discover", "initialize", "notifications/initialized"],
            "{status} {body}"
        );
    }
}

#[tokio::test]
async fn a_modern_server_that_we_can_not_talk_to_is_not_taken_for_a_legacy_one() {
    let table = [
        r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32022,"message":"","data":{"supported":["2030-01-01"]}}}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32020,"message":"header mismatch"}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32021,"message":""}}"#,
    ];
    for body in table {
        let (outcome, methods) = shaken(Protocol::Auto, None, discover("400 Bad Request", body)).await;
        assert!(outcome.is_err());
        assert_eq!(methods, ["server/discover"]);
    }
}

#[tokio::test]
async fn a_refused_credential_ends_the_handshake() {
    let (outcome, methods) = shaken(Protocol::Auto, None, discover("401 Unauthorized", "")).await;
    let reason = outcome.expect_err("refused").reason;
    assert_eq!(reason, "the upstream answered with HTTP status 401: it wants another credential");
    assert_eq!(methods, ["server/discover"]);
}

#[tokio::test]
async fn what_is_known_or_set_isnt_probed() {
    let (legacy, methods) = shaken(Protocol::Auto, Some(Era::Legacy), |talk| talk.legacy().boxed()).await;
    assert_eq!((legacy.is_ok(), methods.len()), (true, 2));
    let (legacy, methods) = shaken(Protocol::Legacy, None, |talk| talk.legacy().boxed()).await;
    assert_eq!((legacy.is_ok(), methods.len()), (true, 2));
    let (modern, methods) = shaken(Protocol::Modern, None, |talk| talk.legacy().boxed()).await;
    assert_eq!(
        (modern.expect_err("it isn't").reason.as_str(), methods.len()),
        ("it does not speak 2026-07-28", 1)
    );
}

#[tokio::test]
async fn the_legacy_handshake_declares_what_is_relayed_and_keeps_the_session() {
    let peer = Peer::start(|talk| talk.legacy().boxed()).await;
    let heard = Arc::new(Heard::default());
    let spec = record(&peer.url, Protocol::Legacy);
    let link = streamable_http::open(&spec, &pool(Egress::Private), wiring(&heard)).expect("a good record");
    shake(&*link, Protocol::Legacy, None, Declared::all(Roots::Undeclared), PATIENCE)
        .await
        .expect("it is legacy");
    let seen = peer.seen();
    let params = &seen[0].message()["params"];
    assert_eq!(params["protocolVersion"], "2025-11-25");
    assert_eq!(
        params["capabilities"],
        serde_json::json!({
            "sampling": {}, "elicitation": {"form": {}, "url": {}},
            "extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}},
        })
    );
    assert_eq!(params["clientInfo"]["name"], "mcp-proxy-gateway");
    assert!(
        !seen[0].headers.contains_key("mcp-session-id")
            && !seen[0].headers.contains_key("mcp-protocol-version")
    );
    assert_eq!(
        (seen[1].header("mcp-session-id"), seen[1].header("mcp-protocol-version")),
        ("s1", "2025-11-25")
    );
    link.close().await;
    assert_eq!(peer.until("DELETE").await.header("mcp-session-id"), "s1");
    // A call that was on its way to a link when it was closed names the session that is over: the server's 404
    // says that nothing was carried out. Without a session it would be refused as a bad request, for good.
    let (late, _outbox) = call("{}");
    let _ = link.request(late).await;
    assert_eq!(peer.until("tools/call").await.header("mcp-session-id"), "s1");
    link.close().await;
    assert_eq!(peer.methods().iter().filter(|method| *method == "DELETE").count(), 1, "it is ended once");
}

#[tokio::test]
async fn a_handshake_declares_no_more_than_it_is_to() {
    let extensions = serde_json::json!({
        "io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]},
    });
    for expected in [
        r#"{"sampling":{}}"#,
        r#"{"elicitation":{"form":{}}}"#,
        r#"{"elicitation":{"url":{}},"roots":{}}"#,
        r#"{"sampling":{},"elicitation":{"form":{},"url":{}},"roots":{}}"#,
        "{}",
    ] {
        let peer = Peer::start(|talk| talk.legacy().boxed()).await;
        let heard = Arc::new(Heard::default());
        let spec = record(&peer.url, Protocol::Legacy);
        let link =
            streamable_http::open(&spec, &pool(Egress::Private), wiring(&heard)).expect("a good record");
        let declared = Declared::only(Abilities::of(expected));
        shake(&*link, Protocol::Legacy, None, declared, PATIENCE).await.expect("it is legacy");
        let mut capabilities = peer.seen()[0].message()["params"]["capabilities"].clone();
        assert_eq!(
            capabilities.as_object_mut().expect("an object").remove("extensions").as_ref(),
            Some(&extensions)
        );
        assert_eq!(capabilities, serde_json::from_str::<serde_json::Value>(expected).expect("it is JSON"));
        link.close().await;
    }
}

#[tokio::test]
async fn an_unknown_version_is_no_agreement() {
    let (outcome, _) = shaken(Protocol::Legacy, None, |mut talk| {
        async move {
            talk.result(r#"{"protocolVersion":"1999-01-01","capabilities":{},"serverInfo":{}}"#).await;
        }
        .boxed()
    })
    .await;
    assert_eq!(outcome.expect_err("none").reason, "no version of the protocol is spoken by both sides");
}
