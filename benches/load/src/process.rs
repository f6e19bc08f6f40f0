//! Programs that are run, and what they take: CPU and memory of a program and all its children.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// USER_HZ, in which Linux tells of times in /proc: the same on all platforms that we build for.
const TICKS_PER_SECOND: u64 = 100;

/// A program that runs until this is dropped.
pub struct Process {
    child: Child,
}

/// One that runs for as long as its input is open, and said that it is ready.
pub struct Waiting {
    process: Process,
    input: Option<ChildStdin>,
}

impl Process {
    /// Starts it; what it says goes to `log`.
    pub fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file = fs::File::create(log).with_context(|| format!("can't write {}", log.display()))?;
        let command = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("can't start {}", name(command)))?;
        Ok(Self { child })
    }

    /// Starts it and reads the first line that it says, which may take as long as it needs.
    pub fn start_and_read(command: &mut Command) -> anyhow::Result<(Self, String)> {
        let (process, line, _) = start_piped(command.stdin(Stdio::null()))?;
        Ok((process, line))
    }

    /// Starts one that waits for the end of its input when it has said a line.
    pub fn start_waiting(command: &mut Command) -> anyhow::Result<Waiting> {
        let (process, _, input) = start_piped(command.stdin(Stdio::piped()))?;
        Ok(Waiting { process, input })
    }

    /// What it and its children have computed so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let mut ticks = 0;
        for stat in tree(self.child.id())? {
            // Children that have ended are in the account of their parent.
            ticks += stat.ticks;
        }
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// Bytes of memory that it and its children hold now; what they share counts for each.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let mut bytes = 0;
        for stat in tree(self.child.id())? {
            let status = fs::read_to_string(format!("/proc/{}/status", stat.pid))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib: u64 = line.and_then(|line| line.split_whitespace().next()).unwrap_or("0").parse()?;
            bytes += kib * 1024;
        }
        Ok(bytes)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGTERM, so that what has children can end them.
        if let Ok(pid) = i32::try_from(self.child.id())
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        for _ in 0..100 {
            if self.has_ended() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Waiting {
    /// Lets it end.
    pub fn release(mut self) {
        self.input.take();
        let _ = self.process.child.wait();
    }
}

/// Runs a program to its end and gives what it said; it must end well.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("can't start {}", name(command)))?;
    let said = String::from_utf8(output.stdout)?;
    if !output.status.success() {
        bail!("{} failed: {said}{}", name(command), String::from_utf8_lossy(&output.stderr));
    }
    Ok(said)
}

fn start_piped(command: &mut Command) -> anyhow::Result<(Process, String, Option<ChildStdin>)> {
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("can't start {}", name(command)))?;
    let (output, input) = (child.stdout.take().context("it is piped")?, child.stdin.take());
    let process = Process { child };
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    if line.is_empty() {
        bail!("{} ended without a word", name(command));
    }
    Ok((process, line.trim().to_owned(), input))
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

struct Stat {
    pid: u32,
    parent: u32,
    ticks: u64,
}

/// A process and all below it.
fn tree(root: u32) -> anyhow::Result<Vec<Stat>> {
    let mut others: Vec<Stat> = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let pid = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        // One that ended meanwhile isn't there any more.
        others.extend(pid.and_then(|pid| parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)));
    }
    let mut found: Vec<Stat> = others.extract_if(.., |stat| stat.pid == root).collect();
    if found.is_empty() {
        bail!("a program that was started has ended: {root}");
    }
    let mut at = 0;
    while at < found.len() {
        let parent = found[at].pid;
        found.extend(others.extract_if(.., |stat| stat.parent == parent).collect::<Vec<_>>());
        at += 1;
    }
    Ok(found)
}

/// proc(5): fields 4 (ppid), 14 and 15 (its own time), 16 and 17 (that of children that ended). The name
/// before them may hold anything, so what counts begins at its last parenthesis.
fn parse(pid: u32, stat: &str) -> Option<Stat> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks = number(14)? + number(15)? + number(16)? + number(17)?;
    Some(Stat { pid, parent: u32::try_from(number(4)?).ok()?, ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_whatever_the_name() {
        let line = "42 (a) b) S 7 1 1 0 -1 0 0 0 0 0 11 22 33 44 20 0 1 0 5 0 0";
        let stat = parse(42, line).unwrap();
        assert_eq!((stat.pid, stat.parent, stat.ticks), (42, 7, 110));
    }

    #[test]
    fn we_are_there_and_hold_memory() {
        assert!(!tree(std::process::id()).unwrap().is_empty());
        assert!(tree(u32::MAX).is_err());
    }
}
