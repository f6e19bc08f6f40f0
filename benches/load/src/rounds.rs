//! The rounds: what each contestant is asked, in turn, so that all of them meet the same machine.
//!
//! In every round each one has its turn at every scenario, one after the other; what a busy neighbour
//! takes in one second it takes from all of them. CPU is what the contestant and its children
//! computed during a turn, divided by the answers of that turn.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde::Serialize;

use crate::contestant::Contestant;
use crate::load::Outcome;
use crate::message::Era;
use crate::process::{Process, output};

/// How the load is made.
pub struct Loader {
    /// The load generator.
    pub binary: PathBuf,
    /// Seconds of every turn, those before it counts aside.
    pub seconds: f64,
    /// Clients that are there without calling, when memory is measured for the last time.
    pub sessions: usize,
}

/// What is asked in one turn.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// How the report knows it.
    pub id: &'static str,
    /// What the clients speak.
    pub era: Era,
    /// How many there are.
    pub connections: usize,
    /// What they ask for.
    pub what: What,
}

/// What clients ask for.
#[derive(Debug, Clone, Copy)]
pub enum What {
    /// `tools/call`, with a body of so many bytes.
    Echo(usize),
    /// `tools/list`, to its end after so many tools.
    List(usize),
}

/// One turn.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Turn {
    /// Whose.
    pub contestant: String,
    /// At what.
    pub scenario: &'static str,
    /// What the load generator saw.
    pub outcome: Outcome,
    /// CPU of the contestant for one answer, in microseconds.
    pub cpu_us: f64,
}

/// Memory of one contestant, in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// When it had answered once.
    pub idle: u64,
    /// After all rounds.
    pub loaded: u64,
    /// With many clients that are there and don't call.
    pub sessions: u64,
}

impl Scenario {
    /// The ones of the report; `tools` is how many the upstream has.
    pub fn all(tools: usize, with_large: Large) -> Vec<Self> {
        let scenario = |id, era, connections, what| Self { id, era, connections, what };
        let mut all = vec![
            scenario("legacy-16", Era::Legacy, 16, What::Echo(300)),
            scenario("legacy-64", Era::Legacy, 64, What::Echo(300)),
            scenario("modern-16", Era::Modern, 16, What::Echo(300)),
            scenario("modern-64", Era::Modern, 64, What::Echo(300)),
            scenario("list", Era::Legacy, 4, What::List(tools)),
            scenario("10k", Era::Legacy, 16, What::Echo(10_000)),
        ];
        if with_large == Large::Too {
            all.push(scenario("1m", Era::Legacy, 4, What::Echo(1_000_000)));
        }
        all
    }
}

/// Whether bodies of 1 MB are sent, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Large {
    /// They are.
    Too,
    /// They aren't.
    Not,
}

impl Loader {
    /// One contestant's turn at one scenario; none, if it has no door for that era.
    pub fn turn(&self, contestant: &Contestant, scenario: &Scenario) -> anyhow::Result<Option<Turn>> {
        let Some(door) = contestant.door(scenario.era) else { return Ok(None) };
        let mut command = door.load(&self.binary, scenario.era);
        command.args(["--connections", &scenario.connections.to_string()]);
        command.args(["--duration", &self.seconds.to_string()]);
        match scenario.what {
            What::Echo(bytes) => {
                let tool = format!("{}echo", door.prefix);
                command.args(["--what", "echo", "--tool", &tool, "--bytes", &bytes.to_string()])
            }
            What::List(tools) => command.args(["--what", "list", "--tools", &tools.to_string()]),
        };
        let before = contestant.process().cpu()?;
        let said = output(&mut command).with_context(|| format!("{} at {}", contestant.name, scenario.id))?;
        let spent = contestant.process().cpu()?.saturating_sub(before);
        let outcome: Outcome = serde_json::from_str(&said)?;
        #[expect(clippy::cast_precision_loss, reason = "no turn has that many calls")]
        let cpu_us = spent.as_secs_f64() * 1e6 / outcome.answered.max(1) as f64;
        Ok(Some(Turn { contestant: contestant.name.clone(), scenario: scenario.id, outcome, cpu_us }))
    }

    /// Memory while many clients are there and don't call.
    pub fn memory_with_sessions(&self, contestant: &Contestant) -> anyhow::Result<u64> {
        let Some(door) = contestant.door(Era::Legacy) else { return Ok(0) };
        let mut command: Command = door.load(&self.binary, Era::Legacy);
        command.args(["--hold", "--connections", &self.sessions.to_string()]);
        command.args(["--tool", &format!("{}echo", door.prefix)]);
        let held = Process::start_waiting(&mut command)?;
        let memory = contestant.process().memory();
        held.release();
        memory
    }
}

/// A program that was built together with this one.
pub fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe()?;
    let path = here.parent().map(|folder| folder.join(name)).unwrap_or_default();
    anyhow::ensure!(Path::new(&path).exists(), "{} isn't built", path.display());
    Ok(path)
}
