//! Whole upstreams over HTTP+SSE, against a scripted server.

use futures::future::FutureExt;
use serde_json::Value;
use sql::model::Transport;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::time::timeout;

use super::peer::{Peer, Seen, Talk};
use super::*;
use crate::downstream::conversation::Outbound;
use crate::upstream::call::CallError;
use crate::upstream::link::{Link, Negotiated, Stage};
use crate::upstream::sse;
use crate::wire::meta::Version;

/// What a server is asked to say on its streams, to the byte. An empty text ends them.
type Voice = broadcast::Sender<String>;

fn record_of(url: &str) -> Upstream {
    let mut spec = record(url, Protocol::Auto);
    spec.transport = Transport::Sse;
    spec
}

fn event(message: &str) -> String {
    format!("event: message\ndata: {message}\n\n")
}

fn result_of(message: &Value, result: &str) -> String {
    event(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, message["id"]))
}

/// What a server says that a test has no opinion on; the name of a call is its answer.
fn usual(message: &Value) -> String {
    match message["method"].as_str() {
        Some("initialize") => result_of(
            message,
            r#"{"protocolVersion":"2024-11-05","capabilities":{"tools":{}},"serverInfo":{"name":"peer","version":"1"}}"#,
        ),
        Some("tools/list") => result_of(message, r#"{"tools":[{"name":"a"}]}"#),
        Some(_) if message.get("id").is_some() => {
            result_of(message, &format!(r#"{{"name":{}}}"#, message["params"]["name"]))
        }
        _ => String::new(),
    }
}

/// A server whose streams begin with this endpoint and whose POSTs are answered by `status`: with no
/// status none is, and the message is worked on all the same.
async fn server(endpoint: &'static str, status: fn(&Seen) -> Option<&'static str>) -> (Peer, Voice) {
    let voice = broadcast::channel::<String>(1024).0;
    let speaker = voice.clone();
    let peer = Peer::start(move |talk| {
        let speaker = speaker.clone();
        async move {
            if talk.seen.verb == "GET" {
                listen(talk, endpoint, &speaker).await;
            } else {
                take(talk, status, &speaker).await;
            }
        }
        .boxed()
    })
    .await;
    (peer, voice)
}

async fn listen(mut talk: Talk, endpoint: &str, speaker: &Voice) {
    let mut said = speaker.subscribe();
    talk.start_events().await;
    talk.raw(&format!(": hello\nevent: endpoint\r\ndata: {endpoint}\n\n")).await;
    while let Ok(text) = said.recv().await {
        if text.is_empty() {
            return;
        }
        talk.raw(&text).await;
    }
}

async fn take(mut talk: Talk, status: fn(&Seen) -> Option<&'static str>, speaker: &Voice) {
    let answer = usual(&talk.seen.message());
    let status = status(&talk.seen);
    if !answer.is_empty() && status.is_none_or(|status| status == "202 Accepted") {
        let _ = speaker.send(answer); // A stream that has gone hears nothing.
    }
    match status {
        Some(status) => talk.answer(status, "", "Accepted").await,
        None => talk.gone().await,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the form of every such decision")]
fn accepted(_: &Seen) -> Option<&'static str> {
    Some("202 Accepted")
}

fn named(name: &str) -> (Call, Outbox) {
    call(&format!(r#"{{"name":"{name}"}}"#))
}

async fn open(peer: &Peer, heard: &Arc<Heard>) -> Arc<dyn Link> {
    let link = sse::open(&record_of(&peer.url), &pool(Egress::Private), wiring(heard)).await;
    let link = link.expect("it opens");
    link.set_protocol(Negotiated { version: Version::V2024_11_05, capabilities: Bytes::new() });
    link
}

async fn ended(link: &dyn Link) -> String {
    timeout(PATIENCE, link.closed().cancelled()).await.expect("it ends");
    link.farewell().expect("it says why")
}

#[tokio::test]
async fn an_upstream_is_connected_called_and_connected_again() {
    let (peer, voice) = server("/messages?sessionId=1", accepted).await;
    let (upstreams, mut news) = upstreams(Egress::Private);
    let spec = Arc::new(record_of(&peer.url));
    upstreams.apply(&[Arc::clone(&spec)]);
    while !matches!(news.recv().await, Some(UpstreamEvent::Connected { .. })) {}
    let answer = upstreams.call(spec.id, named("one").0).await.expect("an answer");
    assert_eq!(answer, result(r#"{"name":"one"}"#));
    // The stream breaks: that is noticed without a call, and the next one goes over a new stream.
    voice.send(String::new()).expect("the stream stands");
    peer.until_some(2, |seen| seen.verb == "GET").await;
    let answer = upstreams.call(spec.id, named("two").0).await.expect("an answer");
    assert_eq!(answer, result(r#"{"name":"two"}"#));
    upstreams.shutdown().await;
    for seen in peer.seen() {
        assert_eq!((seen.header("x-own"), seen.header("authorization")), ("yes", "Bearer CANARY"));
        assert_eq!((seen.header("mcp-session-id"), seen.header("mcp-method")), ("", ""));
        assert_eq!(seen.path, if seen.verb == "GET" { "/mcp" } else { "/messages?sessionId=1" });
    }
    // What the transport is of is clear from the start: nothing is probed.
    assert_eq!(peer.methods()[..3], ["GET", "initialize", "notifications/initialized"]);
}

#[tokio::test]
async fn a_test_passes_every_stage() {
    let (peer, _voice) = server("messages", accepted).await;
    let (upstreams, _news) = upstreams(Egress::Private);
    let report = upstreams.test(&record_of(&peer.url)).await;
    let stages: Vec<_> = report.stages.iter().map(|stage| (stage.stage, stage.ok)).collect();
    let all = [Stage::Resolve, Stage::Connect, Stage::Initialize, Stage::List];
    assert_eq!(stages, all.map(|stage| (stage, true)));
    assert_eq!((report.tools, report.protocol_version.as_deref()), (Some(1), Some("2024-11-05")));
}

/// T09, T27: the credential goes nowhere else.
#[tokio::test]
async fn an_endpoint_of_another_origin_gets_nothing() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}/messages", elsewhere.local_addr().expect("it is bound"));
    let (peer, _voice) = server(endpoint.leak(), accepted).await;
    let (upstreams, _news) = upstreams(Egress::Private);
    let report = upstreams.test(&record_of(&peer.url)).await;
    let last = report.stages.last().expect("it came to one");
    assert_eq!((last.stage, last.ok), (Stage::Initialize, false));
    assert_eq!(last.reason.as_deref(), Some("the endpoint that it names is of another origin"));
    assert!(elsewhere.accept().now_or_never().is_none());
}

#[tokio::test]
async fn what_is_no_stream_with_an_endpoint_is_named() {
    for (status, headers, body, reason) in [
        (
            "401 Unauthorized",
            "",
            "",
            "the upstream answered with HTTP status 401: it wants another credential",
        ),
        (
            "307 Moved",
            "location: http://127.0.0.1:1/\r\n",
            "",
            "the upstream answered with HTTP status 307: redirects are not followed",
        ),
        (
            "200 OK",
            "content-type: application/json\r\n",
            "{}",
            "the upstream answered with something else than a stream of events",
        ),
        (
            "200 OK",
            "content-type: text/event-stream\r\n",
            "data: {}\n\nevent: end",
            "the stream ended before it named an endpoint",
        ),
    ] {
        let peer =
            Peer::start(move |mut talk| async move { talk.answer(status, headers, body).await }.boxed())
                .await;
        let opened = sse::open(&record_of(&peer.url), &pool(Egress::Private), wiring(&Arc::default())).await;
        let error = opened.err().expect("it is none");
        assert_eq!((error.stage, error.reason.as_str()), (Stage::Initialize, reason));
        assert_eq!(peer.seen().len(), 1);
    }
}

#[tokio::test]
async fn messages_arrive_in_the_order_they_were_sent() {
    let (peer, _voice) = server("/m", accepted).await;
    let link = open(&peer, &Arc::default()).await;
    for number in 0..50 {
        let params = Bytes::from(format!(r#"{{"n":{number}}}"#));
        link.notify("notifications/roots/list_changed", Some(params)).await.expect("it is queued");
    }
    let posts = peer.until_some(50, |seen| seen.verb == "POST").await;
    let numbers: Vec<_> = posts.iter().filter_map(|seen| seen.message()["params"]["n"].as_u64()).collect();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    link.close().await;
}

#[tokio::test]
async fn events_in_pieces_are_put_together_and_progress_comes_before_the_answer() {
    fn silent(seen: &Seen) -> Option<&'static str> {
        if seen.method() == "tools/call" { Some("200 OK") } else { accepted(seen) }
    }
    let (peer, voice) = server("/m", silent).await;
    let link = open(&peer, &Arc::default()).await;
    let (call, mut outbox) = call(r#"{"name":"a","_meta":{"progressToken":"mine"}}"#);
    let answered = async {
        let id = peer.until("tools/call").await.message()["id"].clone();
        let progress = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{id},"progress":1}}}}"#
        );
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"text":"green"}}}}"#);
        let text = format!(
            "event: other\ndata: {{}}\n\n: ping\n\nevent: message\r\ndata: {progress}\r\n\r\n{}",
            event(&answer)
        );
        for piece in text.as_bytes().chunks(7) {
            voice.send(String::from_utf8_lossy(piece).into_owned()).expect("the stream stands");
        }
    };
    let (outcome, ()) = futures::join!(link.request(call), answered);
    assert!(
        matches!(outbox.next_ready(), Some(Outbound::Notification { method, .. }) if &*method == "notifications/progress")
    );
    assert_eq!(outcome.expect("an answer"), result(r#"{"text":"green"}"#));
    link.close().await;
}

#[tokio::test]
async fn a_message_that_is_refused_fails_its_own_call_only() {
    fn picky(seen: &Seen) -> Option<&'static str> {
        if seen.body.contains("\"huge\"") { Some("413 Payload Too Large") } else { accepted(seen) }
    }
    let (peer, _voice) = server("/m", picky).await;
    let link = open(&peer, &Arc::default()).await;
    let (refused, taken) = futures::join!(link.request(named("huge").0), link.request(named("small").0));
    assert!(matches!(refused, Err(CallError::Refused { status: 413 })), "{refused:?}");
    assert_eq!(taken.expect("an answer"), result(r#"{"name":"small"}"#));
    link.close().await;
}

#[tokio::test]
async fn a_post_that_stays_unanswered_holds_nothing_up() {
    fn slow(seen: &Seen) -> Option<&'static str> {
        if seen.method() == "tools/call" { None } else { accepted(seen) }
    }
    let (peer, _voice) = server("/m", slow).await;
    let link = open(&peer, &Arc::default()).await;
    for name in ["one", "two"] {
        let answer = link.request(named(name).0).await.expect("the stream brings it");
        assert_eq!(answer, result(&format!(r#"{{"name":"{name}"}}"#)));
    }
    link.close().await;
}

#[tokio::test]
async fn a_session_that_was_forgotten_is_made_anew_and_the_call_repeated() {
    fn forgetful(seen: &Seen) -> Option<&'static str> {
        let forgets = seen.method() == "tools/call" && seen.path.ends_with("s=1");
        if forgets { Some("404 Not Found") } else { accepted(seen) }
    }
    let voice: Voice = broadcast::channel(64).0;
    let opened = Arc::new(Mutex::new(0));
    let speaker = voice.clone();
    let peer = Peer::start(move |talk| {
        let (speaker, opened) = (speaker.clone(), Arc::clone(&opened));
        async move {
            if talk.seen.verb != "GET" {
                return take(talk, forgetful, &speaker).await;
            }
            let endpoint = {
                let mut opened = opened.lock().expect("whole");
                *opened += 1;
                format!("/m?s={opened}")
            };
            listen(talk, &endpoint, &speaker).await;
        }
        .boxed()
    })
    .await;
    let (upstreams, mut news) = upstreams(Egress::Private);
    let spec = Arc::new(record_of(&peer.url));
    upstreams.apply(&[Arc::clone(&spec)]);
    while !matches!(news.recv().await, Some(UpstreamEvent::Connected { .. })) {}
    let answer = upstreams.call(spec.id, named("one").0).await.expect("an answer");
    assert_eq!(answer, result(r#"{"name":"one"}"#));
    assert_eq!(peer.seen().iter().filter(|seen| seen.method() == "tools/call").count(), 2);
    upstreams.shutdown().await;
}

/// T30: what is held of an event is bounded.
#[tokio::test]
async fn an_event_without_end_ends_the_connection_with_a_name() {
    let (peer, voice) = server("/m", |_| Some("200 OK")).await;
    let link = open(&peer, &Arc::default()).await;
    voice.send("data: ".into()).expect("the stream stands");
    let filler = "x".repeat(1024 * 1024);
    for _ in 0..17 {
        // It may be over before the last of them.
        let _ = voice.send(filler.clone());
    }
    let call = named("one").0;
    let (reason, lost) = futures::join!(ended(&*link), link.request(call));
    assert_eq!(reason, "the upstream sent an event of more than 16 MiB");
    assert!(lost.is_err());
}

#[tokio::test]
async fn what_is_no_message_is_dropped_and_counted() {
    let (peer, voice) = server("/m", accepted).await;
    let heard = Arc::new(Heard::default());
    let link = open(&peer, &heard).await;
    for data in ["not JSON", "[1,2]", r#"{"jsonrpc":"2.0","id":"nobody's","result":{}}"#] {
        voice.send(event(data)).expect("the stream stands");
    }
    let answer = link.request(named("one").0).await.expect("an answer");
    assert_eq!(answer, result(r#"{"name":"one"}"#));
    assert!(heard.dropped.lock().expect("whole").len() >= 3);
    link.close().await;
    // Closed by us, it is not lost.
    assert!(!link.closed().is_cancelled());
}
