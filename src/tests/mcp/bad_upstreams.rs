//! Servers that are dead, hang, die in the middle, or talk nonsense: it is their call that fails, with
//! their name on it, once, and nobody else's (F01, F02, F04, T30).

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{
    Fault, Faulty, GATEWAY_ERROR, Hanging, LEGACY_LATEST, Mcp, Peer, Process, Reference, TestGateway,
    dead_url, script, send, success_of, text_of,
};

/// In which time a healthy server is listed and called, whatever its neighbours do. A debug build on a busy
/// machine; waiting for one neighbour would take several times as long.
const HEALTHY_MAX: Duration = Duration::from_secs(2);
/// In which time a call fails whose server has gone.
const CRASH_MAX: Duration = Duration::from_secs(1);

/// What a failed call says of its failure, after checking that it is one that a model can act on.
#[track_caller]
fn failure_of(result: &Value) -> &Value {
    assert_eq!(result["isError"], true, "{result}");
    let failure = &result["_meta"][GATEWAY_ERROR];
    let upstream = failure["upstream"].as_str().expect("it is named");
    assert!(failure["retryable"].is_boolean(), "{result}");
    assert!(text_of(result).contains(upstream), "{result}");
    // The name, but never the address.
    assert!(!result.to_string().contains("127.0.0.1"), "{result}");
    failure
}

/// An upstream with the least patience that can be configured.
fn impatient(name: &str, url: &str) -> Value {
    json!({
        "name": name, "transport": "streamable-http", "protocol": "legacy", "callTimeoutS": 1,
        "connParams": {"url": url},
    })
}

#[tokio::test]
async fn from_a_cold_start_a_healthy_server_waits_for_no_dead_or_hanging_one() {
    let hanging = Hanging::start();
    let peer = Peer::start().await;
    let gateway = TestGateway::start()
        .with_http_upstream("hanging", &hanging.url())
        .with_http_upstream("dead", &dead_url())
        .with_stdio_upstream("mute", "sh", &["-c", "exec cat >/dev/null"])
        .with_stdio_upstream("gone", "/no/such/command", &[])
        .with_peer("healthy", &peer)
        .with_key()
        .await;
    let ready = Instant::now();
    gateway.mcp().lists(&["echo"]).await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    assert_eq!(success_of(&session.call("echo", json!({"message": "x"})).await), "echo: x");
    assert!(ready.elapsed() < HEALTHY_MAX, "{:?}", ready.elapsed());
    let list = gateway.admin().await.get("upstreams").await.1;
    for upstream in list["items"].as_array().unwrap() {
        let is_healthy = upstream["name"] == "healthy";
        assert_eq!(upstream["state"] == "available", is_healthy, "{upstream}");
    }
}

