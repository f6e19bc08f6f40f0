//! Smart mode: four tools that find and call the others, with every rule that holds for a call itself.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{
    LEGACY, LEGACY_LATEST, Line, Mcp, Peer, TestGateway, plain, send, success_of, text_of, tool,
};

const FOUR: [&str; 4] = ["list_tools", "search_tools", "get_tool", "call_tool"];
const SMART: &str = "/mcp/smart/http";

async fn gateway_before(era: &str, peer: &Peer) -> TestGateway {
    let gateway = TestGateway::start().with_peer_in(era, "peer", peer).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    gateway
}

/// The params of a call of `call_tool`.
#[expect(clippy::needless_pass_by_value, reason = "what json! makes is handed over")]
fn wrapped(name: &str, arguments: Value) -> Value {
    json!({"name": "call_tool", "arguments": {"name": name, "arguments": arguments}})
}

/// The names in the answer of a discovery tool, which says the same as text and as data.
fn names(result: &Value) -> Vec<String> {
    let said: Value = serde_json::from_str(success_of(result)).expect("JSON in the text");
    assert_eq!(said, result["structuredContent"], "the text and the data are one");
    let tools = said["tools"].as_array().expect("a list");
    tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
}

fn listed(result: &Value) -> Vec<&str> {
    let tools = result["tools"].as_array().expect("a list");
    tools.iter().map(|tool| tool["name"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn a_client_of_any_revision_finds_describes_and_calls_over_http() {
    for upstream_era in ["legacy", "modern"] {
        let peer = Peer::start().await;
        let gateway = gateway_before(upstream_era, &peer).await;
        let smart = gateway.mcp().at(SMART);
        let modern = smart.modern("tools/list", json!({})).await.result().await;
        assert_eq!(listed(&modern), FOUR);
        assert_eq!((&modern["resultType"], &modern["cacheScope"]), (&json!("complete"), &json!("private")));
        assert!(
            modern["tools"].as_array().expect("a list")[..3]
                .iter()
                .all(|tool| tool["outputSchema"].is_object())
        );
        let found = smart.call("search_tools", json!({"query": "the echo tool"})).await;
        assert_eq!((names(&found)[0].as_str(), &found["resultType"]), ("echo", &json!("complete")));
        assert_eq!(found["structuredContent"]["tools"][0]["upstream"], "peer");
        let result = smart.call("call_tool", json!({"name": "echo", "arguments": {"message": "ü"}})).await;
        let direct = gateway.mcp().call("echo", json!({"message": "ü"})).await;
        assert_eq!(success_of(&result), "echo: ü");
        assert_eq!(result, direct, "{upstream_era}: the answer is the tool's own");
        for version in LEGACY {
            let session = smart.initialize(version).await;
            assert!(session.result()["instructions"].as_str().expect("some").contains("search_tools"));
            assert_eq!(session.tool_names().await, FOUR);
            let all = session.call("list_tools", json!({})).await;
            assert_eq!(names(&all), gateway.mcp().tool_names().await);
            let echo = session.call("get_tool", json!({"name": "echo"})).await;
            assert_eq!(echo["structuredContent"]["tools"][0]["description"], "The tool echo.", "{version}");
            let said = session.request("tools/call", wrapped("echo", json!({"message": version}))).await;
            assert_eq!(success_of(&said.result().await), format!("echo: {version}"), "{upstream_era}");
        }
    }
}

#[tokio::test]
async fn both_modes_are_served_on_a_connection_in_both_eras() {
    let peer = Peer::start().await;
    let scene = TestGateway::start().alone("on other replicas a new key takes a moment");
    let gateway = scene.with_peer_in("legacy", "peer", &peer).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    let admin = gateway.admin().await;
    for (transport, mode) in [("sse", "smart"), ("ws", "smart"), ("sse", "full"), ("ws", "full")] {
        let name = format!("{transport} {mode}");
        let (_, key) = admin.create_key(&name, json!({"mode": mode})).await;
        let mut line = Line::open_as(transport, &gateway, &key).await;
        line.modern("m", "tools/list", json!({})).await;
        let modern = line.answer("m").await.1["result"].take();
        line.initialize(LEGACY_LATEST, json!({})).await;
        let legacy = line.result("tools/list", json!({})).await;
        assert_eq!(listed(&modern), listed(&legacy), "{name}");
        assert_eq!(listed(&modern) == FOUR, mode == "smart", "{name}");
        let mut call =
            if mode == "smart" { wrapped("progress", json!({})) } else { json!({"name": "progress"}) };
        call["_meta"] = json!({"progressToken": "mine"});
        for modern in [false, true] {
            if modern {
                line.modern("p", "tools/call", call.clone()).await;
            } else {
                line.request("p", "tools/call", call.clone()).await;
            }
            let (before, answer) = line.answer("p").await;
            assert_eq!(success_of(&answer["result"]), "done", "{name}");
            let steps: Vec<_> = before.iter().map(|step| step["params"]["progress"].as_f64()).collect();
            assert_eq!(steps, [Some(1.0), Some(2.0), Some(3.0)], "{name}: {before:?}");
            assert!(before.iter().all(|step| step["params"]["progressToken"] == "mine"), "{before:?}");
        }
    }
}

#[tokio::test]
async fn the_path_goes_before_the_key_and_the_key_before_the_setting() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start()
        .with_peer("peer", &peer)
        .with_setting("mcp_api", "mode", "smart")
        .with_key()
        .await;
    let (inherit, full) = (gateway.mcp(), "/mcp/full/http");
    inherit.at(full).lists(&["echo"]).await;
    assert_eq!(inherit.tool_names().await, FOUR);
    let (of_key, _) = gateway.mcp_with("full", json!({"mode": "full"})).await;
    assert_ne!(of_key.tool_names().await, FOUR);
    assert_eq!(of_key.at(SMART).tool_names().await, FOUR);

    // A session keeps the mode that it began in; what comes later has the new one.
    let before = inherit.initialize(LEGACY_LATEST).await;
    let admin = gateway.admin().await;
    let etag =
        admin.request(reqwest::Method::GET, "settings").send().await.unwrap().headers()["etag"].clone();
    let body = json!({"mcp_api": {"mode": "full", "smart_discovery_limit": 2}});
    let patched = admin.patch("settings", etag.to_str().unwrap(), &body).await;
    assert_eq!(patched.0, StatusCode::OK, "{}", patched.1);
    inherit.lists(&["echo"]).await;
    assert_eq!(before.tool_names().await, FOUR);
    assert_ne!(inherit.initialize(LEGACY_LATEST).await.tool_names().await, FOUR);

    // The limit of an answer is of now.
    let mut seen = Vec::new();
    let mut arguments = json!({"limit": 100});
    loop {
        let page = before.call("list_tools", arguments).await;
        let some = names(&page);
        assert!((1..=2).contains(&some.len()), "{some:?}");
        seen.extend(some);
        match &page["structuredContent"]["nextCursor"] {
            Value::Null => break,
            cursor => arguments = json!({"cursor": cursor}),
        }
    }
    assert_eq!(seen, inherit.tool_names().await, "all, once, in order");
    // A session is of its path.
    let elsewhere = before.shown_by(&inherit.at(SMART));
    assert_eq!(elsewhere.request("tools/list", json!({})).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_environment_may_say_the_mode() {
    let peer = Peer::start().await;
    let scene = TestGateway::start().with_peer("peer", &peer).with_env("MPG_SETTING__MCP_API__MODE", "smart");
    let gateway = scene.with_key().await;
    gateway.mcp().at("/mcp/full/http").lists(&["echo"]).await;
    assert_eq!(gateway.mcp().tool_names().await, FOUR);
}

#[tokio::test]
async fn what_a_key_does_not_see_is_found_and_called_in_neither_mode_t34() {
    let (shown, hidden) = (Peer::start().await, Peer::named(["secret_tool".to_owned()]).await);
    let gateway =
        TestGateway::start().with_peer("shown", &shown).with_peer("hidden", &hidden).with_key().await;
    gateway.mcp().lists(&["echo", "secret_tool"]).await;
    let upstream = gateway.admin().await.upstream_id("shown").await;
    let (mcp, _) = gateway.mcp_with("narrow", json!({"upstreamIds": [upstream]})).await;
    let smart = mcp.at(SMART);
    for name in ["secret_tool", "no_such_tool"] {
        let direct = mcp.modern("tools/call", json!({"name": name})).await.answer().await;
        let through = smart.modern("tools/call", wrapped(name, json!({}))).await.answer().await;
        assert_eq!(direct, through);
        assert_eq!(direct["error"]["code"], -32602);
        assert_eq!(direct["error"]["message"], format!("Unknown tool: {name}"));
        let session = smart.initialize(LEGACY_LATEST).await;
        let through = session.request_as(1, "tools/call", wrapped(name, json!({}))).await.answer().await;
        assert_eq!(through["error"]["message"], format!("Unknown tool: {name}"));
        let got = smart.call("get_tool", json!({"name": name})).await;
        assert_eq!(
            (&got["isError"], text_of(&got)),
            (&json!(true), format!("Unknown tool: {name}").as_str())
        );
    }
    let found = names(&smart.call("search_tools", json!({"query": "secret tool"})).await);
    assert!(!found.contains(&"secret_tool".to_owned()), "{found:?}");
    // To the other key it is there.
    let found = names(&gateway.mcp().at(SMART).call("search_tools", json!({"query": "secret tool"})).await);
    assert_eq!(found[0], "secret_tool");
    // What isn't one of the four isn't there by itself.
    let direct = smart.modern("tools/call", json!({"name": "echo"})).await.answer().await;
    assert_eq!(direct["error"]["message"], "Unknown tool: echo");
    assert_eq!(hidden.counts().calls, 0);
}

#[tokio::test]
async fn upstream_tools_that_have_the_names_of_the_four_are_reachable_in_both_modes_t24() {
    let peer = Peer::named(FOUR.map(str::to_owned)).await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&FOUR).await;
    let smart = gateway.mcp().at(SMART);
    for name in FOUR {
        let direct = gateway.mcp().call(name, json!({"name": "x"})).await;
        let through = smart.modern("tools/call", wrapped(name, json!({"name": "x"}))).await.result().await;
        assert_eq!(success_of(&direct), format!(r#"{name} got {{"name":"x"}}"#));
        assert_eq!(success_of(&through), success_of(&direct));
    }
    let listed = smart.modern("tools/list", json!({})).await.result().await;
    let own = &listed["tools"][3];
    assert_ne!(own["description"], "The tool call_tool.", "the four are the gateway's own");
}

#[tokio::test]
async fn so_many_tools_are_described_at_once() {
    let all: Vec<String> = (0..25).map(|n| format!("tool_{n}")).collect();
    let peer = Peer::named(all.clone()).await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["tool_24"]).await;
    let smart = gateway.mcp().at(SMART);
    let twenty = smart.call("get_tool", json!({"names": all[..20]})).await;
    assert_eq!(names(&twenty), all[..20]);
    let definitions = gateway.mcp().tools().await;
    assert_eq!(twenty["structuredContent"]["tools"], json!(definitions[..20]), "as tools/list has them");
    let some = smart.call("get_tool", json!({"names": ["tool_3", "nothing", "tool_3"]})).await;
    assert_eq!(
        (names(&some), &some["structuredContent"]["unknown"]),
        (vec!["tool_3".to_owned()], &json!(["nothing"]))
    );
    for (tool, arguments, says) in [
        ("get_tool", json!({"names": all[..21]}), "at most 20"),
        ("get_tool", json!({"names": []}), "empty"),
        ("get_tool", json!({"name": "tool_1", "names": ["tool_2"]}), "either"),
        ("get_tool", json!({}), "either"),
        ("get_tool", json!({"names": ["a", "b"]}), "Unknown tool: a, b"),
        ("search_tools", json!({"query": " "}), "query"),
        ("search_tools", json!({"query": "x", "limit": 0}), "limit"),
        ("list_tools", json!({"cursor": "x"}), "cursor"),
        ("list_tools", json!({"page": 2}), "page"),
        ("call_tool", json!({"arguments": {}}), "name"),
        ("call_tool", json!({"name": "tool_1", "x": 1}), "arguments"),
    ] {
        let modern = smart.call(tool, arguments.clone()).await;
        let legacy = smart.initialize(LEGACY_LATEST).await.call(tool, arguments).await;
        for result in [modern, legacy] {
            assert_eq!(result["isError"], true, "{result}");
            assert!(text_of(&result).contains(says), "{result}");
        }
    }
    let bad = smart.modern("tools/call", json!({"name": "list_tools", "arguments": []})).await.answer().await;
    assert_eq!(bad["error"]["code"], -32602, "{bad}");
    let bad = smart.modern("tools/list", json!({"cursor": "x"})).await.answer().await;
    assert_eq!(bad["error"]["code"], -32602, "{bad}");
}

#[tokio::test]
async fn a_wrapped_call_is_cancelled_as_its_era_does() {
    for upstream_era in ["legacy", "modern"] {
        let peer = Peer::start().await;
        let gateway = gateway_before(upstream_era, &peer).await;
        let smart = gateway.mcp().at(SMART);
        let session = smart.initialize(LEGACY_LATEST).await;
        let mut calls = JoinSet::new();
        calls.spawn({
            let session = session.clone();
            async move {
                session.request_as("dropped", "tools/call", wrapped("wait", json!({}))).await.next().await
            }
        });
        peer.counts_reach(|counts| counts.parked == 1).await;
        session.notify("notifications/cancelled", json!({"requestId": "dropped"})).await;
        assert_eq!(calls.join_next().await.expect("one").expect("no panic"), None);
        peer.counts_reach(|counts| counts.cancelled == 1 && counts.parked == 0).await;
        let call = smart.apart().modern_request(1, "tools/call", wrapped("wait", json!({})));
        let mut calls = JoinSet::new();
        calls.spawn(send(call));
        peer.counts_reach(|counts| counts.parked == 1).await;
        calls.abort_all();
        peer.counts_reach(|counts| counts.cancelled == 2 && counts.parked == 0).await;
    }
}

#[tokio::test]
async fn a_wrapped_call_asks_its_client_over_every_bridge() {
    for upstream_era in ["legacy", "modern"] {
        let peer = Peer::start().await;
        let gateway = gateway_before(upstream_era, &peer).await;
        let declared = json!({"elicitation": {}});
        let session = gateway.mcp().at(SMART).initialize_with(LEGACY_LATEST, declared.clone()).await;
        let mut exchange = session.request("tools/call", wrapped("ask", json!({}))).await;
        let question = exchange.expect().await;
        assert_eq!(question["method"], "elicitation/create", "{upstream_era}");
        session.answer(&question["id"], json!({"action": "accept", "content": {"name": "Ada"}})).await;
        assert!(success_of(&exchange.result().await).contains("Ada"), "{upstream_era}");
        let modern = gateway.mcp().at(SMART).declaring(declared);
        let asked = modern.modern("tools/call", wrapped("ask", json!({}))).await.result().await;
        assert_eq!(asked["resultType"], "input_required", "{asked}");
        let question = asked["inputRequests"].as_object().expect("some").keys().next().expect("one").clone();
        let mut again = wrapped("ask", json!({}));
        again["requestState"] = asked["requestState"].clone();
        again["inputResponses"] = json!({question: {"action": "accept", "content": {"name": "Ada"}}});
        let result = modern.modern("tools/call", again).await.result().await;
        assert!(success_of(&result).contains("Ada"), "{upstream_era}: {result}");
    }
}

#[tokio::test]
async fn the_headers_are_of_the_message_and_those_of_the_tool_are_made_anew() {
    let region = json!({"region": {"type": "string", "x-mcp-header": "Region"}});
    let schema = json!({"type": "object", "properties": region});
    let peer = Peer::with_tools(vec![tool("call_tool", schema)]).await;
    let gateway = TestGateway::start().with_peer_in("modern", "peer", &peer).with_key().await;
    gateway.mcp().lists(&["call_tool"]).await;
    let smart = gateway.mcp().at(SMART);
    let call = wrapped("call_tool", json!({"region": "eu"}));
    success_of(&smart.modern("tools/call", call.clone()).await.result().await);
    let seen = peer.seen_of("tools/call");
    assert_eq!(seen[0].headers["mcp-param-region"], "eu");
    assert_eq!(seen[0].headers["mcp-name"], "call_tool");
    let mut other = smart.modern_request(1, "tools/call", call).build().expect("a request");
    other.headers_mut().insert("mcp-name", "inner".parse().expect("a value"));
    let refused = reqwest::Client::new().execute(other).await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn calls_count_the_same_in_both_modes_t34() {
    let peer = Peer::start().await;
    let gateway = gateway_before("legacy", &peer).await;
    let budget =
        |name: &'static str| gateway.mcp_with(name, json!({"rateLimit": {"limit": 6, "windowS": 3600}}));
    let passed = |mcp: Mcp, call: Value| async move {
        let mut passed = 0;
        while mcp.modern("tools/call", call.clone()).await.status() == StatusCode::OK {
            passed += 1;
        }
        passed
    };
    let full = passed(budget("full").await.0, json!({"name": "echo", "arguments": {"message": "x"}})).await;
    let smart = budget("smart").await.0.at(SMART);
    let smart = passed(smart, wrapped("echo", json!({"message": "x"}))).await;
    let mixed = budget("mixed").await.0;
    success_of(&mixed.call("echo", json!({"message": "x"})).await);
    let mixed = 1 + passed(mixed.at(SMART), json!({"name": "list_tools"})).await;
    assert_eq!((full, smart, mixed), (6, 6, 6));
}

#[tokio::test]
async fn calls_in_flight_are_one_budget() {
    let peer = Peer::start().await;
    let scene = TestGateway::start()
        .alone("each replica counts the calls that it has")
        .with_peer("peer", &peer)
        .with_setting("limits", "calls_in_flight_per_key", 1);
    let gateway = scene.with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    let smart = gateway.mcp().at(SMART);
    let mut calls = JoinSet::new();
    calls.spawn(send(smart.apart().modern_request(
        1,
        "tools/call",
        wrapped("wait", json!({"canary": "late"})),
    )));
    peer.counts_reach(|counts| counts.parked == 1).await;
    for mcp in [(gateway.mcp(), json!({"name": "echo"})), (smart, wrapped("echo", json!({})))] {
        let answer = mcp.0.modern("tools/call", mcp.1).await.answer().await;
        assert!(answer["error"]["message"].as_str().expect("a text").contains("in flight"), "{answer}");
    }
    peer.release_in_reverse();
    let exchange = calls.join_next().await.expect("one").expect("no panic");
    assert_eq!(success_of(&exchange.result().await), "late");
}

/// The four never change, so nobody is told to read them again; what they find does, at once.
#[tokio::test]
async fn a_changed_list_is_found_but_not_announced() {
    let peer = Peer::start().await;
    let gateway = gateway_before("legacy", &peer).await;
    let smart = gateway.mcp().at(SMART);
    let (of_full, of_smart) =
        (gateway.mcp().initialize(LEGACY_LATEST).await, smart.initialize(LEGACY_LATEST).await);
    let (mut told, mut quiet) = (of_full.stream().await, of_smart.stream().await);
    assert!(
        !names(&of_smart.call("search_tools", json!({"query": "calendar"})).await)
            .contains(&"calendar".to_owned())
    );
    peer.change_tools(vec![plain("echo"), plain("calendar")]).await;
    assert_eq!(told.expect().await["method"], "notifications/tools/list_changed");
    // Wherever the next question comes in.
    gateway.mcp().lists(&["calendar"]).await;
    let found = of_smart.call("search_tools", json!({"query": "calendar"})).await;
    assert_eq!(names(&found), ["calendar"]);
    // What comes next on the quiet stream is its end and no announcement.
    assert_eq!(of_smart.delete().await, StatusCode::NO_CONTENT);
    assert_eq!(quiet.next().await, None);
}

/// Prompts, resources and the rest are as in full mode.
#[tokio::test]
async fn only_tools_differ() {
    let peer = Peer::start().await;
    let gateway = gateway_before("legacy", &peer).await;
    let smart = gateway.mcp().at(SMART);
    for method in ["prompts/list", "resources/list", "resources/templates/list", "no/such"] {
        let (a, b) = (smart.modern(method, json!({})).await, gateway.mcp().modern(method, json!({})).await);
        assert_eq!((a.status(), a.answer().await), (b.status(), b.answer().await), "{method}");
    }
    let discovered = smart.modern("server/discover", json!({})).await.result().await;
    let members: BTreeSet<&String> =
        discovered["capabilities"].as_object().expect("an object").keys().collect();
    let full = gateway.mcp().modern("server/discover", json!({})).await.result().await;
    assert_eq!(members, full["capabilities"].as_object().expect("an object").keys().collect());
    assert!(
        discovered["instructions"]
            .as_str()
            .expect("some")
            .starts_with("The tools of this server are found with")
    );
}
