//! Which processes a gateway left behind, and waiting for a process to end without polling.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// A process that carries a gateway's mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pid: Pid,
    /// Its words, for a person.
    pub(crate) command_line: String,
    /// Its environment, `NAME=value` each.
    pub(crate) environment: Vec<String>,
}

/// The processes whose `TMPDIR` is `folder`. A gateway hands its `TMPDIR` to its children and they to
/// theirs, so this finds even those whose parents are gone.
pub(crate) fn marked(folder: &Path) -> Vec<Process> {
    let mark = format!("TMPDIR={}", folder.display());
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    // One that ended while we looked isn't there; neither is one that isn't ours to read.
    pids.filter_map(Pid::from_raw)
        .filter_map(read)
        .filter(|process| process.environment.contains(&mark))
        .collect()
}

fn read(pid: Pid) -> Option<Process> {
    let file = |name: &str| fs::read(format!("/proc/{}/{name}", pid.as_raw_nonzero())).ok();
    let words = |bytes: Vec<u8>| -> Vec<String> {
        bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    };
    let environment = words(file("environ")?);
    let command_line = words(file("cmdline")?).join(" ").trim_end().to_owned();
    // Without words it is a corpse that nobody has buried yet.
    (!command_line.is_empty()).then_some(Process { pid, command_line, environment })
}

impl Process {
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Ends it at once.
    pub(crate) fn kill(&self) {
        // It may just have ended by itself.
        let _ = kill_process(self.pid, Signal::KILL);
    }
}

/// The most memory that a process has ever held, in bytes.
pub(super) fn memory_peak(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes * 1024
}

/// Waits until a process has ended; false if it hasn't by the deadline.
pub(crate) fn wait_for_end(pid: Pid, deadline: Instant) -> bool {
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).expect("a test's deadline is near");
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}

/// Waits until none of a gateway's processes is left, and answers those that are at the deadline.
pub(crate) fn wait_for_none(folder: &Path, patience: Duration) -> Vec<Process> {
    let deadline = Instant::now() + patience;
    loop {
        let left = marked(folder);
        // Those that end may have started others meanwhile: look again.
        let all_ended = left.iter().all(|process| wait_for_end(process.pid, deadline));
        if left.is_empty() || !all_ended {
            return marked(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_grandchild_is_found_by_its_mark_and_its_end_is_noticed() {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        // The shell ends at once and leaves a child behind, as a killed gateway might. What it says comes from
        // the child: only then has that become what it is to be, for until its exec ends it has no words. A pipe
        // that nobody writes keeps it there.
        let script = "mkfifo \"$TMPDIR/never\"; sh -c 'echo started; read word < \"$TMPDIR/never\"' &";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).env("TMPDIR", folder.path()).stdout(Stdio::piped());
        let mut shell = shell.spawn().expect("sh runs");
        let mut line = String::new();
        let said = shell.stdout.take().expect("its output is a pipe");
        BufReader::new(said).read_line(&mut line).expect("its output can be read");
        assert_eq!(line, "started\n");
        assert!(shell.wait().expect("sh ends").success());
        let left = wait_for_none(folder.path(), Duration::ZERO);
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(left[0].command_line.contains("echo started"), "{left:?}");
        left[0].kill();
        assert_eq!(wait_for_none(folder.path(), Duration::from_secs(5)), []);
    }
}
