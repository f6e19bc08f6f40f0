//! XiaoZhi: brokers that are dialled, with what they are known to do, and how their connections end.

mod closing;
mod records;
mod replicas;

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Admin, Broker, PATIENCE, Peer, TOKEN, TestGateway, plain};

/// An endpoint of this broker that acts as a key, with these fields beside; its path in the REST API.
async fn endpoint(admin: &Admin, broker: &Broker, key_id: &str, more: Value) -> String {
    let mut body = json!({"name": "room", "url": broker.url(), "keyId": key_id});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let (status, created) = admin.post("xiaozhi", &body).await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    format!("xiaozhi/{}", created["id"].as_str().expect("an id"))
}

/// The endpoint, as soon as it is as is wanted.
async fn reaches(admin: &Admin, path: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        let (_, found) = admin.get(path).await;
        if is_wanted(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "it stays {found}");
    }
}

#[tokio::test]
async fn a_brokers_call_reaches_an_upstream_and_comes_back() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    let (mcp, key) = gateway.mcp_with("robot", json!({})).await;
    mcp.lists(&["echo"]).await;
    let admin = gateway.admin().await;
    let mut broker = Broker::start().await;
    let path = endpoint(&admin, &broker, &key, json!({})).await;
    let mut robot = broker.robot().await;
    let head = &robot.handshake;
    assert_eq!(head.uri().query(), Some(format!("token={TOKEN}").as_str()));
    for header in ["authorization", "sec-websocket-protocol", "x-api-key"] {
        assert!(head.headers().get(header).is_none(), "{header}");
    }

    // Nothing comes before what is asked: each answer is that of its question.
    let hello = json!({
        "protocolVersion": "2024-11-05",
        "capabilities": {"sampling": {}, "roots": {"listChanged": false}},
        "clientInfo": {"name": "xz-mcp-broker", "version": "0.0.1"},
    });
    let first = robot.asked(0, "initialize", &hello).await;
    assert_eq!((&first["id"], &first["result"]["protocolVersion"]), (&json!(0), &json!("2024-11-05")));
    assert_eq!(first["result"]["capabilities"], json!({"tools": {}}));
    robot.say(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    let id = "7c1e0c34-7f0c-4c4e_n_1";
    let second = robot.asked(id, "initialize", &hello).await;
    assert_eq!(
        (&second["id"], &second["result"]["serverInfo"]),
        (&json!(id), &first["result"]["serverInfo"])
    );
    assert_eq!(robot.asked(1, "ping", &json!({})).await, json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    let names = robot.tool_names().await;
    assert!(names.contains(&"echo".to_owned()), "{names:?}");
    let call = json!({"name": "echo", "arguments": {"message": "你好"}, "serialNumber": null});
    let answer = robot.asked("7c1e_n_2", "tools/call", &call).await;
    assert_eq!(answer["id"], "7c1e_n_2");
    assert_eq!(answer["result"]["content"][0]["text"], "echo: 你好");
    // A newline at the end, as one of the reference clients has it, and what is no message at all.
    robot.say("{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"ping\"}\n");
    assert_eq!(robot.hear().await["id"], 3);
    robot.say("{");
    assert_eq!(robot.hear().await["error"]["code"], -32700);
    let other = robot.asked(4, "prompts/list", &json!({})).await;
    assert_eq!((&other["id"], &other["error"]["code"]), (&json!(4), &json!(-32601)));
    let unknown = robot.asked(5, "tools/call", &json!({"name": "nothing", "arguments": {}})).await;
    assert_eq!(unknown["error"]["code"], -32602);

    let shown = reaches(&admin, &path, |found| found["state"] == "connected").await;
    assert_eq!(shown["toolsShown"], names.len());
    assert_eq!((&shown["fault"], &shown["lastError"]), (&Value::Null, &Value::Null));
    assert_eq!(admin.get("health").await.1["xiaozhi"], json!({"enabled": 1, "connected": 1}));
    for seen in [shown.to_string(), admin.get("audit?limit=200").await.1.to_string(), gateway.log()] {
        assert!(!seen.contains("CANARY"), "{seen}");
    }
}

#[tokio::test]
async fn a_robot_that_was_greeted_before_needs_no_greeting() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    let (mcp, key) = gateway.mcp_with("robot", json!({})).await;
    mcp.lists(&["echo"]).await;
    let mut broker = Broker::start().await;
    endpoint(&gateway.admin().await, &broker, &key, json!({})).await;
    let mut robot = broker.robot().await;
    assert!(robot.tool_names().await.contains(&"echo".to_owned()));
    assert_eq!(robot.called("echo", json!({"message": "x"})).await, "echo: x");
}