#[tokio::test]
async fn what_a_dead_server_had_is_listed_from_the_first_moment_after_a_restart() {
    let mut peer = Peer::start().await;
    let healthy = Peer::named(["healthy".into()]).await;
    let mut gateway =
        TestGateway::start().with_peer("mortal", &peer).with_peer("other", &healthy).with_key().await;
    let listed = gateway.mcp().lists(&["echo", "healthy"]).await;
    gateway.terminate().await;
    peer.crash().await;
    gateway.start_again().await;
    assert_eq!(gateway.mcp().tool_names().await, listed);
    let result = gateway.mcp().call("echo", json!({"message": "x"})).await;
    let failure = failure_of(&result);
    assert_eq!(*failure, json!({"code": "UPSTREAM_UNAVAILABLE", "upstream": "mortal", "retryable": true}));
    let started = Instant::now();
    assert_eq!(success_of(&gateway.mcp().call("healthy", json!({})).await), "healthy got {}");
    assert!(started.elapsed() < HEALTHY_MAX);
    // A call wakes it when it is back.
    peer.come_back().await;
    assert_eq!(peer.counts().calls, 0);
    let result = gateway.mcp().call("echo", json!({"message": "again"})).await;
    assert_eq!(success_of(&result), "echo: again");
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_of_calls_fails_them_at_once_and_is_not_asked_again_f01() {
    for era in ["legacy", "modern"] {
        let mut peer = Peer::start().await;
        let gateway = TestGateway::start()
            .alone("each replica finds out by itself that a server is dead")
            .with_peer_in(era, "mortal", &peer)
            .with_key()
            .await;
        gateway.mcp().lists(&["wait"]).await;
        let session = gateway.mcp().initialize(LEGACY_LATEST).await;
        let mcp = gateway.mcp();
        let mut calls = JoinSet::new();
        calls.spawn(async move { session.call("wait", json!({})).await });
        calls.spawn(async move { mcp.call("wait", json!({})).await });
        peer.counts_reach(|counts| counts.parked == 2).await;
        peer.crash().await;
        let died = Instant::now();
        for result in calls.join_all().await {
            let failure = failure_of(&result);
            assert_eq!(failure["code"], "UPSTREAM_CLOSED", "{era}");
            assert_eq!(failure["upstream"], "mortal");
        }
        assert!(died.elapsed() < CRASH_MAX, "{era}: {:?}", died.elapsed());
        assert!(
            gateway.mcp().tool_names().await.contains(&"wait".to_owned()),
            "{era}: its tools stay listed"
        );
        peer.come_back().await;
        assert_eq!(
            success_of(&gateway.mcp().call("echo", json!({"message": "x"})).await),
            "echo: x",
            "{era}"
        );
        assert_eq!(peer.counts().calls, 3, "{era}: neither call was made again");
    }
}

#[tokio::test]
async fn a_child_that_dies_in_the_middle_of_a_call_fails_it_at_once_f07() {
    let script = script();
    for era in ["legacy", "modern"] {
        let words = Reference::over_stdio(&script, &["--era", era]);
        let gateway = TestGateway::start()
            .alone("each replica has a child of its own")
            .with_stdio_upstream("node", "node", &words)
            .with_key()
            .await;
        gateway.mcp().lists(&["sleep"]).await;
        let params = json!({"name": "sleep", "arguments": {"ms": 3_600_000}});
        let mut calls = JoinSet::new();
        let session = gateway.mcp().initialize(LEGACY_LATEST).await;
        let sleeper = session.clone();
        calls.spawn(async move { sleeper.request("tools/call", params).await.result().await });
        // The pipe keeps the order: who is answered after it was sent, has it behind the sleeping one.
        let mut asked = 0;
        loop {
            asked += 1;
            let counters = session.call("counters", json!({})).await;
            if counters["structuredContent"]["calls"] == asked + 1 {
                break;
            }
        }
        let died = Instant::now();
        let children = gateway.children();
        children.iter().filter(|child| child.command_line.starts_with("node ")).for_each(Process::kill);
        let result = calls.join_next().await.unwrap().unwrap();
        assert_eq!(failure_of(&result)["code"], "UPSTREAM_CLOSED", "{era}");
        assert!(died.elapsed() < CRASH_MAX, "{era}: {:?}", died.elapsed());
        // It is started anew.
        let result = gateway.mcp().call("echo", json!({"message": "x"})).await;
        assert_eq!(success_of(&result), "Echo: x", "{era}");
    }
}

#[tokio::test]
async fn nonsense_fails_the_call_that_got_it_once_and_no_other_f04() {
    let healthy = Peer::start().await;
    let cases = [
        (Fault::CloseBeforeAnswer, "UPSTREAM_CLOSED"),
        (Fault::CloseMidBody, "UPSTREAM_CLOSED"),
        (Fault::EndOfStream, "UPSTREAM_CLOSED"),
        (Fault::Garbage, "UPSTREAM_ANSWER_INVALID"),
        (Fault::NoJsonRpc, "UPSTREAM_ANSWER_INVALID"),
        (Fault::WrongId, "UPSTREAM_ANSWER_INVALID"),
        (Fault::Status500, "UPSTREAM_REFUSED"),
        (Fault::EndlessEvent, "UPSTREAM_ANSWER_TOO_LARGE"),
        (Fault::Silence, "UPSTREAM_TIMEOUT"),
    ];
    let mut faulty = Vec::new();
    let mut scene = TestGateway::start().with_setting("mcp_api", "response_body_max_mib", 1);
    for (fault, _) in cases {
        let upstream = Faulty::start(fault).await;
        let mut body = impatient(&format!("{fault:?}"), &upstream.url());
        body["namePrefix"] = format!("{fault:?}_").into();
        scene = scene.with_upstream(body);
        faulty.push(upstream);
    }
    let gateway = scene.with_peer("healthy", &healthy).with_key().await;
    let mcp = gateway.mcp();
    let names = cases.map(|(fault, _)| format!("{fault:?}_faulty"));
    mcp.lists(&names.each_ref().map(String::as_str)).await;
    mcp.lists(&["echo"]).await;
    for ((fault, code), (name, upstream)) in cases.into_iter().zip(names.iter().zip(&faulty)) {
        let result = mcp.call(name, json!({})).await;
        assert_eq!(failure_of(&result)["code"], code, "{fault:?}: {result}");
        assert_eq!(failure_of(&result)["upstream"], format!("{fault:?}"));
        assert_eq!(upstream.calls(), 1, "{fault:?}: once");
        assert_eq!(
            success_of(&mcp.call("echo", json!({"message": "x"})).await),
            "echo: x",
            "after {fault:?}"
        );
    }
}

#[tokio::test]
async fn calls_of_a_healthy_server_do_not_wait_behind_those_of_a_silent_one() {
    let (silent, healthy) = (Faulty::start(Fault::Silence).await, Peer::start().await);
    let scene =
        TestGateway::start().with_http_upstream("silent", &silent.url()).with_peer("healthy", &healthy);
    let gateway = scene.with_key().await;
    let mcp = gateway.mcp();
    mcp.lists(&["faulty", "echo"]).await;
    let mut hanging = JoinSet::new();
    for _ in 0..200 {
        hanging.spawn(send(mcp.modern_request(1, "tools/call", json!({"name": "faulty", "arguments": {}}))));
    }
    let all_there = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while silent.calls() < 200 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, all_there).await.expect("all are on their way");
    let started = Instant::now();
    assert_eq!(success_of(&mcp.call("echo", json!({"message": "x"})).await), "echo: x");
    assert!(started.elapsed() < HEALTHY_MAX, "{:?}", started.elapsed());
}

