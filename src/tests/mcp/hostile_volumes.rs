//! Messages, lists and streams without end, over every transport: the call or the list fails with a name, the
//! gateway's memory stays bounded, and another upstream's calls go on as ever (F01, F05, T30).

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{
    GATEWAY_ERROR, HOSTILE_TRANSPORTS, Hostile, LEGACY_LATEST, Mcp, PATIENCE, Peer, TestGateway, success_of,
};

const MIB: u64 = 1024 * 1024;

/// What the gateway may grow by while something without end comes. The largest message is 16 MiB; a buffer that
/// grows is copied into one of twice its size, and what was let go of stays with the process for a moment.
const GROWTH_MAX: u64 = 96 * MIB;
/// The same for a list, of which 64 MiB are taken, in one piece where the transport has no smaller limit.
const LIST_GROWTH_MAX: u64 = 256 * MIB;
/// In which time a healthy server is called, whatever its neighbours do: a debug build on a busy machine.
const HEALTHY_MAX: Duration = Duration::from_secs(2);

/// Calls the healthy server, again and again, until it is dropped; the slowest call.
async fn keep_calling(mcp: Mcp, stop: tokio_util::sync::CancellationToken) -> Duration {
    let mut slowest = Duration::ZERO;
    while !stop.is_cancelled() {
        let started = Instant::now();
        assert_eq!(success_of(&mcp.call("echo", json!({"message": "x"})).await), "echo: x");
        slowest = slowest.max(started.elapsed());
    }
    slowest
}

/// Does `work` while the healthy server is being called: what it says, the slowest of the calls, and by how
/// much the gateway grew.
async fn beside_healthy<T>(gateway: &TestGateway, work: impl Future<Output = T>) -> (T, Duration, u64) {
    let (stop, before) = (tokio_util::sync::CancellationToken::new(), gateway.memory_peak());
    let mut calling = JoinSet::new();
    calling.spawn(keep_calling(gateway.mcp().apart(), stop.clone()));
    let outcome = work.await;
    stop.cancel();
    let slowest = calling.join_next().await.expect("it was started").expect("the healthy server answers");
    // The kernel counts each thread's pages apart and adds them up now and then: it may seem less.
    (outcome, slowest, gateway.memory_peak().saturating_sub(before))
}

fn code(result: &Value) -> &str {
    result["_meta"][GATEWAY_ERROR]["code"].as_str().unwrap_or_else(|| panic!("no failure: {result}"))
}

/// Before the healthy server and, for each transport, a hostile one that fails apart from the others.
async fn gateway(hostile: &Hostile, healthy: &Peer, tool: &str) -> TestGateway {
    let total = if tool == "flood" { 2 } else { PATIENCE.as_secs() };
    let mut scene = TestGateway::start()
        .alone("it looks at the memory of one process")
        .with_setting("mcp_api", "response_body_max_mib", 16)
        .with_setting("aggregation", "call_total_timeout_s", total)
        .with_peer("healthy", healthy);
    for transport in HOSTILE_TRANSPORTS {
        let mut body = hostile.upstream(transport, transport, "good");
        body["callTimeoutS"] = (total / 2).into();
        scene = scene.with_upstream(body);
    }
    let gateway = scene.with_key().await;
    let names = HOSTILE_TRANSPORTS.map(|transport| format!("{transport}_{tool}"));
    gateway.mcp().lists(&names.each_ref().map(String::as_str)).await;
    gateway.mcp().lists(&["echo"]).await;
    // The healthy server's connections and buffers are there before anything is measured.
    for _ in 0..20 {
        gateway.mcp().call("echo", json!({"message": "x"})).await;
    }
    gateway
}

#[tokio::test]
async fn an_answer_without_end_fails_its_call_and_memory_stays_bounded_t30() {
    let (hostile, healthy) = (Hostile::start(), Peer::start().await);
    let gateway = gateway(&hostile, &healthy, "endless").await;
    for transport in HOSTILE_TRANSPORTS {
        let call = async { gateway.mcp().call(&format!("{transport}_endless"), json!({})).await };
        let (result, slowest, growth) = beside_healthy(&gateway, call).await;
        // Where all calls share a connection it can't be read on behind such a message.
        let expected = match transport {
            "http" | "json" => "UPSTREAM_ANSWER_TOO_LARGE",
            _ => "UPSTREAM_CLOSED",
        };
        assert_eq!(code(&result), expected, "{transport}: {result}");
        assert!(slowest < HEALTHY_MAX, "{transport}: {slowest:?}");
        assert!(growth < GROWTH_MAX, "{transport}: {growth} bytes");
    }
}

