//! Statistics of a whole gateway: every call is in the sums, and the REST API tells them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::harness::{Admin, PATIENCE, Peer, TestGateway, success_of};

/// How many calls, and how many a second: a run of `60000` at `1000` is what is promised.
const CALLS: (&str, u32) = ("MPG_TEST_STATISTICS_CALLS", 300);
const RATE: (&str, u32) = ("MPG_TEST_STATISTICS_RATE", 150);

/// How often calls are begun: as many at once as the rate makes in that time.
const BATCH: Duration = Duration::from_millis(20);

fn wanted((name, default): (&str, u32)) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Asks until as many calls are in the sums; answers what is told then.
async fn summary_with(admin: &Admin, calls: u32) -> Value {
    let look = async {
        let mut ticks = interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            let (status, summary) = admin.get("stats/summary").await;
            assert_eq!(status, 200, "{summary}");
            if summary["calls"].as_u64().expect("a number") >= u64::from(calls) {
                return summary;
            }
        }
    };
    timeout(PATIENCE, look).await.expect("the calls are in the sums")
}

fn points(series: &Value) -> u64 {
    series["points"]
        .as_array()
        .expect("points")
        .iter()
        .map(|point| point["calls"].as_u64().expect("a number"))
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_in_the_sums() {
    let (calls, rate) = (wanted(CALLS), wanted(RATE));
    let peer = Peer::start().await;
    let gateway = TestGateway::start().with_peer("peer", &peer).with_key().await;
    let mcp = gateway.mcp();
    mcp.lists(&["echo"]).await;

    let at_once = (rate * u32::try_from(BATCH.as_millis()).expect("short") / 1_000).max(1);
    let mut due = interval(BATCH);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut running, mut begun) = (JoinSet::new(), 0);
    while begun < calls {
        due.tick().await;
        for _ in 0..at_once.min(calls - begun) {
            let mcp = mcp.apart();
            running.spawn(async move {
                success_of(&mcp.call("echo", json!({"message": "hello"})).await);
            });
            begun += 1;
        }
        while let Some(ended) = running.try_join_next() {
            ended.expect("the call is answered");
        }
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("the call is answered");
    }

    let admin = gateway.admin().await;
    let summary = summary_with(&admin, calls).await;
    assert_eq!((&summary["calls"], &summary["errors"]), (&json!(calls), &json!(0)), "{summary}");
    assert_eq!(summary["outcomes"]["ok"], calls);
    let [p50, p95, p99] = ["p50Ms", "p95Ms", "p99Ms"].map(|name| summary[name].as_f64().expect("a number"));
    assert!(0.0 < p50 && p50 <= p95 && p95 <= p99, "{summary}");
    for step in ["60", "900", "86400"] {
        let series = admin.get(&format!("stats/timeseries?stepS={step}&tz=%2B05:45")).await.1;
        assert_eq!(points(&series), u64::from(calls), "{step}");
    }
    for (by, name) in [("tool", "echo"), ("upstream", "peer"), ("key", "test")] {
        let ranking = admin.get(&format!("stats/ranking?by={by}")).await.1;
        let first = &ranking["items"][0];
        assert_eq!((&ranking["total"], &first["count"]), (&json!(1), &json!(calls)), "{ranking}");
        assert!(by == "key" || first["name"] == name, "{ranking}");
        assert!(first["id"].is_string() && first["name"].is_string(), "{ranking}");
    }
    let listed = admin.get("stats/calls?name=echo&limit=1").await.1;
    assert_eq!(listed["total"], calls.min(100_000));
    assert_eq!(
        (&listed["items"][0]["upstreamName"], &listed["items"][0]["outcome"]),
        (&json!("peer"), &json!("ok"))
    );
}

#[tokio::test]
async fn nothing_is_recorded_while_statistics_are_off() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start()
        .with_peer("peer", &peer)
        .with_key()
        .with_setting("statistics", "enabled", false)
        .await;
    let mcp = gateway.mcp();
    mcp.lists(&["echo"]).await;
    success_of(&mcp.call("echo", json!({"message": "unseen"})).await);
    let admin = gateway.admin().await;
    // Switched on while it runs, it begins with the next call: the one before stays unseen.
    let version = admin.request(reqwest::Method::GET, "settings").send().await.expect("an answer");
    let version = version.headers()["etag"].to_str().expect("text").to_owned();
    let (status, _) = admin.patch("settings", &version, &json!({"statistics": {"enabled": true}})).await;
    assert_eq!(status, 200);
    let look = async {
        let mut ticks = interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            // Several: where there are replicas, each learns of the change by itself.
            success_of(&mcp.call("echo", json!({"message": "seen"})).await);
            let (_, calls) = admin.get("stats/calls").await;
            if calls["total"] != 0 {
                return calls;
            }
        }
    };
    let calls = timeout(PATIENCE, look).await.expect("calls are recorded");
    let items = calls["items"].as_array().expect("a list");
    assert!(items.iter().all(|call| call["bytesIn"] == items[0]["bytesIn"]), "{calls}");
}
