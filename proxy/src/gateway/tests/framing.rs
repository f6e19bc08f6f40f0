//! T10: one request has one reading, and what hides behind it is never served.

use super::scene::{Scene, request};

/// Sends bytes that hide a second request, and checks that there is one answer and nothing was served.
async fn refused(scene: &Scene, what: &str, bytes: String) {
    let answer = scene.until_close(bytes).await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{what}: {answer}");
    assert!(answer.contains("application/problem+json"), "{what}: {answer}");
    assert!(answer.contains("connection: close"), "{what}: {answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{what}: {answer}");
    assert_eq!(scene.served(), 0, "{what}");
}

#[tokio::test]
async fn ambiguous_framing_is_refused_and_the_connection_closed() {
    let scene = Scene::start();
    let smuggled = scene.post(&[], "{}");
    let with = |lines: &[&str], body: &str| {
        let authorization = format!("Authorization: Bearer {}", scene.secret);
        let mut all = vec![authorization.as_str(), "Content-Type: application/json", "Accept: */*"];
        all.extend(lines);
        format!("{}{body}{smuggled}", request("POST /mcp", &all))
    };
    let chunked = "Transfer-Encoding: chunked";
    for (what, bytes) in [
        ("CL.TE", with(&["Content-Length: 6", chunked], "0\r\n\r\nG")),
        ("TE.CL", with(&[chunked, "Content-Length: 3"], "1\r\nG\r\n0\r\n\r\n")),
        ("xchunked", with(&["Transfer-Encoding: xchunked"], "0\r\n\r\n")),
        ("TE twice", with(&[chunked, "Transfer-Encoding: identity"], "0\r\n\r\n")),
        ("TE with a list", with(&["Transfer-Encoding: gzip, chunked"], "0\r\n\r\n")),
        ("TE with a space before the colon", with(&["Transfer-Encoding : chunked"], "0\r\n\r\n")),
        ("different CLs", with(&["Content-Length: 2", "Content-Length: 3"], "{}")),
        ("CL with a sign", with(&["Content-Length: +5"], "{   }")),
        ("obs-fold", with(&["X-Folded: a", " b", "Content-Length: 2"], "{}")),
        ("HTTP/1.0 with TE", with(&[chunked], "0\r\n\r\n").replacen("HTTP/1.1", "HTTP/1.0", 1)),
        ("bare LF", with(&["Content-Length: 2"], "{}").replacen("\r\n", "\n", 1)),
        ("bare LF after all", "GET /mcp HTTP/1.1\nHost: localhost\n\n".into()),
        ("two hosts", with(&["Host: localhost", "Content-Length: 2"], "{}")),
        ("a NUL", with(&["X-Nul: a\0b", "Content-Length: 2"], "{}")),
        ("HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
    ] {
        refused(&scene, what, bytes).await;
    }
}

#[tokio::test]
async fn a_tunnel_is_refused() {
    let scene = Scene::start();
    let answer = scene.until_close("CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1);
}

#[tokio::test]
async fn a_request_behind_another_is_not_mixed_with_it() {
    let scene = Scene::start();
    let first = scene.post(&[], "{\"n\":1}");
    let second = scene.post(&[], "{\"n\":2}");
    let answers = scene.until_close(first + &second).await;
    assert!(answers.starts_with("HTTP/1.1 200 OK\r\n") && answers.ends_with("echo:{\"n\":1}"), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1").count(), 1);
    assert_eq!(scene.served(), 1);
}

#[tokio::test]
async fn an_upgrade_that_is_not_offered_is_an_ordinary_request() {
    let scene = Scene::start();
    let first = scene.post(&["Connection: Upgrade", "Upgrade: websocket"], "{}");
    let answers = scene.until_close(first + &scene.post(&[], "{}")).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 1, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{answers}");
}

#[tokio::test]
async fn a_chunked_body_arrives_whole_and_its_connection_is_kept() {
    let scene = Scene::start();
    let mut client = scene.connect().await;
    for _ in 0..2 {
        let head = scene.post(&["Transfer-Encoding: chunked"], "").replace("Content-Length: 0\r\n", "");
        client.send(head).await;
        client.send("3\r\n{\"a\r\n4;x=y\r\n\":1}\r\n0\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "echo:{\"a\":1}"));
    }
}

#[tokio::test]
async fn broken_chunks_are_refused() {
    let scene = Scene::start();
    let head = scene.post(&["Transfer-Encoding: chunked"], "").replace("Content-Length: 0\r\n", "");
    let answer = scene.ask(head + "zz\r\n{}\r\n0\r\n\r\n").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "VALIDATION"));
    assert_eq!(scene.served(), 0);
}
