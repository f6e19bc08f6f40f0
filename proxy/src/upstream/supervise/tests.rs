//! A supervisor with real processes below it. It is this test binary, started for the one test that is its entry.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::{run_for_code, watch_life_line};

/// Longer than any deadline in here, so that only a failing test meets it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Not a test of its own: what the test binary runs when it is started as a supervisor.
#[test]
fn entry() {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(end) = args.iter().position(|word| word == "--") {
        std::process::exit(run_for_code(args[end..].to_vec()).into());
    }
}

/// This binary and the words that make it a supervisor; the command follows them.
pub(in crate::upstream) fn supervisor() -> (PathBuf, Vec<OsString>) {
    let words = ["--exact", "upstream::supervise::tests::entry", "--nocapture", "--"];
    (std::env::current_exe().expect("a running binary"), words.map(Into::into).to_vec())
}

/// A mark in the environment, by which all descendants can be found whatever became of their parents.
pub(in crate::upstream) struct Mark(String);

impl Mark {
    pub(in crate::upstream) const NAME: &'static str = "TEST_MARK";

    pub(in crate::upstream) fn new() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    pub(in crate::upstream) fn known(value: &str) -> Self {
        Self(value.to_owned())
    }

    pub(in crate::upstream) fn value(&self) -> &str {
        &self.0
    }