/// Calls `echo` and says how often the server was greeted so far.
async fn greetings(mcp: &Mcp, peer: &Peer) -> usize {
    assert_eq!(success_of(&mcp.call("echo", json!({"message": "x"})).await), "echo: x");
    peer.seen_of("initialize").len()
}

#[tokio::test]
async fn a_server_that_forgot_its_session_is_greeted_once_more_and_the_call_made_again() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start()
        .alone("each replica greets a server")
        .with_peer_in("legacy", "forgetful", &peer)
        .with_key()
        .await;
    gateway.mcp().lists(&["echo"]).await;
    let before = greetings(&gateway.mcp(), &peer).await;
    peer.forget_sessions().await;
    assert_eq!(greetings(&gateway.mcp(), &peer).await, before + 1);
    assert_eq!(peer.counts().calls, 2, "the call that met no session was carried out nowhere");
    assert_eq!(greetings(&gateway.mcp(), &peer).await, before + 1);
    // Many at once that meet no session greet once together.
    peer.forget_sessions().await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let mcp = gateway.mcp();
        calls.spawn(async move { mcp.call("echo", json!({"message": "x"})).await });
    }
    for result in calls.join_all().await {
        assert_eq!(success_of(&result), "echo: x");
    }
    assert_eq!(greetings(&gateway.mcp(), &peer).await, before + 2);
}

#[tokio::test]
async fn an_upstream_at_a_forbidden_address_is_never_dialled() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start().with_env("MPG_EGRESS", "public").with_key().await;
    let body = json!({"name": "inside", "transport": "streamable-http", "connParams": {"url": peer.url()}});
    let (status, answer) = gateway.admin().await.post("upstreams", &body).await;
    assert!(!status.is_success() || answer["state"] != "available", "{answer}");
    assert_eq!(peer.seen().len(), 0);
}
