//! The reference server of `src/tests/peers`, an MCP server of another make, as a process.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A reference server over a socket. Dropped, it ends.
pub(crate) struct Reference {
    child: Child,
    address: String,
}

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
        let mut command = Command::new("node");
        command.arg(script).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("node is installed");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().strip_prefix("listening ").expect("it says where it listens").to_owned();
        Self { child, address }
    }

    pub(crate) fn url(&self) -> String {
        self.url_with("http")
    }

    /// Host and port.
    pub(super) fn address(&self) -> &str {
        &self.address
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

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
