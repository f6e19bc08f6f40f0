//! The tasks of 2025-11-25, between a client and an upstream that both have them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Exchange, LEGACY_LATEST, Line, Mcp, PATIENCE, Reference, Session, TRANSPORTS, TestGateway, script,
    success_of,
};

const RELATED: &str = "io.modelcontextprotocol/related-task";
const STATUS: &str = "notifications/tasks/status";

/// Between two looks at what is to become something.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A task that a test is done with before it is.
const LONG: u64 = 600;

async fn gateway_before(upstream: Value) -> TestGateway {
    let gateway = TestGateway::start()
        .alone("each replica has a child of its own, and lists the tasks that it gave")
        .with_upstream(upstream)
        .with_key()
        .await;
    gateway.mcp().lists(&["test_changing_tool"]).await;
    gateway
}

fn over_http(reference: &Reference) -> Value {
    json!({"name": "reference", "transport": "streamable-http", "connParams": {"url": reference.url()}})
}

fn over_stdio() -> Value {
    let script = script();
    let args = Reference::over_stdio(&script, &["--era", "legacy"]);
    json!({"name": "reference", "transport": "stdio", "connParams": {"command": "node", "args": args}})
}

fn call(name: &str, arguments: Value) -> Value {
    let mut params = json!({"name": name, "task": {"ttl": 60_000}});
    params["arguments"] = arguments;
    params
}

/// Calls a tool as a task: its id.
async fn begin(session: &Session, name: &str, arguments: Value) -> String {
    let result = session.request("tools/call", call(name, arguments)).await.result().await;
    result["task"]["taskId"].as_str().unwrap_or_else(|| panic!("no task in {result}")).to_owned()
}

async fn about(session: &Session, method: &str, id: &str) -> Exchange {
    session.request(method, json!({"taskId": id})).await
}

