//! Answers that take time, and clients that leave meanwhile.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::scene::{SHORT, Scene, Wishes, json, request};
use crate::guard::Deadlines;
use crate::http_bridge::{Reply, ReplyBody};

fn stream() -> (mpsc::Sender<Bytes>, Reply) {
    let (pieces, receiver) = mpsc::channel(4);
    (pieces, Reply::new(ReplyBody::Stream(receiver)))
}

#[tokio::test]
async fn a_stream_arrives_piece_by_piece_and_its_connection_is_kept() {
    let scene = Scene::start();
    let (mut begins, replies) = scene.handler.wire();
    let mut client = scene.connect().await;
    client.send(scene.post(&["X-Script: wait"], "{}")).await;
    begins.recv().await.unwrap();
    let (pieces, reply) = stream();
    replies.send(reply).await.unwrap();
    let head = client.until("\r\n\r\n").await.to_lowercase();
    for line in ["transfer-encoding: chunked", "cache-control: no-cache", "x-accel-buffering: no"] {
        assert!(head.contains(line), "{head}");
    }
    for piece in ["data: 1\n\n", "data: 2\n\n"] {
        // The next one isn't made before this one has arrived.
        pieces.send(Bytes::from(piece)).await.unwrap();
        assert_eq!(client.until("\n\n\r\n").await, format!("9\r\n{piece}\r\n"));
    }
    drop(pieces);
    assert_eq!(client.until("\r\n\r\n").await, "0\r\n\r\n");
    client.send(scene.post(&[], "{}")).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_noticed_and_the_handler_goes_on() {
    let scene = Scene::start();
    let (mut begins, replies) = scene.handler.wire();
    let mut client = scene.connect().await;
    client.send(scene.post(&["X-Script: wait"], "{}")).await;
    let served = begins.recv().await.unwrap();
    assert!(!served.gone.is_cancelled());
    drop(client);
    served.gone.cancelled().await;
    // It is still there to take an answer, which goes nowhere.
    replies.send(json(ReplyBody::Empty)).await.unwrap();
    replies.closed().await;
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_is_noticed() {
    let scene = Scene::start();
    let (mut begins, replies) = scene.handler.wire();
    let mut client = scene.connect().await;
    let authorization = format!("Authorization: Bearer {}", scene.secret);
    client.send(request("GET /mcp", &[authorization.as_str(), "X-Script: wait"])).await;
    let served = begins.recv().await.unwrap();
    let (pieces, reply) = stream();
    replies.send(reply).await.unwrap();
    client.until("\r\n\r\n").await;
    drop(client);
    pieces.closed().await;
    served.gone.cancelled().await;
}

#[tokio::test]
async fn a_client_that_sends_more_before_the_answer_gets_the_answer_first() {
    let deadlines = Deadlines { idle: SHORT, ..Wishes::default().deadlines };
    let scene = Scene::start_with(Wishes { deadlines, ..Wishes::default() });
    let (mut begins, replies) = scene.handler.wire();
    let mut client = scene.connect().await;
    client.send(scene.post(&["X-Script: wait"], "{}")).await;
    let served = begins.recv().await.unwrap();
    client.send(scene.post(&[], "{}")).await;
    replies.send(json(ReplyBody::Whole(Bytes::from_static(b"first")))).await.unwrap();
    assert_eq!(client.answer().await.body, "first");
    assert!(!served.gone.is_cancelled());
    // What it sent more is served in its turn, or not at all if it came while the first one was served.
    let rest = client.rest().await;
    assert!(rest.is_empty() || rest.ends_with("\r\n\r\necho:{}"), "{rest}");
}

#[tokio::test]
async fn large_and_empty_answers_arrive() {
    let scene = Scene::start();
    let mut client = scene.connect().await;
    client.send(scene.post(&["X-Script: large"], "{}")).await;
    assert_eq!(client.answer().await.body.len(), 3 * 1024 * 1024);
    client.send(scene.post(&["X-Script: empty"], "{}")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("content-length")), (202, Some("0")));
    client.send(scene.post(&[], "{}")).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_key_that_is_revoked_tells_what_it_opened() {
    let scene = Scene::start();
    let (mut begins, replies) = scene.handler.wire();
    let mut client = scene.connect().await;
    client.send(scene.post(&["X-Script: wait"], "{}")).await;
    let served = begins.recv().await.unwrap();
    let (pieces, reply) = stream();
    replies.send(reply).await.unwrap();
    scene.keys.remove(scene.key.id);
    served.admitted.caller().revoked().cancelled().await;
    drop(pieces);
    client.until("0\r\n\r\n").await;
}
