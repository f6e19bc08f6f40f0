//! Makes load on an MCP server over Streamable HTTP, checks every answer, and prints what it took as JSON.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};
use load::load::{Plan, hold, run};
use load::message::{Ask, Era, Template};
use tokio::io::AsyncReadExt as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Makes load on an MCP server and checks every answer.
#[derive(Parser)]
struct Arguments {
    /// The endpoint, such as <http://127.0.0.1:8080/mcp>.
    #[arg(long)]
    url: String,
    /// A header of every request, such as `Authorization: Bearer ...`.
    #[arg(long = "header")]
    headers: Vec<String>,
    /// Which era the clients speak.
    #[arg(long, value_enum, default_value_t = Era::Legacy)]
    era: Era,
    /// Connections, each with a session of its own if the era has them.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Calls a second in all (open loop); as many as they take, without (closed loop).
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds before it counts.
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// Seconds that it counts.
    #[arg(long, default_value_t = 3.0)]
    duration: f64,
    /// What is called.
    #[arg(long, value_enum, default_value_t = What::Echo)]
    what: What,
    /// The tool's name as the server lists it; by default, that of `--what`.
    #[arg(long)]
    tool: Option<String>,
    /// `echo`: bytes of the request's body. `blob`: bytes of the answer's text.
    #[arg(long, default_value_t = 300)]
    bytes: usize,
    /// `sleep`: how long, in milliseconds.
    #[arg(long, default_value_t = 10)]
    millis: u64,
    /// `list`: how many tools there must be.
    #[arg(long, default_value_t = 1_000)]
    tools: usize,
    /// Open the connections, call once on each, print a line, and keep them until standard input ends.
    #[arg(long)]
    hold: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    Echo,
    Sleep,
    Blob,
    List,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let plan = plan(&arguments)?;
    if arguments.hold {
        let held = hold(plan).await?;
        println!("{{\"held\":{}}}", arguments.connections);
        tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
        drop(held);
        return Ok(());
    }
    let outcome = run(plan).await?;
    println!("{}", serde_json::to_string(&outcome)?);
    if outcome.errors > 0 {
        bail!("{} answers were wrong, the first: {:?}", outcome.errors, outcome.error_texts.first());
    }
    Ok(())
}

fn plan(arguments: &Arguments) -> anyhow::Result<Plan> {
    let (address, path) = parse(&arguments.url)?;
    let tool = |name: &str| arguments.tool.clone().unwrap_or_else(|| name.to_owned());
    let ask = match arguments.what {
        What::Echo => Ask::Echo { tool: tool("echo"), bytes: arguments.bytes },
        What::Sleep => Ask::Sleep { tool: tool("sleep"), millis: arguments.millis },
        What::Blob => Ask::Blob { tool: tool("blob"), bytes: arguments.bytes },
        What::List => Ask::List { tools: arguments.tools },
    };
    Ok(Plan {
        address,
        path,
        headers: arguments.headers.clone(),
        era: arguments.era,
        connections: arguments.connections,
        rate: arguments.rate,
        warm_up: Duration::from_secs_f64(arguments.warm_up),
        duration: Duration::from_secs_f64(arguments.duration),
        template: Template::new(ask, arguments.era),
    })
}

/// The address and the path of a URL.
fn parse(url: &str) -> anyhow::Result<(SocketAddr, String)> {
    let rest = url.strip_prefix("http://").context("only http:// is spoken")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = host.to_socket_addrs().with_context(|| format!("{host} is no address"))?.next();
    Ok((address.context("the host has no address")?, format!("/{path}")))
}
