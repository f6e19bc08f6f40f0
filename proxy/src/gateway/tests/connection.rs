//! T31: what a connection may take: bytes, time, and places.

use sql::model::Settings;

use super::scene::{SHORT, Scene, Wishes, request};
use crate::guard::Deadlines;

#[tokio::test]
async fn a_header_that_is_too_large_is_refused() {
    let scene = Scene::start();
    let just_under = request("GET /healthz", &[format!("X: {}", "a".repeat(16_000))]);
    assert_eq!(scene.ask(just_under).await.status, 200);
    for large in [
        request("GET /healthz", &[format!("X: {}", "a".repeat(17_000))]),
        format!("GET /{} HTTP/1.1\r\n", "a".repeat(40_000)),
    ] {
        let answer = scene.until_close(large).await;
        assert!(answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_header_that_drips_is_cut_off_and_a_normal_call_is_served_meanwhile() {
    let deadlines = Deadlines { head: SHORT, ..Wishes::default().deadlines };
    let scene = Scene::start_with(Wishes { deadlines, ..Wishes::default() });
    let mut drip = scene.connect().await;
    drip.send("POST /mcp HTTP/1.1\r\nHost: loc").await;
    assert_eq!(scene.ask(scene.post(&[], "{}")).await.status, 200);
    let answer = drip.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_without_an_answer() {
    let deadlines = Deadlines { head: SHORT, ..Wishes::default().deadlines };
    let scene = Scene::start_with(Wishes { deadlines, ..Wishes::default() });
    assert_eq!(scene.connect().await.rest().await, "");
}

#[tokio::test]
async fn a_connection_is_reused_and_closed_when_it_idles() {
    let deadlines = Deadlines { idle: SHORT, ..Wishes::default().deadlines };
    let scene = Scene::start_with(Wishes { deadlines, ..Wishes::default() });
    let mut client = scene.connect().await;
    for n in 0..3 {
        client.send(scene.post(&[], &format!("{{\"n\":{n}}}"))).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, &answer.body), (200, &format!("echo:{{\"n\":{n}}}")));
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
    assert_eq!(client.rest().await, "");
    assert_eq!(scene.served(), 3);
}

#[tokio::test]
async fn a_header_that_drips_on_a_reused_connection_is_cut_off() {
    let deadlines = Deadlines { head: SHORT, ..Wishes::default().deadlines };
    let scene = Scene::start_with(Wishes { deadlines, ..Wishes::default() });
    let mut client = scene.connect().await;
    client.send(scene.post(&[], "{}")).await;
    assert_eq!(client.answer().await.status, 200);
    client.send("POST").await;
    assert!(client.rest().await.starts_with("HTTP/1.1 408 "));
}

#[tokio::test]
async fn a_client_that_wants_it_closed_gets_it_closed() {
    let scene = Scene::start();
    let answer = scene.until_close(scene.post(&["Connection: close"], "{}")).await;
    assert!(answer.ends_with("echo:{}"), "{answer}");
    let answer = scene.until_close("GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(answer.ends_with("{\"status\":\"ok\"}"), "{answer}");
}

#[tokio::test]
async fn one_empty_line_before_a_request_is_passed_over() {
    let scene = Scene::start();
    let mut client = scene.connect().await;
    client.send("\r\n".to_owned() + &request("GET /healthz", &[""; 0])).await;
    assert_eq!(client.answer().await.status, 200);
    let answer = scene.until_close("\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_to_come_back() {
    let mut settings = Settings::default();
    settings.limits.connections_total = 1;
    let scene = Scene::start_with(Wishes { settings, ..Wishes::default() });
    let mut first = scene.connect().await;
    first.send(scene.post(&[], "{}")).await;
    assert_eq!(first.answer().await.status, 200);
    let answer = scene.until_close("").await;
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    assert_eq!(scene.gateway.connections().open(), 1);
}
