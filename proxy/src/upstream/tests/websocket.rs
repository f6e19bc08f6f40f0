//! Whole upstreams over WebSocket, against a scripted server.

use futures::future::{BoxFuture, FutureExt};
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use sql::model::Transport;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::peer::Peer;
use super::*;
use crate::downstream::conversation::Outbound;
use crate::upstream::link::{Link, Negotiated, Stage};
use crate::upstream::websocket;
use crate::wire::meta::Version;

type Socket = WebSocketStream<TcpStream>;

fn record_of(url: &str) -> Upstream {
    let mut spec = record(url, Protocol::Legacy);
    spec.transport = Transport::Websocket;
    spec
}

/// Whether the server names the subprotocol that the client offers.
#[derive(Clone, Copy)]
enum Echo {
    Mcp,
    Nothing,
}

/// A server that treats each connection by `script`, and the requests they began with.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    async fn start(echo: Echo, script: fn(Socket) -> BoxFuture<'static, ()>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("ws://{}/mcp?a=b", listener.local_addr().expect("it is bound"));
        let (requests, tasks) = (Arc::<Mutex<Vec<Request>>>::default(), tasks());
        let written = Arc::clone(&requests);
        tasks.clone().spawn("server", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let written = Arc::clone(&written);
                tasks.spawn("server connection", async move {
                    #[expect(clippy::result_large_err, reason = "the library's own signature")]
                    let upgrade = |request: &Request, mut response: Response| {
                        written.lock().expect("whole").push(request.clone());
                        if matches!(echo, Echo::Mcp) {
                            let mcp = http::HeaderValue::from_static("mcp");
                            response.headers_mut().insert("sec-websocket-protocol", mcp);
                        }
                        Ok(response)
                    };
                    // A test of an upstream dials once more and leaves.
                    if let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, upgrade).await {
                        script(socket).await;
                    }
                });
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("whole").clone()
    }
}

fn result_of(message: &Value, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, message["id"])
}

/// What a server says that a test has no opinion on; the name of a call is its answer.
fn usual(message: &Value) -> Option<String> {
    Some(match message["method"].as_str()? {
        "initialize" => result_of(
            message,
            r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"peer","version":"1"}}"#,
        ),
        "tools/list" => result_of(message, r#"{"tools":[{"name":"a"}]}"#),
        _ if message.get("id").is_some() => {
            result_of(message, &format!(r#"{{"name":{}}}"#, message["params"]["name"]))
        }
        _ => return None,
    })
}

/// The next message of the client; `None` at the end.
async fn heard(socket: &mut Socket) -> Option<Value> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return serde_json::from_str(&text).ok(),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

async fn say(socket: &mut Socket, text: impl Into<String>) {
    // A client that left is no matter here.
    let _ = socket.send(Message::Text(text.into().into())).await;
}

fn good(mut socket: Socket) -> BoxFuture<'static, ()> {
    async move {
        while let Some(message) = heard(&mut socket).await {
            if message["params"]["name"] == "leave" {
                return;
            }
            if let Some(answer) = usual(&message) {
                say(&mut socket, answer).await;
            }
        }
    }
    .boxed()
}