/// The task when it has this status.
async fn becomes(session: &Session, id: &str, status: &str) -> Value {
    let look = async {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        loop {
            ticks.tick().await;
            let task = about(session, "tasks/get", id).await.result().await;
            assert_eq!(task["taskId"], id, "{task}");
            if task["status"] == status {
                return task;
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("the task comes to it in time")
}

/// The ids on the whole list.
async fn listed(session: &Session) -> Vec<String> {
    let (mut ids, mut params) = (Vec::new(), json!({}));
    loop {
        let page = session.request("tasks/list", params).await.result().await;
        let tasks = page["tasks"].as_array().expect("a list");
        ids.extend(tasks.iter().map(|task| task["taskId"].as_str().expect("an id").to_owned()));
        match &page["nextCursor"] {
            Value::Null => return ids,
            cursor => params = json!({"cursor": cursor}),
        }
    }
}

/// Whether a message is word of a list. The lists of an upstream come one after the other, so there may be some
/// on any stream of a session at any time.
fn is_of_lists(message: &Value) -> bool {
    message["method"].as_str().is_some_and(|method| method.ends_with("/list_changed"))
}

/// The next message on a session's stream that is no word of a list.
async fn told(stream: &mut Exchange) -> Value {
    loop {
        let message = stream.expect().await;
        if !is_of_lists(&message) {
            return message;
        }
    }
}

async fn elicited(mcp: &Mcp) -> Session {
    mcp.initialize_with(LEGACY_LATEST, json!({"elicitation": {}})).await
}

#[tokio::test]
async fn a_task_runs_from_call_to_result_over_http_and_stdio() {
    let reference = Reference::start(&["--era", "legacy"]);
    for upstream in [over_http(&reference), over_stdio()] {
        let gateway = gateway_before(upstream).await;
        let session = gateway.mcp().initialize(LEGACY_LATEST).await;
        let offered = json!({"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}});
        assert_eq!(session.result()["capabilities"]["tasks"], offered);
        let id = begin(&session, "slow_compute", json!({"seconds": 0.1, "label": "x"})).await;
        assert!(!id.contains("task-"), "{id} is not the upstream's own");
        assert_eq!(listed(&session).await, [id.as_str()]);
        let result = about(&session, "tasks/result", &id).await.result().await;
        assert_eq!((success_of(&result), &result["_meta"][RELATED]["taskId"]), ("computed x", &json!(id)));
        assert_eq!(about(&session, "tasks/get", &id).await.result().await["status"], "completed");
        assert_eq!(about(&session, "tasks/cancel", &id).await.refusal().await, (200, -32602), "it is over");
        let long = begin(&session, "slow_compute", json!({"seconds": LONG})).await;
        let cancelled = about(&session, "tasks/cancel", &long).await.result().await;
        assert_eq!((&cancelled["taskId"], &cancelled["status"]), (&json!(long), &json!("cancelled")));
        let failed = begin(&session, "protocol_error_job", json!({})).await;
        assert_eq!(about(&session, "tasks/result", &failed).await.refusal().await, (200, -32603));
        assert_eq!(listed(&session).await, [id, long, failed], "in the order in which they were begun");
    }
}

#[tokio::test]
async fn what_a_task_asks_comes_beside_the_request_for_its_result() {
    let reference = Reference::start(&["--era", "legacy"]);
    for upstream in [over_http(&reference), over_stdio()] {
        let gateway = gateway_before(upstream).await;
        let session = elicited(&gateway.mcp()).await;
        // Another client is at the same upstream all the while: whose a question is, the task says.
        let (other, _) = gateway.mcp_with("other", json!({})).await;
        let other = elicited(&other).await;
        let theirs = begin(&other, "slow_compute", json!({"seconds": LONG})).await;
        let mut waiting = Box::pin(async { about(&other, "tasks/result", &theirs).await.next().await });
        let begun = async {
            let id = begin(&session, "confirm_delete", json!({"filename": "f"})).await;
            becomes(&session, &id, "input_required").await;
            let mut exchange = about(&session, "tasks/result", &id).await;
            let question = exchange.expect().await;
            assert_eq!(question["method"], "elicitation/create", "{question}");
            assert_eq!(question["params"]["_meta"][RELATED]["taskId"], id, "{question}");
            let related = json!({RELATED: {"taskId": id}});
            let answer = json!({"action": "accept", "content": {"confirm": true}, "_meta": related});
            session.answer(&question["id"], answer).await;
            assert_eq!(success_of(&exchange.result().await), "deleted f");
        };
        tokio::select! {
            () = begun => {}
            _ = &mut waiting => panic!("that task lasts"),
        }
    }
}

#[tokio::test]
async fn a_task_belongs_to_the_key_that_began_it_t21() {
    let reference = Reference::start(&["--era", "legacy"]);
    let gateway = gateway_before(over_http(&reference)).await;
    let (mine, same_key) =
        (gateway.mcp().initialize(LEGACY_LATEST).await, gateway.mcp().initialize(LEGACY_LATEST).await);
    let (other, _) = gateway.mcp_with("other", json!({})).await;
    let other = other.initialize(LEGACY_LATEST).await;
    let (mut my_stream, mut their_stream) = (mine.stream().await, other.stream().await);
    let id = begin(&mine, "slow_compute", json!({"seconds": LONG})).await;
    let theirs = begin(&other, "slow_compute", json!({"seconds": LONG})).await;
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        let foreign = other.request_as(1, method, json!({"taskId": id})).await.answer().await;
        assert_eq!(foreign["error"]["code"], -32602, "{method}: {foreign}");
        for unknown in ["task-1", "made-up"] {
            let answer = other.request_as(1, method, json!({"taskId": unknown})).await.answer().await;
            assert_eq!(answer, foreign, "{method}");
        }
    }
    // The upstream would have listed both.
    assert_eq!((listed(&mine).await, listed(&other).await), (vec![id.clone()], vec![theirs.clone()]));
    assert_eq!(listed(&same_key).await, [id.as_str()]);
    // Nor does the other session take it over by asking.
    let mut same_stream = same_key.stream().await;
    about(&same_key, "tasks/get", &id).await.result().await;
    assert_eq!(about(&mine, "tasks/cancel", &id).await.result().await["status"], "cancelled");
    assert_eq!(about(&other, "tasks/get", &theirs).await.result().await["status"], "working");
    assert_eq!(about(&other, "tasks/cancel", &theirs).await.result().await["status"], "cancelled");
    // The upstream told of both on its session with the gateway.
    for (stream, id) in [(&mut my_stream, &id), (&mut their_stream, &theirs)] {
        let told = told(stream).await;
        assert_eq!((&told["method"], &told["params"]["taskId"]), (&json!(STATUS), &json!(id)), "{told}");
        assert_eq!(told["params"]["status"], "cancelled");
    }
    // The other session hears of the lists alone.
    mine.call("test_trigger_tool_change", json!({})).await;
    loop {
        let heard = same_stream.expect().await;
        assert!(is_of_lists(&heard), "{heard}");
        if heard["method"] == "notifications/tools/list_changed" {
            break;
        }
    }
    assert_eq!(same_key.request("tasks/list", json!({"cursor": "x"})).await.refusal().await, (200, -32602));
}

#[tokio::test]
async fn a_task_whose_id_has_come_to_another_key_is_gone_t21() {
    let gateway = gateway_before(over_stdio()).await;
    let mine = gateway.mcp().initialize(LEGACY_LATEST).await;
    let (other, _) = gateway.mcp_with("other", json!({})).await;
    let other = other.initialize(LEGACY_LATEST).await;
    let id = begin(&mine, "slow_compute", json!({"seconds": LONG})).await;
    // The server begins anew, and counts from the start again.
    let admin = gateway.admin().await;
    let upstream = admin.upstream_id("reference").await;
    let (status, body) = admin.post(&format!("upstreams/{upstream}/reconnect"), &json!({})).await;
    assert!(status.is_success(), "{status} {body}");
    let unknown = async || about(&mine, "tasks/get", &id).await.answer().await["error"]["code"] == -32602;
    let look = async {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        while !unknown().await {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("the server forgets it in time");
    let theirs = begin(&other, "slow_compute", json!({"seconds": LONG})).await;
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        assert_eq!(about(&mine, method, &id).await.refusal().await, (200, -32602), "{method}");
    }
    assert_eq!(about(&other, "tasks/get", &theirs).await.result().await["status"], "working");
    assert_eq!(listed(&other).await, [theirs]);
}

#[tokio::test]
async fn two_upstreams_with_equal_task_ids_run_each_its_own() {
    let first = Reference::start(&["--era", "legacy"]);
    let second = Reference::start(&["--era", "legacy"]);
    let gateway = TestGateway::start()
        .alone("each replica has a child of its own, and lists the tasks that it gave")
        .with_http_upstream("first", &first.url())
        .with_http_upstream("second", &second.url())
        .with_key()
        .await;
    let named = |names: &[String]| -> Vec<String> {
        names.iter().filter(|name| name.starts_with("slow_compute")).cloned().collect()
    };
    let tools = named(&gateway.mcp().lists_become(|names| named(names).len() == 2).await);
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let mut ids = Vec::new();
    for tool in &tools {
        ids.push(begin(&session, tool, json!({"seconds": 0, "label": tool})).await);
    }
    assert_ne!(ids[0], ids[1]);
    for (id, tool) in ids.iter().zip(&tools) {
        let result = about(&session, "tasks/result", id).await.result().await;
        assert_eq!(success_of(&result), format!("computed {tool}"));
    }
    assert_eq!(listed(&session).await, ids);
}

#[tokio::test]
async fn a_task_outlives_the_gateway_that_began_it() {
    let reference = Reference::start(&["--era", "legacy"]);
    let mut gateway = gateway_before(over_http(&reference)).await;
    let session = elicited(&gateway.mcp()).await;
    let id = begin(&session, "confirm_delete", json!({"filename": "f"})).await;
    gateway.kill_9().await;
    gateway.start_again().await;
    let mut exchange = about(&session, "tasks/result", &id).await;
    let question = exchange.expect().await;
    assert_eq!(question["params"]["_meta"][RELATED]["taskId"], id, "{question}");
    session.answer(&question["id"], json!({"action": "decline"})).await;
    assert_eq!(success_of(&exchange.result().await), "kept f");
    // Who spoke of it is known to have it again.
    assert_eq!(listed(&session).await, [id]);
}

#[tokio::test]
async fn tasks_pass_on_every_transport_of_clients() {
    let reference = Reference::start(&["--era", "legacy"]);
    let gateway = gateway_before(over_http(&reference)).await;
    for transport in TRANSPORTS {
        let mut line = Line::open(transport, &gateway).await;
        line.initialize(LEGACY_LATEST, json!({"elicitation": {}})).await;
        line.request(1, "tools/call", call("confirm_delete", json!({"filename": "f"}))).await;
        let begun = line.answer(1).await.1;
        let id = begun["result"]["task"]["taskId"].clone();
        line.request(2, "tasks/result", json!({"taskId": id})).await;
        let mut told = Vec::new();
        let answer = loop {
            let message = line.expect().await;
            if message["method"] == "elicitation/create" {
                assert_eq!(message["params"]["_meta"][RELATED]["taskId"], id, "{transport}");
                let result = json!({"action": "accept", "content": {"confirm": true}});
                line.send(&json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).await;
            } else if message["method"] == STATUS {
                assert_eq!(message["params"]["taskId"], id, "{transport}: {message}");
                told.push(message["params"]["status"].clone());
            } else if message["id"] == 2 {
                break message;
            }
        };
        assert_eq!(success_of(&answer["result"]), "deleted f", "{transport}");
        while told.last() != Some(&json!("completed")) {
            let message = line.expect().await;
            if is_of_lists(&message) {
                continue;
            }
            assert_eq!(message["params"]["taskId"], id, "{transport}: {message}");
            told.push(message["params"]["status"].clone());
        }
    }
}

#[tokio::test]
async fn a_status_reaches_its_session_from_an_upstream_session_of_its_own() {
    for isolation in ["per-session", "per-key"] {
        let mut upstream = over_stdio();
        upstream["isolation"] = json!(isolation);
        let gateway = gateway_before(upstream).await;
        let session = gateway.mcp().initialize(LEGACY_LATEST).await;
        let mut stream = session.stream().await;
        let id = begin(&session, "slow_compute", json!({"seconds": LONG})).await;
        about(&session, "tasks/cancel", &id).await.result().await;
        let told = told(&mut stream).await;
        assert_eq!((&told["method"], &told["params"]["taskId"]), (&json!(STATUS), &json!(id)), "{isolation}");
    }
}

#[tokio::test]
async fn which_tools_can_be_tasks_is_shown_to_who_can_act_on_it() {
    let reference = Reference::start(&["--era", "legacy"]);
    let gateway = gateway_before(over_http(&reference)).await;
    let latest = gateway.mcp().initialize(LEGACY_LATEST).await;
    let older = gateway.mcp().initialize("2025-06-18").await;
    assert_eq!(older.result()["capabilities"]["tasks"], Value::Null);
    let listed = |result: &Value, name: &str| {
        let tools = result["tools"].as_array().expect("a list").iter();
        tools.filter(|tool| tool["name"] == name).map(|tool| tool["execution"].clone()).next()
    };
    let to_latest = latest.request("tools/list", json!({})).await.result().await;
    let to_older = older.request("tools/list", json!({})).await.result().await;
    assert_eq!(listed(&to_latest, "slow_compute"), Some(json!({"taskSupport": "optional"})));
    assert_eq!(listed(&to_latest, "failing_job"), Some(json!({"taskSupport": "required"})));
    assert_eq!(listed(&to_latest, "greet"), Some(Value::Null));
    assert_eq!(listed(&to_older, "slow_compute"), Some(Value::Null));
    assert_eq!(listed(&to_older, "failing_job"), None, "it couldn't call it");

    // As a task where it can't be one, and otherwise where it must.
    let greet = call("greet", json!({"name": "x"}));
    assert_eq!(latest.request("tools/call", greet).await.refusal().await, (200, -32601));
    let failing = json!({"name": "failing_job", "arguments": {}});
    assert_eq!(latest.request("tools/call", failing.clone()).await.refusal().await, (200, -32601));
    assert_eq!(older.request("tools/call", failing).await.refusal().await, (200, -32602), "unknown");
    // To who wasn't offered tasks the wish means nothing.
    let result =
        older.request("tools/call", call("slow_compute", json!({"seconds": 0}))).await.result().await;
    assert_eq!((success_of(&result), result.get("task")), ("computed", None));
    assert_eq!(older.request("tasks/list", json!({})).await.refusal().await, (200, -32601));
}
