//! Answers that are none, or aren't to what was asked, over every transport: the call that got one fails with
//! a name, or takes the good one that came with it, and nobody else notices (F04, T20).

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{
    GATEWAY_ERROR, HOSTILE_TRANSPORTS, Hostile, LEGACY_LATEST, Mcp, Peer, Scene, TestGateway, success_of,
};

/// What a server may say in the place of an answer; `$ID` stands for the right id.
const BAD: [&str; 41] = [
    "",
    " ",
    "}{ not json",
    "nul",
    "null",
    "true",
    "0",
    "\"$ID\"",
    "[]",
    "[[]]",
    "[1,2,3]",
    "{}",
    r#"{"jsonrpc":"2.0"}"#,
    r#"{"jsonrpc":"2.0","id":$ID}"#,
    r#"{"jsonrpc":"2.0","result":{}}"#,
    r#"{"id":$ID,"result":{"content":[]}}"#,
    r#"{"jsonrpc":"1.0","id":$ID,"result":{"content":[]}}"#,
    r#"{"jsonrpc":2.0,"id":$ID,"result":{"content":[]}}"#,
    r#"{"jsonrpc":"2.0","id":"$ID","result":{"content":[]}}"#,
    r#"{"jsonrpc":"2.0","id":-$ID,"result":{"content":[]}}"#,
    r#"{"jsonrpc":"2.0","id":$ID.5,"result":{"content":[]}}"#,
    r#"{"jsonrpc":"2.0","id":$ID0,"result":{"content":[]}}"#,
    r#"{"jsonrpc":"2.0","id":99999999999999999999999999,"result":{"content":[]}}"#,
    r#"{"jsonrpc":"2.0","id":null,"result":{"content":[]}}"#,
    r#"{"jsonrpc":"2.0","id":[$ID],"result":{"content":[]}}"#,
    r#"{"jsonrpc":"2.0","id":{"id":$ID},"result":{"content":[]}}"#,
    r#"{"jsonrpc":"2.0","id":true,"result":{"content":[]}}"#,
    r#"{"jsonrpc":"2.0","id":$ID,"id":1,"result":{"content":[]}}"#,
    r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[]},"error":{"code":1,"message":"both"}}"#,
    r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[}}"#,
    r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[]}"#,
    r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[]}}}"#,
    r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[]}} {"#,
    r#"{"jsonrpc":"2.0","id":$ID,"result":null}"#,
    r#"{"jsonrpc":"2.0","id":$ID,"result":[]}"#,
    r#"{"jsonrpc":"2.0","id":$ID,"result":"text"}"#,
    r#"{"jsonrpc":"2.0","id":$ID,"error":"no object"}"#,
    r#"{"jsonrpc":"2.0","id":$ID,"error":{}}"#,
    r#"{"jsonrpc":"2.0","id":$ID,"method":"tools/call","result":{"content":[]}}"#,
    r#"{"jsonrpc":"2.0","method":5,"params":{}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":{},"progress":"x"}}"#,
];

/// Those that are JSON-RPC and have the right id, but nothing that a client could read.
const TAKEN: [&str; 4] = [
    r#"{"jsonrpc":"2.0","id":$ID,"result":null}"#,
    r#"{"jsonrpc":"2.0","id":$ID,"result":[]}"#,
    r#"{"jsonrpc":"2.0","id":$ID,"result":"text"}"#,
    r#"{"jsonrpc":"2.0","id":$ID,"error":{}}"#,
];

/// Before a healthy peer and the hostile one over every transport.
async fn gateway(hostile: &Hostile, healthy: &Peer) -> TestGateway {
    gateway_of(TestGateway::start(), hostile, healthy).await
}

async fn gateway_of(scene: Scene, hostile: &Hostile, healthy: &Peer) -> TestGateway {
    let mut scene = scene.with_peer("healthy", healthy);
    for transport in HOSTILE_TRANSPORTS {
        scene = scene.with_upstream(hostile.upstream(transport, transport, "good"));
    }
    let gateway = scene.with_key().await;
    let names = HOSTILE_TRANSPORTS.map(|transport| format!("{transport}_says"));
    gateway.mcp().lists(&names.each_ref().map(String::as_str)).await;
    gateway.mcp().lists(&["echo", "wait"]).await;
    gateway
}

async fn says(mcp: &Mcp, transport: &str, texts: &[&str]) -> Value {
    mcp.call(&format!("{transport}_says"), json!({"texts": texts})).await
}

/// A good answer with this text.
fn good(text: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#)
}

#[tokio::test]
async fn what_is_no_answer_fails_its_call_alone_f04() {
    let (hostile, healthy) = (Hostile::start(), Peer::start().await);
    let gateway = gateway(&hostile, &healthy).await;
    let mcp = gateway.mcp();
    for transport in HOSTILE_TRANSPORTS {
        let mut calls = JoinSet::new();
        for bad in BAD {
            let mcp = mcp.clone();
            calls.spawn(async move { (bad, says(&mcp, transport, &[bad]).await) });
        }
        let fine = mcp.call("echo", json!({"message": transport})).await;
        assert_eq!(success_of(&fine), format!("echo: {transport}"));
        for (bad, result) in calls.join_all().await {
            let code = &result["_meta"][GATEWAY_ERROR]["code"];
            let is_named = ["UPSTREAM_ANSWER_INVALID", "UPSTREAM_CLOSED", "UPSTREAM_TIMEOUT"]
                .iter()
                .any(|name| code == name);
            assert!(is_named, "{transport}: {bad} has become {result}");
            assert_eq!(result["_meta"][GATEWAY_ERROR]["upstream"], transport, "{bad}");
        }
        // The connection is as good as before.
        assert_eq!(success_of(&says(&mcp, transport, &[&good("well")]).await), "well", "{transport}");
    }
}

