//! What the clients have seen: what was somebody else's, and that enough of everything happened at all.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard};

/// Foreign messages that are kept to be shown; all are counted.
const SHOWN_MAX: usize = 20;

/// Shared by all clients.
#[derive(Default)]
pub(super) struct Verdict {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Messages that reached the wrong client.
    foreign: Vec<String>,
    foreign_count: usize,
    /// Calls that failed though nothing was wrong with them.
    failed: Vec<String>,
    /// How often what happened: by client and upstream for answers.
    happened: BTreeMap<String, usize>,
    /// The upstream of each process; and the key, where a key has a process of its own.
    processes: BTreeMap<u64, String>,
}

impl Verdict {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nobody panics with it")
    }

    /// Something reached the wrong client.
    pub(super) fn foreign(&self, what: String) {
        let mut seen = self.seen();
        seen.foreign_count += 1;
        if seen.foreign.len() < SHOWN_MAX {
            seen.foreign.push(what);
        }
    }

    /// A call failed.
    pub(super) fn failed(&self, what: String) {
        self.seen().failed.push(what);
    }

    /// Something happened as it should.
    pub(super) fn happened(&self, what: String) {
        *self.seen().happened.entry(what).or_default() += 1;
    }

    /// A process has answered for an upstream: always the same.
    pub(super) fn answered_by(&self, process: u64, place: &str) {
        let mut seen = self.seen();
        let known = seen.processes.entry(process).or_insert_with(|| place.to_owned()).clone();
        drop(seen);
        if known != place {
            self.foreign(format!("the process of {known} has answered for {place}"));
        }
    }

    /// How often what happened, a line each.
    pub(super) fn report(&self) -> String {
        let seen = self.seen();
        let mut text = format!("{} wrong deliveries, {} failures\n", seen.foreign_count, seen.failed.len());
        for (what, count) in &seen.happened {
            let _ = writeln!(text, "{count:>8} {what}"); // A string takes everything.
        }
        text
    }

    /// Nothing was foreign, nothing failed, every call came to an end, and everything was seen at least once.
    #[track_caller]
    pub(super) fn assert_good(&self, calls: usize) {
        let seen = self.seen();
        assert_eq!(seen.foreign, Vec::<String>::new(), "{} wrong deliveries", seen.foreign_count);
        assert!(seen.failed.is_empty(), "{} failures, such as {}", seen.failed.len(), seen.failed[0]);
        let ended: usize =
            seen.happened.iter().filter(|(what, _)| what.starts_with("call ")).map(|(_, count)| count).sum();
        assert_eq!(ended, calls, "each call ended once");
        for kind in super::KINDS {
            for (upstream, ..) in super::UPSTREAMS {
                let pair = format!("call answered: {kind} to {upstream}");
                assert!(seen.happened.contains_key(&pair), "{pair} never happened");
            }
            for what in ["progress", "log message", "question", "update"] {
                // A modern client is asked by its answer.
                assert!(seen.happened.contains_key(&format!("{what}: {kind}")), "{what}: {kind} never came");
            }
            assert!(seen.happened.contains_key(&format!("call given up: {kind}")), "{kind} gave no call up");
        }
    }
}
