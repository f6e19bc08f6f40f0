//! An upstream in the test's own process: a real MCP server (rmcp, both eras) behind a real socket.
//!
//! The test is its clock: a call of the tool `wait` is parked until the test releases it. And the test
//! sees what it sees: every HTTP request, how many calls came, how many were cancelled.

mod tools;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rmcp::model::Tool;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::exchange::PATIENCE;
use tools::Tools;
pub(crate) use tools::{plain, tool};

type Service = StreamableHttpService<Tools, LocalSessionManager>;

/// The server. Dropped, it is gone, and whoever is connected notices.
pub(crate) struct Peer {
    port: u16,
    state: Arc<State>,
    sessions: Arc<LocalSessionManager>,
    running: Option<Running>,
    /// Where nobody accepts, while it hangs.
    hanging: Option<TcpListener>,
}

struct Running {
    accepting: JoinSet<()>,
    connections: Connections,
    stop: CancellationToken,
}

type Connections = Arc<Mutex<JoinSet<()>>>;

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One HTTP request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    /// The JSON-RPC message.
    pub(crate) fn message(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Calls of tools that began.
    pub(crate) calls: usize,
    /// Calls of `wait` that are parked now.
    pub(crate) parked: usize,
    /// Calls of `wait` that the caller cancelled.
    pub(crate) cancelled: usize,
    /// Handshakes of the legacy era that were completed.
    pub(crate) initialized: usize,
    /// Lists of tools that were asked for.
    pub(crate) listed: usize,
    /// Open subscriptions of the modern era.
    pub(crate) listening: usize,
}

#[derive(Default)]
struct State {
    tools: Mutex<Vec<Tool>>,
    seen: Mutex<Vec<Seen>>,
    parked: Mutex<Vec<oneshot::Sender<()>>>,
    counts: watch::Sender<Counts>,
    changes: watch::Sender<u64>,
    clients: Mutex<Vec<rmcp::Peer<rmcp::RoleServer>>>,
}

impl State {
    fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }
}

impl Peer {
    /// A server with the tools of [`tools::own`].
    pub(crate) async fn start() -> Self {
        Self::with_tools(tools::own()).await
    }

    /// A server whose tools have these names; each answers its name and its arguments.
    pub(crate) async fn named(names: impl IntoIterator<Item = String>) -> Self {
        Self::with_tools(names.into_iter().map(tools::plain).collect()).await
    }

    /// A server with these definitions.
    pub(crate) async fn with_tools(tools: Vec<Tool>) -> Self {
        let state = Arc::new(State { tools: Mutex::new(tools), ..State::default() });
        let mut peer = Self { port: 0, state, sessions: Arc::default(), running: None, hanging: None };
        peer.come_back().await;
        peer
    }

    /// Its endpoint.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }

    /// Ends it as a crash would: connections close in the middle of whatever they carry, and the port is dead.
    pub(crate) async fn crash(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.accepting.shutdown().await;
        // Before the server hears of its end, or it would end its streams in an orderly way.
        let mut connections =
            std::mem::take(&mut *running.connections.lock().expect("nobody panics with it"));
        connections.shutdown().await;
    }

    /// Ends it as [`Self::crash`] does, and leaves a port behind that takes connections and says nothing.
    pub(crate) async fn hang(&mut self) {
        self.crash().await;
        self.hanging = Some(TcpListener::bind(("127.0.0.1", self.port)).await.expect("the port is free"));
    }

    /// Begins, on the port it had before.
    pub(crate) async fn come_back(&mut self) {
        self.hanging = None;
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("the port is free");
        self.port = listener.local_addr().expect("bound").port();
        self.sessions = Arc::default();
        let stop = CancellationToken::new();
        let state = Arc::clone(&self.state);
        let config = StreamableHttpServerConfig::default().with_cancellation_token(stop.clone());
        let tools = Tools::new(Arc::clone(&state));
        let service = Service::new(move || Ok(tools.clone()), Arc::clone(&self.sessions), config);
        let connections = Connections::default();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&connections), service, state));
        self.running = Some(Running { accepting, connections, stop });
    }

    /// Forgets its sessions, as a server does that was restarted.
    pub(crate) async fn forget_sessions(&self) {
        self.sessions.sessions.write().await.clear();
    }

    /// Replaces its tools and says so to whom it may concern.
    pub(crate) async fn change_tools(&self, tools: Vec<Tool>) {
        *self.state.tools.lock().expect("nobody panics with it") = tools;
        self.say_tools_changed().await;
    }

    /// Says that its tools changed.
    pub(crate) async fn say_tools_changed(&self) {
        self.state.changes.send_modify(|revision| *revision += 1);
        let clients = self.state.clients.lock().expect("nobody panics with it").clone();
        for client in clients {
            // One that left meanwhile doesn't hear it.
            let _ = client.notify_tool_list_changed().await;
        }
    }

    /// What has happened so far.
    pub(crate) fn counts(&self) -> Counts {
        *self.state.counts.borrow()
    }

    /// Waits until enough has happened.
    pub(crate) async fn counts_reach(&self, is_enough: impl Fn(&Counts) -> bool) -> Counts {
        let mut counts = self.state.counts.subscribe();
        let Ok(reached) = tokio::time::timeout(PATIENCE, counts.wait_for(is_enough)).await else {
            panic!("the upstream has seen only {:?}", self.counts());
        };
        *reached.expect("the state lives")
    }

    /// Lets all parked calls go on, the last that came first.
    pub(crate) fn release_in_reverse(&self) {
        let parked = std::mem::take(&mut *self.state.parked.lock().expect("nobody panics with it"));
        for call in parked.into_iter().rev() {
            // A cancelled call doesn't wait any more.
            let _ = call.send(());
        }
    }

    /// All HTTP requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().expect("nobody panics with it").clone()
    }

    /// The HTTP requests so far that carried this method.
    pub(crate) fn seen_of(&self, method: &str) -> Vec<Seen> {
        let is_it = |seen: &Seen| seen.message()["method"] == method;
        self.seen().into_iter().filter(is_it).collect()
    }
}

async fn accept(listener: TcpListener, connections: Connections, service: Service, state: Arc<State>) {
    loop {
        let (stream, _) = listener.accept().await.expect("the listener lives");
        let mut connections = connections.lock().expect("nobody panics with it");
        connections.spawn(serve(stream, service.clone(), Arc::clone(&state)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, service: Service, state: Arc<State>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let (service, state) = (service.clone(), Arc::clone(&state));
        async move {
            let (head, body) = request.into_parts();
            // A client that breaks off in the middle of its body gets no answer anyway.
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let seen = Seen { headers: head.headers.clone(), body: body.clone() };
            state.seen.lock().expect("nobody panics with it").push(seen);
            Ok::<_, Infallible>(service.handle(Request::from_parts(head, Full::new(body))).await)
        }
    });
    // It ends with an error whenever a client leaves.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}
