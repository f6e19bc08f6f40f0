//! One call over Streamable HTTP against a peer that answers well, badly, or not at all.

use futures::future::{BoxFuture, FutureExt};
use sql::model::Protocol;

use super::peer::{Peer, Talk};
use super::*;
use crate::downstream::conversation::Outbound;
use crate::upstream::call::CallError;
use crate::upstream::link::{Link, Negotiated};
use crate::upstream::streamable_http;
use crate::wire::meta::Version;

/// A link that speaks `version`, to a peer that answers `tools/call` with `script`.
async fn linked<F>(version: Version, script: F) -> (Peer, Arc<dyn Link>, Arc<Heard>)
where
    F: Fn(Talk) -> BoxFuture<'static, ()> + Send + Sync + 'static,
{
    let peer = Peer::start(script).await;
    let heard = Arc::new(Heard::default());
    let spec = record(&peer.url, Protocol::Auto);
    let link = streamable_http::open(&spec, &pool(Egress::Private), wiring(&heard)).expect("a good record");
    link.set_protocol(Negotiated { version, capabilities: Bytes::new() });
    (peer, link, heard)
}

async fn legacy<F>(script: F) -> (Peer, Arc<dyn Link>, Arc<Heard>)
where
    F: Fn(Talk) -> BoxFuture<'static, ()> + Send + Sync + 'static,
{
    linked(Version::V2025_11_25, script).await
}

