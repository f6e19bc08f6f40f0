//! The level that a legacy upstream is asked to log at: before the call that needs it, and for as long.

use futures::future::FutureExt;
use sql::model::Protocol;
use tokio::sync::Semaphore;

use super::peer::{Peer, Talk};
use super::*;
use crate::wire::meta::LogLevel;

/// A legacy server that logs; its calls wait for a permit.
async fn logger(mut talk: Talk, permits: Arc<Semaphore>) {
    match talk.seen.method().as_str() {
        "initialize" => {
            let result = r#"{"protocolVersion":"2025-11-25","capabilities":{"logging":{}},"serverInfo":{"name":"p","version":"1"}}"#;
            talk.result(result).await;
        }
        "logging/setLevel" => talk.result("{}").await,
        "tools/call" => {
            permits.acquire().await.expect("never closed").forget();
            talk.result("{}").await;
        }
        _ => talk.legacy().await,
    }
}

struct Scene {
    peer: Peer,
    permits: Arc<Semaphore>,
    upstreams: Upstreams,
    id: UpstreamId,
    _news: mpsc::Receiver<UpstreamEvent>,
}

impl Scene {
    async fn start() -> Self {
        let permits = Arc::new(Semaphore::new(0));
        let granted = Arc::clone(&permits);
        let peer = Peer::start(move |talk| logger(talk, Arc::clone(&granted)).boxed()).await;
        let (upstreams, news) = upstreams(Egress::Private);
        let spec = Arc::new(record(&peer.url, Protocol::Legacy));
        upstreams.apply(&[Arc::clone(&spec)]);
        upstreams.peer(spec.id).await.expect("it connects");
        Self { peer, permits, upstreams, id: spec.id, _news: news }
    }

    async fn call(&self, level: Option<LogLevel>) {
        let (mut call, _outbox) = call(r#"{"name":"a"}"#);
        call.conversation = call.conversation.hearing(level);
        self.upstreams.call(self.id, call).await.expect("an answer");
    }

    /// Tells the level that all want, if there is anything to tell.
    async fn tell(&self, level: LogLevel) {
        if let Some(telling) = self.upstreams.tell_level(self.id, level, move || Some(level)) {
            telling.await;
        }
    }

    /// The levels and calls that the upstream saw, in order.
    fn seen(&self) -> Vec<String> {
        let shown = |seen: super::peer::Seen| match seen.method().as_str() {
            "logging/setLevel" => Some(seen.message()["params"]["level"].as_str()?.to_owned()),
            "tools/call" => Some("call".to_owned()),
            _ => None,
        };
        self.peer.seen().into_iter().filter_map(shown).collect()
    }
}

#[tokio::test]
async fn a_call_is_sent_when_the_level_that_it_needs_was_told_and_not_told_again() {
    let scene = Scene::start().await;
    scene.permits.add_permits(5);
    for level in [None, Some(LogLevel::Info), Some(LogLevel::Error), Some(LogLevel::Debug), None] {
        scene.call(level).await;
    }
    assert_eq!(scene.seen(), ["call", "info", "call", "call", "debug", "call", "call"]);
    // All want less, and a call wants more again.
    scene.permits.add_permits(1);
    scene.tell(LogLevel::Info).await;
    scene.tell(LogLevel::Info).await;
    scene.call(Some(LogLevel::Debug)).await;
    assert_eq!(scene.seen()[7..], ["info", "debug", "call"]);
    scene.upstreams.shutdown().await;
}

#[tokio::test]
async fn while_a_call_runs_the_level_that_it_needs_holds() {
    let scene = Scene::start().await;
    let told = async {
        scene.peer.until("tools/call").await;
        scene.tell(LogLevel::Info).await;
        scene.permits.add_permits(1);
    };
    futures::join!(scene.call(Some(LogLevel::Debug)), told);
    assert_eq!(scene.seen(), ["debug", "call"]);
    scene.tell(LogLevel::Info).await;
    assert_eq!(scene.seen(), ["debug", "call", "info"]);
    scene.upstreams.shutdown().await;
}

#[tokio::test]
async fn a_connection_made_anew_was_told_nothing() {
    let scene = Scene::start().await;
    scene.permits.add_permits(2);
    scene.call(Some(LogLevel::Debug)).await;
    assert!(scene.upstreams.reconnect(scene.id));
    scene.peer.until_some(2, |seen| seen.method() == "notifications/initialized").await;
    scene.call(Some(LogLevel::Debug)).await;
    assert_eq!(scene.seen(), ["debug", "call", "debug", "call"]);
    scene.upstreams.shutdown().await;
}
