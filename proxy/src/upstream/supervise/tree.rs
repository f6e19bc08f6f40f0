//! The processes below a supervisor, found by walking `/proc`.
//!
//! A subreaper inherits every orphan below it, so all that a command started, however far removed and in
//! whatever session, has the supervisor as an ancestor for as long as it lives. Nothing is left exactly
//! when the supervisor has no child any more.

use std::collections::HashMap;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

/// Whether a process is left below the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// At least one.
    Some,
    /// None at all.
    None,
}

/// Everything below this process.
pub(super) struct Tree {
    command: Pid,
    status: Option<WaitStatus>,
}

impl Tree {
    /// The tree below this process; `command` is the child whose status counts.
    pub(super) fn below_this_process(command: Pid) -> Self {
        Self { command, status: None }
    }

    /// How the command ended, if it did.
    pub(super) fn command_status(&self) -> Option<WaitStatus> {
        self.status
    }

    /// Takes every child that ended, our own and those inherited from parents that died.
    pub(super) fn reap(&mut self) -> Left {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.command => self.status = Some(status),
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => return Left::Some,
                // ECHILD: there is none. Nothing else is documented, and looping on it would help nobody.
                Err(_) => return Left::None,
            }
        }
    }

    /// Sends a signal to every process of the tree. One that is gone meanwhile is none of our concern.
    pub(super) fn signal_all(&self, signal: Signal) {
        let Some(all) = processes() else {
            // Without /proc the command's own group is all that can be named.
            let _ = rustix::process::kill_process_group(self.command, signal);
            return;
        };
        for pid in below(rustix::process::getpid(), &all) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// Kills what is left of a session whose leader is gone: the last resort when a supervisor was killed.
pub(in crate::upstream) fn kill_session(leader: Pid) {
    for process in processes().unwrap_or_default() {
        if process.session == leader.as_raw_pid()
            && let Some(pid) = Pid::from_raw(process.pid)
        {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// What `/proc/PID/stat` says about kinship.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    session: i32,
}

/// All processes that can be seen; `None` without `/proc`.
fn processes() -> Option<Vec<Process>> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let all: Vec<Process> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| parse_stat(pid, &std::fs::read(format!("/proc/{pid}/stat")).ok()?))
        .collect();
    (!all.is_empty()).then_some(all)
}

/// Reads `PID (NAME) STATE PARENT GROUP SESSION ...`; a name may hold anything, so the last `)` ends it.
fn parse_stat(pid: i32, stat: &[u8]) -> Option<Process> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { pid, parent, session })
}

/// Every process with `root` among its ancestors, parents before their children.
fn below(root: Pid, all: &[Process]) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for process in all.iter().filter(|process| process.pid != root.as_raw_pid()) {
        children.entry(process.parent).or_default().push(process.pid);
    }
    let mut found = Vec::new();
    let mut parents = vec![root.as_raw_pid()];
    while let Some(parent) = parents.pop() {
        // Removing keeps it finite even if two readings of /proc contradict each other.
        for child in children.remove(&parent).unwrap_or_default() {
            found.extend(Pid::from_raw(child));
            parents.push(child);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_kinship_whatever_the_name_holds() {
        let stat = b"42 (a b) R 1 (x)) S 7 42 40 0 -1 4194560 1 0";
        assert_eq!(parse_stat(42, stat), Some(Process { pid: 42, parent: 7, session: 40 }));
        assert_eq!(parse_stat(42, b"42 (cut"), None);
        assert_eq!(parse_stat(42, b"42 (cut) S 1"), None);
    }

    #[test]
    fn finds_all_below_and_nothing_beside() {
        let process = |pid, parent| Process { pid, parent, session: 1 };
        let all = [process(2, 1), process(3, 2), process(4, 3), process(5, 1), process(6, 5), process(7, 2)];
        let mut found: Vec<i32> =
            below(Pid::from_raw(2).expect("not zero"), &all).into_iter().map(Pid::as_raw_pid).collect();
        found.sort_unstable();
        assert_eq!(found, [3, 4, 7]);
    }

    #[test]
    fn a_contradictory_reading_ends() {
        let process = |pid, parent| Process { pid, parent, session: 1 };
        let found = below(Pid::from_raw(2).expect("not zero"), &[process(3, 2), process(2, 3)]);
        assert_eq!(found, [Pid::from_raw(3).expect("not zero")]);
    }

    #[test]
    fn sees_this_process() {
        let own = rustix::process::getpid().as_raw_pid();
        assert!(processes().expect("tests run where /proc is").iter().any(|process| process.pid == own));
    }
}