    /// The processes that carry the mark: process id and command line.
    pub(in crate::upstream) fn alive(&self) -> Vec<(i32, String)> {
        let mark = format!("{}={}", Self::NAME, self.0);
        let entries = std::fs::read_dir("/proc").expect("tests run where /proc is");
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
            environment.split(|byte| *byte == 0).find(|variable| *variable == mark.as_bytes())?;
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&command).replace('\0', " ")))
        })
        .collect()
    }

    /// Waits until `done` says so of the marked processes, at most `within`.
    pub(in crate::upstream) fn wait(&self, within: Duration, done: impl Fn(&[(i32, String)]) -> bool) {
        let deadline = Instant::now() + within;
        loop {
            let alive = self.alive();
            if done(&alive) {
                return;
            }
            assert!(Instant::now() < deadline, "still alive: {alive:?}");
            // Nothing tells when a process that isn't ours ends: look again soon.
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Waits until no process carries the mark.
    pub(in crate::upstream) fn wait_for_none(&self, within: Duration) {
        self.wait(within, <[_]>::is_empty);
    }

    /// Waits until a process whose command line is like `part` runs, and gives its id.
    pub(in crate::upstream) fn wait_for(&self, part: &str) -> Pid {
        let find = |alive: &[(i32, String)]| {
            alive.iter().find(|(_, command)| command.starts_with(part)).map(|(pid, _)| *pid)
        };
        self.wait(PATIENCE, |alive| find(alive).is_some());
        find(&self.alive()).and_then(Pid::from_raw).expect("it was there and doesn't end by itself")
    }
}

fn start(mark: &Mark, command: &[&str]) -> Child {
    let (program, words) = supervisor();
    Command::new(program)
        .args(words)
        .args(command)
        .env(Mark::NAME, mark.value())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this binary starts")
}

fn output(mark: &Mark, command: &[&str]) -> (i32, String, String) {
    let out = start(mark, command).wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (out.status.code().expect("it isn't killed"), text(out.stdout), text(out.stderr))
}

#[test]
fn passes_on_how_the_command_ended() {
    let mark = Mark::new();
    assert_eq!(output(&mark, &["sh", "-c", "exit 7"]).0, 7);
    assert_eq!(output(&mark, &["sh", "-c", "kill -9 $$"]).0, 137);
    let (code, _, stderr) = output(&mark, &["no-such-command"]);
    assert_eq!(code, 127);
    assert!(stderr.contains("cannot start no-such-command: No such file"), "{stderr}");
    assert_eq!(output(&mark, &["/"]).0, 126);
    assert_eq!(output(&mark, &[]).0, 71);
    mark.wait_for_none(PATIENCE);
}

#[test]
fn arguments_reach_the_command_as_they_are() {
    let hostile = ["printf", "%s|", "$(id)", ";", "*", "a b", "--", "--exec-under=1"];
    let (_, stdout, _) = output(&Mark::new(), &hostile);
    assert!(stdout.ends_with("$(id)|;|*|a b|--|--exec-under=1|"), "{stdout}");
}

#[test]
fn the_command_is_confined() {
    let script =
        "grep NoNewPrivs /proc/self/status; ulimit -c; ulimit -n; cut -d' ' -f6 /proc/$$/stat; echo $PPID";
    let (code, stdout, _) = output(&Mark::new(), &["sh", "-c", script]);
    let lines: Vec<&str> = stdout.lines().rev().take(5).collect();
    let [parent, session, open, core, privileges] = lines[..] else { panic!("{stdout}") };
    assert_eq!((code, privileges, core), (0, "NoNewPrivs:\t1", "0"));
    assert!(open.parse::<u64>().expect("a number") <= super::OPEN_FILES_MAX);
    assert_eq!(session, parent, "the supervisor leads the session");
}

#[test]
fn the_command_inherits_no_descriptor_of_the_supervisor() {
    let list = ["ls", "/proc/self/fd"];
    let alone = Command::new(list[0]).args(&list[1..]).stdin(Stdio::piped()).output().expect("ls runs");
    let alone = String::from_utf8(alone.stdout).expect("text");
    let (_, supervised, _) = output(&Mark::new(), &list);
    assert!(supervised.ends_with(&alone), "{supervised} instead of {alone}");
}

#[test]
fn what_the_command_left_behind_goes_with_it() {
    let mark = Mark::new();
    let script = "sleep 991 & setsid sleep 992 & (trap '' TERM; setsid sh -c \"trap '' TERM; sleep 993; sleep 994\" &) ; exit 3";
    let started = Instant::now();
    let (code, _, _) = output(&mark, &["sh", "-c", script]);
    assert_eq!(code, 3);
    assert!(mark.alive().is_empty(), "{:?}", mark.alive());
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn the_end_of_the_life_line_ends_the_whole_tree() {
    let mark = Mark::new();
    let script = "trap '' TERM; sh -c 'sleep 991; :' & setsid sleep 992 & while :; do sleep 993; done";
    let mut supervisor = start(&mark, &["sh", "-c", script]);
    for part in ["sleep 991", "sleep 992", "sleep 993"] {
        mark.wait_for(part);
    }
    drop(supervisor.stderr.take());
    mark.wait_for_none(Duration::from_secs(1));
    assert_eq!(supervisor.wait().expect("it ended").code(), Some(137));
}

#[test]
fn is_told_to_end_and_kills_who_will_not() {
    let mark = Mark::new();
    let mut supervisor = start(&mark, &["sh", "-c", "trap '' TERM; while :; do sleep 991; done"]);
    mark.wait_for("sleep 991");
    let started = Instant::now();
    rustix::process::kill_process(Pid::from_child(&supervisor), Signal::TERM).expect("it lives");
    assert_eq!(supervisor.wait().expect("it ended").code(), Some(137));
    assert!(started.elapsed() >= super::TERM_GRACE && started.elapsed() < super::TERM_GRACE * 2);
    assert!(mark.alive().is_empty());
}

#[test]
fn a_command_that_heeds_sigterm_ends_in_its_own_way() {
    let mark = Mark::new();
    let script = "trap 'echo tidy; exit 5' TERM; sleep 991 & wait";
    let mut supervisor = start(&mark, &["sh", "-c", script]);
    mark.wait_for("sleep 991");
    rustix::process::kill_process(Pid::from_child(&supervisor), Signal::TERM).expect("it lives");
    assert_eq!(supervisor.wait().expect("it ended").code(), Some(5));
    let mut stdout = String::new();
    supervisor.stdout.take().expect("piped").read_to_string(&mut stdout).expect("text");
    assert!(stdout.ends_with("tidy\n"), "{stdout}");
}

#[test]
fn a_command_that_kills_its_group_does_not_reach_the_supervisor() {
    let mark = Mark::new();
    assert_eq!(output(&mark, &["sh", "-c", "setsid sleep 991 & kill -9 0"]).0, 137);
    assert!(mark.alive().is_empty(), "{:?}", mark.alive());
}

#[test]
fn a_killed_supervisor_takes_the_command_along() {
    let mark = Mark::new();
    let mut supervisor = start(&mark, &["sleep", "991"]);
    mark.wait_for("sleep 991");
    supervisor.kill().expect("it lives");
    mark.wait_for_none(Duration::from_secs(1));
    supervisor.wait().expect("it ended");
}

#[test]
fn outlives_the_thread_that_started_it() {
    let mark = Mark::new();
    let mut supervisor = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let supervisor = start(&mark, &["cat"]);
            mark.wait_for("cat");
            supervisor
        });
        thread.join().expect("no panic")
    });
    // The kernel has sent the parent-death signal by now; once more, so that it is sure.
    rustix::process::kill_process(Pid::from_child(&supervisor), Signal::USR1).expect("it lives");
    let mut stdin = supervisor.stdin.take().expect("piped");
    stdin.write_all(b"still here\n").expect("it reads");
    drop(stdin);
    let out = supervisor.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(0));
    assert!(out.stdout.ends_with(b"still here\n"));
}

#[test]
fn the_command_alone_holds_stdin_and_stdout() {
    let mark = Mark::new();
    let mut supervisor = start(&mark, &["sh", "-c", "exec <&- >&-; exec sleep 991"]);
    let mut stdout = supervisor.stdout.take().expect("piped");
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).expect("its end is seen while the command runs");
    mark.wait_for("sleep 991");
    supervisor.stderr.take();
    supervisor.wait().expect("it ended");
}

#[test]
fn a_life_line_that_can_be_read_holds() {
    // The test's own stderr is open, whatever it is.
    assert!(!watch_life_line().is_cancelled());
}
