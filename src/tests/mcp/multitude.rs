//! Two keys with many clients each, over every transport on both sides, before servers that all have the same
//! names: nothing that is said to one client, or for it, ever reaches another (T20).
//!
//! Every client uses the same ids and the same progress token. What it calls says the call's nonce in every way
//! there is (progress, log message, question, answer), after a while of its own; some calls ask, some are given up
//! in the middle. Each client looks at every message that it gets.

mod client;
mod verdict;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::{Mcp, PATIENCE, Reference, Scene, TestGateway, script};
use client::{Client, KINDS, PROMPT};
use verdict::Verdict;

/// Calls of an ordinary run, and the variable that has it make more: the whole is 100,000.
const CALLS: usize = 5_000;
const CALLS_VARIABLE: &str = "MPG_TEST_T20_CALLS";
/// Calls for each client, of whom the whole has 200 for each of the two keys.
const CALLS_OF_CLIENT: usize = 250;
const CLIENTS_OF_KEY: std::ops::RangeInclusive<usize> = 20..=200;

/// The upstreams: name, transport, what the reference server calls that, its era, and isolation. For stdio a session
/// is a process, so there each key has one.
const UPSTREAMS: [(&str, &str, &str, &str, &str); 9] = [
    ("stdio", "stdio", "stdio", "legacy", "shared"),
    ("stdio_apart", "stdio", "stdio", "legacy", "per-key"),
    ("http", "streamable-http", "http", "legacy", "shared"),
    ("http_apart", "streamable-http", "http", "legacy", "per-session"),
    ("http_modern", "streamable-http", "http", "modern", "shared"),
    ("sse", "sse", "sse", "legacy", "shared"),
    ("sse_apart", "sse", "sse", "legacy", "per-session"),
    ("ws", "websocket", "ws", "legacy", "shared"),
    ("ws_apart", "websocket", "ws", "legacy", "per-session"),
];

/// How the gateway names what the upstreams have.
struct Names {
    /// Prefixes of the tools and prompts.
    prefixes: Vec<String>,
    /// The resource that changes, of each upstream.
    watched: Vec<String>,
    /// The template, of each upstream.
    templates: Vec<String>,
}

fn scene() -> (Vec<Reference>, Scene) {
    let mut scene = TestGateway::start()
        .alone("it looks at the memory of one process")
        // Most clients keep a stream open, and half of them have two calls in flight.
        .with_setting("limits", "streams_per_key", 1_000)
        .with_setting("limits", "calls_in_flight_per_key", 1_000)
        .with_setting("limits", "sessions_per_upstream", 1_000);
    let mut references = Vec::new();
    for (name, transport, spoken, era, isolation) in UPSTREAMS {
        let script = script();
        let conn_params = if transport == "stdio" {
            json!({"command": "node", "args": Reference::over_stdio(&script, &["--era", era])})
        } else {
            let reference = Reference::over(spoken, &["--era", era]);
            let url = reference.url_with(if transport == "websocket" { "ws" } else { "http" });
            references.push(reference);
            json!({"url": url})
        };
        scene = scene.with_upstream(json!({
            "name": name, "namePrefix": format!("{name}."), "transport": transport, "isolation": isolation,
            "connParams": conn_params,
        }));
    }
    (references, scene)
}

/// Waits until everything is listed.
async fn names(mcp: &Mcp) -> Names {
    let prefixes: Vec<String> = UPSTREAMS.iter().map(|(name, ..)| format!("{name}.")).collect();
    let tools: Vec<String> = prefixes.iter().map(|prefix| format!("{prefix}mirror")).collect();
    mcp.lists(&tools.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let all = async |method: &str, list: &str, field: &str, suffix: &str| {
        let look = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(50));
            loop {
                ticks.tick().await;
                let result = mcp.modern(method, json!({})).await.result().await;
                let items = result[list].as_array().cloned().unwrap_or_default();
                let named = items.iter().filter_map(|item| item[field].as_str());
                let found: Vec<String> =
                    named.filter(|one| one.ends_with(suffix)).map(str::to_owned).collect();
                if found.len() == UPSTREAMS.len() {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("each upstream has one")
    };
    let watched = all("resources/list", "resources", "uri", "test://watched-resource").await;
    let template = "test://template/{id}/data";
    let templates = all("resources/templates/list", "resourceTemplates", "uriTemplate", template).await;
    all("prompts/list", "prompts", "name", PROMPT).await;
    Names { prefixes, watched, templates }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_one_client_reaches_another_t20() {
    let calls = std::env::var(CALLS_VARIABLE).map_or(CALLS, |text| text.parse().expect("a number"));
    let of_key = (calls / 2 / CALLS_OF_CLIENT).clamp(*CLIENTS_OF_KEY.start(), *CLIENTS_OF_KEY.end());
    let of_client = calls.div_ceil(2 * of_key);
    let (_references, scene) = scene();
    let gateway = Arc::new(scene.with_key().await);
    let (other, _) = gateway.mcp_with("other", json!({})).await;
    let names = Arc::new(names(&gateway.mcp()).await);

    let started = Instant::now();
    let verdict = Arc::new(Verdict::default());
    let (mut clients, mut listening) = (JoinSet::new(), JoinSet::new());
    let over = CancellationToken::new();
    for (key, mcp) in [("a", gateway.mcp()), ("b", other)] {
        for number in 0..of_key {
            let kind = KINDS[number % KINDS.len()];
            let client = Client::new(format!("{key}{number}"), key, Arc::clone(&names), Arc::clone(&verdict));
            let (gateway, mcp, over) = (Arc::clone(&gateway), mcp.apart(), over.clone());
            clients.spawn(async move { client.run(kind, &gateway, &mcp, of_client, &over).await });
        }
    }
    while let Some(client) = clients.join_next().await {
        // Those that are done go on listening until all are.
        if let Some(ear) = client.expect("no client panics") {
            listening.spawn(ear);
        }
    }
    over.cancel();
    listening.join_all().await;
    let took = started.elapsed();
    println!(
        "{} calls by 2 x {of_key} clients in {took:.1?}, the gateway's peak {} MiB\n{}",
        2 * of_key * of_client,
        gateway.memory_peak() / 1024 / 1024,
        verdict.report(),
    );
    verdict.assert_good(2 * of_key * of_client);
}

/// The process behind an upstream, which says that the right one has answered.
fn process_of(result: &Value) -> Option<u64> {
    result["structuredContent"]["process"].as_u64()
}
