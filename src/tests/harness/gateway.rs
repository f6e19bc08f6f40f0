//! A gateway that serves: one process of the real binary, or several replicas behind a balancer.
//!
//! With `MPG_TEST_REPLICAS=3` in the environment (and a Postgres and a Redis) every gateway of a test is
//! three processes on one database, unless its scene says [`Scene::alone`] and why.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use rustix::process::Signal;

use super::admin::Admin;
use super::balancer::Balancer;
use super::command::GatewayCommand;
use super::mcp::Mcp;
use super::node::{End, Node, READY_INTERVAL, READY_PATIENCE};
use super::processes::Process;
use super::scene::{ADMIN_USERNAME, Scene};

/// In which time what one replica was told is known to the others.
const SEEN_MAX: Duration = Duration::from_secs(2);

/// A running gateway. Dropped, it is killed, and the test fails if a child of it is left.
pub(crate) struct TestGateway {
    scene: Scene,
    balancer: Option<Balancer>,
    nodes: Vec<Node>,
}

impl TestGateway {
    /// Begins a scene; `.await` it when it has all its parts.
    pub(crate) fn start() -> Scene {
        Scene::new()
    }

    pub(super) async fn launch(mut scene: Scene) -> Self {
        let replicas = scene.settle();
        let bootstrap = scene.bootstrap();
        let node = |_| {
            let (environment, peer_port) = scene.environment(replicas > 1);
            Node::new(environment, peer_port, &bootstrap)
        };
        let nodes: Vec<Node> = (0..replicas).map(node).collect();
        let mut gateway = Self { scene, balancer: None, nodes };
        gateway.start_again().await;
        if gateway.nodes.len() > 1 {
            let addresses = gateway.nodes.iter().map(Node::address).collect();
            let scheme = gateway.nodes[0].scheme();
            gateway.balancer = Some(Balancer::before(addresses, scheme, gateway.scene.http.clone()));
        }
        gateway
    }

    /// Starts it anew on the same data, after [`Self::kill_9`] or [`Self::terminate`].
    pub(crate) async fn start_again(&mut self) {
        let http = &self.scene.http;
        let (first, others) = self.nodes.split_first_mut().expect("it has one at least");
        // It makes the schema, the first admin and what the bootstrap file says; the others find it.
        first.start(http).await;
        join_all(others.iter_mut().map(|node| node.start(http))).await;
    }

