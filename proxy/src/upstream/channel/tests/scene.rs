//! A channel whose other end is the test: every message in the order the test wants.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use super::super::*;
use crate::downstream::conversation::{self, Outbox, Owner};
use crate::tasks::Tasks;
use crate::upstream::link::{Dropped, Listener, Roots};
use crate::wire::meta::Version;

/// Longer than anything in here takes, so that only a failing test meets it.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) const ALICE: Owner = Owner(Uuid::from_u128(1));
pub(super) const BOB: Owner = Owner(Uuid::from_u128(2));

/// What the channel told to everyone.
#[derive(Default)]
pub(in crate::upstream) struct Heard {
    pub(super) notifications: Mutex<Vec<(String, Option<Bytes>)>>,
    pub(super) dropped: Mutex<Vec<Dropped>>,
    changed: Notify,
}

impl Listener for Heard {
    fn notification(&self, method: &str, params: Option<Bytes>) {
        self.notifications.lock().expect("no panic").push((method.to_owned(), params));
        self.changed.notify_one();
    }

    fn dropped(&self, what: Dropped) {
        self.dropped.lock().expect("no panic").push(what);
        self.changed.notify_one();
    }
}

impl Heard {
    pub(in crate::upstream) fn count(&self, what: Dropped) -> usize {
        self.dropped.lock().expect("no panic").iter().filter(|dropped| **dropped == what).count()
    }

    pub(super) async fn wait(&self, what: &str, until: impl Fn(&Self) -> bool) {
        let waited = async {
            while !until(self) {
                self.changed.notified().await;
            }
        };
        timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("no {what}"));
    }

    pub(in crate::upstream) async fn dropped_once(&self, what: Dropped) {
        self.wait("drop", |heard| heard.count(what) == 1).await;
    }

    pub(super) async fn notified_of(&self, method: &str) {
        let known = |heard: &Self| {
            heard.notifications.lock().expect("no panic").iter().any(|(heard, _)| heard == method)
        };
        self.wait(method, known).await;
    }
}

/// A call and the client's end of its queue.
pub(in crate::upstream) fn call(owner: Owner, method: &'static str, params: &Value) -> (Call, Outbox) {
    let cancel = CancellationToken::new();
    let (conversation, outbox) = conversation::open(owner, cancel.clone());
    let call = Call {
        method,
        params: params.to_string().into(),
        headers: Vec::new(),
        conversation,
        idle_timeout: PATIENCE,
        total_timeout: PATIENCE,
        response_bytes_max: 1024 * 1024,
        cancel,
    };
    (call, outbox)
}

struct FromPeer(mpsc::UnboundedReceiver<Bytes>);

impl Source for FromPeer {
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        match self.0.recv().await {
            Some(message) if message == "broken" => Err(Broken("it broke".into())),
            message => Ok(message),
        }
    }
}

struct ToPeer(mpsc::Sender<Bytes>);

impl Sink for ToPeer {
    async fn send(&mut self, message: Bytes, receipt: Receipt) -> Result<(), Broken> {
        if memchr::memmem::find(&message, b"unwanted").is_some() {
            receipt.refused(CallError::Refused { status: 413 });
            return Ok(());
        }
        self.0.send(message).await.map_err(|_| Broken("nobody reads".into()))
    }

    async fn finish(self) {}
}

/// A channel and the upstream's end of it.
pub(super) struct Scene {
    pub(super) channel: Channel,
    pub(super) heard: Arc<Heard>,
    pub(super) tasks: Tasks,
    pub(super) to_channel: Option<mpsc::UnboundedSender<Bytes>>,
    pub(super) from_channel: mpsc::Receiver<Bytes>,
}

impl Scene {
    pub(super) fn new() -> Self {
        let (to_channel, source) = mpsc::unbounded_channel();
        // One message is taken and one more is being written when the test doesn't read.
        let (sink, from_channel) = mpsc::channel(1);
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let heard = Arc::new(Heard::default());
        let listener = Arc::clone(&heard) as Arc<dyn Listener>;
        let wiring =
            Wiring { tasks: tasks.clone(), listener, roots: Roots::Undeclared, pass: Arc::default() };
        let channel = Channel::open(FromPeer(source), ToPeer(sink), wiring);
        channel.set_protocol(Negotiated { version: Version::V2025_11_25, capabilities: Bytes::new() });
        Self { channel, heard, tasks, to_channel: Some(to_channel), from_channel }
    }

    pub(super) fn start(&self, call: Call) -> tokio::task::JoinHandle<Result<Answer, CallError>> {
        let channel = self.channel.clone();
        self.tasks.spawn("call", async move { channel.request(call).await })
    }

    pub(super) async fn written(&mut self) -> Value {
        let message =
            timeout(PATIENCE, self.from_channel.recv()).await.expect("it writes").expect("it is open");
        serde_json::from_slice(&message).expect("it writes JSON")
    }

    pub(super) fn says(&self, message: &Value) {
        self.says_raw(message.to_string());
    }

    pub(super) fn says_raw(&self, message: impl Into<Bytes>) {
        self.to_channel.as_ref().expect("not closed by the test").send(message.into()).expect("it reads");
    }

    /// Starts a call and gives its id, once it was written.
    pub(super) async fn calling(
        &mut self,
        call: Call,
    ) -> (tokio::task::JoinHandle<Result<Answer, CallError>>, u64) {
        let method = call.method;
        let running = self.start(call);
        let request = self.written().await;
        assert_eq!(request["method"], method);
        (running, request["id"].as_u64().expect("a number of ours"))
    }

    pub(super) fn answers(&self, id: u64, result: &Value) {
        self.says(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }

    /// Everything has ended, so that nothing leaks.
    pub(super) async fn end(self) {
        self.channel.close();
        self.channel.cut("the test is over");
        timeout(PATIENCE, self.tasks.stop()).await.expect("all tasks end");
    }
}

pub(super) async fn outcome(
    running: tokio::task::JoinHandle<Result<Answer, CallError>>,
) -> Result<Value, CallError> {
    let answer = timeout(PATIENCE, running).await.expect("it ends").expect("no panic")?;
    let (Answer::Result(body) | Answer::Error(body)) = answer;
    Ok(serde_json::from_slice(&body).expect("JSON"))
}
