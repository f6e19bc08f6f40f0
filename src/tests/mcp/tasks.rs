//! The tasks extension of 2026-07-28: whose a task is, where it is, and who hears of it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Exchange, LEGACY_LATEST, Line, META, Mcp, PATIENCE, Reference, TRANSPORTS, TestGateway, script,
    success_of, text_of,
};

const EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// Between two looks at a task.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A task that a test is done with before it is.
const LONG: u64 = 600;

fn declared() -> Value {
    json!({"extensions": {EXTENSION: {}}, "elicitation": {}})
}

/// A gateway before one reference server in one era.
async fn gateway_before(era: &str) -> (Reference, TestGateway) {
    let reference = Reference::start(&["--era", era]);
    let gateway = TestGateway::start().with_http_upstream("reference", &reference.url()).with_key().await;
    gateway.mcp().lists(&["test_changing_tool"]).await;
    (reference, gateway)
}

/// Calls a tool, which becomes a task: its id.
async fn begin(mcp: &Mcp, name: &str, arguments: Value) -> String {
    let result = mcp.call(name, arguments).await;
    assert_eq!(result["resultType"], "task", "{result}");
    result["taskId"].as_str().expect("an id").to_owned()
}

async fn about(mcp: &Mcp, method: &str, id: &str) -> Exchange {
    mcp.modern(method, json!({"taskId": id})).await
}

