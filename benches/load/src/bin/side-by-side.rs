//! Compares the gateway with what stands beside it, on loopback: the upstream alone, nginx, a plain Pingora
//! proxy, and whatever a TOML file adds. Prints medians, and writes README's tables.

use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use load::contestant::{Contestant, Recipe, Stage, gateway, nginx, plain};
use load::process::Process;
use load::report::{Report, write_between_markers};
use load::rounds::{Large, Loader, Memory, Scenario, Turn, sibling};

/// Between the start of a contestant and the measure of its idle memory: it has settled by then.
const SETTLING: Duration = Duration::from_secs(1);

/// Compares the gateway with what stands beside it.
#[derive(Parser)]
struct Arguments {
    /// The gateway's binary; by default the one beside this program.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// A TOML file with further gateways.
    #[arg(long)]
    others: Option<PathBuf>,
    /// Rounds; the tables show medians over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of every turn.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Only these scenarios; by default all.
    #[arg(long)]
    only: Vec<String>,
    /// Only these contestants, by the beginning of their names; by default all.
    #[arg(long)]
    contestants: Vec<String>,
    /// Tools of the upstream.
    #[arg(long, default_value_t = 1_000)]
    tools: usize,
    /// Clients that are there without calling, when memory is measured.
    #[arg(long, default_value_t = 1_000)]
    sessions: usize,
    /// Threads of nginx and of the plain proxy; the gateway has one for each CPU, and so have they.
    #[arg(long)]
    threads: Option<usize>,
    /// Bodies of 1 MB, too.
    #[arg(long)]
    large: bool,
    /// The gateway's log. Requests are logged at `info`; the others write no access log.
    #[arg(long, default_value = "warn")]
    log: String,
    /// Write the tables between the markers of this file.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Write every turn as JSON into this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let dir = std::env::temp_dir().join(format!("side-by-side-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let compared = compare(&arguments, dir.clone());
    // What they logged is worth a look if something went wrong.
    if compared.is_ok() {
        fs::remove_dir_all(&dir)?;
    }
    let report = compared.with_context(|| format!("what they wrote is in {}", dir.display()))?;
    let tables = report.tables();
    println!("{tables}\n{}", report.ratios("MCP Proxy Gateway", "plain Pingora proxy"));
    if let Some(path) = &arguments.write {
        write_between_markers(path, &tables)?;
    }
    if let Some(path) = &arguments.json {
        let json = serde_json::json!({ "turns": report.turns, "memory": report.contestants });
        fs::write(path, serde_json::to_vec_pretty(&json)?)?;
    }
    Ok(())
}

fn compare(arguments: &Arguments, dir: PathBuf) -> anyhow::Result<Report> {
    let load = sibling("mcp-load")?;
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let tools = arguments.tools.to_string();
    let mut upstream = Command::new(sibling("mcp-upstream")?);
    let (upstream, url) = Process::start_and_read(upstream.args(["--tools", &tools]))?;
    let address = url.trim_start_matches("http://").trim_end_matches("/mcp");
    let address: SocketAddr = address.parse().with_context(|| format!("the upstream is at {url}"))?;
    let threads = arguments.threads.unwrap_or(threads);
    let stage = Stage { upstream: address, dir, threads, load: load.clone() };

    let mut contestants = vec![Contestant::direct(address, upstream)];
    for recipe in recipes(arguments)? {
        contestants.push(recipe.start(&stage)?);
    }
    std::thread::sleep(SETTLING);
    let mut memory = vec![Memory::default(); contestants.len()];
    for (memory, contestant) in memory.iter_mut().zip(&contestants) {
        memory.idle = contestant.process().memory()?;
    }

    let loader = Loader { binary: load, seconds: arguments.seconds, sessions: arguments.sessions };
    let turns = rounds(arguments, &loader, &contestants)?;
    for (memory, contestant) in memory.iter_mut().zip(&contestants) {
        memory.loaded = contestant.process().memory()?;
        memory.sessions = loader.memory_with_sessions(contestant)?;
    }
    let names = contestants.iter().map(|contestant| contestant.name.clone());
    Ok(Report {
        contestants: names.zip(memory).collect(),
        turns,
        rounds: arguments.rounds,
        sessions: arguments.sessions,
    })
}

fn recipes(arguments: &Arguments) -> anyhow::Result<Vec<Recipe>> {
    let binary = match &arguments.gateway {
        Some(binary) => binary.clone(),
        None => sibling("mcp-proxy-gateway")?,
    };
    let mut recipes = vec![nginx(), plain(&sibling("plain-proxy")?)];
    if let Some(path) = &arguments.others {
        recipes.extend(Recipe::read(path)?);
    }
    recipes.push(gateway(&binary, &arguments.log));
    let wanted = &arguments.contestants;
    recipes.retain(|recipe| {
        wanted.is_empty() || wanted.iter().any(|wanted| recipe.name.starts_with(wanted.as_str()))
    });
    Ok(recipes)
}

fn rounds(arguments: &Arguments, loader: &Loader, contestants: &[Contestant]) -> anyhow::Result<Vec<Turn>> {
    let large = if arguments.large { Large::Too } else { Large::Not };
    let mut scenarios = Scenario::all(arguments.tools, large);
    scenarios.retain(|scenario| {
        arguments.only.is_empty() || arguments.only.iter().any(|only| scenario.id.starts_with(only.as_str()))
    });
    let mut turns = Vec::new();
    for round in 1..=arguments.rounds {
        for scenario in &scenarios {
            for contestant in contestants {
                let Some(turn) = loader.turn(contestant, scenario)? else { continue };
                eprintln!(
                    "round {round}: {:10} {:20} {:8.0}/s  p50 {:6} us  p99 {:6} us  CPU {:7.1} us",
                    turn.scenario,
                    turn.contestant,
                    turn.outcome.rate,
                    turn.outcome.p50,
                    turn.outcome.p99,
                    turn.cpu_us
                );
                turns.push(turn);
            }
        }
    }
    Ok(turns)
}
