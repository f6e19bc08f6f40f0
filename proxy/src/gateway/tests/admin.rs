//! The control plane behind the same listener.

use super::scene::{SHORT, Scene, Wishes, request};

const LIMIT: usize = 10 * 1024 * 1024;
const NONE: [&str; 0] = [];

#[tokio::test]
async fn everything_else_goes_to_the_control_plane_with_who_asks() {
    let scene = Scene::start();
    let answer = scene.ask(request("GET /api/x?y=z", &NONE)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "GET /api/x?y=z from 127.0.0.1 with 0 bytes"));
    assert!(answer.header("x-request-id").is_some());
}

#[tokio::test]
async fn the_answer_to_head_has_no_body() {
    let scene = Scene::start();
    let mut client = scene.connect().await;
    client.send(request("HEAD /healthz", &NONE)).await;
    let head = client.until("\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("http/1.1 200 ok\r\n") && head.contains("content-length: 15"), "{head}");
    client.send(request("HEAD /console", &NONE)).await;
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 200 OK\r\n"));
    client.send(request("GET /healthz", &NONE)).await;
    assert_eq!(client.answer().await.body, "{\"status\":\"ok\"}");
}

#[tokio::test]
async fn a_body_streams_in_up_to_its_limit() {
    let scene = Scene::start();
    let mut client = scene.connect().await;
    client.send(request("POST /api/x", &[format!("Content-Length: {LIMIT}")])).await;
    for _ in 0..10 {
        client.send(vec![b'a'; LIMIT / 10]).await;
    }
    let answer = client.answer().await;
    assert!(answer.body.ends_with(&format!("with {LIMIT} bytes")), "{}", answer.body);

    let answer = scene.ask(request("POST /api/x", &[format!("Content-Length: {}", LIMIT + 1)])).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "VALIDATION"));

    let mut client = scene.connect().await;
    client.send(request("POST /api/x", &["Transfer-Encoding: chunked"])).await;
    client.send(format!("{:x}\r\n", LIMIT + 1)).await;
    client.send(vec![b'a'; LIMIT + 1]).await;
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let scene = Scene::start_with(Wishes { body_deadline: SHORT, ..Wishes::default() });
    let answer = scene.ask(request("POST /api/x", &["Content-Length: 5"])).await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "VALIDATION"));
}

#[tokio::test]
async fn an_answer_that_does_not_wait_for_the_body_closes_the_connection() {
    let scene = Scene::start();
    let answer = scene.until_close(request("POST /unread", &["Content-Length: 5"])).await;
    assert!(answer.ends_with("POST /unread"), "{answer}");
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_is_told() {
    let scene = Scene::start();
    let mut client = scene.connect().await;
    client.send(request("POST /api/x", &["Content-Length: 2", "Expect: 100-continue"])).await;
    assert_eq!(client.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("{}").await;
    assert!(client.answer().await.body.ends_with("with 2 bytes"));
}
