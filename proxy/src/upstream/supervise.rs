//! The process between the gateway and a stdio upstream: whatever ends it, the upstream's tree ends too.
//!
//! The gateway never starts a command itself. It starts its own binary as `supervise -- COMMAND ARGS`,
//! which becomes session leader and subreaper, gives up gaining privileges, limits what may be used, and
//! starts the command with the same stdin, stdout and stderr. So every descendant, a grandchild that
//! made a session of its own included, stays below the supervisor, and the supervisor can find and end
//! it. It ends all of them in three cases: the command ended, it was told to (SIGTERM), or the gateway
//! is gone.
//!
//! **The life line is stderr.** It is a pipe whose only reader is the gateway, and a pipe that nobody
//! can read any more reports an error to whoever polls its writing end, however the reader came to
//! go: closed on purpose, panicked, killed with SIGKILL. So the gateway lets go of a child by dropping that
//! pipe, and no further descriptor has to be smuggled past `exec`. A parent-death signal is only the
//! second line: the kernel sends it when the *thread* that forked ends, so on it the supervisor looks
//! whether its parent still lives.
//!
//! **The command is started in two steps**, because a parent-death signal is not inherited: the
//! supervisor starts this binary once more, which asks for SIGKILL at the supervisor's death and then
//! becomes the command. So a supervisor that is itself killed takes at least the command along.
//!
//! It must never write to stdout, which belongs to the command.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::tree::{Left, Tree};

pub(super) mod tree;

/// How long the tree has after SIGTERM when the gateway asks for an orderly end.
pub(super) const TERM_GRACE: Duration = Duration::from_secs(3);

/// How long what a command left behind, or a tree whose gateway is gone, has after SIGTERM: with the rest,
/// under the second within which a killed gateway leaves no child and a crash is reported.
const SHORT_GRACE: Duration = Duration::from_millis(300);

/// Time between two rounds of SIGKILL: a process may have forked between being listed and killed.
const KILL_ROUND: Duration = Duration::from_millis(10);

/// How long SIGKILL is repeated. Beyond it a process hangs in the kernel, where no signal reaches it.
const KILL_TIME_MAX: Duration = Duration::from_secs(5);

/// Open files of one process: a browser needs some thousands, a leak must not reach the host's limit.
const OPEN_FILES_MAX: u64 = 16_384;

/// The first word of the second step; what follows is the supervisor's process id.
const SECOND_STEP: &str = "--exec-under=";

/// Exit codes as a shell gives them.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
const SIGNAL_BASE: i32 = 128;
const KILLED: u8 = 137;

/// The exit code of a supervisor that could not set itself up (`EX_OSERR`).
const NOT_SET_UP: u8 = 71;

/// The body of the hidden command `supervise -- COMMAND ARGS`; `args` is what follows `supervise`, with or
/// without the `--`, and must be the end of the process's own arguments. Runs before any runtime exists.
pub fn run(args: Vec<OsString>) -> ExitCode {
    ExitCode::from(run_for_code(args))
}

fn run_for_code(mut command: Vec<OsString>) -> u8 {
    if command.first().is_some_and(|word| word == "--") {
        command.remove(0);
    }
    let outcome = match command.first().and_then(second_step) {
        Some(supervisor) => become_command(supervisor, &command[1..]),
        None => supervise(&command),
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("supervise: {failure}");
        failure.code()
    })
}

/// Why a command isn't supervised.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no command given")]
    NoCommand,
    #[error("cannot {doing}: {source}")]
    Setup { doing: &'static str, source: io::Error },
    #[error("cannot start {command}: {source}")]
    Start { command: String, source: io::Error },
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Failure::Start { .. } => NOT_EXECUTABLE,
            Failure::NoCommand | Failure::Setup { .. } => NOT_SET_UP,
        }
    }
}

/// Names the step that failed.
fn while_doing<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Failure {
    move |error| Failure::Setup { doing, source: error.into() }
}

fn second_step(word: &OsString) -> Option<Pid> {
    word.to_str()?.strip_prefix(SECOND_STEP)?.parse().ok().and_then(Pid::from_raw)
}

/// The second step: dies with the supervisor from here on, then becomes the command.
fn become_command(supervisor: Pid, command: &[OsString]) -> Result<u8, Failure> {
    let (program, arguments) = command.split_first().ok_or(Failure::NoCommand)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(while_doing("ask for a parent-death signal"))?;
    if rustix::process::getppid() != Some(supervisor) {
        return Ok(NOT_SET_UP); // It died before the line above took effect.
    }
    let source = Command::new(program).args(arguments).exec();
    Err(Failure::Start { command: program.to_string_lossy().into_owned(), source })
}

/// The first step: the supervisor itself.
fn supervise(command: &[OsString]) -> Result<u8, Failure> {
    let parent = rustix::process::getppid();
    // Fails only for who leads a group already, as a command of an interactive shell does.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(while_doing("become subreaper"))?;
    rustix::thread::set_no_new_privs(true).map_err(while_doing("give up gaining privileges"))?;
    limit_resources().map_err(while_doing("set resource limits"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(while_doing("make a runtime"))?;
    runtime.block_on(watch_over(command, parent))
}

fn limit_resources() -> rustix::io::Result<()> {
    // No core dump: it would hold the credentials of the environment.
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let allowed = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let open_files = Some(allowed.min(OPEN_FILES_MAX));
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: open_files, maximum: open_files })
}