fn named(name: &str) -> (Call, Outbox) {
    call(&format!(r#"{{"name":"{name}"}}"#))
}

fn negotiated(link: Arc<dyn Link>) -> Arc<dyn Link> {
    link.set_protocol(Negotiated { version: Version::V2025_06_18, capabilities: Bytes::new() });
    link
}

async fn open(server: &Server, heard: &Arc<Heard>) -> Arc<dyn Link> {
    let pool = pool(Egress::Private);
    let link = websocket::open(&record_of(&server.url), pool.dialler(), wiring(heard)).await;
    negotiated(link.expect("it opens"))
}

async fn ended(link: &dyn Link) -> String {
    timeout(PATIENCE, link.closed().cancelled()).await.expect("it ends");
    link.farewell().expect("it says why")
}

#[tokio::test]
async fn an_upstream_is_connected_called_and_connected_again() {
    for echo in [Echo::Mcp, Echo::Nothing] {
        let server = Server::start(echo, good).await;
        let (upstreams, mut news) = upstreams(Egress::Private);
        let spec = Arc::new(record_of(&server.url));
        upstreams.apply(&[Arc::clone(&spec)]);
        while !matches!(news.recv().await, Some(UpstreamEvent::Connected { .. })) {}
        let answer = upstreams.call(spec.id, named("one").0).await.expect("an answer");
        assert_eq!(answer, result(r#"{"name":"one"}"#));
        // The server is gone mid-call: that is noticed at once, and the next call goes over a new socket.
        let lost = upstreams.call(spec.id, named("leave").0).await;
        assert!(matches!(lost, Err(crate::upstream::call::CallError::ClosedMidCall)), "{lost:?}");
        let answer = upstreams.call(spec.id, named("two").0).await.expect("an answer");
        assert_eq!(answer, result(r#"{"name":"two"}"#));
        upstreams.shutdown().await;
        let requests = server.requests();
        assert_eq!(requests.len(), 2);
        for request in requests {
            let header = |name: &str| request.headers()[name].to_str().expect("a text").to_owned();
            assert_eq!(request.uri(), "/mcp?a=b");
            assert_eq!((header("x-own"), header("authorization")), ("yes".into(), "Bearer CANARY".into()));
            assert_eq!(header("sec-websocket-protocol"), "mcp");
            assert!(server.url.contains(&header("host")));
            // Nothing is offered that a peer could use to blow up a message.
            assert!(!request.headers().contains_key("sec-websocket-extensions"));
        }
    }
}

#[tokio::test]
async fn a_test_passes_every_stage_and_names_a_refusal() {
    let server = Server::start(Echo::Mcp, good).await;
    let (upstreams, _news) = upstreams(Egress::Private);
    let report = upstreams.test(&record_of(&server.url)).await;
    let stages: Vec<_> = report.stages.iter().map(|stage| (stage.stage, stage.ok)).collect();
    let all = [Stage::Resolve, Stage::Connect, Stage::Initialize, Stage::List];
    assert_eq!(stages, all.map(|stage| (stage, true)));
    for (status, reason) in [
        ("401 Unauthorized", "the upstream answered with HTTP status 401: it wants another credential"),
        ("302 Found", "the upstream answered with HTTP status 302: redirects are not followed"),
        ("200 OK", "the upstream answered with HTTP status 200"),
    ] {
        let peer = Peer::start(move |mut talk| {
            async move { talk.answer(status, "location: http://127.0.0.1:1/\r\n", "").await }.boxed()
        })
        .await;
        let report = upstreams.test(&record_of(&peer.url)).await;
        let last = report.stages.last().expect("it came to one");
        assert_eq!((last.stage, last.reason.as_deref()), (Stage::Initialize, Some(reason)));
    }
}

/// T27: the same check as for every other transport.
#[tokio::test]
async fn a_forbidden_address_sees_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    for host in ["127.0.0.1", "localhost", "[::1]", "2130706433", "0"] {
        let (pool, heard) = (pool(Egress::Public), Arc::default());
        let opened =
            websocket::open(&record_of(&format!("ws://{host}:{port}/")), pool.dialler(), wiring(&heard))
                .await;
        assert_eq!(opened.err().expect("it is forbidden").stage, Stage::Resolve, "{host}");
    }
    assert!(listener.accept().now_or_never().is_none());
}

#[tokio::test]
async fn frames_in_pieces_are_put_together_and_progress_comes_before_the_answer() {
    fn pieces(mut socket: Socket) -> BoxFuture<'static, ()> {
        async move {
            let id = heard(&mut socket).await.expect("a call")["id"].clone();
            let progress = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{id},"progress":1}}}}"#
            );
            let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"text":"grün"}}}}"#);
            for text in [progress, answer] {
                // Cut anywhere, within a character as well, and with a ping in between.
                for (number, piece) in text.as_bytes().chunks(7).enumerate() {
                    let kind = if number == 0 { Data::Text } else { Data::Continue };
                    let is_last = (number + 1) * 7 >= text.len();
                    let frame = Frame::message(piece.to_vec(), OpCode::Data(kind), is_last);
                    socket.send(Message::Frame(frame)).await.expect("it listens");
                    socket.send(Message::Ping("?".into())).await.expect("it listens");
                }
            }
            while heard(&mut socket).await.is_some() {}
        }
        .boxed()
    }
    let server = Server::start(Echo::Mcp, pieces).await;
    let link = open(&server, &Arc::default()).await;
    let (call, mut outbox) = call(r#"{"name":"a","_meta":{"progressToken":"mine"}}"#);
    let answer = link.request(call).await.expect("an answer");
    assert_eq!(answer, result(r#"{"text":"grün"}"#));
    assert!(
        matches!(outbox.next_ready(), Some(Outbound::Notification { method, .. }) if &*method == "notifications/progress")
    );
    link.close().await;
}

#[tokio::test]
async fn what_is_no_message_is_dropped_and_counted() {
    fn garbage(mut socket: Socket) -> BoxFuture<'static, ()> {
        async move {
            let call = heard(&mut socket).await.expect("a call");
            socket.send(Message::Binary(result_of(&call, "{}").into())).await.expect("it listens");
            say(&mut socket, "not JSON").await;
            say(&mut socket, r#"{"jsonrpc":"2.0","id":"nobody's","result":{}}"#).await;
            say(&mut socket, usual(&call).expect("a call has an answer")).await;
            while heard(&mut socket).await.is_some() {}
        }
        .boxed()
    }
    let server = Server::start(Echo::Mcp, garbage).await;
    let heard = Arc::new(Heard::default());
    let link = open(&server, &heard).await;
    let answer = link.request(named("one").0).await.expect("an answer");
    assert_eq!(answer, result(r#"{"name":"one"}"#));
    assert_eq!(*heard.dropped.lock().expect("whole"), [Dropped::Garbage, Dropped::Garbage, Dropped::Answer]);
    link.close().await;
    // Closed by us, it is not lost.
    assert!(!link.closed().is_cancelled());
}

#[tokio::test]
async fn a_close_is_answered_and_its_code_named() {
    fn closes(mut socket: Socket) -> BoxFuture<'static, ()> {
        async move {
            let _ = heard(&mut socket).await;
            let close = CloseFrame { code: CloseCode::Policy, reason: "SECRET".into() };
            socket.close(Some(close)).await.expect("it listens");
            // Both have closed: the client's own frame came.
            while let Some(Ok(frame)) = socket.next().await {
                assert!(frame.is_close(), "{frame:?}");
            }
        }
        .boxed()
    }
    let server = Server::start(Echo::Mcp, closes).await;
    let link = open(&server, &Arc::default()).await;
    let (lost, reason) = futures::join!(link.request(named("one").0), ended(&*link));
    assert!(lost.is_err());
    assert!(reason.starts_with("the upstream closed the connection with code 1008: its policy"), "{reason}");
    assert!(!reason.contains("SECRET"));
}

#[tokio::test]
async fn the_reason_reaches_the_admin() {
    fn closes(mut socket: Socket) -> BoxFuture<'static, ()> {
        async move {
            let _ = socket.close(Some(CloseFrame { code: CloseCode::Again, reason: "".into() })).await;
            while heard(&mut socket).await.is_some() {}
        }
        .boxed()
    }
    let server = Server::start(Echo::Mcp, closes).await;
    let (upstreams, _news) = upstreams(Egress::Private);
    let report = upstreams.test(&record_of(&server.url)).await;
    let reason = report.stages.last().and_then(|stage| stage.reason.clone()).expect("it failed");
    assert!(reason.contains("code 1013: it is overloaded"), "{reason}");
}

/// T30: what is held of a message is bounded, in one frame or in many.
#[tokio::test]
async fn a_message_that_is_too_large_ends_the_connection_with_a_name() {
    fn in_one(mut socket: Socket) -> BoxFuture<'static, ()> {
        async move { flood(&mut socket, 17, 1).await }.boxed()
    }
    fn in_many(mut socket: Socket) -> BoxFuture<'static, ()> {
        async move { flood(&mut socket, 1, 17).await }.boxed()
    }
    for script in [in_one, in_many] {
        let server = Server::start(Echo::Mcp, script).await;
        let link = open(&server, &Arc::default()).await;
        assert_eq!(ended(&*link).await, "the upstream sent a message of more than 16 MiB");
    }
}