#[tokio::test]
async fn a_good_answer_counts_once_whatever_is_said_around_it_f04() {
    let (hostile, healthy) = (Hostile::start(), Peer::start().await);
    let scene = TestGateway::start().alone("each replica counts what it drops");
    let gateway = gateway_of(scene, &hostile, &healthy).await;
    let mcp = gateway.mcp();
    for transport in HOSTILE_TRANSPORTS.into_iter().filter(|transport| *transport != "json") {
        let (first, second) = (good("first"), good("second"));
        // Whether an answer under the right id is of any use is seen when it was taken for it.
        let bad = || BAD.into_iter().filter(|bad| !TAKEN.contains(bad));
        let around: Vec<&str> = bad().chain([&*first, &*second, &*first]).chain(bad()).collect();
        let result = says(&mcp, transport, &around).await;
        assert_eq!(success_of(&result), "first", "{transport}");
        // What came too late belongs to nobody.
        for text in ["next", "and the next"] {
            assert_eq!(success_of(&says(&mcp, transport, &[&good(text)]).await), text, "{transport}");
        }
    }
    let list = gateway.admin().await.get("upstreams").await.1;
    for upstream in list["items"].as_array().unwrap().iter().filter(|one| one["name"] != "healthy") {
        let had = upstream["droppedLines"].as_u64() > Some(0) || upstream["name"] == "json";
        assert!(had, "what was dropped is counted: {upstream}");
    }
}

#[tokio::test]
async fn an_answer_in_the_smallest_pieces_is_put_together() {
    let (hostile, healthy) = (Hostile::start(), Peer::start().await);
    let gateway = gateway(&hostile, &healthy).await;
    for transport in HOSTILE_TRANSPORTS {
        let nonce = json!({"nonce": "grüß, \"Ada\""});
        let result = gateway.mcp().call(&format!("{transport}_pieces"), nonce).await;
        assert_eq!(success_of(&result), "grüß, \"Ada\"", "{transport}");
    }
}

#[tokio::test]
async fn answers_find_their_calls_in_any_order() {
    const CALLS: usize = 50;
    let (hostile, healthy) = (Hostile::start(), Peer::start().await);
    let gateway = gateway(&hostile, &healthy).await;
    for transport in HOSTILE_TRANSPORTS.into_iter().filter(|transport| *transport != "stdio") {
        let mut calls = JoinSet::new();
        for number in 0..CALLS {
            let (mcp, name) = (gateway.mcp(), format!("{transport}_hold"));
            let nonce = format!("call {number}");
            let arguments = json!({"count": CALLS, "nonce": nonce});
            calls.spawn(async move { (nonce, mcp.call(&name, arguments).await) });
        }
        for (nonce, result) in calls.join_all().await {
            assert_eq!(success_of(&result), nonce, "{transport}");
        }
    }
}

#[tokio::test]
async fn an_upstream_that_guesses_ids_answers_no_call_of_another_t20() {
    let (hostile, healthy) = (Hostile::start(), Peer::start().await);
    let gateway = gateway(&hostile, &healthy).await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let mut waiting = JoinSet::new();
    for number in 0..20 {
        let session = session.clone();
        let canary = format!("canary {number}");
        let arguments = json!({"canary": canary});
        waiting.spawn(async move { (canary, session.call("wait", arguments).await) });
    }
    healthy.counts_reach(|counts| counts.parked == 20).await;
    for transport in HOSTILE_TRANSPORTS {
        let arguments = json!({"around": 100, "nonce": "its own"});
        let result = gateway.mcp().call(&format!("{transport}_guesses"), arguments).await;
        // The one body of a `json` answer went to another.
        match transport {
            "json" => assert_eq!(result["_meta"][GATEWAY_ERROR]["code"], "UPSTREAM_ANSWER_INVALID"),
            _ => assert_eq!(success_of(&result), "its own", "{transport}"),
        }
    }
    assert_eq!(healthy.counts().parked, 20, "nobody was answered by another");
    healthy.release_in_reverse();
    for (canary, result) in waiting.join_all().await {
        assert_eq!(success_of(&result), canary);
    }
}

#[tokio::test]
async fn an_answer_of_any_depth_passes_or_is_refused_and_harms_nobody() {
    let (hostile, healthy) = (Hostile::start(), Peer::start().await);
    let gateway = gateway(&hostile, &healthy).await;
    let deep = good("deep").replace(
        r#""result":{"#,
        &format!(r#""result":{{"structuredContent":{{"a":{}{}}},"#, "[".repeat(100_000), "]".repeat(100_000)),
    );
    for transport in HOSTILE_TRANSPORTS {
        let mcp = gateway.mcp();
        let params = json!({"name": format!("{transport}_says"), "arguments": {"texts": [deep]}});
        // As bytes: not even a test's parser takes it.
        let answer = mcp.modern("tools/call", params).await.bytes().await;
        let answer = String::from_utf8(answer).unwrap();
        let passed = answer.contains("[[[[") && answer.contains("deep");
        assert!(passed || answer.contains("UPSTREAM_"), "{transport}: {} bytes", answer.len());
        assert_eq!(success_of(&mcp.call("echo", json!({"message": "x"})).await), "echo: x", "{transport}");
    }
}
