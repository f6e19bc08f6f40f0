//! Every refusal of the pipeline, and in which order they stand.

use sql::model::{PlaintextKey, RateLimit};

use super::scene::{SHORT, Scene, Wishes, expired, request};
use crate::gateway::Phase;

#[tokio::test]
async fn a_message_that_passes_everything_is_served() {
    let scene = Scene::start();
    let answer = scene.ask(scene.post(&["X-Request-Id: mine-1"], "{}")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "echo:{}"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    let used = scene.keys.drain_used();
    assert_eq!((used.len(), used[0].0), (1, scene.key.id));
    assert_eq!(used[0].2, Some("127.0.0.1".parse().unwrap()));
}

#[tokio::test]
async fn wrong_keys_get_one_answer_t04() {
    let mut scene = Scene::start();
    let body = "{}";
    let good = scene.post(&["X-Request-Id: r"], body);
    let with =
        |authorization: &str| good.replace(&format!("Authorization: Bearer {}", scene.secret), authorization);
    let other = PlaintextKey::generate();
    let other = format!("Authorization: Bearer {}", other.expose());
    let mut wrong = vec![
        with("X-None: x"),
        with("Authorization: "),
        with("Authorization: Bearer"),
        with("Authorization: Bearer garbage"),
        with(&other),
        with(&format!("Authorization: Bearer {0}\r\nAuthorization: Bearer {0}", scene.secret)),
        with(&format!("{other}\r\nX-API-Key: {}", scene.secret)),
        with(&other).replace("POST /mcp", &format!("POST /mcp?api_key={}", scene.secret)),
    ];
    let mut answers = Vec::new();
    for request in wrong.drain(..) {
        answers.push(scene.ask(request).await);
    }
    scene.change_key(|key| key.enabled = false);
    answers.push(scene.ask(&good).await);
    scene.change_key(|key| (key.enabled, key.expires_at) = (true, Some(expired())));
    answers.push(scene.ask(&good).await);
    scene.keys.remove(scene.key.id);
    answers.push(scene.ask(&good).await);
    assert_eq!(answers.len(), 11);
    for answer in &answers {
        assert_eq!((answer.status, answer.code().as_str()), (401, "UNAUTHORIZED"));
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert_eq!(answer.body, answers[0].body);
    }
    assert_eq!(scene.served(), 0);
}

#[tokio::test]
async fn a_key_in_the_query_works() {
    let scene = Scene::start();
    let authorization = format!("Authorization: Bearer {}\r\n", scene.secret);
    let request = scene.post(&[], "{}").replace(&authorization, "");
    let request = request.replace("POST /mcp", &format!("POST /mcp?api_key={}", scene.secret));
    assert_eq!(scene.ask(request).await.status, 200);
}

#[tokio::test]
async fn hosts_and_origins_are_checked_before_keys_and_on_every_path_t01() {
    let scene = Scene::start();
    for path in ["/mcp", "/mcp/http", "/mcp/sse", "/mcp/ws", "/api/admin/upstreams", "/"] {
        let evil_host = format!("GET {path} HTTP/1.1\r\nHost: evil.example.com\r\n\r\n");
        let answer = scene.ask(evil_host).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "FORBIDDEN"), "{path}");
        assert!(answer.body.contains("MPG_ALLOWED_HOSTS"));
        let answer = scene.ask(request(&format!("GET {path}"), &["Origin: http://evil.example.com"])).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "FORBIDDEN"), "{path}");
        assert!(answer.body.contains("MPG_ALLOWED_ORIGINS"));
    }
    assert_eq!(scene.ask(scene.post(&["Origin: null"], "{}")).await.status, 403);
    assert_eq!(scene.ask(scene.post(&["Origin: http://localhost:3000"], "{}")).await.status, 200);
    assert_eq!(scene.served(), 1);
}

