//! One process of the gateway: the real binary on a free port, with a data folder of its own.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::command::{GatewayCommand, clean_command};
use super::processes::{self, Process};

/// How long a gateway may take until it is ready: a debug build on a busy machine.
pub(super) const READY_PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to end when asked to: its own drain timeout and a little.
const END_PATIENCE: Duration = Duration::from_secs(40);
/// How long its children may outlive it before the test fails. What the gateway promises is shorter and
/// has a test of its own; this only tells a slow machine from a leak.
const CHILDREN_PATIENCE: Duration = Duration::from_secs(5);
/// Between two questions whether it is ready.
pub(super) const READY_INTERVAL: Duration = Duration::from_millis(20);

/// The bootstrap file in its folder.
const BOOTSTRAP: &str = "gateway.yaml";

/// A process that may run. Dropped, it is killed, and the test fails if a child of it is left.
pub(crate) struct Node {
    folder: TempDir,
    port: Port,
    _peer_port: Option<Port>,
    environment: BTreeMap<String, String>,
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

impl Node {
    /// One that doesn't run yet, with these variables and this bootstrap file. `peer_port` is the one that the
    /// variables name, if they do.
    pub(super) fn new(
        environment: BTreeMap<String, String>,
        peer_port: Option<Port>,
        bootstrap: &str,
    ) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("tmp")).expect("the folder is writable");
        std::fs::write(folder.path().join(BOOTSTRAP), bootstrap).expect("the folder is writable");
        Self {
            folder,
            port: Port::take(),
            _peer_port: peer_port,
            environment,
            running: None,
            log: Arc::default(),
        }
    }

    /// A command beside it: with its environment, and on its data folder.
    pub(super) fn command(&self, arguments: &[&str]) -> GatewayCommand {
        let data = self.folder.path().join("data");
        let words = [arguments, &["--data-dir", data.to_str().expect("UTF-8")]].concat();
        GatewayCommand::new(words).envs(&self.environment)
    }

    /// Starts it, and waits until it is ready by what `http` is answered.
    pub(super) async fn start(&mut self, http: &reqwest::Client) {
        assert!(self.running.is_none(), "it runs already");
        let mut command = clean_command(self.folder.path());
        command
            .envs(&self.environment)
            .env("TMPDIR", self.marker())
            .args(["serve", "--bootstrap", BOOTSTRAP, "--data-dir", "data"])
            .args(["--listen", &self.address()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let log_reader = read_log(stderr, Arc::clone(&self.log));
        self.running = Some(Running { child, log_reader });
        self.wait_until_ready(http).await;
    }

    async fn wait_until_ready(&mut self, http: &reqwest::Client) {
        let ready = format!("{}/readyz", self.url());
        let deadline = Instant::now() + READY_PATIENCE;
        let mut ticks = tokio::time::interval(READY_INTERVAL);
        loop {
            ticks.tick().await;
            let answer = http.get(&ready).timeout(READY_PATIENCE).send().await;
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
        format!("{}://{}", self.scheme(), self.address())
    }

    pub(super) fn scheme(&self) -> &'static str {
        if self.environment.contains_key("MPG_TLS_CERT") { "https" } else { "http" }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> String {
        self.port.address()
    }

    /// Where other replicas reach it.
    pub(crate) fn peer_address(&self) -> &str {
        &self.environment["MPG_PEER_ADDR"]
    }

    /// A file of its data folder.
    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    /// Everything it has logged so far, over all its starts.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no reader panicked").clone()
    }

    /// The most memory that it has ever held, in bytes.
    pub(super) fn memory_peak(&self) -> u64 {
        processes::memory_peak(self.pid())
    }

    /// The processes it has started, and those they have started.
    pub(super) fn children(&self) -> Vec<Process> {
        let own = self.running.as_ref().map(|running| Pid::from_child(&running.child));
        processes::marked(&self.marker()).into_iter().filter(|process| Some(process.pid()) != own).collect()
    }

    /// Ends it as a crash would.
    pub(crate) async fn kill_9(&mut self) -> End {
        self.signal(Signal::KILL);
        self.ended().await
    }

    /// Sends a signal and returns at once; [`Self::ended`] waits.
    pub(super) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a child of ours");
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn terminate(&mut self) -> End {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits for the end it was asked for.
    pub(super) async fn ended(&mut self) -> End {
        let pid = self.pid();
        let running = self.running.take().expect("it runs");
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
    pub(super) async fn children_left_after(&self, patience: Duration) -> Vec<Process> {
        assert!(self.running.is_none(), "it still runs");
        let marker = self.marker();
        let left = tokio::task::spawn_blocking(move || processes::wait_for_none(&marker, patience));
        left.await.expect("waiting doesn't panic")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.running.as_ref().expect("it runs").child)
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

impl Drop for Node {
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

/// A port of loopback that no other test takes while this one has it, in whatever process that is: its number is
/// held for UDP, which nobody speaks here.
pub(super) struct Port {
    number: u16,
    _held: UdpSocket,
}

impl Port {
    /// One of those that the system gives to nobody who asks for any.
    pub(super) fn take() -> Self {
        // What connections take for their own end lies above.
        const PORTS: std::ops::Range<u16> = 10_000..32_000;
        let random = RandomState::new().build_hasher().finish();
        let start = usize::try_from(random).unwrap_or_default() % PORTS.len();
        let free = |number| {
            let held = UdpSocket::bind(("127.0.0.1", number)).ok()?;
            TcpListener::bind(("127.0.0.1", number)).is_ok().then_some(Self { number, _held: held })
        };
        PORTS.chain(PORTS).skip(start).find_map(free).expect("loopback has free ports")
    }

    /// `127.0.0.1:PORT`.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }

    /// Its number.
    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

/// Whether a file can be read by its owner alone.
#[track_caller]
pub(crate) fn assert_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).expect("the file is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{}", path.display());
}