/// Starts the command, waits for the first reason to end, and ends whatever is left.
async fn watch_over(command: &[OsString], parent: Option<Pid>) -> Result<u8, Failure> {
    let mut events = Events::listen(parent).map_err(while_doing("listen to signals"))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::USR1))
        .map_err(while_doing("ask for a parent-death signal"))?;
    let mut tree = Tree::below_this_process(start(command)?);
    leave_standard_streams().map_err(while_doing("leave stdin and stdout to the command"))?;
    let grace = loop {
        match events.next().await {
            Event::ChildChanged => {
                tree.reap();
                if tree.command_status().is_some() {
                    break SHORT_GRACE;
                }
            }
            Event::Told => break TERM_GRACE,
            Event::GatewayGone => break SHORT_GRACE,
        }
    };
    end(&mut tree, &mut events, grace).await;
    Ok(tree.command_status().map_or(KILLED, exit_code))
}

/// Starts this binary once more, by the words that led here, for the second step.
fn start(command: &[OsString]) -> Result<Pid, Failure> {
    let (program, _) = command.split_first().ok_or(Failure::NoCommand)?;
    let own: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words = &own[..own.len().saturating_sub(command.len())];
    let under = format!("{SECOND_STEP}{}", rustix::process::getpid().as_raw_pid());
    Command::new(own_binary())
        .args(words)
        .arg(under)
        .args(command)
        // A group of its own, so that a command's `kill 0` doesn't reach the supervisor.
        .process_group(0)
        .spawn()
        .map(|child| Pid::from_child(&child))
        .map_err(|source| Failure::Start { command: program.to_string_lossy().into_owned(), source })
}

/// This binary, even if the file has been replaced by an upgrade since.
fn own_binary() -> OsString {
    let link = std::path::Path::new("/proc/self/exe");
    if link.exists() {
        return link.into();
    }
    std::env::current_exe().map_or_else(|_| link.into(), Into::into)
}

/// Lets go of the command's stdin and stdout, so that each side sees when the other closes them.
fn leave_standard_streams() -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

/// SIGTERM to all, then SIGKILL to what is left, until nothing is.
async fn end(tree: &mut Tree, events: &mut Events, grace: Duration) {
    tree.signal_all(Signal::TERM);
    tree.signal_all(Signal::CONT); // A stopped process gets its SIGTERM only once it runs.
    let deadline = Instant::now() + grace;
    while tree.reap() == Left::Some {
        match tokio::time::timeout_at(deadline, events.next()).await {
            Ok(Event::ChildChanged | Event::Told) => {}
            // Whoever drops the life line during the grace wants no more of it.
            Ok(Event::GatewayGone) | Err(_) => break,
        }
    }
    let give_up = Instant::now() + KILL_TIME_MAX;
    while tree.reap() == Left::Some && Instant::now() < give_up {
        tree.signal_all(Signal::KILL);
        let _ = tokio::time::timeout(KILL_ROUND, events.child.recv()).await;
    }
}

/// The command's own code, or the one that a shell gives to a signal.
fn exit_code(status: rustix::process::WaitStatus) -> u8 {
    let code =
        status.exit_status().or_else(|| status.terminating_signal().map(|signal| SIGNAL_BASE + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(KILLED)
}

/// What a supervisor waits for.
enum Event {
    ChildChanged,
    Told,
    GatewayGone,
}

/// The signals and the life line, as one stream of events.
struct Events {
    child: tokio::signal::unix::Signal,
    told: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    parent_death: tokio::signal::unix::Signal,
    parent: Option<Pid>,
    life_line: CancellationToken,
    gone: bool,
}

impl Events {
    fn listen(parent: Option<Pid>) -> io::Result<Self> {
        Ok(Self {
            child: signal(SignalKind::child())?,
            told: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            parent_death: signal(SignalKind::user_defined1())?,
            parent,
            life_line: watch_life_line(),
            gone: false,
        })
    }

    /// The next event; that the gateway is gone is told once.
    async fn next(&mut self) -> Event {
        loop {
            tokio::select! {
                _ = self.child.recv() => return Event::ChildChanged,
                _ = self.told.recv() => return Event::Told,
                _ = self.hangup.recv() => return Event::Told,
                _ = self.interrupt.recv() => return Event::Told,
                _ = self.parent_death.recv() => {
                    // The thread that forked ended; only a new parent means that the gateway did.
                    if rustix::process::getppid() != self.parent && !self.gone {
                        self.gone = true;
                        return Event::GatewayGone;
                    }
                }
                () = self.life_line.cancelled(), if !self.gone => {
                    self.gone = true;
                    return Event::GatewayGone;
                }
            }
        }
    }
}

/// Cancelled when nobody can read our stderr any more. A thread, because it only ever waits in `poll`.
fn watch_life_line() -> CancellationToken {
    use rustix::event::{PollFd, PollFlags, poll};
    let broken = CancellationToken::new();
    let told = broken.clone();
    std::thread::spawn(move || {
        let stderr = io::stderr();
        loop {
            // Errors are reported without being asked for.
            let mut watched = [PollFd::new(&stderr, PollFlags::empty())];
            match poll(&mut watched, None) {
                Ok(_)
                    if watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) =>
                {
                    return told.cancel();
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return told.cancel(),
            }
        }
    });
    broken
}

#[cfg(test)]
pub(super) mod tests;