#[tokio::test]
async fn what_takes_too_long_is_told_in_time_and_the_upstream_is_told_too() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    let (mcp, key) = gateway.mcp_with("robot", json!({})).await;
    mcp.lists(&["wait"]).await;
    let mut broker = Broker::start().await;
    endpoint(&gateway.admin().await, &broker, &key, json!({"deadlineS": 1})).await;
    let mut robot = broker.robot().await;
    let began = Instant::now();
    let text = robot.called("wait", json!({})).await;
    assert!(text.contains("within 1 seconds"), "{text}");
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(4)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    peer.counts_reach(|counts| counts.cancelled == 1).await;
    // The connection serves on.
    assert_eq!(robot.called("echo", json!({"message": "x"})).await, "echo: x");
}

#[tokio::test]
async fn it_is_shown_as_many_tools_as_it_may_and_as_their_names_can_be() {
    let long = format!("{}.with.dots", "x".repeat(60));
    let names = [long.clone(), "b".to_owned(), "c".to_owned()];
    let peer = Peer::named(names.clone()).await;
    let gateway = TestGateway::start()
        .with_peer("peer", &peer)
        .with_key()
        .with_setting("naming", "length_max", 128)
        .await;
    let (mcp, key) = gateway.mcp_with("robot", json!({})).await;
    mcp.lists(&["c"]).await;
    let admin = gateway.admin().await;
    let mut broker = Broker::start().await;
    let path = endpoint(&admin, &broker, &key, json!({"toolsMax": 2})).await;
    let mut robot = broker.robot().await;
    let shown = robot.tool_names().await;
    assert_eq!((shown.len(), shown[1].as_str()), (2, "b"));
    assert!(shown[0].len() <= 64 && !shown[0].contains('.'), "{shown:?}");
    assert_eq!(robot.called(&shown[0], json!({})).await, format!("{long} got {{}}"));
    let hidden = robot.asked(1, "tools/call", &json!({"name": "c", "arguments": {}})).await;
    assert_eq!(hidden["error"]["code"], -32602, "what isn't listed can't be called");
    let found = reaches(&admin, &path, |found| found["state"] == "connected").await;
    assert_eq!((&found["toolsShown"], &found["toolsTotal"]), (&json!(2), &json!(3)));

    let body = json!({"mode": "smart", "toolsMax": null});
    assert_eq!(admin.patch(&path, "\"1\"", &body).await.0, StatusCode::OK);
    assert_eq!(robot.closed().await, Some(1001));
    let mut robot = broker.robot().await;
    assert_eq!(robot.tool_names().await, ["list_tools", "search_tools", "get_tool", "call_tool"]);
    assert_eq!(robot.called("call_tool", json!({"name": "c", "arguments": {}})).await, "c got {}");
}

#[tokio::test]
async fn a_changed_list_is_learned_by_connecting_anew() {
    let peer = Peer::named(["old".into()]).await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    let (mcp, key) = gateway.mcp_with("robot", json!({})).await;
    mcp.lists(&["old"]).await;
    let admin = gateway.admin().await;
    let mut broker = Broker::start().await;
    endpoint(&admin, &broker, &key, json!({})).await;
    let mut robot = broker.robot().await;
    assert_eq!(robot.tool_names().await, ["old"]);
    peer.change_tools(vec![plain("old"), plain("new")]).await;
    assert_eq!(robot.closed().await, Some(1000));
    let mut robot = broker.robot().await;
    assert_eq!(robot.tool_names().await, ["old", "new"]);
    // The key's own rules change what it sees as well.
    let body = json!({"owner": {"type": "key", "id": key}, "pattern": "old", "action": "deny"});
    assert_eq!(admin.post("rules/filters", &body).await.0, StatusCode::CREATED);
    assert_eq!(robot.closed().await, Some(1000));
    let mut robot = broker.robot().await;
    assert_eq!(robot.tool_names().await, ["new"]);
    assert_eq!(broker.most_open(), 1);
}

#[tokio::test]
async fn its_messages_count_in_the_limit_of_its_key_and_addresses_do_not_apply() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    let admin = gateway.admin().await;
    let fields = json!({"rateLimit": {"limit": 2, "windowS": 3600}, "allowedCidrs": ["203.0.113.0/24"]});
    let (key, _) = admin.create_key("robot", fields).await;
    let mut broker = Broker::start().await;
    endpoint(&admin, &broker, &key, json!({})).await;
    let mut robot = broker.robot().await;
    assert_eq!(robot.asked(1, "ping", &json!({})).await["result"], json!({}));
    assert_eq!(robot.asked(2, "ping", &json!({})).await["result"], json!({}));
    let refused = robot.asked(3, "ping", &json!({})).await;
    assert_eq!((&refused["id"], &refused["error"]["data"]["code"]), (&json!(3), &json!("RATE_LIMITED")));
    let last_ip = reaches(&admin, &format!("keys/{key}"), |key| key["lastIp"] != Value::Null).await;
    assert_eq!(last_ip["lastIp"], "127.0.0.1");
}
