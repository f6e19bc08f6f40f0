//! Calls for tests of statistics.

use std::time::Duration;

use sql::call_records;
use sql::model::settings::Mode;
use sql::model::{
    ApiKeyId, CallBatch, CallMethod, CallOutcome, CallRecord, CallRecordId, CallTransport, Era, Timestamp,
    UpstreamId,
};

use crate::testing::Scene;

/// A minute.
pub(super) const MINUTE: Duration = Duration::from_mins(1);

/// A call that took `ms`.
pub(super) fn call(upstream: UpstreamId, key: ApiKeyId, name: &str, at: Timestamp, ms: u64) -> CallRecord {
    CallRecord {
        at,
        id: CallRecordId::from_i64(0),
        method: CallMethod::CallTool,
        upstream_id: upstream,
        upstream_name: name.to_owned(),
        exposed_name: name.to_owned(),
        key_id: key,
        transport: CallTransport::StreamableHttp,
        era: Era::Modern,
        mode: Mode::Full,
        outcome: CallOutcome::Ok,
        latency_us: ms * 1_000,
        bytes_in: 10,
        bytes_out: 100,
    }
}

/// Stores calls, each under an id of its own.
pub(super) async fn store(scene: &Scene, calls: &[CallRecord]) {
    let number =
        |(id, call): (i64, &CallRecord)| CallRecord { id: CallRecordId::from_i64(id), ..call.clone() };
    let calls: Vec<_> = (0..).zip(calls).map(number).collect();
    let mut tx = scene.store.begin().await.unwrap();
    call_records::insert(&mut tx, &CallBatch::of(&calls)).await.unwrap();
    tx.commit().await.unwrap();
}

/// Two upstreams, two keys, and calls of the last hours: by the first key 20 of `echo`, of which 5 failed, and by
/// the second 10 slow ones of `wait` at the other upstream.
pub(super) async fn busy() -> (Scene, [String; 2], [String; 2]) {
    let scene = Scene::logged_in().await;
    let upstreams = [scene.upstream("a").await, scene.upstream("b").await];
    let keys = [scene.key("one").await.0, scene.key("two").await.0];
    let now = scene.clock.now();
    let mut calls = Vec::new();
    for number in 0..20_u32 {
        let at = now.minus(MINUTE * number);
        let outcome = if number % 4 == 0 { CallOutcome::Timeout } else { CallOutcome::Ok };
        let ms = u64::from(number) + 1;
        let echo = call(upstreams[0].parse().unwrap(), keys[0].parse().unwrap(), "echo", at, ms);
        calls.push(CallRecord { outcome, ..echo });
    }
    for number in 0..10_u32 {
        let at = now.minus(MINUTE * (60 + number));
        calls.push(call(upstreams[1].parse().unwrap(), keys[1].parse().unwrap(), "wait", at, 1_000));
    }
    store(&scene, &calls).await;
    (scene, upstreams, keys)
}
