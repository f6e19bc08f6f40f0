//! What Prometheus reads: the page, and that the dashboard and the alert rules ask for what is on it.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;
use tokio::time::{interval, timeout};

use crate::harness::{LEGACY_LATEST, Line, PATIENCE, Peer, TestGateway, plain, send, success_of, tool};

const DASHBOARD: &str = include_str!("../../../examples/grafana/mcp-proxy-gateway.json");
const ALERTS: &str = include_str!("../../../examples/prometheus/alerts.yaml");

/// An address that nobody has.
fn free_address() -> String {
    let free = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    free.local_addr().expect("bound").to_string()
}

async fn page(address: &str) -> String {
    let answer = reqwest::get(format!("http://{address}/metrics")).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    answer.text().await.expect("a whole body")
}

/// Reads the page until it has this line.
async fn page_with(address: &str, line: &str) -> String {
    page_where(address, line, |found| found == line).await
}

/// Reads the page until a line of it is as wanted.
async fn page_where(address: &str, wanted: &str, is_right: impl Fn(&str) -> bool) -> String {
    let look = async {
        let mut ticks = interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            let page = page(address).await;
            if page.lines().any(&is_right) {
                return page;
            }
        }
    };
    timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{wanted} is on the page"))
}

/// The names of all values that a page may have, by the types that it declares.
fn exported(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let names = types.flat_map(|(name, kind)| {
        let suffixes: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        suffixes.iter().map(move |suffix| format!("{name}{suffix}"))
    });
    names.collect()
}

/// The names of our metrics in a text of any kind.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = text.split(|character| !is_part(character));
    let is_ours = |word: &&str| word.starts_with("mpg_") || word.starts_with("process_");
    words.filter(is_ours).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_page_tells_what_happened_and_has_all_that_examples_ask_for() {
    let peer = Peer::start().await;
    let address = free_address();
    let gateway = TestGateway::start()
        .with_peer("peer", &peer)
        .with_key()
        .with_env("MPG_METRICS_ADDR", &address)
        .alone("each process has a page of its own")
        .await;
    let mcp = gateway.mcp();
    mcp.lists(&["echo"]).await;
    success_of(&mcp.call("echo", json!({"message": "hello"})).await);
    send(gateway.mcp_as("mpg_nobody").modern_request(1, "tools/list", json!({}))).await;

    let page = page_with(&address, "mpg_upstream_calls_total{upstream=\"peer\",outcome=\"ok\"} 1").await;
    for line in [
        "mpg_upstream_up{upstream=\"peer\"} 1",
        "mpg_upstream_state{upstream=\"peer\",state=\"available\"} 1",
        "mpg_upstream_call_duration_seconds_count{upstream=\"peer\"} 1",
        "mpg_refusals_total{reason=\"unknown_key\"} 1",
        "mpg_requests_total{transport=\"streamable-http\",method=\"POST\",outcome=\"refused\"} 1",
        "mpg_bridge_degraded_total{reason=\"a\"} 0",
        "mpg_queue_dropped_total{queue=\"conversation\"} 0",
        "mpg_stats_dropped_total 0",
        "mpg_sessions{transport=\"websocket\"} 0",
        "mpg_pins_held{upstream=\"peer\"} 0",
        "mpg_child_restarts_total{upstream=\"peer\"} 0",
        "mpg_audit_failures_total 0",
        "mpg_db_up 1",
        "mpg_ready 1",
        "mpg_panics_total 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
    assert!(page.contains("mpg_job_last_run_timestamp_seconds{task=\"rollups\"} "), "{page}");
    assert!(page.ends_with("# EOF\n"));
    // Neither keys nor tools are labels, nor is anything that came from a client.
    for secret in [gateway.key(), "echo", "mpg_nobody"] {
        assert!(!page.contains(secret), "{secret}");
    }
    let exported = exported(&page);
    for (place, text) in [("dashboard", DASHBOARD), ("alerts", ALERTS)] {
        let named = named(text);
        assert!(named.len() > 10, "{named:?}");
        let missing: Vec<_> = named.difference(&exported).collect();
        assert!(missing.is_empty(), "the {place} asks for {missing:?}, which no page has");
    }
    for (method, path, status) in [("POST", "/metrics", 405), ("GET", "/", 404)] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let url = format!("http://{address}{path}");
        let answer = reqwest::Client::new().request(method, url).send().await.expect("an answer");
        assert_eq!(answer.status(), status);
    }
    // Nor is the page on the public listener.
    let public = reqwest::get(format!("{}/metrics", gateway.url())).await.expect("an answer");
    assert!(!public.text().await.expect("a body").contains("mpg_ready"));
    let jobs = gateway.admin().await.get("health").await.1["jobs"].clone();
    let rollups =
        jobs.as_array().expect("jobs").iter().find(|job| job["job"] == "rollups").expect("it is there");
    assert_eq!(rollups["lastOutcome"], "done", "{jobs}");
}

#[tokio::test]
async fn sessions_crashes_and_what_is_held_back_are_counted() {
    let peer = Peer::with_tools(vec![plain("stays"), plain("turns")]).await;
    let address = free_address();
    let gateway = TestGateway::start()
        .with_upstream(json!({
            "name": "peer", "transport": "streamable-http", "onToolChange": "hold",
            "connParams": {"url": peer.url()},
        }))
        .with_stdio_upstream("crashes", "false", &[])
        .with_key()
        .with_env("MPG_METRICS_ADDR", &address)
        .alone("each process has a page of its own")
        .await;
    let mcp = gateway.mcp();
    mcp.lists(&["stays", "turns"]).await;
    let mut line = Line::open("ws", &gateway).await;
    line.initialize(LEGACY_LATEST, json!({})).await;
    page_with(&address, "mpg_sessions{transport=\"websocket\"} 1").await;
    drop(line);
    page_with(&address, "mpg_sessions{transport=\"websocket\"} 0").await;

    let other = json!({"type": "object", "properties": {"sidenote": {"type": "string"}}});
    peer.change_tools(vec![plain("stays"), tool("turns", other)]).await;
    page_with(&address, "mpg_pins_held{upstream=\"peer\"} 1").await;

    let restarts = "mpg_child_restarts_total{upstream=\"crashes\"} ";
    let some = |line: &str| line.strip_prefix(restarts).is_some_and(|count| count != "0");
    page_where(&address, restarts, some).await;
}
