//! Resources that an upstream is to tell of: asked for, left, and asked for again.

use std::collections::BTreeSet;

use futures::future::FutureExt;
use serde_json::{Value, json};
use sql::model::Protocol;

use super::peer::{Peer, Talk};
use super::*;
use crate::bridge::degraded::Reason;
use crate::upstream::call::SubscribeError;
use crate::upstream::topic::Topic;

const TELLS: &str = r#"{"resources":{"subscribe":true}}"#;

/// What was subscribed to in each of the peer's listens.
fn listened(peer: &Peer) -> Vec<Value> {
    let listens = peer.seen().into_iter().filter(|seen| seen.method() == "subscriptions/listen");
    listens.map(|seen| seen.message()["params"]["notifications"].clone()).collect()
}

/// The next update in the news, by its URI.
async fn updated(news: &mut mpsc::Receiver<UpstreamEvent>) -> String {
    loop {
        if let UpstreamEvent::Updated { topic, .. } = news.recv().await.expect("the supervisor lives") {
            return topic.name().to_owned();
        }
    }
}

/// A modern server that honours what begins with `a:` and tells at once that all of it changed.
async fn modern(mut talk: Talk) {
    match talk.seen.method().as_str() {
        "server/discover" => {
            let discovered = format!(r#"{{"supportedVersions":["2026-07-28"],"capabilities":{TELLS}}}"#);
            talk.result(&discovered).await;
        }
        "subscriptions/listen" => {
            let uris = talk.seen.message()["params"]["notifications"]["resourceSubscriptions"].clone();
            let uris: BTreeSet<String> = serde_json::from_value(uris).unwrap_or_default();
            let honoured: Vec<_> = uris.into_iter().filter(|uri| uri.starts_with("a:")).collect();
            talk.start_events().await;
            let params = json!({"notifications": {"resourceSubscriptions": honoured}});
            let acknowledged = json!({
                "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params,
            });
            talk.event(&acknowledged.to_string()).await;
            for uri in honoured {
                let params = json!({"uri": uri});
                let updated =
                    json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": params});
                talk.event(&updated.to_string()).await;
            }
            talk.gone().await;
        }
        _ => talk.legacy().await,
    }
}

#[tokio::test]
async fn a_modern_upstream_is_listened_to_for_all_that_is_wanted() {
    let peer = Peer::start(|talk| modern(talk).boxed()).await;
    let (upstreams, mut news) = upstreams(Egress::Private);
    let spec = Arc::new(record(&peer.url, Protocol::Auto));
    upstreams.apply(&[Arc::clone(&spec)]);
    let subscribe = |uri| upstreams.subscribe(spec.id, &Topic::resource(uri)).expect("it is there");
    subscribe("a:1").await.expect("it is honoured");
    assert_eq!(updated(&mut news).await, "a:1");
    subscribe("a:2").await.expect("it is honoured");
    assert!(matches!(subscribe("b:1").await, Err(SubscribeError::Refused(_))));
    upstreams.unsubscribe(spec.id, &Topic::resource("b:1"));
    upstreams.unsubscribe(spec.id, &Topic::resource("a:1"));
    let last = json!({"resourceSubscriptions": ["a:2"]});
    peer.until_some(4, |seen| seen.method() == "subscriptions/listen").await;
    let listened = listened(&peer);
    assert_eq!(listened.first(), Some(&json!({"resourceSubscriptions": ["a:1"]})));
    assert_eq!(listened.get(1), Some(&json!({"resourceSubscriptions": ["a:1", "a:2"]})));
    assert_eq!(listened.last(), Some(&last), "{listened:?}");
    upstreams.shutdown().await;
}

/// A legacy server that refuses what begins with `b:`.
async fn legacy(mut talk: Talk) {
    match talk.seen.method().as_str() {
        "initialize" => {
            let result = format!(
                r#"{{"protocolVersion":"2025-11-25","capabilities":{TELLS},"serverInfo":{{"name":"p","version":"1"}}}}"#
            );
            talk.result(&result).await;
        }
        "resources/subscribe" => {
            let message = talk.seen.message();
            if message["params"]["uri"].as_str().is_some_and(|uri| uri.starts_with("a:")) {
                return talk.result("{}").await;
            }
            let error = json!({"code": -32002, "message": "Resource not found"});
            let refused = json!({"jsonrpc": "2.0", "id": message["id"], "error": error});
            talk.json("200 OK", &refused.to_string()).await;
        }
        "resources/unsubscribe" => talk.result("{}").await,
        _ => talk.legacy().await,
    }
}

#[tokio::test]
async fn a_legacy_upstream_is_asked_again_after_a_reconnection_and_may_have_changed_meanwhile() {
    let peer = Peer::start(|talk| legacy(talk).boxed()).await;
    let (upstreams, mut news) = upstreams(Egress::Private);
    let spec = Arc::new(record(&peer.url, Protocol::Legacy));
    upstreams.apply(&[Arc::clone(&spec)]);
    let subscribe = |uri| upstreams.subscribe(spec.id, &Topic::resource(uri)).expect("it is there");
    for uri in ["a:1", "a:1", "a:2"] {
        subscribe(uri).await.expect("it tells");
    }
    match subscribe("b:1").await {
        Err(SubscribeError::Refused(error)) => assert!(error.starts_with(br#"{"code":-32002"#), "{error:?}"),
        other => panic!("a refusal, not {other:?}"),
    }
    upstreams.unsubscribe(spec.id, &Topic::resource("b:1"));
    upstreams.unsubscribe(spec.id, &Topic::resource("a:2"));
    peer.until("resources/unsubscribe").await;
    let asked = |method: &str| -> Vec<String> {
        let seen = peer.seen().into_iter().filter(|seen| seen.method() == method);
        seen.filter_map(|seen| Some(seen.message()["params"]["uri"].as_str()?.to_owned())).collect()
    };
    assert_eq!(asked("resources/subscribe"), ["a:1", "a:2", "b:1"], "each once");
    assert_eq!(asked("resources/unsubscribe"), ["a:2"]);
    assert!(upstreams.reconnect(spec.id));
    assert_eq!(updated(&mut news).await, "a:1");
    assert_eq!(asked("resources/subscribe"), ["a:1", "a:2", "b:1", "a:1"]);
    // What is wanted outlives a change of how the upstream is reached.
    let mut other = (*spec).clone();
    other.credential = Some(Secret::from("other"));
    upstreams.apply(&[Arc::new(other)]);
    assert_eq!(updated(&mut news).await, "a:1");
    assert_eq!(upstreams.degraded().of(spec.id)[&Reason::UpdateMissed], 2, "each time it may have");
    upstreams.shutdown().await;
}

#[tokio::test]
async fn an_upstream_that_tells_of_nothing_is_not_asked() {
    let peer = Peer::start(|talk| talk.legacy().boxed()).await;
    let (upstreams, _news) = upstreams(Egress::Private);
    let spec = Arc::new(record(&peer.url, Protocol::Legacy));
    upstreams.apply(&[Arc::clone(&spec)]);
    let settled = upstreams.subscribe(spec.id, &Topic::resource("a:1")).expect("it is there").await;
    assert!(matches!(settled, Err(SubscribeError::Refused(_))));
    assert!(peer.seen().iter().all(|seen| seen.method() != "resources/subscribe"));
    assert!(upstreams.subscribe(UpstreamId::at(Timestamp::from_millis(0)), &Topic::resource("a:1")).is_err());
    upstreams.shutdown().await;
}
