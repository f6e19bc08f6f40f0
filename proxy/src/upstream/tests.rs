//! Whole upstreams against scripted peers: real sockets for HTTP, a scripted link for the states.

mod acknowledgements;
mod exchange;
mod handshake;
mod log_level;
mod oauth;
mod peer;
mod reduced;
mod sse;
mod subscriptions;
mod supervision;
mod trial;
mod websocket;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use sql::clock::Clock;
use sql::model::{
    ConnParams, NewUpstream, Protocol, Secret, Settings, Timestamp, Transport, Upstream, UpstreamId, Value,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::call::{Answer, Call};
use super::dial::Dialler;
use super::egress::Egress;
use super::link::{Dropped, Listener, Roots, Wiring};
use super::oauth::Passes;
use super::pool::Pool;
use super::stdio::{BaseEnvironment, Launcher, StdioPolicy};
use super::{UpstreamDeps, UpstreamEvent, Upstreams};
use crate::downstream::conversation::{self, Outbox, Owner};
use crate::tasks::Tasks;

/// Long enough for a loopback peer on a busy machine, short enough for a test that hangs to fail.
const PATIENCE: Duration = Duration::from_secs(20);

/// A record of an upstream at this URL.
fn record(url: &str, protocol: Protocol) -> Upstream {
    let headers = BTreeMap::from([("X-Own".to_owned(), Value::Plain("yes".into()))]);
    let mut new =
        NewUpstream::named("peer", Transport::StreamableHttp, ConnParams::Http { url: url.into(), headers });
    new.protocol = protocol;
    new.credential = Some(Secret::from("CANARY"));
    let clock = Clock::system();
    Upstream::create(new, UpstreamId::new(&clock), clock.now())
}

fn pool(egress: Egress) -> Pool {
    Pool::new(Dialler::new(egress, watch::channel(PATIENCE).1), tasks())
}

fn tasks() -> Tasks {
    Tasks::new(Handle::current())
}

/// A listener that writes down what it hears.
#[derive(Default)]
struct Heard {
    notifications: Mutex<Vec<String>>,
    dropped: Mutex<Vec<Dropped>>,
}

impl Listener for Heard {
    fn notification(&self, method: &str, _: Option<Bytes>) {
        self.notifications.lock().expect("whole").push(method.to_owned());
    }

    fn dropped(&self, what: Dropped) {
        self.dropped.lock().expect("whole").push(what);
    }
}

fn wiring(heard: &Arc<Heard>) -> Wiring {
    Wiring {
        tasks: tasks(),
        listener: Arc::clone(heard) as Arc<dyn Listener>,
        roots: Roots::Undeclared,
        pass: Arc::default(),
    }
}

/// A client's call, and what it would be sent meanwhile.
fn call(params: &str) -> (Call, Outbox) {
    call_of(Owner(Uuid::from_u128(1)), params)
}

fn call_of(owner: Owner, params: &str) -> (Call, Outbox) {
    let cancel = CancellationToken::new();
    let (conversation, outbox) = conversation::open(owner, cancel.clone());
    let call = Call {
        method: "tools/call",
        params: Bytes::copy_from_slice(params.as_bytes()),
        headers: Vec::new(),
        conversation,
        idle_timeout: PATIENCE,
        total_timeout: PATIENCE,
        response_bytes_max: 64 * 1024,
        cancel,
    };
    (call, outbox)
}

fn result(text: &str) -> Answer {
    Answer::Result(Bytes::copy_from_slice(text.as_bytes()))
}

/// Upstreams as the gateway has them, and their news.
fn upstreams(egress: Egress) -> (Upstreams, mpsc::Receiver<UpstreamEvent>) {
    let (events, news) = mpsc::channel(64);
    let policy = StdioPolicy { enabled: true, commands: None };
    let launcher = Launcher::new("/nonexistent".into(), policy, BaseEnvironment::from_lookup(|_| None));
    let deps = UpstreamDeps {
        settings: watch::channel(Arc::new(Settings::default())).1,
        egress,
        launcher,
        clock: Clock::manual(Timestamp::from_millis(0)),
        passes: Passes::default(),
        tasks: tasks(),
        events,
    };
    (Upstreams::new(deps), news)
}
