//! What came of all rounds: medians, as tables for a person and as JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::rounds::{Memory, Turn};

/// Where the tables stand in a file that holds other things, too.
const BEGIN: &str = "<!-- bench: begin -->";
const END: &str = "<!-- bench: end -->";

/// All turns, and the memory of each contestant, in the order of the tables.
pub struct Report {
    /// What is compared, and how much memory each took.
    pub contestants: Vec<(String, Memory)>,
    /// Every turn of every round.
    pub turns: Vec<Turn>,
    /// Rounds that there were.
    pub rounds: usize,
    /// Of what, for the last column of the memory.
    pub sessions: usize,
}

/// The medians of one contestant at one scenario.
#[derive(Debug, Clone, Copy)]
pub struct Medians {
    /// Answers a second.
    pub rate: f64,
    /// Microseconds.
    pub p50: f64,
    /// Microseconds.
    pub p99: f64,
    /// Microseconds of CPU for one answer.
    pub cpu_us: f64,
}

impl Report {
    /// The medians over the rounds; none, if there was no such turn.
    pub fn medians(&self, contestant: &str, scenario: &str) -> Option<Medians> {
        let turns =
            || self.turns.iter().filter(|turn| turn.contestant == contestant && turn.scenario == scenario);
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a call")]
        let of = |value: fn(&Turn) -> u64| median(turns().map(|turn| value(turn) as f64).collect());
        Some(Medians {
            rate: median(turns().map(|turn| turn.outcome.rate).collect())?,
            p50: of(|turn| turn.outcome.p50)?,
            p99: of(|turn| turn.outcome.p99)?,
            cpu_us: median(turns().map(|turn| turn.cpu_us).collect())?,
        })
    }

    /// The tables, in Markdown.
    pub fn tables(&self) -> String {
        let mut text = String::new();
        for (title, small, large) in [
            ("300-byte `tools/call`, sessions (2025-11-25)", "legacy-16", "legacy-64"),
            ("300-byte `tools/call`, without sessions (2026-07-28)", "modern-16", "modern-64"),
        ] {
            let _ = write!(
                text,
                "{title}:\n\n| | calls/s at 16 connections | at 64 | p50 / p99 ms at 16 | at 64 | CPU µs a call at 16 | at 64 |\n|---|---|---|---|---|---|---|\n"
            );
            for (name, _) in &self.contestants {
                let (Some(small), Some(large)) = (self.medians(name, small), self.medians(name, large))
                else {
                    continue;
                };
                let _ = writeln!(
                    text,
                    "| {name} | {:.0} | {:.0} | {} | {} | {:.1} | {:.1} |",
                    small.rate,
                    large.rate,
                    latency(small),
                    latency(large),
                    small.cpu_us,
                    large.cpu_us
                );
            }
            text.push('\n');
        }
        let _ = write!(
            text,
            "Larger things, and memory:\n\n| | `tools/list` of 1,000 tools, lists/s | CPU µs a list | 10 kB calls/s | CPU µs | MB idle | loaded | with {} sessions |\n|---|---|---|---|---|---|---|---|\n",
            self.sessions
        );
        for (name, memory) in &self.contestants {
            let cells = |scenario| {
                self.medians(name, scenario).map_or_else(
                    || ("-".into(), "-".into()),
                    |medians: Medians| (format!("{:.0}", medians.rate), format!("{:.1}", medians.cpu_us)),
                )
            };
            let (list, call) = (cells("list"), cells("10k"));
            let _ = writeln!(
                text,
                "| {name} | {} | {} | {} | {} | {} | {} | {} |",
                list.0,
                list.1,
                call.0,
                call.1,
                megabytes(memory.idle),
                megabytes(memory.loaded),
                megabytes(memory.sessions)
            );
        }
        if let Some(large) = self.large() {
            text.push_str(&large);
        }
        text
    }

    fn large(&self) -> Option<String> {
        let mut text = "\n1 MB calls:\n\n| | calls/s at 4 connections | CPU µs |\n|---|---|---|\n".to_owned();
        for (name, _) in &self.contestants {
            let medians = self.medians(name, "1m")?;
            let _ = writeln!(text, "| {name} | {:.0} | {:.0} |", medians.rate, medians.cpu_us);
        }
        Some(text)
    }

    /// How one compares with another at every scenario.
    pub fn ratios(&self, one: &str, name: &str) -> String {
        let mut text = String::new();
        for scenario in ["legacy-16", "legacy-64", "modern-16", "modern-64", "list", "10k", "1m"] {
            if let (Some(one), Some(other)) = (self.medians(one, scenario), self.medians(name, scenario)) {
                let _ = writeln!(
                    text,
                    "{scenario:10} CPU {:.2}, throughput {:.2} of {name}",
                    one.cpu_us / other.cpu_us,
                    one.rate / other.rate
                );
            }
        }
        text
    }
}

/// Puts `tables` between the markers of a file.
pub fn write_between_markers(path: &Path, tables: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    let replaced = replaced(&text, tables).with_context(|| format!("{} has no markers", path.display()))?;
    fs::write(path, replaced)?;
    Ok(())
}

fn replaced(text: &str, tables: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n{END}{after}", tables.trim_end()))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

fn latency(medians: Medians) -> String {
    format!("{:.2} / {:.2}", medians.p50 / 1000.0, medians.p99 / 1000.0)
}

fn megabytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
    let megabytes = bytes as f64 / 1e6;
    format!("{megabytes:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = replaced(&text, "new\n").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(replaced(&new, "new\n").unwrap(), new);
        assert!(replaced("nothing", "new").is_none());
    }
}