#[tokio::test]
async fn a_json_answer_comes_back_byte_for_byte_and_only_our_own_headers_go_out() {
    let (peer, link, _) =
        legacy(|mut talk| async move { talk.result(r#"{ "content":[],"x":1.50 }"#).await }.boxed()).await;
    let (call, _outbox) = call(r#"{"name":"t", "arguments":{"a": 1.0}}"#);
    assert_eq!(link.request(call).await.expect("answered"), result(r#"{ "content":[],"x":1.50 }"#));
    let seen = &peer.seen()[0];
    assert!(seen.body.ends_with(r#""method":"tools/call","params":{"name":"t", "arguments":{"a": 1.0}}}"#));
    let mut names: Vec<_> = seen.headers.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "mcp-protocol-version",
            "user-agent",
            "x-own"
        ]
    );
    assert_eq!(seen.header("authorization"), "Bearer CANARY");
    assert_eq!(seen.header("mcp-protocol-version"), "2025-11-25");
}

#[tokio::test]
async fn a_modern_request_mirrors_its_body_and_never_names_a_session() {
    let (peer, link, _) = linked(Version::V2026_07_28, |mut talk| {
        async move {
            let body = talk.result_text("{}");
            talk.answer("200 OK", "content-type: application/json\r\nmcp-session-id: s\r\n", &body).await;
        }
        .boxed()
    })
    .await;
    for _ in 0..2 {
        let (mut call, _outbox) = call(r#"{"name":"größe"}"#);
        call.headers.push(("mcp-param-a".parse().expect("a name"), "1".parse().expect("a value")));
        link.request(call).await.expect("answered");
    }
    for seen in peer.seen() {
        assert_eq!(seen.header("mcp-method"), "tools/call");
        assert_eq!(seen.header("mcp-name"), "=?base64?Z3LDtsOfZQ==?=");
        assert_eq!(seen.header("mcp-param-a"), "1");
        assert!(!seen.headers.contains_key("mcp-session-id"));
    }
}

#[tokio::test]
async fn what_comes_before_the_answer_keeps_its_order_and_the_clients_token() {
    let (_peer, link, heard) = legacy(|mut talk| {
        async move {
            let token = talk.seen.message()["params"]["_meta"]["progressToken"].clone();
            let progress = |token: &serde_json::Value, value: u32| {
                format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{value}}}}}"#
                )
            };
            talk.start_events().await;
            talk.raw("id: 1\ndata:\n\n: comment\n\n").await;
            talk.event(&progress(&token, 1)).await;
            talk.event(&progress(&"foreign".into(), 1)).await;
            talk.event(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#).await;
            talk.event(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#).await;
            talk.event(&progress(&token, 2)).await;
            talk.event(r#"{"jsonrpc":"2.0","id":999999999,"result":{"stolen":true}}"#).await;
            talk.event("not json").await;
            let answer = talk.result_text("{}");
            talk.event(&answer).await;
        }
        .boxed()
    })
    .await;
    let (call, mut outbox) = call(r#"{"_meta":{"progressToken":"mine"}}"#);
    assert_eq!(link.request(call).await.expect("answered"), result("{}"));
    let mut came = Vec::new();
    while let Some(Outbound::Notification { method, params }) = outbox.next_ready() {
        came.push((
            method.to_string(),
            String::from_utf8(params.expect("it has some").to_vec()).expect("UTF-8"),
        ));
    }
    let progress = |value| {
        ("notifications/progress".to_owned(), format!(r#"{{"progressToken":"mine","progress":{value}}}"#))
    };
    let message = ("notifications/message".to_owned(), r#"{"level":"info","data":1}"#.to_owned());
    assert_eq!(came, [progress(1), message, progress(2)]);
    assert_eq!(*heard.notifications.lock().expect("whole"), ["notifications/tools/list_changed"]);
    assert_eq!(*heard.dropped.lock().expect("whole"), [Dropped::Progress, Dropped::Answer, Dropped::Garbage]);
}

/// Most servers answer with a stream of one event: each would cost a connection of its own.
#[tokio::test]
async fn the_connection_of_a_stream_that_has_answered_serves_the_next_call() {
    let (_peer, link, _) = legacy(|mut talk| {
        async move {
            let event = format!("data: {}\n\n", talk.result_text(r#"{"first":true}"#));
            talk.raw(&format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{event}\r\n0\r\n\r\n",
                event.len()
            ))
            .await;
            let mut again = talk.next().await.expect("it comes over the same connection");
            again.result(r#"{"second":true}"#).await;
        }
        .boxed()
    })
    .await;
    assert_eq!(link.request(call("{}").0).await.expect("answered"), result(r#"{"first":true}"#));
    assert_eq!(link.request(call("{}").0).await.expect("answered"), result(r#"{"second":true}"#));
}

#[tokio::test]
async fn a_request_on_the_calls_stream_is_put_to_its_client_and_answered() {
    let (peer, link, _) = legacy(|mut talk| {
        async move {
            if talk.seen.method() != "tools/call" {
                return talk.answer("202 Accepted", "", "").await;
            }
            talk.start_events().await;
            talk.event(
                r#"{"jsonrpc":"2.0","id":"ask-1","method":"elicitation/create","params":{"message":"?"}}"#,
            )
            .await;
            talk.event(r#"{"jsonrpc":"2.0","id":2,"method":"roots/list"}"#).await;
            talk.event(r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#).await;
            talk.gone().await;
        }
        .boxed()
    })
    .await;
    let (call, mut outbox) = call("{}");
    let cancel = call.cancel.clone();
    let client = async {
        let Some(Outbound::Ask(ask)) = outbox.next().await else { panic!("the request comes") };
        assert_eq!(
            (&*ask.method, ask.params.as_deref()),
            ("elicitation/create", Some(&br#"{"message":"?"}"#[..]))
        );
        ask.reply.send(Ok(result(r#"{"action":"accept"}"#))).expect("it waits");
        let replies = peer.until_some(3, |seen| seen.message()["method"].is_null()).await;
        let mut replies: Vec<_> = replies.into_iter().map(|seen| seen.body).collect();
        replies.sort();
        cancel.cancel();
        replies
    };
    let (outcome, replies) = tokio::join!(link.request(call), client);
    assert!(matches!(outcome, Err(CallError::Cancelled)));
    assert_eq!(replies[0], r#"{"jsonrpc":"2.0","id":"ask-1","result":{"action":"accept"}}"#);
    assert!(replies[1].contains("-32601"));
    assert_eq!(replies[2], r#"{"jsonrpc":"2.0","id":3,"result":{}}"#);
    let cancelled = peer.until("notifications/cancelled").await;
    assert_eq!(cancelled.message()["params"]["requestId"], peer.seen()[0].message()["id"]);
}

#[tokio::test]
async fn a_hanging_legacy_upstream_is_timed_out_and_told() {
    let (peer, link, _) = legacy(|mut talk| {
        async move {
            if talk.seen.method() == "tools/call" {
                talk.gone().await;
            }
        }
        .boxed()
    })
    .await;
    let (mut call, _outbox) = call("{}");
    call.idle_timeout = Duration::from_millis(50);
    assert!(matches!(link.request(call).await, Err(CallError::TimedOut { .. })));
    let cancelled = peer.until("notifications/cancelled").await;
    assert_eq!(cancelled.message()["params"]["requestId"], peer.seen()[0].message()["id"]);
}

#[tokio::test]
async fn a_modern_upstream_sees_the_end_of_its_stream_and_no_message() {
    let (closed, mut closes) = mpsc::channel(1);
    let (peer, link, _) = linked(Version::V2026_07_28, move |mut talk| {
        let closed = closed.clone();
        async move {
            talk.start_events().await;
            talk.gone().await;
            closed.send(()).await.expect("the test waits");
        }
        .boxed()
    })
    .await;
    let (call, _outbox) = call("{}");
    let cancel = call.cancel.clone();
    let (outcome, ()) = tokio::join!(link.request(call), async {
        peer.until("tools/call").await;
        cancel.cancel();
    });
    assert!(matches!(outcome, Err(CallError::Cancelled)));
    closes.recv().await.expect("the stream was closed");
    assert_eq!(peer.methods(), ["tools/call"]);
}

#[tokio::test]
async fn progress_ends_a_silence_but_not_the_total() {
    let (_peer, link, _) = legacy(|mut talk| {
        async move {
            talk.start_events().await;
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            for _ in 0..100 {
                tick.tick().await;
                talk.event(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#).await;
            }
        }
        .boxed()
    })
    .await;
    let (mut call, _outbox) = call("{}");
    (call.idle_timeout, call.total_timeout) = (Duration::from_millis(400), Duration::from_millis(700));
    let outcome = link.request(call).await;
    assert!(
        matches!(outcome, Err(CallError::TimedOut { after }) if after == Duration::from_millis(700)),
        "{outcome:?}"
    );
}

/// Everything that a bad upstream may answer with, and what becomes of the call.
#[tokio::test]
async fn bad_answers_fail_their_call_and_nothing_else() {
    let json = "content-type: application/json\r\n";
    let sse = "content-type: text/event-stream\r\n";
    let large = "x".repeat(70_000);
    let head = |status: &str, headers: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let table: Vec<(&str, String, &str)> = vec![
        ("garbage", head("200 OK", json, "{nope"), "Invalid"),
        ("empty", head("200 OK", json, ""), "Invalid"),
        ("wrong id", head("200 OK", json, r#"{"jsonrpc":"2.0","id":99999999,"result":{}}"#), "Invalid"),
        ("text id", head("200 OK", json, r#"{"jsonrpc":"2.0","id":"1","result":{}}"#), "Invalid"),
        ("a notification", head("200 OK", json, r#"{"jsonrpc":"2.0","method":"x"}"#), "Invalid"),
        ("wrong version", head("200 OK", json, r#"{"jsonrpc":"1.0","id":1,"result":{}}"#), "Invalid"),
        ("html", head("200 OK", "content-type: text/html\r\n", "<p>"), "Invalid"),
        ("no type", head("200 OK", "", "{}"), "Invalid"),
        (
            "compressed",
            head("200 OK", "content-type: application/json\r\ncontent-encoding: gzip\r\n", "x"),
            "Invalid",
        ),
        ("accepted", head("202 Accepted", "", ""), "Invalid"),
        ("too large", head("200 OK", json, &large), "TooLarge"),
        ("too large event", head("200 OK", sse, &format!("data: {large}\n\n")), "TooLarge"),
        ("endless line", head("200 OK", sse, &large), "TooLarge"),
        ("garbage event", head("200 OK", sse, "data: {nope\n\n"), "Invalid"),
        ("stream without answer", head("200 OK", sse, ": hello\n\n"), "ClosedMidCall"),
        ("event cut short", head("200 OK", sse, "data: {\"jsonrpc\""), "ClosedMidCall"),
        (
            "body cut short",
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{".into(),
            "ClosedMidCall",
        ),
        ("not HTTP", "SSH-2.0-OpenSSH\r\n\r\n".into(), "ClosedMidCall"),
        ("closed at once", String::new(), "ClosedMidCall"),
        ("redirect", head("302 Found", "location: http://169.254.169.254/\r\n", ""), "Refused"),
        (
            "unauthorized",
            head("401 Unauthorized", json, r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}"#),
            "Refused",
        ),
        (
            "server error",
            head("500 Internal Server Error", "content-type: text/plain\r\n", "oops"),
            "Refused",
        ),
    ];
    for (what, bytes, outcome) in table {
        let (_peer, link, _) = legacy(move |mut talk| {
            let bytes = bytes.clone();
            async move { talk.raw(&bytes).await }.boxed()
        })
        .await;
        let (call, _outbox) = call("{}");
        let error = link.request(call).await.expect_err(what);
        assert!(format!("{error:?}").starts_with(outcome), "{what}: {error:?}");
        assert!(!error.to_string().contains("127.0.0.1") && !error.to_string().contains("CANARY"));
    }
}

#[tokio::test]
async fn an_error_status_with_a_json_rpc_error_is_the_upstreams_own_error() {
    let (_peer, link, _) = legacy(|mut talk| {
        async move {
            talk.json(
                "400 Bad Request",
                r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no"}}"#,
            )
            .await;
        }
        .boxed()
    })
    .await;
    let (call, _outbox) = call("{}");
    let error = Answer::Error(Bytes::from_static(br#"{"code":-32000,"message":"no"}"#));
    assert_eq!(link.request(call).await.expect("an answer"), error);
}

#[tokio::test]
async fn the_answer_may_come_on_a_resumed_stream() {
    let asked = Arc::new(Mutex::new(String::new()));
    let (peer, link, _) = legacy(move |mut talk| {
        let asked = Arc::clone(&asked);
        async move {
            talk.start_events().await;
            if talk.seen.verb == "POST" {
                *asked.lock().expect("whole") = talk.result_text(r#"{"late":true}"#);
                talk.raw("id: e7\nretry: 1\ndata:\n\n").await;
            } else {
                let answer = asked.lock().expect("whole").clone();
                talk.event(&answer).await;
            }
        }
        .boxed()
    })
    .await;
    let (call, _outbox) = call("{}");
    assert_eq!(link.request(call).await.expect("it comes late"), result(r#"{"late":true}"#));
    let seen = peer.seen();
    assert_eq!(
        (seen.len(), seen[1].header("last-event-id"), seen[1].header("accept")),
        (2, "e7", "text/event-stream")
    );
}

#[tokio::test]
async fn what_comes_outside_calls_goes_to_the_one_owner_or_to_nobody() {
    let (peer, link, heard) = legacy(|mut talk| {
        async move {
            match talk.seen.method().as_str() {
                "GET" => {
                    talk.start_events().await;
                    talk.event(r#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}"#)
                        .await;
                    talk.event(r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#).await;
                    talk.gone().await;
                }
                "tools/call" => talk.gone().await,
                _ => talk.answer("202 Accepted", "", "").await,
            }
        }
        .boxed()
    })
    .await;
    let (first, _first_outbox) = call_of(Owner(Uuid::from_u128(1)), "{}");
    let (second, _second_outbox) = call_of(Owner(Uuid::from_u128(2)), "{}");
    let cancels = [first.cancel.clone(), second.cancel.clone()];
    let rest = async {
        peer.until_some(2, |seen| seen.method() == "tools/call").await;
        link.notify("notifications/initialized", None).await.expect("taken");
        let reply = peer.until_some(1, |seen| !seen.message()["error"].is_null()).await.remove(0);
        cancels.iter().for_each(CancellationToken::cancel);
        link.close().await;
        reply
    };
    let (_, _, reply) = tokio::join!(link.request(first), link.request(second), rest);
    assert_eq!(reply.message()["error"]["code"], -32603);
    assert_eq!(*heard.notifications.lock().expect("whole"), ["notifications/prompts/list_changed"]);
    assert_eq!(*heard.dropped.lock().expect("whole"), [Dropped::Unattributed]);
}