/// The task when it has this status.
async fn becomes(mcp: &Mcp, id: &str, status: &str) -> Value {
    let look = async {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        loop {
            ticks.tick().await;
            let task = about(mcp, "tasks/get", id).await.result().await;
            assert_eq!((&task["taskId"], &task["resultType"]), (&json!(id), &json!("complete")), "{task}");
            if task["status"] == status {
                return task;
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("the task comes to it in time")
}

#[tokio::test]
async fn two_upstreams_with_equal_task_ids_run_each_its_own() {
    let over_http = Reference::start(&["--era", "modern"]);
    let script = script();
    let words = Reference::over_stdio(&script, &["--era", "modern"]);
    let gateway = TestGateway::start()
        .alone("each replica has a child of its own")
        .with_http_upstream("first", &over_http.url())
        .with_stdio_upstream("second", "node", &words)
        .with_key()
        .await;
    let mcp = gateway.mcp().declaring(declared());
    let named = |names: &[String]| -> Vec<String> {
        names.iter().filter(|name| name.starts_with("slow_compute")).cloned().collect()
    };
    let tools = named(&mcp.lists_become(|names| named(names).len() == 2).await);
    let mut ids = Vec::new();
    for tool in &tools {
        ids.push(begin(&mcp, tool, json!({"seconds": 0, "label": tool})).await);
    }
    assert_ne!(ids[0], ids[1]);
    for (id, tool) in ids.iter().zip(&tools) {
        // Both servers call their first task so.
        assert!(!id.contains("task-1"), "{id}");
        let task = becomes(&mcp, id, "completed").await;
        assert_eq!(success_of(&task["result"]), format!("computed {tool}"));
    }
}

#[tokio::test]
async fn a_task_belongs_to_the_key_that_began_it_t21() {
    let (_reference, gateway) = gateway_before("modern").await;
    let mcp = gateway.mcp().declaring(declared());
    let (other, _) = gateway.mcp_with("other", json!({})).await;
    let other = other.declaring(declared());
    let id = begin(&mcp, "slow_compute", json!({"seconds": LONG})).await;
    let theirs = begin(&other, "slow_compute", json!({"seconds": LONG})).await;
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let foreign = about(&other, method, &id).await.answer().await;
        assert_eq!(foreign["error"]["code"], -32602, "{method}: {foreign}");
        // What the upstream calls it, and what nobody calls anything.
        for unknown in ["task-1", "made-up", &id[1..]] {
            assert_eq!(about(&other, method, unknown).await.answer().await, foreign, "{method}: {unknown}");
        }
    }
    assert_eq!(about(&mcp, "tasks/get", &id).await.result().await["status"], "working");
    assert_eq!(about(&other, "tasks/cancel", &theirs).await.result().await["resultType"], "complete");
    becomes(&other, &theirs, "cancelled").await;
    assert_eq!(about(&mcp, "tasks/get", &id).await.result().await["status"], "working");
    let refused = mcp.modern("tasks/get", json!({})).await.refusal().await;
    assert_eq!(refused, (200, -32602));
}

#[tokio::test]
async fn a_task_at_an_upstream_that_its_key_no_longer_sees_is_unknown() {
    let references = [Reference::start(&["--era", "modern"]), Reference::start(&["--era", "modern"])];
    let gateway = TestGateway::start()
        .with_http_upstream("first", &references[0].url())
        .with_http_upstream("second", &references[1].url())
        .with_key()
        .await;
    gateway
        .mcp()
        .lists_become(|names| names.iter().filter(|name| name.starts_with("greet")).count() == 2)
        .await;
    let admin = gateway.admin().await;
    let (first, second) = (admin.upstream_id("first").await, admin.upstream_id("second").await);
    let (mcp, key) = gateway.mcp_with("narrow", json!({"upstreamIds": [first]})).await;
    let mcp = mcp.declaring(declared());
    let tool = mcp.lists_become(|names| names.iter().any(|name| name.starts_with("slow_compute"))).await;
    let tool = tool.iter().find(|name| name.starts_with("slow_compute")).expect("it is listed");
    let id = begin(&mcp, tool, json!({"seconds": LONG})).await;
    let path = format!("keys/{key}");
    let answer = admin.request(Method::GET, &path).send().await.expect("an answer");
    let etag = answer.headers()["etag"].to_str().expect("ASCII").to_owned();
    let (status, body) = admin.patch(&path, &etag, &json!({"upstreamIds": [second]})).await;
    assert!(status.is_success(), "{status} {body}");
    let look = async {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        while about(&mcp, "tasks/get", &id).await.answer().await["error"]["code"] != -32602 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("the change takes effect in time");
}

#[tokio::test]
async fn a_task_outlives_the_gateway_that_began_it() {
    let reference = Reference::start(&["--era", "modern"]);
    let mut gateway = TestGateway::start().with_http_upstream("reference", &reference.url()).with_key().await;
    gateway.mcp().lists(&["confirm_delete"]).await;
    let id = begin(&gateway.mcp().declaring(declared()), "confirm_delete", json!({"filename": "f"})).await;
    gateway.kill_9().await;
    gateway.start_again().await;
    let mcp = gateway.mcp().declaring(declared());
    let task = becomes(&mcp, &id, "input_required").await;
    assert_eq!(task["inputRequests"]["confirm"]["method"], "elicitation/create", "{task}");
    let answer = json!({"confirm": {"action": "accept", "content": {"confirm": true}}});
    let updated = mcp.modern("tasks/update", json!({"taskId": id, "inputResponses": answer})).await;
    let updated = updated.result().await;
    assert_eq!((&updated["resultType"], updated.get("taskId")), (&json!("complete"), None));
    assert_eq!(text_of(&becomes(&mcp, &id, "completed").await["result"]), "deleted f");
}

#[tokio::test]
async fn a_listener_hears_of_its_own_tasks_and_of_no_others() {
    let (_reference, gateway) = gateway_before("modern").await;
    let mcp = gateway.mcp().declaring(declared());
    let (other, _) = gateway.mcp_with("other", json!({})).await;
    let other = other.declaring(declared());
    let ids = [
        begin(&mcp, "confirm_delete", json!({"filename": "a"})).await,
        begin(&mcp, "confirm_delete", json!({"filename": "b"})).await,
    ];
    let theirs = begin(&other, "confirm_delete", json!({"filename": "c"})).await;
    let filter = json!({"taskIds": [ids[0], theirs, "made-up", ids[0]]});
    let mut stream = mcp.modern("subscriptions/listen", json!({"notifications": filter})).await;
    let acknowledged = stream.expect().await;
    assert_eq!(acknowledged["params"]["notifications"], json!({"taskIds": [ids[0]]}), "{acknowledged}");
    let answer = json!({"confirm": {"action": "decline"}});
    for (mcp, id) in [(&other, &theirs), (&mcp, &ids[1]), (&mcp, &ids[0])] {
        becomes(mcp, id, "input_required").await;
        let params = json!({"taskId": id, "inputResponses": answer});
        mcp.modern("tasks/update", params).await.result().await;
        becomes(mcp, id, "completed").await;
    }
    // Of two changes at once the later is told.
    let mut told = stream.expect().await;
    if told["params"]["status"] == "working" {
        told = stream.expect().await;
    }
    assert_eq!(told["method"], "notifications/tasks", "{told}");
    let params = &told["params"];
    assert_eq!((&params["taskId"], &params["status"]), (&json!(ids[0]), &json!("completed")), "{told}");
    assert_eq!(params["_meta"], json!({format!("{META}subscriptionId"): 1}));
    assert_eq!(text_of(&params["result"]), "kept a");
}

#[tokio::test]
async fn tasks_pass_on_every_transport_of_clients() {
    let (_reference, gateway) = gateway_before("modern").await;
    let meta = || json!({format!("{META}clientCapabilities"): declared()});
    for transport in TRANSPORTS {
        let mut line = Line::open(transport, &gateway).await;
        let call = json!({"name": "confirm_delete", "arguments": {"filename": "f"}, "_meta": meta()});
        line.modern(1, "tools/call", call).await;
        let id = line.answer(1).await.1["result"]["taskId"].clone();
        line.modern(2, "subscriptions/listen", json!({"notifications": {"taskIds": [id]}, "_meta": meta()}))
            .await;
        let acknowledged = line.expect().await;
        assert_eq!(acknowledged["params"]["notifications"], json!({"taskIds": [id]}), "{transport}");
        line.modern(3, "tasks/cancel", json!({"taskId": id, "_meta": meta()})).await;
        // The answer and the word of it may come in either order.
        let messages = [line.expect().await, line.expect().await];
        let told = messages.iter().find(|message| message["method"] == "notifications/tasks");
        let told = told.unwrap_or_else(|| panic!("{transport}: {messages:?}"));
        assert_eq!((&told["params"]["taskId"], &told["params"]["status"]), (&id, &json!("cancelled")));
        line.modern(4, "tasks/get", json!({"taskId": id})).await;
        assert_eq!(line.answer(4).await.1["error"]["code"], -32021, "{transport}: it didn't declare it");
    }
}

#[tokio::test]
async fn who_does_not_declare_the_extension_gets_no_task() {
    let (_reference, gateway) = gateway_before("modern").await;
    let mcp = gateway.mcp();
    let required = json!({"extensions": {EXTENSION: {}}});
    assert_eq!(success_of(&mcp.call("slow_compute", json!({"seconds": 0})).await), "computed");
    let mut refused = vec![about(&mcp, "tasks/get", "made-up").await];
    let filter = json!({"notifications": {"taskIds": ["made-up"]}});
    refused.push(mcp.modern("subscriptions/listen", filter).await);
    refused.push(mcp.modern("tools/call", json!({"name": "failing_job", "arguments": {}})).await);
    for exchange in refused {
        let status = exchange.status().as_u16();
        let error = exchange.answer().await["error"].clone();
        assert_eq!((status, &error["code"]), (400, &json!(-32021)), "{error}");
        assert_eq!(error["data"]["requiredCapabilities"], required);
    }
}

#[tokio::test]
async fn the_extension_is_offered_where_an_upstream_has_it_and_nowhere_else() {
    for (era, offered) in [("modern", json!({EXTENSION: {}})), ("legacy", Value::Null)] {
        let (_reference, gateway) = gateway_before(era).await;
        let mcp = gateway.mcp().declaring(declared());
        let result = mcp.modern("server/discover", json!({})).await.result().await;
        assert_eq!(result["capabilities"]["extensions"], offered, "{era}");
        assert_eq!(result["capabilities"]["tasks"], Value::Null, "{era}");
        for method in ["tasks/list", "tasks/result"] {
            assert_eq!(about(&mcp, method, "made-up").await.refusal().await, (404, -32601), "{era}");
        }
        let expected = if era == "modern" { (200, -32602) } else { (404, -32601) };
        assert_eq!(about(&mcp, "tasks/get", "made-up").await.refusal().await, expected, "{era}");
    }
}

#[tokio::test]
async fn a_modern_client_meets_no_task_at_a_legacy_upstream() {
    let (_reference, gateway) = gateway_before("legacy").await;
    let mcp = gateway.mcp().declaring(declared());
    let tools = mcp.tools().await;
    assert!(tools.iter().all(|tool| tool.get("execution").is_none()), "it means nothing to such a client");
    assert!(!tools.iter().any(|tool| tool["name"] == "failing_job"), "it can be called as a task only");
    let failing = json!({"name": "failing_job", "arguments": {}});
    assert_eq!(mcp.modern("tools/call", failing).await.refusal().await, (200, -32602));
    let params = json!({"name": "slow_compute", "arguments": {"seconds": 0}, "task": {"ttl": 1000}});
    let result = mcp.modern("tools/call", params).await.result().await;
    assert_eq!((success_of(&result), &result["resultType"]), ("computed", &json!("complete")));
}

#[tokio::test]
async fn a_legacy_client_meets_no_task_at_a_modern_upstream() {
    let (_reference, gateway) = gateway_before("modern").await;
    // Even one that says it knows the extension, and asks for tasks of its own era.
    let session = gateway.mcp().initialize_with(LEGACY_LATEST, declared()).await;
    assert_eq!(session.result()["capabilities"]["tasks"], Value::Null);
    let params = json!({"name": "slow_compute", "arguments": {"seconds": 0}, "task": {"ttl": 1000}});
    let result = session.request("tools/call", params).await.result().await;
    assert_eq!((success_of(&result), result.get("task")), ("computed", None));
    let failing = session.call("failing_job", json!({})).await;
    assert_eq!(failing["isError"], true, "{failing}");
    let refused = session.request("tasks/list", json!({})).await.refusal().await;
    assert_eq!(refused, (200, -32601));
}
