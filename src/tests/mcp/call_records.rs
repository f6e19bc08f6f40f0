//! Every call that was routed leaves a record, over whichever transport and however it ended.

use std::time::Duration;

use serde_json::json;
use sql::model::settings::Mode;
use sql::model::{CallOutcome, CallRecord, CallTransport, Era};
use sql::seal::MasterKey;
use sql::{Clock, Database, Store, StoreOptions, call_records};
use tokio::task::JoinSet;

use crate::harness::{LEGACY_LATEST, PATIENCE, Peer, TestGateway, send, success_of};

/// What a gateway that has ended left in its database, the oldest first.
pub(super) async fn records_of(gateway: &TestGateway) -> Vec<CallRecord> {
    let key = std::fs::read_to_string(gateway.data("encryption.key")).expect("the first start made it");
    let options = StoreOptions {
        database: Database::Sqlite { path: gateway.data("gateway.db") },
        master_key: MasterKey::from_env_text(key.trim()).expect("a good key").0,
        previous_keys: Vec::new(),
        clock: Clock::system(),
        start_timeout: Duration::ZERO,
    };
    let store = Store::open(options).await.expect("the database opens");
    let mut tx = store.read().await.expect("the database answers");
    let mut records = call_records::newest(&mut tx, 1_000).await.expect("the records can be read");
    drop(tx);
    store.close().await;
    records.reverse();
    records
}

#[tokio::test]
async fn each_call_leaves_a_record_of_how_it_came_and_ended() {
    let mut peer = Peer::start().await;
    let mut gateway = TestGateway::start().on_sqlite().with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["echo", "wait"]).await;
    let (mcp, key) = gateway.mcp_with("recorded", json!({"mode": "full"})).await;

    success_of(&mcp.call("echo", json!({"message": "modern"})).await);
    success_of(&mcp.initialize(LEGACY_LATEST).await.call("echo", json!({"message": "legacy"})).await);
    // Neither is routed: a name that isn't there, and a list.
    mcp.modern("tools/call", json!({"name": "no such tool"})).await;
    mcp.tool_names().await;
    let mut calls = JoinSet::new();
    calls.spawn(send(mcp.apart().modern_request(1, "tools/call", json!({"name": "wait", "arguments": {}}))));
    peer.counts_reach(|counts| counts.parked == 1).await;
    calls.abort_all();
    peer.counts_reach(|counts| counts.cancelled == 1).await;
    peer.crash().await;
    assert_eq!(mcp.call("echo", json!({"message": "nobody is there"})).await["isError"], true);
    let end = gateway.terminate().await;
    assert!(end.status.success(), "{end:?}");

    let records = records_of(&gateway).await;
    let seen: Vec<_> =
        records.iter().map(|record| (&*record.exposed_name, record.era, record.outcome)).collect();
    let [first, second, third, (name, era, last)] = seen.as_slice() else { panic!("{records:#?}") };
    assert_eq!(*first, ("echo", Era::Modern, CallOutcome::Ok));
    assert_eq!(*second, ("echo", Era::Legacy, CallOutcome::Ok));
    assert_eq!(*third, ("wait", Era::Modern, CallOutcome::Cancelled));
    assert_eq!((*name, *era), ("echo", Era::Modern));
    // Whether the gateway has noticed yet that the upstream is gone is a matter of moments.
    assert!(matches!(last, CallOutcome::Unavailable | CallOutcome::UpstreamError), "{last}");
    for record in &records {
        assert_eq!((record.transport, record.mode), (CallTransport::StreamableHttp, Mode::Full));
        assert_eq!(record.key_id.to_string(), key);
        assert!(record.bytes_in > 0 && record.latency_us > 0, "{record:?}");
        assert!(record.latency_us < u64::try_from(PATIENCE.as_micros()).expect("seconds"), "{record:?}");
        assert_eq!(record.bytes_out > 0, record.outcome != CallOutcome::Cancelled, "{record:?}");
    }
}