#[tokio::test]
async fn addresses_are_checked_by_key_t17() {
    let mut scene = Scene::start();
    scene.change_key(|key| key.allowed_cidrs = vec!["10.1.0.0/16".parse().unwrap()]);
    let answer = scene.ask(scene.post(&["X-Forwarded-For: 10.1.2.3"], "{}")).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "FORBIDDEN"));
    scene.change_key(|key| key.allowed_cidrs = vec!["127.0.0.1/32".parse().unwrap()]);
    assert_eq!(scene.ask(scene.post(&[], "{}")).await.status, 200);
}

#[tokio::test]
async fn a_trusted_proxy_says_who_asks_t17() {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let mut scene = Scene::start_with(Wishes { trusted_proxies, ..Wishes::default() });
    scene.change_key(|key| key.allowed_cidrs = vec!["10.1.0.0/16".parse().unwrap()]);
    for (forwarded, status) in [
        ("X-Forwarded-For: 10.1.2.3", 200),
        ("X-Forwarded-For: 203.0.113.9, 10.1.2.3", 200),
        ("X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 10.1.2.3", 200),
        ("X-Forwarded-For: ::ffff:10.1.2.3", 200),
        ("X-Forwarded-For: 10.1.2.3, 203.0.113.9", 403),
        ("X-Forwarded-For: 10.1.2.3:555", 403),
        ("X-Forwarded-For: unknown", 403),
        ("X-None: x", 403),
    ] {
        assert_eq!(scene.ask(scene.post(&[forwarded], "{}")).await.status, status, "{forwarded}");
    }
}

#[tokio::test]
async fn a_key_has_a_limit_that_streams_and_strangers_do_not_use_up() {
    let mut scene = Scene::start();
    scene.change_key(|key| key.rate_limit = Some(RateLimit { limit: 2, window_s: 3600 }));
    let authorization = format!("Authorization: Bearer {}", scene.secret);
    for _ in 0..2 {
        assert_eq!(scene.ask(request("GET /mcp", &[&authorization])).await.status, 200);
        assert_eq!(scene.ask(scene.post(&[], "{}")).await.status, 200);
    }
    let answer = scene.ask(scene.post(&[], "{}")).await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "RATE_LIMITED"));
    let retry_after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=1800).contains(&retry_after));
    assert_eq!(answer.header("ratelimit-policy"), Some("\"key\";q=2;w=3600"));
    assert_eq!(answer.header("ratelimit"), Some(format!("\"key\";r=0;t={retry_after}").as_str()));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_or_while_it_comes() {
    let scene = Scene::start();
    let limit = 1024 * 1024;
    let exact = format!("\"{}\"", "a".repeat(limit - 2));
    assert_eq!(scene.ask(scene.post(&[], &exact)).await.status, 200);

    // Announced: refused from the header alone; the client isn't told to go on.
    let head = scene.post(&["Expect: 100-continue"], "");
    let head = head.replace("Content-Length: 0", &format!("Content-Length: {}", limit + 1));
    let answer = scene.ask(head).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "VALIDATION"));
    assert_eq!(answer.header("connection"), Some("close"));

    // Not announced: refused at the first byte too many.
    let head = scene.post(&["Transfer-Encoding: chunked"], "").replace("Content-Length: 0\r\n", "");
    let chunk = format!("{:x}\r\n{}\r\n", limit + 1, "a".repeat(limit + 1));
    let answer = scene.until_close(head + &chunk).await;
    assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
    assert_eq!(scene.served(), 1);
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_is_told() {
    let scene = Scene::start();
    let mut client = scene.connect().await;
    for _ in 0..2 {
        let message = scene.post(&["Expect: 100-continue"], "{}");
        let (head, body) = message.split_at(message.len() - 2);
        client.send(head).await;
        assert_eq!(client.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.send(body).await;
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let scene = Scene::start_with(Wishes { body_deadline: SHORT, ..Wishes::default() });
    let message = scene.post(&[], "{\"a\":1}");
    let answer = scene.ask(&message[..message.len() - 1]).await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "VALIDATION"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(scene.served(), 0);
}

#[tokio::test]
async fn media_types_are_checked() {
    let scene = Scene::start();
    let good = scene.post(&[], "{}");
    let accept = "Accept: application/json, text/event-stream";
    for (request, status) in [
        (good.replace("application/json\r\n", "text/plain\r\n"), 415),
        (good.replace("Content-Type: application/json\r\n", ""), 415),
        (scene.post(&["Content-Encoding: gzip"], "{}"), 415),
        (good.replace(accept, "Accept: application/json"), 406),
        (good.replace(accept, "Accept: text/html"), 406),
        (good.replace(accept, "Accept: */*"), 200),
    ] {
        let answer = scene.ask(request).await;
        assert_eq!(answer.status, status);
        if status != 200 {
            assert_eq!(answer.code(), "VALIDATION");
        }
    }
}

#[tokio::test]
async fn other_methods_and_other_paths_are_refused() {
    let scene = Scene::start();
    let authorization = format!("Authorization: Bearer {}", scene.secret);
    for method in ["PUT", "PATCH", "OPTIONS", "TRACE"] {
        let answer = scene.ask(request(&format!("{method} /mcp/http"), &[&authorization])).await;
        assert_eq!((answer.status, answer.code().as_str()), (405, "VALIDATION"), "{method}");
        assert_eq!(answer.header("allow"), Some("GET, POST, DELETE"));
    }
    // A client that tries the newer transport first falls back when it is told that it is none.
    for (request_line, allow) in [
        ("POST /mcp/sse", "GET"),
        ("DELETE /mcp/sse", "GET"),
        ("GET /mcp/sse/messages", "POST"),
        ("POST /mcp/ws", "GET"),
    ] {
        let answer = scene.ask(request(request_line, &[&authorization])).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{request_line}");
    }
    for path in ["/mcp/messages", "/mcp/smart", "/mcp/http/x"] {
        let answer = scene.ask(request(&format!("GET {path}"), &[&authorization])).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "NOT_FOUND"), "{path}");
    }
    for (method, path) in [("GET", "/mcp"), ("DELETE", "/mcp/smart/http"), ("GET", "/mcp/full/http/")] {
        assert_eq!(scene.ask(request(&format!("{method} {path}"), &[&authorization])).await.status, 200);
    }
}

