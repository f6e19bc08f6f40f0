//! A balancer before several replicas, with as little sense as one can have: each connection goes to any
//! replica that says it is ready, by chance, and a client keeps none for a second request.
//!
//! It passes on bytes, so that what a client sees is the gateway's own: streams, WebSocket, TLS, a closed half.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Between two questions whether a replica is ready. A replica goes on for a while after it said no
/// (`MPG_DRAIN_DELAY`); this has to be less.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long a replica may take to say so.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

/// The balancer, on a thread of its own: a test that computes mustn't hold it up. Dropped, it is gone.
pub(super) struct Balancer {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A replica, as the balancer knows it.
struct Target {
    address: String,
    ready_url: String,
    is_ready: AtomicBool,
}

impl Balancer {
    /// One before replicas that are ready now: their addresses, and the scheme that they all speak.
    pub(super) fn before(addresses: Vec<String>, scheme: &str, http: reqwest::Client) -> Self {
        let target = |address: String| Target {
            ready_url: format!("{scheme}://{address}/readyz"),
            address,
            is_ready: AtomicBool::new(true),
        };
        let targets: Arc<[Target]> = addresses.into_iter().map(target).collect();
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                tell.send(listener.local_addr().expect("bound").port()).expect("it is waited for");
                tokio::select! {
                    () = serve(listener, Arc::clone(&targets)) => {}
                    () = look(targets, http) => {}
                    _ = stopped => {}
                }
            });
        });
        let port = told.recv().expect("it listens");
        Self { port, stop: Some(stop), thread: Some(thread) }
    }

    /// Where clients connect.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()), "it panicked");
    }
}

/// Asks each replica whether it is ready, again and again.
async fn look(targets: Arc<[Target]>, http: reqwest::Client) {
    let mut looking = JoinSet::new();
    for index in 0..targets.len() {
        let (targets, http) = (Arc::clone(&targets), http.clone());
        looking.spawn(async move {
            let target = &targets[index];
            let mut ticks = tokio::time::interval(LOOK_INTERVAL);
            loop {
                ticks.tick().await;
                let answer = http.get(&target.ready_url).timeout(LOOK_PATIENCE).send().await;
                let is_ready = answer.is_ok_and(|answer| answer.status().is_success());
                target.is_ready.store(is_ready, Ordering::Relaxed);
            }
        });
    }
    looking.join_next().await;
}

async fn serve(listener: TcpListener, targets: Arc<[Target]>) {
    let mut connections = JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.expect("the listener lives");
        let targets = Arc::clone(&targets);
        connections.spawn(async move {
            // Where nobody is ready, the client is refused as it would be without a balancer.
            let Some(mut server) = connect(&targets).await else { return };
            let nodelay = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
            nodelay.expect("sockets take options");
            // A connection that is cut is cut on both sides.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// A connection to any replica that is ready. One that refuses has just ended: the next is tried, since
/// nothing was sent yet.
async fn connect(targets: &[Target]) -> Option<TcpStream> {
    let mut ready: Vec<&Target> =
        targets.iter().filter(|target| target.is_ready.load(Ordering::Relaxed)).collect();
    while !ready.is_empty() {
        let target = ready.swap_remove(chance(ready.len()));
        match TcpStream::connect(&target.address).await {
            Ok(server) => return Some(server),
            Err(_) => target.is_ready.store(false, Ordering::Relaxed),
        }
    }
    None
}

/// Less than `below`, by chance.
fn chance(below: usize) -> usize {
    // Each state has keys of its own.
    let random = RandomState::new().build_hasher().finish();
    usize::try_from(random % below as u64).expect("less than an usize")
}
