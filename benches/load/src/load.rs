//! The load generator: closed loop, or open loop at a fixed rate.
//!
//! Closed: every connection sends its next call when the last one is answered, so a slow server gets
//! less load. Open: calls are due at fixed times, and the time of a call counts from when it was due, not
//! from when a connection was free for it; so a server that stalls is charged for all that waited
//! (coordinated omission). One thread, so that it takes little of the machine that it measures.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::http::{Connection, Head};
use crate::message::{Era, INITIALIZED, LEGACY_VERSION, MODERN_VERSION, Template, initialize};

/// Longer than any call that is worth measuring.
const LATENCY_MAX: Duration = Duration::from_mins(2);
/// What is told of errors: the first few say it all.
const ERRORS_TOLD_MAX: usize = 5;

/// What load is to be made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where to.
    pub address: SocketAddr,
    /// The path there.
    pub path: String,
    /// Headers of every request, such as a key.
    pub headers: Vec<String>,
    /// Which era the clients speak.
    pub era: Era,
    /// Connections, each with a session of its own if the era has them.
    pub connections: usize,
    /// Calls a second over all connections; as many as they take, if there is none.
    pub rate: Option<f64>,
    /// Before it counts.
    pub warm_up: Duration,
    /// While it counts.
    pub duration: Duration,
    /// What is asked for.
    pub template: Template,
}

/// What came of it; latencies in microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Right answers while it counted.
    pub calls: u64,
    /// Right answers from the first call on, before it counted as well.
    pub answered: u64,
    /// Anything else, warming up included.
    pub errors: u64,
    /// The first of them, in words.
    pub error_texts: Vec<String>,
    /// Seconds that it counted.
    pub seconds: f64,
    /// Right answers a second.
    pub rate: f64,
    /// Half of the calls took no longer.
    pub p50: u64,
    /// 90 % took no longer.
    pub p90: u64,
    /// 99 % took no longer.
    pub p99: u64,
    /// 99.9 % took no longer.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

/// What all connections write to.
struct Tally {
    latencies: Histogram<u64>,
    answered: u64,
    errors: u64,
    texts: Vec<String>,
    number: u64,
    due: u64,
}

/// When things happen.
#[derive(Clone, Copy)]
struct Times {
    begin: Instant,
    count_from: Instant,
    end: Instant,
    interval: Option<Duration>,
}

/// Makes the load.
pub async fn run(plan: Plan) -> anyhow::Result<Outcome> {
    let clients = open_clients(&plan).await?;
    let begin = Instant::now();
    let count_from = begin + plan.warm_up;
    let times = Times {
        begin,
        count_from,
        end: count_from + plan.duration,
        interval: plan.rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
    };
    let tally = Arc::new(Mutex::new(Tally {
        latencies: Histogram::new_with_max(micros(LATENCY_MAX), 3)?,
        answered: 0,
        errors: 0,
        texts: Vec::new(),
        number: 0,
        due: 0,
    }));
    let mut running = JoinSet::new();
    for client in clients {
        running.spawn(client.run(plan.template.clone(), times, Arc::clone(&tally)));
    }
    while let Some(ended) = running.join_next().await {
        ended?;
    }
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    let (latencies, seconds) = (&tally.latencies, plan.duration.as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "no run has that many calls")]
    let rate = latencies.len() as f64 / seconds;
    Ok(Outcome {
        calls: latencies.len(),
        answered: tally.answered,
        errors: tally.errors,
        error_texts: tally.texts.clone(),
        seconds,
        rate,
        p50: latencies.value_at_quantile(0.5),
        p90: latencies.value_at_quantile(0.9),
        p99: latencies.value_at_quantile(0.99),
        p999: latencies.value_at_quantile(0.999),
        max: latencies.max(),
    })
}

/// Connections that have made one call each and are kept until this is dropped.
pub struct Held {
    _clients: Vec<Client>,
}

/// Opens the connections and their sessions, makes one call on each, and keeps them.
pub async fn hold(plan: Plan) -> anyhow::Result<Held> {
    let mut clients = open_clients(&plan).await?;
    let mut template = plan.template;
    for (client, number) in clients.iter_mut().zip(0..) {
        client.call(&mut template, number).await.map_err(anyhow::Error::msg)?;
    }
    Ok(Held { _clients: clients })
}

async fn open_clients(plan: &Plan) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..plan.connections {
        clients.push(Client::open(plan).await?);
    }
    Ok(clients)
}

