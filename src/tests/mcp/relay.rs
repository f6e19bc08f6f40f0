//! What one of several replicas has, and a client's message that comes to another.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Exchange, LEGACY_LATEST, Peer, Postgres, Session, Sse, TestGateway, plain, success_of};

/// Three replicas before a server, unless this run has no Postgres and no Redis for them.
async fn replicas(peer: &Peer, era: &str) -> Option<TestGateway> {
    let postgres = Postgres::create_with_redis()?;
    let scene = TestGateway::start().on(&postgres).in_replicas(3).with_peer_in(era, "peer", peer);
    let gateway = scene.with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    Some(gateway)
}

/// A session at the first replica, and the same as the others see it.
async fn session_at_each(gateway: &TestGateway) -> [Session; 3] {
    let first = gateway.mcp_at(0).initialize_with(LEGACY_LATEST, json!({"elicitation": {}})).await;
    [first.clone(), first.shown_by(&gateway.mcp_at(1)), first.shown_by(&gateway.mcp_at(2))]
}

async fn parked(session: &Session, canary: &str, id: u64) -> Exchange {
    let params = json!({"name": "wait", "arguments": {"canary": canary}, "_meta": {"progressToken": id}});
    let mut exchange = session.request_as(id, "tools/call", params).await;
    assert_eq!(exchange.expect().await["method"], "notifications/progress");
    exchange
}

