//! Subscriptions at a modern upstream that acknowledges one stream and says nothing of the next.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use sql::model::Protocol;

use super::*;
use crate::bridge::degraded::Degradations;
use crate::upstream::call::CallError;
use crate::upstream::connection::{Connection, Opener, Scope, Surroundings};
use crate::upstream::handshake::Declared;
use crate::upstream::link::{Link, Negotiated, OpenError};
use crate::upstream::topic::Topic;

const DISCOVERED: &str = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"resources":{"subscribe":true}}}"#;

struct Forgetful;

struct ForgetfulLink {
    listens: AtomicUsize,
    closed: CancellationToken,
    wiring: Wiring,
}

#[async_trait]
impl Link for ForgetfulLink {
    async fn request(&self, call: Call) -> Result<Answer, CallError> {
        match call.method {
            "server/discover" => Ok(result(DISCOVERED)),
            "subscriptions/listen" => {
                if self.listens.fetch_add(1, Ordering::SeqCst) == 0 {
                    let honoured =
                        Bytes::from_static(br#"{"notifications":{"resourceSubscriptions":["a:1"]}}"#);
                    let method = "notifications/subscriptions/acknowledged";
                    self.wiring.listener.notification(method, Some(honoured));
                }
                std::future::pending().await
            }
            _ => Ok(result("{}")),
        }
    }

    async fn notify(&self, _: &str, _: Option<Bytes>) -> Result<(), CallError> {
        Ok(())
    }

    fn set_protocol(&self, _: Negotiated) {}

    fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    async fn close(&self) {
        self.closed.cancel();
    }
}

#[async_trait]
impl Opener for Forgetful {
    async fn open(&self, _: &Upstream, wiring: Wiring) -> Result<Arc<dyn Link>, OpenError> {
        Ok(Arc::new(ForgetfulLink { listens: AtomicUsize::new(0), closed: CancellationToken::new(), wiring }))
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_which_nothing_is_said_is_not_taken_for_the_one_before() {
    let (events, _news) = mpsc::channel(64);
    let surroundings = Surroundings {
        opener: Arc::new(Forgetful),
        settings: watch::channel(Arc::default()).1,
        clock: Clock::manual(Timestamp::from_millis(0)),
        passes: Passes::default(),
        tasks: tasks(),
        events,
        degraded: Degradations::default(),
        scope: Scope::Everyone,
    };
    let spec = Arc::new(record("http://127.0.0.1:1/", Protocol::Modern));
    let connection = Connection::start(spec, surroundings, Declared::all(Roots::Undeclared), Arc::default());
    for uri in ["a:1", "a:2"] {
        connection.watched().want(&Topic::resource(uri)).expect("there is room");
        let settled = connection.watched().settled(&Topic::resource(uri)).await;
        assert!(settled.is_ok(), "{uri}: {settled:?}");
    }
}
