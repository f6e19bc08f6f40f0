//! A gateway that serves: the real binary on a free port, with a data folder of its own.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::admin::Admin;
use super::command::clean_command;
use super::mcp::Mcp;
use super::processes::{self, Process};
use super::scene::{ADMIN_USERNAME, Scene};

/// How long a gateway may take until it is ready: a debug build on a busy machine.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to end when asked to: its own drain timeout and a little.
const END_PATIENCE: Duration = Duration::from_secs(40);
/// How long its children may outlive it before the test fails. What the gateway promises is shorter and
/// has a test of its own; this only tells a slow machine from a leak.
const CHILDREN_PATIENCE: Duration = Duration::from_secs(5);
/// Between two questions whether it is ready.
const READY_INTERVAL: Duration = Duration::from_millis(20);

/// A running gateway. Dropped, it is killed, and the test fails if a child of it is left.
pub(crate) struct TestGateway {
    scene: Scene,
    folder: TempDir,
    port: u16,
    running: Option<Running>,
    log: Arc<Mutex<String>>,
}

struct Running {
    child: Child,
    log_reader: JoinHandle<()>,
}

/// How a gateway ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) status: ExitStatus,
    pub(crate) took: Duration,
}

impl TestGateway {
    /// Begins a scene; `.await` it when it has all its parts.
    pub(crate) fn start() -> Scene {
        Scene::new()
    }

