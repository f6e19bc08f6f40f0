//! A gateway's life: start, readiness, an orderly end, a crash, and what each leaves behind.

use std::fs;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::harness::{GatewayCommand, TestGateway, assert_private};

/// What an idle gateway may take to end when asked to.
const IDLE_END_MAX: Duration = Duration::from_secs(1);
/// How long a child may outlive a gateway that was killed.
const ORPHAN_MAX: Duration = Duration::from_secs(1);

/// A command with a child and a grandchild of its own, none of which ever speaks MCP.
const FAMILY: [&str; 2] = ["-c", "sh -c 'tail -f /dev/null & tail -f /dev/null' & exec cat >/dev/null"];

#[tokio::test]
async fn it_becomes_ready_and_says_nothing_else_to_strangers() {
    let gateway = TestGateway::start().await;
    for (path, word) in [("healthz", "ok"), ("readyz", "ready")] {
        let answer = reqwest::get(format!("{}/{path}", gateway.url())).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body, json!({"status": word}), "{path}");
    }
}

#[tokio::test]
async fn healthcheck_tells_a_living_gateway_from_a_dead_one() {
    let mut gateway = TestGateway::start().await;
    let address = gateway.url()["http://".len()..].to_owned();
    let check = || GatewayCommand::new(["healthcheck", "--listen", &address]).run();
    check().assert_success();
    gateway.kill_9().await;
    assert_eq!(check().code, Some(1));
}

#[tokio::test]
async fn asked_to_end_while_idle_it_ends_within_a_second() {
    let mut gateway = TestGateway::start().await;
    let end = gateway.terminate().await;
    assert!(end.status.success(), "{end:?}\n{}", gateway.log());
    assert!(end.took < IDLE_END_MAX, "{end:?}\n{}", gateway.log());
}

#[tokio::test]
async fn killed_it_leaves_no_child() {
    let mut gateway = TestGateway::start().with_stdio_upstream("family", "sh", &FAMILY).await;
    // The supervisor, the command, its shell and that one's two children.
    gateway.children_reach(5).await;
    gateway.kill_9().await;
    assert_eq!(gateway.children_left_after(ORPHAN_MAX).await, []);
}

#[tokio::test]
async fn asked_to_end_it_takes_its_children_along() {
    let mut gateway = TestGateway::start().with_stdio_upstream("family", "sh", &FAMILY).await;
    gateway.children_reach(5).await;
    let end = gateway.terminate().await;
    assert!(end.status.success(), "{end:?}\n{}", gateway.log());
    assert_eq!(gateway.children_left_after(ORPHAN_MAX).await, []);
}

#[tokio::test]
async fn no_child_sees_the_gateways_own_environment() {
    let gateway = TestGateway::start()
        .with_env("MPG_SETUP_TOKEN", "CANARY-setup-token")
        .with_stdio_upstream("cat", "cat", &[])
        .await;
    for child in gateway.children_reach(2).await {
        let leaked: Vec<_> = child.environment.iter().filter(|entry| entry.starts_with("MPG_")).collect();
        assert!(leaked.is_empty(), "{} has {leaked:?}", child.command_line);
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let mut gateway = TestGateway::start().await;
    let admin = gateway.admin().await;
    let body = json!({
        "name": "kept", "transport": "streamable-http", "enabled": false,
        "connParams": {"url": "http://127.0.0.1:1/mcp"},
    });
    let (status, created) = admin.post("upstreams", &body).await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    let path = format!("upstreams/{}", created["id"].as_str().unwrap());
    gateway.kill_9().await;
    gateway.start_again().await;
    let admin = gateway.admin().await;
    let (status, kept) = admin.get(&path).await;
    assert_eq!((status, &kept["name"]), (StatusCode::OK, &json!("kept")));
    assert_eq!(admin.delete(&path).await.0, StatusCode::NO_CONTENT);
    assert_eq!(admin.get(&path).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_restart_applies_the_bootstrap_file_without_writing() {
    let mut gateway = TestGateway::start()
        .with_stdio_upstream("cat", "cat", &[])
        .with_http_upstream("remote", "http://127.0.0.1:1/mcp")
        .with_setting("mcp_api", "smart_discovery_limit", 7)
        .with_key()
        .await;
    let before = gateway.admin().await.get("upstreams").await.1;
    assert_eq!(before["total"], 2);
    gateway.terminate().await;
    gateway.start_again().await;
    let after = gateway.admin().await.get("upstreams").await.1;
    let versions = |page: &serde_json::Value| -> Vec<_> {
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| (item["id"].clone(), item["version"].clone()))
            .collect()
    };
    assert_eq!(versions(&before), versions(&after));
}

#[tokio::test]
async fn what_the_bootstrap_file_does_not_say_stays_as_an_admin_left_it() {
    let mut gateway = TestGateway::start().with_http_upstream("remote", "http://127.0.0.1:1/mcp").await;
    let admin = gateway.admin().await;
    let list = admin.get("upstreams").await.1;
    let path = format!("upstreams/{}", list["items"][0]["id"].as_str().unwrap());
    let etag = admin.request(Method::GET, &path).send().await.unwrap().headers()["etag"]
        .to_str()
        .unwrap()
        .to_owned();
    let (status, body) = admin.patch(&path, &etag, &json!({"enabled": false})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    gateway.terminate().await;
    gateway.start_again().await;
    assert_eq!(gateway.admin().await.get(&path).await.1["enabled"], false);
}

#[tokio::test]
async fn the_key_it_made_is_private_and_told_in_the_log() {
    // With Postgres the key is the operator's to give.
    let gateway = TestGateway::start().on_sqlite().await;
    let path = gateway.data("encryption.key");
    assert_private(&path);
    assert!(gateway.log().contains("made an encryption key"), "{}", gateway.log());
    let key = fs::read_to_string(&path).unwrap();
    assert!(!gateway.log().contains(key.trim()));
}

#[tokio::test]
async fn even_the_most_talkative_log_holds_no_secret() {
    let mut gateway = TestGateway::start()
        .with_env("MPG_LOG", "trace")
        .with_env("MPG_SETUP_TOKEN", "CANARY-setup-token")
        .with_upstream(json!({
            "name": "cat", "transport": "stdio", "credential": "CANARY-credential",
            "connParams": {"command": "cat", "env": {"TOKEN": {"secret": "CANARY-env"}}},
        }))
        .with_key()
        .await;
    gateway.admin().await.get("upstreams").await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let request =
        reqwest::Client::new().post(format!("{}/mcp", gateway.url())).bearer_auth(gateway.key()).json(&call);
    request.send().await.unwrap();
    gateway.terminate().await;
    let log = gateway.log();
    for secret in ["CANARY", gateway.key(), gateway.admin_password()] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}

#[tokio::test]
async fn while_it_drains_it_is_not_ready() {
    let scene = TestGateway::start().alone("a balancer asks nobody who isn't ready");
    let mut gateway = scene.with_env("MPG_DRAIN_DELAY", "2s").await;
    let ready = format!("{}/readyz", gateway.url());
    gateway.ask_to_end();
    // The answer changes with the signal's arrival, which nothing tells us: ask until it has.
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    loop {
        ticks.tick().await;
        let answer = reqwest::get(&ready).await.expect("it still accepts connections");
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            break;
        }
    }
    assert_eq!(gateway.ended().await.status.code(), Some(0), "{}", gateway.log());
}
