//! Against peers written to the byte, over real sockets.

use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::*;
use crate::upstream::egress::Egress;

const PATIENCE: Duration = Duration::from_secs(10);
const HI: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

struct Scene {
    http1: Http1,
    dialler: Dialler,
    listener: TcpListener,
}

impl Scene {
    async fn new() -> Self {
        Self {
            http1: Http1::new(Tasks::new(Handle::current())),
            dialler: Dialler::new(Egress::Any, watch::channel(PATIENCE).1),
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    fn request(&self, body: impl Into<Bytes>) -> Request<Bytes> {
        let address = self.listener.local_addr().unwrap();
        Request::post(format!("http://{address}/mcp")).body(body.into()).unwrap()
    }

    /// Starts a request; what becomes of it is in the set.
    fn ask(&self, body: impl Into<Bytes>) -> JoinSet<Result<Response<Body>, CallError>> {
        let (http1, dialler, request) = (self.http1.clone(), self.dialler.clone(), self.request(body));
        let mut asking = JoinSet::new();
        asking.spawn(async move { http1.send(&dialler, request).await });
        asking
    }

    async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// Whether the next request comes over this connection.
    async fn comes_again(&self, mut known: TcpStream) -> bool {
        let mut asking = self.ask("again");
        tokio::select! {
            request = heard(&mut known) => {
                let is_there = request.is_some();
                if is_there {
                    known.write_all(HI).await.unwrap();
                    assert_eq!(text(asking.join_next().await.unwrap().unwrap()).await, "hi");
                    return true;
                }
                self.serve(self.accept().await, asking).await;
                false
            }
            new = self.accept() => { self.serve(new, asking).await; false }
        }
    }

    async fn serve(&self, mut new: TcpStream, mut asking: JoinSet<Result<Response<Body>, CallError>>) {
        heard(&mut new).await.unwrap();
        new.write_all(HI).await.unwrap();
        assert_eq!(text(asking.join_next().await.unwrap().unwrap()).await, "hi");
    }

    /// One request, answered in this way, and the connection it came on.
    async fn answered(&self, answer: &[u8]) -> (Result<String, Broken>, TcpStream) {
        let mut asking = self.ask("hello");
        let mut stream = self.accept().await;
        heard(&mut stream).await.unwrap();
        stream.write_all(answer).await.unwrap();
        let answer = asking.join_next().await.unwrap().unwrap().unwrap();
        let body = answer.into_body().collect().await;
        (body.map(|body| String::from_utf8(body.to_bytes().to_vec()).unwrap()), stream)
    }
}

/// A whole request of ours; `None` at the end of the connection.
async fn heard(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
        let text = String::from_utf8(bytes.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                return Some(text);
            }
        }
    }
}

async fn text(answer: Result<Response<Body>, CallError>) -> String {
    let body = answer.unwrap().into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn one_connection_serves_one_call_after_the_other() {
    let scene = Scene::new().await;
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    for answer in [HI, chunked, b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"] {
        let (body, stream) = scene.answered(answer).await;
        assert!(body.is_ok());
        assert!(scene.comes_again(stream).await, "{}", String::from_utf8_lossy(answer));
        scene.http1.idle.take(&idle::Origin::here(scene.request("").uri().authority().unwrap().clone()));
    }
}

#[tokio::test]
async fn what_can_not_be_trusted_any_more_is_not_used_again() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi and more",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    ] {
        let scene = Scene::new().await;
        let (body, stream) = scene.answered(answer).await;
        assert_eq!(body.unwrap(), "hi");
        assert!(!scene.comes_again(stream).await, "{}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_waited_costs_no_call() {
    let scene = Scene::new().await;
    let (_, stream) = scene.answered(HI).await;
    drop(stream);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
    let asking = scene.ask("again");
    scene.serve(scene.accept().await, asking).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_closes_its_connection() {
    let scene = Scene::new().await;
    let mut asking = scene.ask("hello");
    let mut stream = scene.accept().await;
    heard(&mut stream).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi").await.unwrap();
    drop(asking.join_next().await.unwrap().unwrap().unwrap());
    assert_eq!(heard(&mut stream).await, None);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_a_whole_one() {
    for half in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n",
    ] {
        let scene = Scene::new().await;
        let mut asking = scene.ask("hello");
        let mut stream = scene.accept().await;
        heard(&mut stream).await.unwrap();
        stream.write_all(half).await.unwrap();
        drop(stream);
        let answer = asking.join_next().await.unwrap().unwrap().unwrap();
        assert!(matches!(answer.into_body().collect().await, Err(Broken::Ended)));
    }
    let scene = Scene::new().await;
    let mut asking = scene.ask("hello");
    heard(&mut scene.accept().await).await.unwrap();
    assert!(matches!(asking.join_next().await.unwrap().unwrap(), Err(CallError::ClosedMidCall)));
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_is_written() {
    let scene = Scene::new().await;
    let mut asking = scene.ask(vec![b'x'; 32 * 1024 * 1024]);
    let mut stream = scene.accept().await;
    stream.write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
    let answer = asking.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(text(Ok(answer)).await, "no");
    // The rest of the body would be read as the next request.
    assert!(
        scene
            .http1
            .idle
            .take(&idle::Origin::here(scene.request("").uri().authority().unwrap().clone()))
            .is_none()
    );
}

/// A server may begin to answer before it has read what it was asked, and go on when it has.
#[tokio::test]
async fn the_rest_of_a_request_is_written_while_its_answer_is_read() {
    let scene = Scene::new().await;
    let mut asking = scene.ask(vec![b'x'; 32 * 1024 * 1024]);
    let mut stream = scene.accept().await;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await.unwrap();
    let answer = asking.join_next().await.unwrap().unwrap();
    let mut reading = JoinSet::new();
    reading.spawn(text(answer));
    heard(&mut stream).await.expect("all of it comes");
    stream.write_all(b"ok").await.unwrap();
    assert_eq!(reading.join_next().await.unwrap().unwrap(), "ok");
}

/// T30: an answer that comes byte by byte takes no buffer for each.
#[tokio::test]
async fn many_small_reads_share_a_buffer() {
    const BYTES: usize = 2000;
    let scene = Scene::new().await;
    let mut asking = scene.ask("hello");
    let mut stream = scene.accept().await;
    heard(&mut stream).await.unwrap();
    stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n").as_bytes()).await.unwrap();
    let mut body = asking.join_next().await.unwrap().unwrap().unwrap().into_body();
    let mut pieces: Vec<Bytes> = Vec::new();
    for _ in 0..BYTES {
        stream.write_all(b"x").await.unwrap();
        pieces.push(body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    let follows = |pair: &&[Bytes]| std::ptr::eq(pair[0].as_ptr_range().end, pair[1].as_ptr());
    let buffers = 1 + pieces.windows(2).filter(|pair| !follows(pair)).count();
    assert!(buffers <= 3, "{buffers} buffers for {BYTES} bytes");
}

#[tokio::test]
async fn who_waits_for_too_long_is_closed() {
    let scene = Scene::new().await;
    let (_, mut stream) = scene.answered(HI).await;
    tokio::time::pause();
    tokio::time::advance(idle::IDLE_TIMEOUT + Duration::from_millis(1)).await;
    assert_eq!(heard(&mut stream).await, None);
}