#[tokio::test]
async fn a_panic_is_one_500_and_no_more() {
    let scene = Scene::start();
    let mut client = scene.connect().await;
    client.send(scene.post(&["X-Script: panic"], "{}")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "INTERNAL"));
    assert!(!answer.body.contains("scripted"));
    client.send(scene.post(&[], "{}")).await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(scene.ask(request("GET /panic", &[""; 0])).await.status, 500);
    assert_eq!(scene.gateway.panics(), 2);
}

#[tokio::test]
async fn health_is_open_to_all_and_readiness_is_a_word_t33() {
    let scene = Scene::start_without_serving(&Wishes::default());
    let ask = async |line: &str| scene.ask(format!("{line} HTTP/1.1\r\nHost: any.example.com\r\n\r\n")).await;
    assert_eq!(ask("GET /healthz").await.body, "{\"status\":\"ok\"}");
    let answer = ask("GET /readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "{\"status\":\"starting\"}"));
    scene.gateway.readiness().advance(Phase::Ready);
    let answer = ask("GET /readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"status\":\"ready\"}"));
    scene.gateway.readiness().advance(Phase::Draining);
    let answer = ask("GET /readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "{\"status\":\"draining\"}"));
    assert_eq!(ask("POST /healthz").await.status, 405);
}

#[tokio::test]
async fn what_is_not_there_yet_is_a_503() {
    let scene = Scene::start_without_serving(&Wishes::default());
    for request in [scene.post(&[], "{}"), request("GET /", &[""; 0])] {
        let answer = scene.ask(request).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "SERVICE_UNAVAILABLE"));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
}
