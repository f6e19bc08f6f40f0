//! Every client meets every upstream: both eras, all five versions, over HTTP and over stdio.

use serde_json::{Value, json};

use crate::harness::{
    LEGACY, LEGACY_LATEST, META, MODERN, Peer, Reference, Sdk, TestGateway, script, success_of,
};

/// One upstream of each era over each transport, each with tools under a prefix of its own.
async fn four_upstreams(peer: &Peer) -> TestGateway {
    let script = script();
    let stdio = |era: &'static str| {
        let words = Reference::over_stdio(&script, &["--era", era]);
        json!({
            "name": format!("stdio-{era}"), "transport": "stdio", "namePrefix": format!("stdio-{era}-"),
            "connParams": {"command": "node", "args": words}, "protocol": era,
        })
    };
    let http = |era: &str| {
        json!({
            "name": format!("http-{era}"), "transport": "streamable-http", "namePrefix": format!("http-{era}-"),
            "connParams": {"url": peer.url()}, "protocol": era,
        })
    };
    let scene = TestGateway::start().with_key();
    let scene = scene.with_upstream(http("legacy")).with_upstream(http("modern"));
    let gateway = scene.with_upstream(stdio("legacy")).with_upstream(stdio("modern")).await;
    gateway
        .mcp()
        .lists(&UPSTREAMS.map(|(prefix, _)| concat_echo(prefix)).each_ref().map(String::as_str))
        .await;
    gateway
}

/// The prefixes, and what `echo` says behind each.
const UPSTREAMS: [(&str, &str); 4] = [
    ("http-legacy-", "echo: hello"),
    ("http-modern-", "echo: hello"),
    ("stdio-legacy-", "Echo: hello"),
    ("stdio-modern-", "Echo: hello"),
];

fn concat_echo(prefix: &str) -> String {
    format!("{prefix}echo")
}

#[tokio::test]
async fn a_raw_client_of_every_legacy_version_lists_and_calls_every_upstream() {
    let peer = Peer::start().await;
    let gateway = four_upstreams(&peer).await;
    for version in LEGACY {
        let session = gateway.mcp().initialize(version).await;
        assert_eq!(session.version(), version);
        assert_eq!(session.result()["serverInfo"]["name"], "mcp-proxy-gateway");
        let names = session.tool_names().await;
        for (prefix, said) in UPSTREAMS {
            let name = concat_echo(prefix);
            assert!(names.contains(&name), "{version}: {name} in {names:?}");
            let result = session.call(&name, json!({"message": "hello"})).await;
            assert_eq!(success_of(&result), said, "{version}: {name}");
            // What only the modern era has, no legacy client is shown.
            assert_eq!(result.get("resultType"), None, "{version}: {name}");
        }
        assert_eq!(session.request("ping", json!({})).await.result().await, json!({}));
    }
}

#[tokio::test]
async fn a_raw_client_of_2026_07_28_lists_and_calls_every_upstream() {
    let peer = Peer::start().await;
    let gateway = four_upstreams(&peer).await;
    let mcp = gateway.mcp();
    let discovered = mcp.modern("server/discover", json!({})).await.result().await;
    let supported: Vec<&str> =
        discovered["supportedVersions"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(supported.first(), Some(&MODERN));
    assert!(LEGACY.iter().all(|version| supported.contains(version)), "{supported:?}");
    let list = mcp.modern("tools/list", json!({})).await.result().await;
    assert!(list["ttlMs"].is_u64() && list["cacheScope"].is_string(), "{list}");
    for (prefix, said) in UPSTREAMS {
        let result = mcp.call(&concat_echo(prefix), json!({"message": "hello"})).await;
        assert_eq!(success_of(&result), said, "{prefix}");
        assert_eq!(result["resultType"], "complete", "{prefix}");
        assert_eq!(result["_meta"][format!("{META}serverInfo")]["name"], "mcp-proxy-gateway", "{prefix}");
    }
}

#[tokio::test]
async fn the_sdk_lists_and_calls_every_upstream_in_both_lifecycles() {
    let peer = Peer::start().await;
    let gateway = four_upstreams(&peer).await;
    let mut clients = vec![Sdk::discover(&gateway).await];
    for version in LEGACY {
        clients.push(Sdk::initialize(&gateway, version).await);
    }
    for sdk in clients {
        let names = sdk.tool_names().await;
        for (prefix, said) in UPSTREAMS {
            let name = concat_echo(prefix);
            assert!(names.contains(&name), "{name} in {names:?}");
            assert_eq!(sdk.call(&name, json!({"message": "hello"})).await, said);
        }
        sdk.client.cancel().await.unwrap();
    }
}

#[tokio::test]
async fn the_era_of_an_upstream_is_found_out() {
    let script = script();
    let (legacy, modern) = (Reference::start(&["--era", "legacy"]), Reference::start(&["--era", "modern"]));
    let scene = TestGateway::start()
        .with_http_upstream("http-legacy", &legacy.url())
        .with_http_upstream("http-modern", &modern.url())
        .with_stdio_upstream("stdio-legacy", "node", &Reference::over_stdio(&script, &["--era", "legacy"]))
        .with_stdio_upstream("stdio-modern", "node", &Reference::over_stdio(&script, &["--era", "modern"]));
    let gateway = scene.with_key().await;
    // Four claim the name `echo`, so that four of it are listed in the end.
    gateway
        .mcp()
        .lists_become(|names| names.iter().filter(|name| name.starts_with("echo")).count() == 4)
        .await;
    let list = gateway.admin().await.get("upstreams").await.1;
    for upstream in list["items"].as_array().unwrap() {
        let name = upstream["name"].as_str().unwrap();
        let version = if name.ends_with("legacy") { LEGACY_LATEST } else { MODERN };
        assert_eq!(upstream["state"], "available", "{upstream}");
        assert_eq!(upstream["protocolVersion"], version, "{upstream}");
    }
}

#[tokio::test]
async fn a_version_that_nobody_speaks_is_answered_with_one_that_is_spoken() {
    let gateway = TestGateway::start().with_key().await;
    let session = gateway.mcp().initialize("2031-01-01").await;
    assert_eq!(session.version(), LEGACY_LATEST);
}