/// One client: a connection, and what stands in the head of all its requests.
struct Client {
    address: SocketAddr,
    connection: Connection,
    head: String,
}

impl Client {
    async fn open(plan: &Plan) -> anyhow::Result<Self> {
        let connect = || async {
            Connection::open(plan.address).await.with_context(|| format!("can't connect to {}", plan.address))
        };
        let mut head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n",
            plan.path, plan.address
        );
        for header in &plan.headers {
            let _ = write!(head, "{header}\r\n");
        }
        let mut client = Self { address: plan.address, connection: connect().await?, head };
        match plan.era {
            Era::Legacy => client.initialize().await?,
            Era::Modern => {
                let _ = write!(
                    client.head,
                    "MCP-Protocol-Version: {MODERN_VERSION}\r\nMcp-Method: {}\r\n",
                    plan.template.method()
                );
                if let Some(name) = plan.template.name() {
                    let _ = write!(client.head, "Mcp-Name: {name}\r\n");
                }
            }
        }
        Ok(client)
    }

    async fn initialize(&mut self) -> anyhow::Result<()> {
        let answer = self.connection.exchange(&self.head, initialize().as_bytes()).await?;
        if answer.status != 200 {
            let text = String::from_utf8_lossy(self.connection.body()).into_owned();
            bail!("initialize was answered with {}: {text}", answer.status);
        }
        let _ = write!(self.head, "MCP-Protocol-Version: {LEGACY_VERSION}\r\n");
        if let Some(session) = &answer.session {
            let _ = write!(self.head, "Mcp-Session-Id: {session}\r\n");
        }
        let answer = self.connection.exchange(&self.head, INITIALIZED.as_bytes()).await?;
        if answer.status != 202 {
            bail!("notifications/initialized was answered with {}", answer.status);
        }
        Ok(())
    }

    async fn run(mut self, mut template: Template, times: Times, tally: Arc<Mutex<Tally>>) {
        loop {
            let (due, number) = next(&tally, times);
            if due >= times.end {
                return;
            }
            if due > Instant::now() {
                sleep_until(due).await;
            }
            let outcome = self.call(&mut template, number).await;
            let is_right = outcome.is_ok();
            note(&tally, times, due, outcome);
            if !is_right {
                let Ok(connection) = Connection::open(self.address).await else { return };
                self.connection = connection;
            }
        }
    }

    /// One call, checked; what is wrong with it, in words.
    async fn call(&mut self, template: &mut Template, number: u64) -> Result<(), String> {
        let broken = |error: io::Error| format!("the connection broke: {error}");
        let body = template.next(number);
        let mut head = self.connection.exchange(&self.head, body).await.map_err(broken)?;
        let mut tools = 0;
        loop {
            let page = self.checked(&head, template)?;
            tools += page.tools;
            if head.closes {
                self.connection = Connection::open(self.address).await.map_err(broken)?;
            }
            let Some(cursor) = page.next_cursor else { break };
            head = self.connection.exchange(&self.head, template.next_page(&cursor)).await.map_err(broken)?;
        }
        template.check_count(tools).map_err(|wrong| wrong.to_string())
    }

    fn checked(&self, head: &Head, template: &Template) -> Result<crate::message::Page, String> {
        let body = self.connection.body();
        if head.status != 200 {
            let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
            return Err(format!("status {}: {text}", head.status));
        }
        template.check(body).map_err(|wrong| wrong.to_string())
    }
}

/// Counts a call that was due then and has ended now.
fn note(tally: &Mutex<Tally>, times: Times, due: Instant, outcome: Result<(), String>) {
    let ended = Instant::now();
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    match outcome {
        Ok(()) => {
            tally.answered += 1;
            if (times.count_from..times.end).contains(&ended) {
                tally.latencies.saturating_record(micros(ended - due));
            }
        }
        Err(text) => {
            tally.errors += 1;
            if tally.texts.len() < ERRORS_TOLD_MAX {
                tally.texts.push(text);
            }
        }
    }
}

/// When the next call is due, and its number.
fn next(tally: &Mutex<Tally>, times: Times) -> (Instant, u64) {
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    tally.number += 1;
    let Some(interval) = times.interval else { return (Instant::now(), tally.number) };
    let due = times.begin + Duration::from_nanos(nanos(interval).saturating_mul(tally.due));
    tally.due += 1;
    (due, tally.number)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