    pub(super) async fn launch(mut scene: Scene) -> Self {
        scene.settle();
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("tmp")).expect("the folder is writable");
        std::fs::write(folder.path().join("gateway.yaml"), scene.bootstrap())
            .expect("the folder is writable");
        let mut gateway = Self { scene, folder, port: free_port(), running: None, log: Arc::default() };
        gateway.start_again().await;
        gateway
    }

    /// Starts it anew on the same data, after [`Self::kill_9`] or [`Self::terminate`].
    pub(crate) async fn start_again(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let mut command = clean_command(self.folder.path());
        command
            .envs(&self.scene.environment)
            .env("TMPDIR", self.marker())
            .args(["serve", "--bootstrap", "gateway.yaml", "--data-dir", "data"])
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let log_reader = read_log(stderr, Arc::clone(&self.log));
        self.running = Some(Running { child, log_reader });
        self.wait_until_ready().await;
    }

    async fn wait_until_ready(&mut self) {
        let ready = format!("{}/readyz", self.url());
        let client = self.scene.http.clone();
        let deadline = Instant::now() + READY_PATIENCE;
        let mut ticks = tokio::time::interval(READY_INTERVAL);
        loop {
            ticks.tick().await;
            let answer = client.get(&ready).timeout(READY_PATIENCE).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            let running = self.running.as_mut().expect("just started");
            if let Some(status) = running.child.try_wait().expect("a child of ours") {
                panic!("the gateway ended with {status}:\n{}", self.log());
            }
            assert!(
                Instant::now() < deadline,
                "the gateway isn't ready after {READY_PATIENCE:?}:\n{}",
                self.log()
            );
        }
    }

    /// `http://127.0.0.1:PORT`, or with `https` if it has TLS.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.scene.environment.contains_key("MPG_TLS_CERT") { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The key of [`Scene::with_key`].
    pub(crate) fn key(&self) -> &str {
        self.scene.key.as_ref().expect("the scene has a key").expose()
    }

    /// The REST API, logged in as the scene's admin.
    pub(crate) async fn admin(&self) -> Admin {
        Admin::log_in(self.url(), ADMIN_USERNAME, &self.scene.admin_password).await
    }

    /// A client of the MCP endpoint, with the key of the scene.
    pub(crate) fn mcp(&self) -> Mcp {
        self.mcp_as(self.key())
    }

    /// A client of the MCP endpoint, with any key.
    pub(crate) fn mcp_as(&self, key: &str) -> Mcp {
        Mcp::new(&self.url(), key)
    }

    /// A client with a new key, which has these fields beside its name; and the key's id.
    pub(crate) async fn mcp_with(&self, name: &str, key: serde_json::Value) -> (Mcp, String) {
        let (id, key) = self.admin().await.create_key(name, key).await;
        (self.mcp_as(&key), id)
    }

    /// The password of the scene's admin, to search for it where it mustn't be.
    pub(crate) fn admin_password(&self) -> &str {
        &self.scene.admin_password
    }

    /// A file of its data folder.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    /// Everything it has logged so far, over all its starts.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no reader panicked").clone()
    }

    /// The most memory that it has ever held, in bytes.
    pub(crate) fn memory_peak(&self) -> u64 {
        let running = self.running.as_ref().expect("it runs");
        processes::memory_peak(pid(&running.child))
    }

    /// The processes it has started, and those they have started.
    pub(crate) fn children(&self) -> Vec<Process> {
        let own = self.running.as_ref().map(|running| pid(&running.child));
        processes::marked(&self.marker()).into_iter().filter(|process| Some(process.pid()) != own).collect()
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
        self.end(Signal::KILL).await
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn terminate(&mut self) -> End {
        self.end(Signal::TERM).await
    }

    /// Sends SIGTERM and returns at once; [`Self::ended`] waits.
    pub(crate) fn ask_to_end(&self) {
        let running = self.running.as_ref().expect("it runs");
        kill_process(pid(&running.child), Signal::TERM).expect("a child of ours");
    }

    async fn end(&mut self, signal: Signal) -> End {
        let running = self.running.as_ref().expect("it runs");
        kill_process(pid(&running.child), signal).expect("a child of ours");
        self.ended().await
    }

    /// Waits for the end it was asked for.
    pub(crate) async fn ended(&mut self) -> End {
        let running = self.running.take().expect("it runs");
        let pid = pid(&running.child);
        let started = Instant::now();
        let end = tokio::task::spawn_blocking(move || {
            let has_ended = processes::wait_for_end(pid, started + END_PATIENCE);
            let took = started.elapsed();
            (has_ended.then(|| running.bury()), took)
        });
        let (status, took) = end.await.expect("waiting doesn't panic");
        let status =
            status.unwrap_or_else(|| panic!("it hasn't ended after {END_PATIENCE:?}:\n{}", self.log()));
        End { status, took }
    }

    /// What is left of its children when that much time has passed after its end.
    pub(crate) async fn children_left_after(&self, patience: Duration) -> Vec<Process> {
        assert!(self.running.is_none(), "it still runs");
        let marker = self.marker();
        let left = tokio::task::spawn_blocking(move || processes::wait_for_none(&marker, patience));
        left.await.expect("waiting doesn't panic")
    }

    /// The folder that its children's `TMPDIR` names.
    fn marker(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }
}

impl Running {
    fn bury(mut self) -> ExitStatus {
        let status = self.child.wait().expect("a child of ours");
        // Its end of the pipe is closed, so the reader ends as well; unless a leaked child holds it, which is
        // for the leak check to tell.
        if self.log_reader.is_finished() {
            let _ = self.log_reader.join();
        }
        status
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill();
            running.bury();
        }
        let left = processes::wait_for_none(&self.marker(), CHILDREN_PATIENCE);
        left.iter().for_each(Process::kill);
        if std::thread::panicking() {
            eprintln!("the gateway's log:\n{}", self.log());
        } else {
            assert!(left.is_empty(), "the gateway left children behind: {left:#?}");
        }
    }
}

fn read_log(stderr: ChildStderr, log: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines() {
            let Ok(line) = line else { return };
            let mut log = log.lock().expect("nobody panics with it");
            log.push_str(&line);
            log.push('\n');
        }
    })
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("a bound address").port()
}

/// Whether a file can be read by its owner alone.
#[track_caller]
pub(crate) fn assert_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).expect("the file is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{}", path.display());
}