    /// `http://127.0.0.1:PORT`, or with `https` if it has TLS.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.nodes[0].scheme(), self.address())
    }

    /// Where it listens, or its balancer does.
    pub(crate) fn address(&self) -> String {
        self.balancer.as_ref().map_or_else(|| self.nodes[0].address(), Balancer::address)
    }

    /// One of its replicas.
    pub(crate) fn replica(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// One of its replicas, to end it alone.
    pub(crate) fn replica_mut(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }

    /// Starts one of its replicas anew.
    pub(crate) async fn start_replica_again(&mut self, index: usize) {
        self.nodes[index].start(&self.scene.http).await;
    }

    /// The key of [`Scene::with_key`].
    pub(crate) fn key(&self) -> &str {
        self.scene.key.as_ref().expect("the scene has a key").expose()
    }

    /// The REST API, logged in as the scene's admin.
    pub(crate) async fn admin(&self) -> Admin {
        Admin::log_in(self.url(), ADMIN_USERNAME, &self.scene.admin_password).await
    }

    /// The REST API, as the first admin, who registers now.
    pub(crate) async fn register(&self, username: &str, password: &str) -> Admin {
        Admin::register(self.url(), username, password).await
    }

    /// A client of the MCP endpoint, with the key of the scene.
    pub(crate) fn mcp(&self) -> Mcp {
        self.mcp_as(self.key())
    }

    /// A client of the MCP endpoint, with any key.
    pub(crate) fn mcp_as(&self, key: &str) -> Mcp {
        let each: Arc<[String]> = self.nodes.iter().map(Node::url).collect();
        Mcp::new(&self.url(), key, each)
    }

    /// A client of one replica, past the balancer, with the key of the scene.
    pub(crate) fn mcp_at(&self, replica: usize) -> Mcp {
        let url = self.nodes[replica].url();
        Mcp::new(&url, self.key(), Arc::from([url.clone()]))
    }

    /// The REST API of one replica.
    pub(crate) async fn admin_at(&self, replica: usize) -> Admin {
        Admin::log_in(self.nodes[replica].url(), ADMIN_USERNAME, &self.scene.admin_password).await
    }

    /// The REST API of each replica, past the balancer.
    pub(crate) async fn admin_at_each(&self) -> Vec<Admin> {
        let mut admins = Vec::new();
        for replica in 0..self.nodes.len() {
            admins.push(self.admin_at(replica).await);
        }
        admins
    }

    /// A client with a new key, which has these fields beside its name; and the key's id.
    pub(crate) async fn mcp_with(&self, name: &str, key: serde_json::Value) -> (Mcp, String) {
        let (id, key) = self.admin().await.create_key(name, key).await;
        let mcp = self.mcp_as(&key);
        // One that isn't valid stays unknown; then the time is the limit.
        let _ = tokio::time::timeout(SEEN_MAX, mcp.is_known_to_each()).await;
        (mcp, id)
    }

    /// The password of the scene's admin, to search for it where it mustn't be.
    pub(crate) fn admin_password(&self) -> &str {
        &self.scene.admin_password
    }

    /// A command on its machine, with its environment and its data folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> GatewayCommand {
        self.nodes[0].command(arguments)
    }

    /// A file of its data folder.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.nodes[0].data(name)
    }

    /// Everything it has logged so far, over all its starts.
    pub(crate) fn log(&self) -> String {
        self.nodes.iter().map(Node::log).collect()
    }

    /// The most memory that any of its processes has ever held, in bytes.
    pub(crate) fn memory_peak(&self) -> u64 {
        self.nodes.iter().map(Node::memory_peak).max().expect("it has one at least")
    }

    /// The processes it has started, and those they have started.
    pub(crate) fn children(&self) -> Vec<Process> {
        self.nodes.iter().flat_map(Node::children).collect()
    }

    /// Waits until it has as many children as that.
    pub(crate) async fn children_reach(&self, count: usize) -> Vec<Process> {
        let deadline = Instant::now() + READY_PATIENCE;
        let mut ticks = tokio::time::interval(READY_INTERVAL);
        loop {
            ticks.tick().await;
            let children = self.children();
            if children.len() >= count {
                return children;
            }
            assert!(Instant::now() < deadline, "only {children:?}\n{}", self.log());
        }
    }

    /// Ends it as a crash would.
    pub(crate) async fn kill_9(&mut self) -> End {
        self.signal(Signal::KILL);
        self.ended().await
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn terminate(&mut self) -> End {
        self.ask_to_end();
        self.ended().await
    }

    /// Sends SIGTERM and returns at once; [`Self::ended`] waits.
    pub(crate) fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        for node in &self.nodes {
            node.signal(signal);
        }
    }

    /// Waits for the end it was asked for: the worst, and the longest time that any took.
    pub(crate) async fn ended(&mut self) -> End {
        let ends = join_all(self.nodes.iter_mut().map(Node::ended)).await;
        let took = ends.iter().map(|end| end.took).max().expect("it has one at least");
        let worst = ends.into_iter().max_by_key(|end| !end.status.success()).expect("it has one at least");
        End { took, ..worst }
    }

    /// What is left of its children when that much time has passed after its end.
    pub(crate) async fn children_left_after(&self, patience: Duration) -> Vec<Process> {
        join_all(self.nodes.iter().map(|node| node.children_left_after(patience))).await.concat()
    }
}