async fn flood(socket: &mut Socket, mebibytes: usize, frames: usize) {
    for number in 0..frames {
        let kind = if number == 0 { Data::Text } else { Data::Continue };
        let frame = Frame::message(vec![b'x'; mebibytes << 20], OpCode::Data(kind), false);
        if socket.send(Message::Frame(frame)).await.is_err() {
            return; // It has heard enough.
        }
    }
    while heard(socket).await.is_some() {}
}

/// A link whose other end is in the test, without a network, so that the test's clock is the only one.
fn linked() -> (Arc<dyn Link>, tokio::io::DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let socket = WebSocketStream::from_raw_socket(ours, Role::Client, None).now_or_never();
    let link = websocket::link(socket.expect("there is nothing to wait for"), wiring(&Arc::default()));
    (negotiated(link), theirs)
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_no_ping_is_gone_after_two_of_them() {
    let (link, _theirs) = linked();
    let began = tokio::time::Instant::now();
    link.closed().cancelled().await;
    assert_eq!(link.farewell().as_deref(), Some("the upstream left 2 pings unanswered"));
    assert_eq!(began.elapsed().as_secs(), 75);
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_pings_stays_however_long_a_call_lasts() {
    let (link, theirs) = linked();
    let mut theirs = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
    let (mut call, _outbox) = named("slow");
    call.idle_timeout = Duration::from_hours(1);
    call.total_timeout = call.idle_timeout;
    let answers = async {
        let Some(Ok(Message::Text(call))) = theirs.next().await else { panic!("a call") };
        let until = tokio::time::Instant::now() + Duration::from_mins(30);
        let mut pings = 0;
        // To read is to answer pings.
        while let Ok(Some(Ok(frame))) = tokio::time::timeout_at(until, theirs.next()).await {
            pings += usize::from(frame.is_ping());
        }
        assert!(pings > 60, "{pings}");
        let call = serde_json::from_str(&call).expect("JSON");
        theirs.send(Message::Text(result_of(&call, "{}").into())).await.expect("it listens");
    };
    let (answer, ()) = futures::join!(link.request(call), answers);
    assert_eq!(answer.expect("an answer"), result("{}"));
    // We close with 1000, and they hear it.
    let heard_close = async {
        loop {
            match theirs.next().await {
                Some(Ok(Message::Ping(_))) => {}
                last => break last,
            }
        }
    };
    let ((), last) = futures::join!(link.close(), heard_close);
    let Some(Ok(Message::Close(Some(close)))) = last else { panic!("{last:?}") };
    assert_eq!(close.code, CloseCode::Normal);
}
