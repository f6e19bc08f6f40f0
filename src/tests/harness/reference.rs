//! The reference server of `src/tests/peers`, an MCP server of another make, as a process.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A reference server over a socket. Dropped, it ends.
pub(crate) struct Reference {
    _process: Running,
    address: String,
}

/// Many of them in one process, each with one transport and one revision. Dropped, they end.
pub(crate) struct References {
    _process: Running,
    addresses: Vec<(&'static str, &'static str, String)>,
}

struct Running(Child);

impl Reference {
    /// Starts it over Streamable HTTP with these arguments, such as `--era legacy`.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::over("http", arguments)
    }

    /// Starts it over `http`, `sse` or `ws`.
    pub(crate) fn over(transport: &str, arguments: &[&str]) -> Self {
        Self::of(&script(), &[&["--transport", transport, "--port", "0"], arguments].concat())
    }

    /// Starts another script that says where it listens.
    pub(super) fn of(script: &str, arguments: &[&str]) -> Self {
        let (process, mut addresses) = start(script, arguments, 1);
        Self { _process: process, address: addresses.remove(0) }
    }

    pub(crate) fn url(&self) -> String {
        self.url_with("http")
    }

    /// Host and port.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Has it tell all sessions something that belongs to no call.
    pub(crate) async fn log(&self, level: &str) {
        let request = reqwest::Client::new().post(format!("{}/log?level={level}", self.url()));
        assert_eq!(request.send().await.expect("an answer").status(), reqwest::StatusCode::NO_CONTENT);
    }

    /// Its address with another scheme.
    pub(crate) fn url_with(&self, scheme: &str) -> String {
        format!("{scheme}://{}/mcp", self.address)
    }

    /// The words that start it over stdio, the command first.
    pub(crate) fn over_stdio<'a>(script: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
        [&[script, "--transport", "stdio"], arguments].concat()
    }
}

impl References {
    /// Starts one for each pair of these transports and revisions.
    pub(crate) fn start(transports: &[&'static str], revisions: &[&'static str], arguments: &[&str]) -> Self {
        let (all_transports, all_revisions) = (transports.join(","), revisions.join(","));
        let which = ["--transport", &all_transports, "--port", "0", "--revision", &all_revisions];
        let servers = transports.len() * revisions.len();
        let (process, addresses) = start(&script(), &[&which, arguments].concat(), servers);
        let pairs = transports.iter().flat_map(|one| revisions.iter().map(move |revision| (*one, *revision)));
        let addresses = pairs.zip(addresses).map(|((one, revision), address)| (one, revision, address));
        Self { _process: process, addresses: addresses.collect() }
    }

    /// The address of one of them.
    pub(crate) fn url(&self, transport: &str, revision: &str) -> String {
        let scheme = if transport == "ws" { "ws" } else { "http" };
        let found = self.addresses.iter().find(|one| (one.0, one.1) == (transport, revision));
        let (_, _, address) = found.unwrap_or_else(|| panic!("nobody speaks {revision} over {transport}"));
        format!("{scheme}://{address}/mcp")
    }
}

/// Starts a script, and waits until it has said where it listens, once for each server.
fn start(script: &str, arguments: &[&str], servers: usize) -> (Running, Vec<String>) {
    let mut command = Command::new("node");
    command.arg(script).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Running(command.spawn().expect("node is installed"));
    let stdout = process.0.stdout.take().expect("stdout is piped");
    let lines = BufReader::new(stdout).lines().take(servers);
    let address = |line: std::io::Result<String>| {
        let line = line.expect("it says where it listens");
        line.strip_prefix("listening ").expect("it says where it listens").to_owned()
    };
    let addresses: Vec<_> = lines.map(address).collect();
    assert_eq!(addresses.len(), servers, "it says where it listens");
    (process, addresses)
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Its script.
pub(crate) fn script() -> String {
    tests_folder().join("peers/reference-server.mjs").to_str().expect("UTF-8").to_owned()
}

/// Where tests have what npm installs.
pub(crate) fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests")
}