#[tokio::test]
async fn a_question_is_answered_at_any_replica() {
    let peer = Peer::start().await;
    for era in ["legacy", "modern"] {
        let Some(gateway) = replicas(&peer, era).await else { return };
        let [one, two, three] = session_at_each(&gateway).await;
        for answering in [&two, &three, &one] {
            let mut exchange = one.request("tools/call", json!({"name": "ask", "arguments": {}})).await;
            let question = exchange.expect().await;
            answering.answer(&question["id"], json!({"action": "accept", "content": {"name": "Ada"}})).await;
            assert!(success_of(&exchange.result().await).contains("Ada"), "{era}");
        }
        // In a batch, too, and nobody answers for another.
        let one = gateway.mcp_at(0).initialize_with("2025-03-26", json!({"elicitation": {}})).await;
        let mut exchange = one.request("tools/call", json!({"name": "ask", "arguments": {}})).await;
        let question = exchange.expect().await;
        let stranger = gateway.mcp_at(1).initialize("2025-03-26").await;
        stranger.answer(&question["id"], json!({"action": "decline"})).await;
        let answer = json!({"action": "accept", "content": {"name": "Bob"}});
        let batch = json!([
            {"jsonrpc": "2.0", "id": question["id"], "result": answer},
            {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
        ]);
        let answered = one.shown_by(&gateway.mcp_at(2)).send(batch.to_string()).await;
        assert_eq!(answered.status(), StatusCode::ACCEPTED);
        assert!(success_of(&exchange.result().await).contains("Bob"), "{era}");
    }
}

#[tokio::test]
async fn a_call_is_cancelled_and_a_session_ended_from_any_replica() {
    let peer = Peer::start().await;
    let Some(gateway) = replicas(&peer, "legacy").await else { return };
    let [one, two, three] = session_at_each(&gateway).await;
    let mut first = parked(&one, "first", 1).await;
    let mut second = parked(&two, "second", 2).await;
    three.notify("notifications/cancelled", json!({"requestId": 1})).await;
    peer.counts_reach(|counts| counts.cancelled == 1).await;
    assert_eq!(first.next().await, None);
    assert_eq!(peer.counts().parked, 1);
    let mut stream = two.stream().await;
    assert_eq!(three.delete().await, StatusCode::NO_CONTENT);
    assert_eq!((second.next().await, stream.next().await), (None, None));
    peer.counts_reach(|counts| counts.cancelled == 2).await;
}

#[tokio::test]
async fn a_broken_stream_is_resumed_at_any_replica() {
    let peer = Peer::start().await;
    let Some(gateway) = replicas(&peer, "legacy").await else { return };
    let [one, two, three] = session_at_each(&gateway).await;
    let exchange = parked(&one, "kept", 1).await;
    let last = exchange.last_event_id().to_owned();
    drop(exchange);
    let elsewhere = two.resume(&last).await;
    // The last to come gets the rest, and the one before is let go.
    let here = three.resume(&last).await;
    peer.release_in_reverse();
    let (before, answer) = here.all().await;
    assert_eq!(before, [Value::Null; 0]);
    assert_eq!(success_of(&answer["result"]), "kept");
    drop(elsewhere);
    // With another session's id it is as unknown there as here.
    let other = gateway.mcp_at(1).initialize(LEGACY_LATEST).await;
    assert_eq!(other.resume(&last).await.refusal().await.0, 400);
    // As is one of a replica that there isn't.
    let nowhere = format!("{}ffffffff{}", &last[..9], &last[17..]);
    assert_eq!(two.resume(&nowhere).await.refusal().await.0, 400);
}

#[tokio::test]
async fn a_session_has_one_stream_wherever_it_asks_for_it() {
    let peer = Peer::start().await;
    let Some(gateway) = replicas(&peer, "legacy").await else { return };
    let [one, two, three] = session_at_each(&gateway).await;
    let mut first = one.stream().await;
    let mut second = two.stream().await;
    assert_eq!(first.next().await, None, "it was replaced");
    let mut third = three.stream().await;
    assert_eq!(second.next().await, None);
    peer.change_tools(vec![plain("echo"), plain("new")]).await;
    assert_eq!(third.expect().await["method"], "notifications/tools/list_changed");
}

#[tokio::test]
async fn posts_for_a_stream_are_taken_at_any_replica() {
    let peer = Peer::start().await;
    let Some(mut gateway) = replicas(&peer, "legacy").await else { return };
    let mut line = Sse::open_by(gateway.replica(0).url(), gateway.key(), "/mcp/sse").await;
    let others = [gateway.replica(1).url(), gateway.replica(2).url()];
    for (id, url) in others.iter().enumerate() {
        let ping = json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
        assert_eq!(line.post_at(url, ping.to_string()).await, StatusCode::ACCEPTED);
        let answer: Value = serde_json::from_str(&line.next_text().await.expect("an answer")).unwrap();
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": id, "result": {}}));
    }
    assert_eq!(line.post_at(&others[0], "no JSON").await, StatusCode::BAD_REQUEST);
    let (stranger, _) = gateway.mcp_with("stranger", json!({})).await;
    assert_eq!(line.post_as(stranger.key(), "{}").await.0, StatusCode::NOT_FOUND);
    gateway.replica_mut(0).kill_9().await;
    let ping = r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#;
    assert_eq!(line.post_at(&others[0], ping).await, StatusCode::NOT_FOUND, "it went with its replica");
}

#[tokio::test]
async fn a_parked_call_goes_on_from_any_replica_and_ends_with_its_own() {
    let peer = Peer::start().await;
    let Some(mut gateway) = replicas(&peer, "legacy").await else { return };
    let able = |replica| gateway.mcp_at(replica).declaring(json!({"elicitation": {"form": {}}}));
    let [one, two, three] = [able(0), able(1), able(2)];
    let ask = async || one.call("ask", json!({})).await;
    let again = |required: &Value| {
        json!({
            "name": "ask", "arguments": {}, "requestState": required["requestState"],
            "inputResponses": {"user_name": {"action": "accept", "content": {"name": "Ada"}}},
        })
    };
    for elsewhere in [&two, &three] {
        let required = ask().await;
        let result = elsewhere.modern("tools/call", again(&required)).await.result().await;
        assert!(success_of(&result).contains("Ada"), "{result}");
        // A state is good once, wherever it is shown.
        let used = two.modern("tools/call", again(&required)).await.refusal().await;
        assert_eq!(used.1, -32603);
    }
    let required = ask().await;
    let (stranger, _) = gateway.mcp_with("stranger", json!({})).await;
    let stranger = stranger.declaring(json!({"elicitation": {"form": {}}}));
    assert_eq!(stranger.modern("tools/call", again(&required)).await.refusal().await.1, -32602);
    let calls = peer.counts().calls;
    gateway.replica_mut(0).kill_9().await;
    let gone = two.modern("tools/call", again(&required)).await.refusal().await;
    assert_eq!(gone.1, -32603, "expired, and not made again");
    assert_eq!(peer.counts().calls, calls);
}

#[tokio::test]
async fn a_session_has_one_upstream_session_of_its_own() {
    let peer = Peer::start().await;
    let Some(postgres) = Postgres::create_with_redis() else { return };
    let upstream = json!({
        "name": "peer", "transport": "streamable-http", "protocol": "legacy", "isolation": "per-session",
        "connParams": {"url": peer.url()},
    });
    let scene = TestGateway::start().on(&postgres).in_replicas(3).with_upstream(upstream).with_key();
    let gateway = scene.await;
    gateway.mcp().lists(&["echo"]).await;
    let shared = peer.counts().initialized;
    let each = session_at_each(&gateway).await;
    for session in each.iter().chain(&each) {
        assert_eq!(success_of(&session.call("echo", json!({"message": "x"})).await), "echo: x");
    }
    assert_eq!(peer.counts().initialized, shared + 1, "one for the session, however many replicas it met");
}

#[tokio::test]
async fn without_peer_listeners_it_goes_through_redis_up_to_a_size() {
    let peer = Peer::start().await;
    let Some(postgres) = Postgres::create_with_redis() else { return };
    let scene = TestGateway::start().on(&postgres).in_replicas(3).with_peer_in("legacy", "peer", &peer);
    let gateway = scene.with_env("MPG_PEER_ADDR", "").with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    assert_eq!(gateway.admin().await.get("health").await.1["relay"], "redis");
    let [one, two, three] = session_at_each(&gateway).await;
    let mut exchange = one.request("tools/call", json!({"name": "ask", "arguments": {}})).await;
    let question = exchange.expect().await;
    two.answer(&question["id"], json!({"action": "accept", "content": {"name": "Ada"}})).await;
    assert!(success_of(&exchange.result().await).contains("Ada"));
    // A stream, and its end.
    let mut first = one.stream().await;
    let mut second = three.stream().await;
    assert_eq!(first.next().await, None, "it was replaced");
    peer.change_tools(vec![plain("echo"), plain("ask"), plain("new")]).await;
    assert_eq!(second.expect().await["method"], "notifications/tools/list_changed");
    assert_eq!(two.delete().await, StatusCode::NO_CONTENT);
    while second.next().await.is_some() {}
    // What is too large may come again, to the replica that it is for.
    let one = gateway.mcp_at(0).initialize_with(LEGACY_LATEST, json!({"elicitation": {}})).await;
    let two = one.shown_by(&gateway.mcp_at(1));
    let mut exchange = one.request("tools/call", json!({"name": "ask", "arguments": {}})).await;
    let question = exchange.expect().await;
    let long = "x".repeat(256 * 1024);
    let answer = json!({"action": "accept", "content": {"name": long}});
    let message = json!({"jsonrpc": "2.0", "id": question["id"], "result": answer}).to_string();
    assert_eq!(two.send(message.clone()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(one.send(message).await.status(), StatusCode::ACCEPTED);
    assert!(success_of(&exchange.result().await).contains(&long));
}

#[tokio::test]
async fn the_peer_listener_serves_replicas_alone_and_nothing_else_serves_them() {
    let peer = Peer::start().await;
    let Some(gateway) = replicas(&peer, "legacy").await else { return };
    let address = gateway.replica(0).peer_address().to_owned();
    let http = reqwest::Client::new();
    let relay = format!("http://{address}/relay");
    let pass = format!("000001 1700000000000 {} {} {}", "0".repeat(32), "0".repeat(64), "0".repeat(64));
    for pass in ["", "x", &pass] {
        let request = http.post(&relay).header("mpg-relay-pass", pass).body("body");
        assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN, "{pass}");
    }
    // Whoever finds the address can ask as often as they like, and fills no disk with it.
    for _ in 0..100 {
        assert_eq!(http.post(&relay).body("body").send().await.unwrap().status(), StatusCode::FORBIDDEN);
    }
    let said = gateway.replica(0).log().matches("a request of another replica was refused").count();
    assert!((1..=10).contains(&said), "{said} times");
    // A key is no pass, and nothing else is there.
    for path in ["/", "/mcp", "/mcp/http", "/healthz", "/api/admin/health"] {
        let request = http.post(format!("http://{address}{path}")).bearer_auth(gateway.key()).body("{}");
        assert_eq!(request.send().await.unwrap().status(), StatusCode::NOT_FOUND, "{path}");
    }
    let public = http.post(format!("{}/relay", gateway.replica(0).url())).header("mpg-relay-pass", pass);
    assert_ne!(public.body("body").send().await.unwrap().status(), StatusCode::FORBIDDEN);
}
