//! Many callers on one upstream session: each gets its own, and nobody else's (T20).

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{LEGACY_LATEST, Peer, Session, TestGateway, success_of};

/// Sessions of each of the two keys.
const SESSIONS: usize = 50;
/// Each session uses the ids from 1 to this one, and the same progress token in every call.
const IDS: usize = 20;
/// Calls that are parked at once, over both keys; what a key may have in flight is a little more.
const PARKED: usize = 200;

/// One call, by all that tells it from the others.
#[derive(Clone)]
struct Caller {
    session: Session,
    id: usize,
    canary: String,
}

impl Caller {
    /// Calls, and says what came back that isn't its own.
    async fn call(self) -> Vec<String> {
        let params = json!({
            "name": "wait", "arguments": {"canary": self.canary}, "_meta": {"progressToken": 1},
        });
        let (before, answer) = self.session.request_as(self.id, "tools/call", params).await.all().await;
        let mut foreign = Vec::new();
        let mut check = |what: &str, found: &Value, own: Value| {
            if *found != own {
                foreign.push(format!("{}: {what} is {found}", self.canary));
            }
        };
        check("the id", &answer["id"], json!(self.id));
        check("the answer", &answer["result"]["content"][0]["text"], json!(self.canary));
        check("the number of notifications", &json!(before.len()), json!(1));
        for progress in before {
            check("the token", &progress["params"]["progressToken"], json!(1));
            check("the progress", &progress["params"]["message"], json!(self.canary));
        }
        foreign
    }
}

#[tokio::test]
async fn of_two_keys_with_fifty_sessions_each_nobody_gets_what_is_not_theirs_t20() {
    for upstream_era in ["legacy", "modern"] {
        let peer = Peer::start().await;
        let gateway = TestGateway::start().with_peer_in(upstream_era, "peer", &peer).with_key().await;
        let (other, _) = gateway.mcp_with("other", json!({})).await;
        gateway.mcp().lists(&["wait"]).await;
        let mut callers = Vec::new();
        for (key, mcp) in [("a", gateway.mcp()), ("b", other)] {
            for number in 0..SESSIONS {
                let session = mcp.initialize(LEGACY_LATEST).await;
                let caller =
                    |id| Caller { session: session.clone(), id, canary: format!("{key}-{number}-{id}") };
                callers.extend((1..=IDS).map(caller));
            }
        }
        // So that what is parked at once mixes keys, sessions and ids: every 37th, all around.
        let count = callers.len();
        let mixed: Vec<Caller> = (0..count).map(|i| callers[i * 37 % count].clone()).collect();
        let distinct: BTreeSet<&String> = mixed.iter().map(|caller| &caller.canary).collect();
        assert_eq!(distinct.len(), 2 * SESSIONS * IDS);
        for some in mixed.chunks(PARKED) {
            let mut calls = JoinSet::new();
            for caller in some {
                calls.spawn(caller.clone().call());
            }
            peer.counts_reach(|counts| counts.parked == some.len()).await;
            peer.release_in_reverse();
            for foreign in calls.join_all().await {
                assert_eq!(foreign, Vec::<String>::new(), "{upstream_era}");
            }
        }
        assert_eq!(peer.counts().calls, 2 * SESSIONS * IDS);
    }
}

#[tokio::test]
async fn who_cancels_an_id_cancels_its_own_call_only_t20() {
    for upstream_era in ["legacy", "modern"] {
        let peer = Peer::start().await;
        let gateway = TestGateway::start().with_peer_in(upstream_era, "peer", &peer).with_key().await;
        let (other, _) = gateway.mcp_with("other", json!({})).await;
        gateway.mcp().lists(&["wait"]).await;
        let a = gateway.mcp().initialize(LEGACY_LATEST).await;
        let same_key = gateway.mcp().initialize(LEGACY_LATEST).await;
        let other_key = other.initialize(LEGACY_LATEST).await;
        let mut calls = JoinSet::new();
        for (name, session) in [("a", &a), ("same key", &same_key), ("other key", &other_key)] {
            let session = session.clone();
            let params = json!({"name": "wait", "arguments": {"canary": name}});
            calls.spawn(
                async move { (name, session.request_as(7, "tools/call", params).await.answer().await) },
            );
        }
        peer.counts_reach(|counts| counts.parked == 3).await;
        same_key.notify("notifications/cancelled", json!({"requestId": 7})).await;
        other_key.notify("notifications/cancelled", json!({"requestId": 7})).await;
        // A string is another id than a number.
        a.notify("notifications/cancelled", json!({"requestId": "7"})).await;
        peer.counts_reach(|counts| counts.cancelled == 2).await;
        assert_eq!(peer.counts().parked, 1, "{upstream_era}");
        peer.release_in_reverse();
        let answers = calls.join_all().await;
        let (_, answer) = answers.iter().find(|(name, _)| *name == "a").expect("all have ended");
        assert_eq!(success_of(&answer["result"]), "a", "{upstream_era}");
    }
}
