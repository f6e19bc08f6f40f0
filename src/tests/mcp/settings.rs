//! Settings take effect without a restart, at each replica; those of which other files here don't show it.
//!
//! Each is changed while the gateway runs, to what would be seen too late, or never, with its default.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sql::model::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::harness::{Admin, Hanging, LEGACY_LATEST, Mcp, PATIENCE, Peer, TestGateway, plain, success_of};

const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Within how long a call ends whose time is one second.
const SHORT_CALL_MAX: Duration = Duration::from_secs(10);
/// More than one MiB, and less than what a message may have by default.
const LARGE_BYTES: usize = 1_500_000;

/// Changes settings of a group as an admin does.
async fn set(admin: &Admin, group: &str, values: Value) {
    let now = admin.request(Method::GET, "settings").send().await.expect("an answer");
    let etag = now.headers()["etag"].to_str().expect("text").to_owned();
    let (status, answer) = admin.patch("settings", &etag, &json!({group: values})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

/// Waits until it is so.
async fn becomes(what: &str, is_so: impl AsyncFn() -> bool) {
    let look = async {
        let mut ticks = interval(LOOK_INTERVAL);
        while !is_so().await {
            ticks.tick().await;
        }
    };
    assert!(timeout(PATIENCE, look).await.is_ok(), "{what}");
}

/// Waits until it is so at each replica.
async fn becomes_at_each(what: &str, mcp: &Mcp, is_so: impl AsyncFn(&Mcp) -> bool) {
    for one in mcp.at_each() {
        becomes(what, async || is_so(&one).await).await;
    }
}

async fn upstream(admin: &Admin, name: &str) -> Value {
    let id = admin.upstream_id(name).await;
    admin.get(&format!("upstreams/{id}")).await.1
}

#[tokio::test]
async fn the_length_of_names_is_that_of_now() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    let mcp = gateway.mcp();
    mcp.lists(&["echo"]).await;
    set(&gateway.admin().await, "naming", json!({"length_max": 16})).await;
    peer.change_tools(vec![plain("echo"), plain("a_name_of_thirty_one_characters")]).await;
    let names = mcp.lists_become(|names| names.len() == 2 && names.iter().all(|name| name.len() <= 16)).await;
    assert!(names.iter().any(|name| name.starts_with("a_name")), "{names:?}");
}

#[tokio::test]
async fn messages_may_be_as_large_as_is_set_now() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    let (mcp, admin) = (gateway.mcp(), gateway.admin().await);
    mcp.lists(&["echo"]).await;
    let large = "x".repeat(LARGE_BYTES);
    success_of(&mcp.call("echo", json!({"message": large})).await);

    set(&admin, "mcp_api", json!({"response_body_max_mib": 1})).await;
    becomes_at_each("an answer is too large", &mcp, async |mcp| {
        mcp.call("echo", json!({"message": large})).await["isError"] == true
    })
    .await;

    set(&admin, "mcp_api", json!({"request_body_max_mib": 1})).await;
    becomes_at_each("a request is too large", &mcp, async |mcp| {
        let params = json!({"name": "echo", "arguments": {"message": large}});
        mcp.modern("tools/call", params).await.status() == StatusCode::PAYLOAD_TOO_LARGE
    })
    .await;
}

#[tokio::test]
async fn a_call_has_the_time_that_is_set_now() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    let (mcp, admin) = (gateway.mcp(), gateway.admin().await);
    mcp.lists(&["wait"]).await;
    let ends = async |mcp: &Mcp| {
        let called = timeout(SHORT_CALL_MAX, mcp.call("wait", json!({"canary": "kept"}))).await;
        called.is_ok_and(|result| result["isError"] == true)
    };
    for key in ["upstream_call_timeout_s", "call_total_timeout_s"] {
        set(&admin, "aggregation", json!({key: 1})).await;
        becomes_at_each(key, &mcp, &ends).await;
        set(&admin, "aggregation", json!({"upstream_call_timeout_s": 60, "call_total_timeout_s": 3600}))
            .await;
    }
}

#[tokio::test]
async fn upstreams_are_tried_as_is_set_now() {
    let mut peer = Peer::start().await;
    let hanging = Hanging::start();
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    let (mcp, admin) = (gateway.mcp(), gateway.admin().await);
    mcp.lists(&["echo"]).await;
    // With what is the default, five failures take half a minute, and so does a server that says nothing.
    let impatient = json!({"failure_threshold": 1, "retry_max_backoff_s": 1, "connect_timeout_s": 1});
    set(&admin, "connection", impatient).await;
    let silent = json!({
        "name": "silent", "transport": "streamable-http", "connParams": {"url": hanging.url()},
    });
    let (status, created) = admin.post("upstreams", &silent).await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    peer.crash().await;
    // Each replica says what it has seen itself, and the next question may be another's.
    becomes("the silent one is suspended for its silence", async || {
        let shown = upstream(&admin, "silent").await;
        shown["state"] == "suspended" && shown["lastError"].to_string().contains("took too long")
    })
    .await;
    becomes("it is suspended", async || upstream(&admin, "peer").await["state"] == "suspended").await;
    // One that was suspended waits for the longest time that there is: it was a minute.
    peer.come_back().await;
    // Calls may be left alone for longer than that: the breaker counts for its own half minute.
    for admin in gateway.admin_at_each().await {
        becomes("it is available again", async || upstream(&admin, "peer").await["state"] == "available")
            .await;
    }
}

