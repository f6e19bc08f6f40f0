//! The list of tools: pages, order, names that clash, and what a key doesn't see.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::{LEGACY_LATEST, Peer, TestGateway, plain, success_of, tool};

#[tokio::test]
async fn more_tools_than_fit_on_a_page_are_listed_once_each_and_in_one_order() {
    let names: Vec<String> = (0..1203).map(|i| format!("tool_{i:04}")).collect();
    let peer = Peer::named(names.clone()).await;
    let gateway = TestGateway::start().with_peer("many", &peer).with_key().await;
    let mcp = gateway.mcp();
    mcp.lists(&["tool_1202"]).await;
    let first = mcp.modern("tools/list", json!({})).await.result().await;
    assert!(first["tools"].as_array().unwrap().len() < names.len() && first["nextCursor"].is_string());
    // The upstream's own order, whenever one asks.
    assert_eq!(mcp.tool_names().await, names);
    assert_eq!(mcp.tool_names().await, names);
    assert_eq!(success_of(&mcp.call("tool_1202", json!({"a": 1})).await), r#"tool_1202 got {"a":1}"#);
}

#[tokio::test]
async fn a_cursor_that_was_not_made_here_is_an_invalid_parameter() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    for cursor in ["", "x", "AAAA", "eyJhIjoxfQ", "ÿ", &"A".repeat(10_000)] {
        let params = json!({"cursor": cursor});
        let refused = session.request("tools/list", params.clone()).await;
        assert_eq!(refused.refusal().await, (200, -32602), "{cursor}");
        let (status, code) = gateway.mcp().modern("tools/list", params).await.refusal().await;
        assert_eq!((status, code), (200, -32602), "{cursor}");
    }
}

#[tokio::test]
async fn a_definition_goes_out_as_it_came() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
        "$defs": {"n": {"type": "number", "minimum": 1e2}},
        "properties": {"z": {"$ref": "#/$defs/n"}, "a": {"type": "string"}}, "additionalProperties": false,
    });
    let peer = Peer::with_tools(vec![tool("exact", schema.clone())]).await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["exact"]).await;
    let listed = gateway.mcp().tools().await;
    assert_eq!(listed, [json!({"name": "exact", "description": "The tool exact.", "inputSchema": schema})]);
}

#[tokio::test]
async fn tools_of_one_name_are_both_reachable_and_keep_their_names() {
    let peers = [Peer::start().await, Peer::start().await];
    let mut gateway =
        TestGateway::start().with_peer("first", &peers[0]).with_peer("second", &peers[1]).with_key().await;
    let echoes = |names: &[String]| -> Vec<String> {
        names.iter().filter(|name| name.starts_with("echo")).cloned().collect()
    };
    let listed = gateway.mcp().lists_become(|names| echoes(names).len() == 2).await;
    let names = echoes(&listed);
    assert!(names.contains(&"echo".to_owned()), "{names:?}");
    assert!(
        names.iter().any(|name| name.starts_with("echo__") && name.len() == "echo__".len() + 8),
        "{names:?}"
    );
    for (i, name) in names.iter().enumerate() {
        let said = json!({"message": format!("to {i}")});
        assert_eq!(success_of(&gateway.mcp().call(name, said).await), format!("echo: to {i}"));
    }
    // Each went to an upstream of its own, under the name that the upstream knows.
    for peer in &peers {
        let calls = peer.seen_of("tools/call");
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].message()["params"]["name"], "echo");
    }
    gateway.terminate().await;
    gateway.start_again().await;
    assert_eq!(gateway.mcp().tool_names().await, listed, "from the first moment");
}

#[tokio::test]
async fn a_tool_that_a_key_may_not_see_is_as_unknown_as_one_that_does_not_exist() {
    let (own, other) = (Peer::named(["mine".to_owned()]).await, Peer::named(["hidden".to_owned()]).await);
    let gateway = TestGateway::start().with_peer("own", &own).with_peer("other", &other).with_key().await;
    gateway.mcp().lists(&["mine", "hidden"]).await;
    let id = gateway.admin().await.upstream_id("own").await;
    let (mcp, _) = gateway.mcp_with("limited", json!({"upstreamIds": [id]})).await;
    assert_eq!(mcp.lists(&["mine"]).await, ["mine"]);
    let session = mcp.initialize(LEGACY_LATEST).await;
    let call = |name: &str| json!({"name": name, "arguments": {}});
    let modern = async |name| mcp.modern("tools/call", call(name)).await.bytes().await;
    let legacy = async |name| session.request_as(1, "tools/call", call(name)).await.bytes().await;
    let renamed = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace("hidden", "absent");
    assert_eq!(renamed(modern("hidden").await), renamed(modern("absent").await));
    assert_eq!(renamed(legacy("hidden").await), renamed(legacy("absent").await));
    let answer = session.request("tools/call", call("hidden")).await.answer().await;
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["message"]),
        (&json!(-32602), &json!("Unknown tool: hidden"))
    );
    assert_eq!(other.counts().calls, 0);
    // The key that sees all reaches it, so it isn't simply gone.
    assert_eq!(success_of(&gateway.mcp().call("hidden", json!({})).await), "hidden got {}");
}

#[tokio::test]
async fn prefixes_keep_upstreams_apart() {
    let peer = Peer::named(["search".to_owned()]).await;
    let body = |name: &str, prefix: &str| {
        json!({
            "name": name, "namePrefix": prefix, "transport": "streamable-http", "connParams": {"url": peer.url()},
        })
    };
    let scene = TestGateway::start().with_upstream(body("web", "web_")).with_upstream(body("wiki", "wiki."));
    let gateway = scene.with_key().await;
    let names = gateway.mcp().lists(&["web_search", "wiki.search"]).await;
    assert_eq!(names, ["web_search", "wiki.search"], "in the order of the upstreams");
    assert_eq!(success_of(&gateway.mcp().call("wiki.search", json!({})).await), "search got {}");
}

#[tokio::test]
async fn a_list_that_changes_between_two_pages_loses_nothing_that_stayed() {
    let names: Vec<String> = (0..600).map(|i| format!("tool_{i:03}")).collect();
    let peer = Peer::named(names.clone()).await;
    let gateway = TestGateway::start().with_peer("many", &peer).with_key().await;
    let mcp = gateway.mcp();
    mcp.lists(&["tool_599"]).await;
    let first = mcp.modern("tools/list", json!({})).await.result().await;
    let stay: Vec<String> = names.iter().filter(|name| !name.ends_with('7')).cloned().collect();
    peer.change_tools(stay.iter().cloned().map(plain).collect()).await;
    mcp.lists_become(|names| names.len() == stay.len()).await;
    let second = mcp.modern("tools/list", json!({"cursor": first["nextCursor"]})).await.result().await;
    let listed: Vec<&str> = [&first, &second]
        .iter()
        .flat_map(|page| page["tools"].as_array().unwrap())
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    let once: BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(once.len(), listed.len(), "none twice");
    assert!(stay.iter().all(|name| once.contains(name.as_str())), "none that stayed is lost");
}
