//! `connect` as a client starts it: lines in, lines out, and nothing that the test doesn't say.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::command::clean_command;
use super::exchange::PATIENCE;
use super::gateway::TestGateway;

/// The command, by a key; its other settings are a person's defaults.
pub(super) fn command(gateway: &TestGateway, key: &str) -> Command {
    let mut command = clean_command(Path::new("/"));
    command.args(["connect", "--url", &format!("{}/mcp", gateway.url())]).env("MPG_KEY", key);
    command
}

/// It runs. Dropped, it is killed.
pub(crate) struct Connected {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Connected {
    /// Starts it with a key and more variables.
    pub(crate) fn start(gateway: &TestGateway, key: &str, environment: &[(&str, &Path)]) -> Self {
        let mut command = tokio::process::Command::from(command(gateway, key));
        command.envs(environment.iter().copied()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, input, output }
    }

    /// Writes a line.
    pub(crate) async fn say(&mut self, message: impl ToString) {
        let line = format!("{}\n", message.to_string());
        let input = self.input.as_mut().expect("not closed");
        input.write_all(line.as_bytes()).await.expect("it reads");
    }

    /// The next line, which must come and be JSON; none at the end.
    pub(crate) async fn hear(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
        let line = line.expect("it says something").expect("its pipe is good")?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}")))
    }

    /// The next answer, to whichever request.
    pub(crate) async fn next_answer(&mut self) -> Value {
        loop {
            let message = self.hear().await.expect("an answer before the end");
            if message.get("method").is_none() {
                return message;
            }
        }
    }

    /// The answer to a request, and what came before it.
    pub(crate) async fn answer(&mut self, id: impl Into<Value>) -> (Vec<Value>, Value) {
        let (id, mut before) = (id.into(), Vec::new());
        loop {
            let message = self.hear().await.expect("an answer before the end");
            if message["id"] == id && message.get("method").is_none() {
                return (before, message);
            }
            before.push(message);
        }
    }

    /// Closes its input, and waits for its end: how it ended, and what it has told people.
    pub(crate) async fn close(mut self) -> (ExitStatus, String) {
        drop(self.input.take());
        while self.hear().await.is_some() {}
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = status.expect("it ends").expect("a child of ours");
        let mut told = String::new();
        let mut stderr = self.child.stderr.take().expect("it is piped");
        stderr.read_to_string(&mut told).await.expect("UTF-8");
        (status, told)
    }
}