#[tokio::test]
async fn lists_are_fetched_when_and_as_long_as_is_set_now() {
    let mut peer = Peer::start().await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    let admin = gateway.admin().await;
    gateway.mcp().lists(&["echo"]).await;
    let listed = peer.counts().listed;
    set(&admin, "sync", json!({"cron": "* * * * * *", "timeout_s": 5})).await;
    // Half an hour passes between two of the default.
    peer.counts_reach(|counts| counts.listed > listed + 1).await;
    set(&admin, "sync", json!({"cron": "0 0 0 1 1 *"})).await;
    peer.hang().await;
    let id = admin.upstream_id("peer").await;
    let synced = timeout(PATIENCE, admin.post(&format!("upstreams/{id}/sync"), &json!({}))).await;
    let (status, answer) = synced.expect("it doesn't wait for half a minute");
    assert!(!status.is_success(), "{answer}");
}

#[tokio::test]
async fn pages_and_sessions_are_as_is_set_now() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    let (mcp, admin) = (gateway.mcp(), gateway.admin().await);
    mcp.lists(&["echo", "log"]).await;
    for name in ["echo", "log"] {
        success_of(&mcp.call(name, json!({"message": "x"})).await);
    }
    let rows = async |path: &str| admin.get(path).await.1["items"].as_array().map_or(0, Vec::len);
    becomes("both are ranked", async || rows("stats/ranking?by=tool").await == 2).await;
    set(&admin, "statistics", json!({"top_limit_default": 1})).await;
    becomes("one is ranked", async || rows("stats/ranking?by=tool").await == 1).await;
    assert!(rows("audit").await > 1);
    set(&admin, "audit", json!({"page_size_default": 1})).await;
    becomes("a page has one row", async || rows("audit").await == 1).await;

    set(&admin, "auth", json!({"session_timeout_s": 300})).await;
    becomes("a login lasts five minutes", async || {
        gateway.admin().await;
        lasts(&admin.get("auth/sessions").await.1["items"], "issuedAt", 300)
    })
    .await;
    set(&admin, "limits", json!({"session_ttl_s": 60})).await;
    let key = admin.get("keys").await.1["items"][0]["id"].as_str().expect("an id").to_owned();
    becomes("a session lasts a minute", async || {
        mcp.initialize(LEGACY_LATEST).await;
        lasts(&admin.get(&format!("keys/{key}/sessions")).await.1["items"], "createdAt", 60)
    })
    .await;
}

/// Whether one of these ends so many seconds after it began.
fn lasts(sessions: &Value, began: &str, seconds: i64) -> bool {
    let time = |value: &Value| -> Timestamp { serde_json::from_value(value.clone()).expect("a time") };
    let lasts = |session: &Value| time(&session["expiresAt"]).millis() - time(&session[began]).millis();
    let is_so = |session| (lasts(session) / 1_000 - seconds).abs() <= 1;
    sessions.as_array().expect("a list").iter().any(is_so)
}

#[tokio::test]
async fn a_key_has_as_many_calls_at_once_as_is_set_now() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    let (mcp, admin) = (gateway.mcp(), gateway.admin().await);
    mcp.lists(&["wait"]).await;
    // Each replica counts the calls that it has.
    for one in mcp.at_each() {
        let begun = peer.counts().parked;
        let mut waiting = JoinSet::new();
        let caller = one.clone();
        waiting.spawn(async move { caller.call("wait", json!({"canary": "kept"})).await });
        peer.counts_reach(|counts| counts.parked == begun + 1).await;
        set(&admin, "limits", json!({"calls_in_flight_per_key": 1})).await;
        becomes("one call is all", async || {
            let second = one.modern("tools/call", json!({"name": "echo"})).await.answer().await;
            second["error"]["message"].as_str().is_some_and(|why| why.contains("in flight"))
        })
        .await;
        set(&admin, "limits", json!({"calls_in_flight_per_key": 256})).await;
        peer.release_in_reverse();
        assert_eq!(success_of(&waiting.join_next().await.expect("one").expect("it ends")), "kept");
    }
}
