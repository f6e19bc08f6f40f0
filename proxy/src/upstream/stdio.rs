//! An upstream that is a child process: messages are lines on its stdin and stdout.
//!
//! [`open`] checks what may be started, starts it below a supervisor ([`super::supervise`]) with an
//! environment built afresh, and puts a [`Channel`] on its pipes. What it writes to stderr, and lines on
//! stdout that can't be messages, are kept in a ring for the admin to read. The process is stopped in
//! steps when the link is closed, dropped or broken (`child`).
//!
//! It never goes through a shell, and no child ever sees the gateway's own environment.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sql::model::{ConnParams, Upstream};
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

pub use self::environment::BaseEnvironment;
pub use self::policy::{StdioPolicy, check_spec};

use self::child::Child;
use self::lines::{LINE_BYTES_MAX, Lines, Pace, Ring, one_line};
use super::call::{Answer, Call, CallError};
use super::channel::{Broken, Channel, Receipt, Sink, Source};
use super::link::{Dropped, Link, Listener, Negotiated, OpenError, Stage, Wiring};

mod child;
mod environment;
mod lines;
mod policy;

/// How the children of this gateway are started.
#[derive(Debug, Clone)]
pub struct Launcher {
    supervisor: PathBuf,
    words: Vec<OsString>,
    policy: StdioPolicy,
    environment: BaseEnvironment,
}

impl Launcher {
    /// `binary` is the gateway's own, an absolute path; its hidden command `supervise` runs each child.
    pub fn new(binary: PathBuf, policy: StdioPolicy, environment: BaseEnvironment) -> Self {
        Self { supervisor: binary, words: vec!["supervise".into(), "--".into()], policy, environment }
    }

    /// Which commands it starts.
    pub fn policy(&self) -> &StdioPolicy {
        &self.policy
    }
}

/// Starts the child of `spec`.
pub(crate) async fn open(
    spec: &Upstream,
    launcher: &Launcher,
    wiring: Wiring,
) -> Result<Arc<dyn Link>, OpenError> {
    let mut command = command(spec, launcher).map_err(|reason| OpenError::new(Stage::Resolve, reason))?;
    // On the runtime that owns the link, whichever asked for it: the pipes belong to that one's reactor.
    let spawned = wiring.tasks.spawn("child start", async move { command.spawn() }).await;
    let mut process = match spawned {
        Ok(Ok(process)) => process,
        Ok(Err(error)) => return Err(cannot_start(error)),
        Err(error) => return Err(cannot_start(error)),
    };
    let ring = Arc::new(Ring::default());
    let stdin = process.stdin.take().expect("stdin was asked for");
    let stdout = process.stdout.take().expect("stdout was asked for");
    let stderr = process.stderr.take().expect("stderr was asked for");
    let source = Stdout {
        lines: Lines::new(stdout, LINE_BYTES_MAX),
        pace: Pace::new(),
        ring: Arc::clone(&ring),
        listener: Arc::clone(&wiring.listener),
    };
    let tasks = wiring.tasks.clone();
    let channel = Channel::open(source, Stdin(stdin), wiring);
    let child = Child::watch(process, stderr, channel.clone(), Arc::clone(&ring), &tasks);
    Ok(Arc::new(StdioLink { channel, child, ring }))
}

fn cannot_start(source: impl std::error::Error + Send + Sync + 'static) -> OpenError {
    let reason = format!("the supervisor can't be started: {source}");
    OpenError { stage: Stage::Connect, reason, source: Some(Box::new(source)) }
}

/// The supervisor with everything it is to start, or why it isn't to be started.
fn command(spec: &Upstream, launcher: &Launcher) -> Result<Command, String> {
    // Again, whatever was checked when it was saved: the policy may be another one by now.
    launcher
        .policy
        .check(&spec.conn_params)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let ConnParams::Stdio { command: program, args, env, cwd } = &spec.conn_params else {
        return Err("its parameters are not those of a stdio upstream".into());
    };
    let credential = spec.credential.as_ref();
    let environment = launcher.environment.with(env, credential).map_err(|error| format!("env {error}"))?;
    let directory = cwd.as_ref().map(Path::new);
    if directory.is_some_and(|directory| !directory.is_dir()) {
        return Err("its working directory doesn't exist".into());
    }
    let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path);
    if !is_program(program, path, directory) {
        return Err(format!("there is no program `{program}`"));
    }
    let mut command = Command::new(&launcher.supervisor);
    command.args(&launcher.words).arg(program);
    for argument in args {
        command.arg(environment::fill(argument, credential).map_err(|error| format!("args {error}"))?);
    }
    command.env_clear().envs(environment);
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Whether `exec` would find a program, so that a typing error is told apart from a crash.
fn is_program(program: &str, path: Option<&OsString>, directory: Option<&Path>) -> bool {
    let base = directory.unwrap_or(Path::new("."));
    let runs = |file: PathBuf| {
        file.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return runs(base.join(program));
    }
    path.is_some_and(|path| std::env::split_paths(path).any(|place| runs(base.join(place).join(program))))
}

/// A live child.
struct StdioLink {
    channel: Channel,
    child: Child,
    ring: Arc<Ring>,
}

#[async_trait]
impl Link for StdioLink {
    async fn request(&self, call: Call) -> Result<Answer, CallError> {
        self.channel.request(call).await
    }

    async fn notify(&self, method: &str, params: Option<Bytes>) -> Result<(), CallError> {
        self.channel.notify(method, params.as_deref())
    }

    fn set_protocol(&self, protocol: Negotiated) {
        self.channel.set_protocol(protocol);
    }

    fn closed(&self) -> &CancellationToken {
        self.channel.lost()
    }

    async fn close(&self) {
        self.channel.close();
        self.child.stop().await;
    }

    fn stderr(&self) -> Vec<String> {
        self.ring.lines()
    }
}

/// Messages from a child.
struct Stdout {
    lines: Lines<ChildStdout>,
    pace: Pace,
    ring: Arc<Ring>,
    listener: Arc<dyn Listener>,
}

impl Source for Stdout {
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            let line = self.lines.next().await.map_err(|error| {
                self.ring.push(format!("[{error}]").as_bytes());
                Broken(error.to_string())
            })?;
            let Some(line) = line else { return Ok(None) };
            match line.trim_ascii_start().first() {
                Some(b'{' | b'[') => return Ok(Some(line)),
                None => {} // An empty line says nothing, so nothing is lost.
                Some(_) => {
                    self.unreadable(&line);
                    self.listener.dropped(Dropped::Garbage);
                    self.pace.spend(line.len(), 1).await;
                }
            }
        }
    }

    /// A log line, most often: shown with the others.
    fn unreadable(&self, line: &Bytes) {
        self.ring.push(line);
    }
}

/// Messages to a child.
struct Stdin(ChildStdin);

impl Sink for Stdin {
    async fn send(&mut self, message: Bytes, _: Receipt) -> Result<(), Broken> {
        let mut line = bytes::Buf::chain(one_line(message), &b"\n"[..]);
        self.0
            .write_all_buf(&mut line)
            .await
            .map_err(|error| Broken(format!("the process takes no input: {error}")))
    }

    /// Dropping it closes the child's stdin: the signal to end that every server understands.
    async fn finish(self) {}
}

#[cfg(test)]
mod tests;
