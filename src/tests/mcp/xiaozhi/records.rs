//! A robot's calls leave records like those of any other client.

use serde_json::json;
use sql::model::{CallOutcome, CallTransport, Era};

use super::super::call_records::records_of;
use super::endpoint;
use crate::harness::{Broker, Peer, TestGateway};

#[tokio::test]
async fn each_call_is_recorded_with_its_transport_and_one_that_took_too_long_as_that() {
    let peer = Peer::start().await;
    let mut gateway = TestGateway::start().on_sqlite().with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["echo", "wait"]).await;
    let (mcp, key) = gateway.mcp_with("robot", json!({"mode": "smart"})).await;
    mcp.lists(&["call_tool"]).await;
    let mut broker = Broker::start().await;
    endpoint(&gateway.admin().await, &broker, &key, json!({"mode": "full", "deadlineS": 1})).await;
    let mut robot = broker.robot().await;
    robot.called("echo", json!({"message": "x"})).await;
    robot.called("wait", json!({})).await;
    peer.counts_reach(|counts| counts.cancelled == 1).await;
    // One that is withdrawn isn't answered: what comes next is the answer to something else.
    robot.ask(9, "tools/call", &json!({"name": "wait", "arguments": {}}));
    peer.counts_reach(|counts| counts.parked == 1).await;
    robot.say(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}}));
    assert_eq!(robot.asked(10, "ping", &json!({})).await["id"], 10);
    peer.counts_reach(|counts| counts.cancelled == 2).await;
    let end = gateway.terminate().await;
    assert!(end.status.success(), "{end:?}");

    let records = records_of(&gateway).await;
    let seen: Vec<_> = records.iter().map(|record| (&*record.exposed_name, record.outcome)).collect();
    assert_eq!(
        seen,
        [("echo", CallOutcome::Ok), ("wait", CallOutcome::Timeout), ("wait", CallOutcome::Cancelled)]
    );
    for record in &records {
        assert_eq!((record.transport, record.era), (CallTransport::Xiaozhi, Era::Legacy));
        assert_eq!(record.key_id.to_string(), key);
    }
}