#[tokio::test]
async fn half_an_answer_fails_its_call_at_once() {
    let (hostile, healthy) = (Hostile::start(), Peer::start().await);
    let gateway = gateway(&hostile, &healthy, "half").await;
    for transport in HOSTILE_TRANSPORTS {
        let started = Instant::now();
        let result = gateway.mcp().call(&format!("{transport}_half"), json!({})).await;
        assert_eq!(code(&result), "UPSTREAM_CLOSED", "{transport}: {result}");
        assert!(started.elapsed() < PATIENCE / 2, "{transport}: {:?}", started.elapsed());
        // It is connected anew.
        let texts = json!({"texts": [r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[]}}"#]});
        let result = gateway.mcp().call(&format!("{transport}_says"), texts).await;
        assert_eq!(result["content"], json!([]), "{transport}: {result}");
    }
}

#[tokio::test]
async fn messages_without_end_end_their_call_and_hold_up_nobody_t30() {
    let (hostile, healthy) = (Hostile::start(), Peer::start().await);
    let gateway = gateway(&hostile, &healthy, "flood").await;
    let notification =
        |method: &str, params: &str| format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#);
    let floods = [
        notification("notifications/message", r#"{"level":"info","data":"again"}"#),
        notification("notifications/tools/list_changed", "{}"),
        notification("notifications/progress", r#"{"progressToken":$ID,"progress":1}"#),
        notification("notifications/cancelled", r#"{"requestId":1}"#),
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned(),
        "not even JSON".to_owned(),
    ];
    for flood in &floods {
        // One after the other, each over all transports at once: they last until the call has had its time.
        let calls = futures::future::join_all(HOSTILE_TRANSPORTS.map(async |transport| {
            let params = json!({
                "name": format!("{transport}_flood"), "arguments": {"text": flood},
                "_meta": {"progressToken": "mine"},
            });
            let session = gateway.mcp().initialize(LEGACY_LATEST).await;
            (transport, session.request("tools/call", params).await.answer().await)
        }));
        let (answers, slowest, growth) = beside_healthy(&gateway, calls).await;
        for (transport, answer) in answers {
            let is_named = answer["error"].is_object() || !code(&answer["result"]).is_empty();
            assert!(is_named, "{transport}, {flood}: {answer}");
        }
        assert!(slowest < HEALTHY_MAX, "{flood}: {slowest:?}");
        assert!(growth < GROWTH_MAX, "{flood}: {growth} bytes");
    }
}

#[tokio::test]
async fn a_list_without_end_is_refused_by_name_and_no_other_is_t30() {
    let (hostile, healthy) = (Hostile::start(), Peer::start().await);
    let mut scene = TestGateway::start()
        .alone("each replica reports what it found itself")
        .with_setting("sync", "timeout_s", 20)
        .with_peer("healthy", &healthy);
    let lists = [
        ("endless", "more than 1000 pages"),
        ("repeated", "a cursor came twice"),
        ("garbage", "not an array"),
        ("half", ""),
        ("huge", ""),
    ];
    for (list, _) in lists {
        for transport in HOSTILE_TRANSPORTS {
            let mut body = hostile.upstream(&format!("{transport}_{list}"), transport, list);
            // One by one, when the test asks for it.
            body["autoSync"] = false.into();
            scene = scene.with_upstream(body);
        }
    }
    let gateway = scene.with_key().await;
    gateway.mcp().lists(&["echo"]).await;
    let admin = gateway.admin().await;
    for (list, reason) in lists {
        for transport in HOSTILE_TRANSPORTS {
            let id = admin.upstream_id(&format!("{transport}_{list}")).await;
            let sync = async { admin.post(&format!("upstreams/{id}/sync"), &json!({})).await };
            let ((status, answer), slowest, growth) = beside_healthy(&gateway, sync).await;
            assert!(!status.is_success(), "{transport}, {list}: {answer}");
            assert!(answer.to_string().contains(reason), "{transport}, {list}: {answer}");
            assert!(slowest < HEALTHY_MAX, "{transport}, {list}: {slowest:?}");
            let growth_max = if list == "huge" { LIST_GROWTH_MAX } else { GROWTH_MAX };
            assert!(growth < growth_max, "{transport}, {list}: {growth} bytes");
        }
    }
    let names = gateway.mcp().tool_names().await;
    assert!(!names.iter().any(|name| name.contains("again") || name.contains("huge")), "{names:?}");
}
