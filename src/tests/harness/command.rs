//! A command of the binary that does one thing and ends.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use tempfile::TempDir;

use super::processes;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_mcp-proxy-gateway");

/// A command with an environment of its own: nothing of the machine's reaches it but `PATH`.
pub(crate) struct GatewayCommand {
    command: Command,
    folder: TempDir,
}

/// How a command ended and what it said.
pub(crate) struct CommandOutput {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl GatewayCommand {
    /// `mcp-proxy-gateway ARGUMENTS`, in an empty folder.
    pub(crate) fn new<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut command = clean_command(folder.path());
        command.args(arguments);
        Self { command, folder }
    }

    /// Another command in this one's folder, with an environment of its own.
    pub(crate) fn then<A: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = clean_command(self.folder.path());
        command.args(arguments);
        Self { command, ..self }
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets variables.
    pub(super) fn envs<'a>(mut self, variables: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        self.command.envs(variables);
        self
    }

    /// Runs it with something on its standard input.
    pub(crate) fn run_with_stdin(&mut self, stdin: File) -> CommandOutput {
        self.run_from(Stdio::from(stdin))
    }

    /// Starts it at a terminal, with what it says on pipes.
    pub(super) fn spawn_at(&mut self, terminal: File) -> Child {
        let command = self.command.stdin(terminal).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("the binary starts");
        // Kept for another start, it would keep the terminal open.
        command.stdin(Stdio::null());
        child
    }

    /// Writes a file into the command's folder.
    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        std::fs::write(self.path(name), content).expect("the folder is writable");
        self
    }

    /// A path in the command's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs it to its end. May be called again: the folder and the environment stay.
    pub(crate) fn run(&mut self) -> CommandOutput {
        self.run_from(Stdio::null())
    }

    /// Runs it, and kills it if it hasn't ended by itself after that long. `None`: it was killed.
    pub(crate) fn run_for(&mut self, life: Duration) -> Option<CommandOutput> {
        let command = self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        if !processes::wait_for_end(Pid::from_child(&child), Instant::now() + life) {
            child.kill().expect("a child of ours");
        }
        let output = child.wait_with_output().expect("a child of ours");
        output.status.code().is_some().then(|| CommandOutput::of(output))
    }

    fn run_from(&mut self, stdin: Stdio) -> CommandOutput {
        let output = self.command.stdin(stdin).output().expect("the binary starts");
        CommandOutput::of(output)
    }
}

impl CommandOutput {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// It succeeded, saying nothing but its data.
    #[track_caller]
    pub(crate) fn assert_success(&self) -> &Self {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""));
        self
    }

    /// It failed with this code and exactly these lines.
    #[track_caller]
    pub(crate) fn assert_failure(&self, code: i32, lines: &[&str]) -> &Self {
        let told: Vec<&str> = self.stderr.lines().collect();
        assert_eq!((self.code, told.as_slice()), (Some(code), lines));
        assert_eq!(self.stdout, "");
        self
    }
}

/// The binary in a folder, with nothing in its environment that could reach it by chance.
pub(super) fn clean_command(folder: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
    command.current_dir(folder);
    command
}
