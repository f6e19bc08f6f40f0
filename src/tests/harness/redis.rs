//! A Redis of a test's own: a real server that can be stopped, frozen, filled and emptied.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::exchange::PATIENCE;
use super::node::Port;

/// Set where tests may start one; `.ci/run` sets it.
const VARIABLE: &str = "MPG_TEST_REDIS_ADDR";

/// Between two questions whether it listens.
const LOOK: Duration = Duration::from_millis(10);

/// A server on a port of its own. Dropped, it is killed.
pub(crate) struct RedisServer {
    port: Port,
    running: Option<Child>,
}

impl RedisServer {
    /// A running server; none, and a word on it, where this run has no Redis.
    pub(crate) async fn start() -> Option<Self> {
        if std::env::var(VARIABLE).is_ok_and(|address| !address.is_empty()) {
            let mut server = Self { port: Port::take(), running: None };
            server.start_again().await;
            return Some(server);
        }
        eprintln!("{VARIABLE} isn't set: nothing was tested; `.ci/run test-replicas` sets it");
        None
    }

    /// Starts it anew, empty, after [`Self::shut_down`].
    pub(crate) async fn start_again(&mut self) {
        let child = Command::new("redis-server")
            .args([
                "--port",
                &self.port.number().to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .args(["--dir", "/tmp"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.running = Some(child);
        let mut look = tokio::time::interval(LOOK);
        let listens = async {
            while TcpStream::connect(self.address()).is_err() {
                look.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, listens).await.expect("redis-server listens");
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        self.port.address()
    }

    /// Sends it a command and answers what it says.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &self.port.number().to_string()])
            .args(words)
            .output()
            .expect("redis-cli is installed");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Ends it without a farewell.
    pub(crate) fn shut_down(&mut self) {
        self.signal(Signal::CONT);
        self.command(&["SHUTDOWN", "NOSAVE"]);
        self.running.take().expect("it runs").wait().expect("it ends");
    }

    /// Freezes it: it accepts connections and answers nothing.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.running.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("a child of ours");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
