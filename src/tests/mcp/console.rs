//! What a console asks of a whole gateway: a call as a key, what happens as it happens, the sessions of a key, and the
//! settings as a file.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{LEGACY_LATEST, PATIENCE, Peer, TestGateway, success_of};

/// Between two looks at what is to become so.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_tool_is_called_as_a_key() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    let admin = gateway.admin().await;
    let (_, id) = gateway.mcp_with("played", json!({"rateLimit": {"limit": 3, "windowS": 3600}})).await;
    let call = json!({"keyId": id, "name": "echo", "arguments": {"message": "x"}});
    let (status, answer) = admin.post("tools/call", &call).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(success_of(&answer["result"]), "echo: x");
    let unknown = json!({"keyId": id, "name": "nothing"});
    let answer = admin.post("tools/call", &unknown).await.1;
    assert_eq!((&answer["result"], &answer["error"]["code"]), (&Value::Null, &json!(-32602)), "{answer}");
    let owner = json!({"type": "key", "id": id});
    let deny = json!({"owner": owner, "pattern": "echo", "action": "deny"});
    assert_eq!(admin.post("rules/filters", &deny).await.0, StatusCode::CREATED);
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    let mut limited = false;
    let look = async {
        // In force, and then beyond the key's limit.
        while !limited {
            ticks.tick().await;
            let (status, answer) = admin.post("tools/call", &call).await;
            limited = status == StatusCode::TOO_MANY_REQUESTS;
            assert!(limited || status == StatusCode::OK, "{answer}");
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("the key's limit holds");
}

#[tokio::test]
async fn a_console_hears_what_happens() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start()
        .alone("calls are told by the replica that served them")
        .with_peer("peer", &peer)
        .with_key()
        .await;
    gateway.mcp().lists(&["echo"]).await;
    let admin = gateway.admin().await;
    let mut stream = admin.request(Method::GET, "events").send().await.expect("an answer");
    assert_eq!(stream.status(), StatusCode::OK);
    gateway.mcp().call("echo", json!({"message": "x"})).await;
    assert_eq!(admin.post("keys", &json!({"name": "new"})).await.0, StatusCode::CREATED);
    let mut text = String::new();
    let heard = async {
        let wanted = ["event: health", "event: call", "event: audit", "event: log", "key.create"];
        while !wanted.iter().all(|wanted| text.contains(wanted)) {
            let chunk = stream.chunk().await.expect("it goes on").expect("it goes on");
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    let heard = tokio::time::timeout(PATIENCE, heard).await;
    assert!(heard.is_ok(), "{text}");
    assert!(text.contains("\"name\":\"echo\""), "{text}");
    let logs = admin.get("logs?search=ready").await.1;
    assert!(logs["total"].as_u64().expect("a number") > 0, "{logs}");
    assert!(!text.contains(gateway.key()) && !text.contains(gateway.admin_password()));
}

#[tokio::test]
async fn a_session_of_a_key_is_seen_and_ended() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    let (mcp, id) = gateway.mcp_with("seen", json!({})).await;
    let admin = gateway.admin().await;
    // What an admin calls as the key has a session that is no client's: it comes first, and isn't seen.
    let played = json!({"keyId": id, "name": "echo", "arguments": {"message": "x"}});
    assert_eq!(admin.post("tools/call", &played).await.0, StatusCode::OK);
    let session = mcp.initialize(LEGACY_LATEST).await;
    success_of(&session.call("echo", json!({"message": "x"})).await);
    let path = format!("keys/{id}/sessions");
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    let seen = async {
        loop {
            ticks.tick().await;
            let sessions = admin.get(&path).await.1;
            if let [one] = sessions["items"].as_array().expect("a list").as_slice() {
                return one.clone();
            }
        }
    };
    let seen = tokio::time::timeout(PATIENCE, seen).await.expect("the session is seen");
    assert_eq!((&seen["client"], &seen["version"]), (&json!("harness 1"), &json!(LEGACY_LATEST)), "{seen}");
    let one = format!("{path}/{}", seen["id"].as_str().expect("an id"));
    assert_eq!(admin.delete(&one).await.0, StatusCode::NO_CONTENT);
    let ended = async {
        while session.request("ping", json!({})).await.status() != StatusCode::NOT_FOUND {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the session is over");
    assert_eq!(admin.delete(&one).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_settings_are_a_file_that_can_be_edited() {
    let gateway = TestGateway::start().alone("the file is one node's").on_sqlite().await;
    let admin = gateway.admin().await;
    let file = gateway.data("config.yaml");
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    let patched = admin.patch("settings", "\"0\"", &json!({"naming": {"length_max": 40}})).await;
    assert_eq!(patched.0, StatusCode::OK, "{}", patched.1);
    let mirrored = async {
        while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains("length_max: 40")) {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, mirrored).await.expect("the file shows it");
    std::fs::write(&file, "naming:\n  length_max: 50\n").expect("it is written");
    let taken = async {
        while admin.get("settings").await.1["naming"]["length_max"] != 50 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("the edit is in force");
    let events = admin.get("audit?action=settings.update").await.1;
    assert_eq!(events["items"][0]["diff"]["by"], "file", "{events}");
}
