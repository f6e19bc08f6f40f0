//! Spans: what a call looks like to whoever collects traces, by OpenTelemetry's conventions for MCP.
//!
//! A call has two: one of a server, towards the client, whose parent is what the client named; and below it one of
//! a client, for as long as the upstream has the call. The upstream is told the second as its parent. A call takes
//! note of its ids and of three moments; everything else is done by the task that writes its record, and by the one
//! that sends ([`export`]). Without a collector there is one branch in each call.

mod encode;
mod export;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use sql::model::{CallMethod, CallOutcome, CallTransport, Timestamp};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use uuid::Uuid;

use self::export::Exporter;
pub use self::export::SpanCounts;
use crate::catalog::Item;
use crate::tasks::Tasks;
use crate::trace::Traced;

/// Calls that may end between two looks at the queue, or while a collector takes its time: some 4 MiB.
const QUEUE_MAX: usize = 16_384;

/// Where spans go, and what is said with each of them.
#[derive(Debug, Clone)]
pub struct SpanOptions {
    /// Where a collector takes traces over OTLP/HTTP.
    pub endpoint: Uri,
    /// What it wants to be sent beside; values are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// What the process is, as attributes of a resource: `service.name` and what the operator adds.
    pub resource: Vec<(String, String)>,
    /// Which part of the traces that begin here is kept, 0 to 1. Of those that clients began they decide.
    pub ratio: f64,
}

/// Takes spans. Clones share it.
#[derive(Clone)]
pub struct Spans(Arc<Inner>);

struct Inner {
    queue: mpsc::Sender<EndedSpan>,
    /// Locked for as long as it sends: by its task, and at the end by the flush.
    exporter: Mutex<Exporter>,
    counts: Arc<export::Counts>,
    ids: Ids,
    /// A trace that begins here is kept if the end of its id is below.
    keep_below: u64,
}

/// One call, seen from its beginning.
#[derive(Debug)]
pub struct CallSpan {
    trace_id: [u8; 16],
    parent: Option<[u8; 8]>,
    state: Option<String>,
    server_id: [u8; 8],
    client_id: [u8; 8],
    asked: AskedAs,
    began: Instant,
    /// When the upstream got it and when it had answered, in microseconds after the beginning, plus one; 0: never.
    sent: AtomicU64,
    answered: AtomicU64,
}

/// What the client's message says of the call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AskedAs {
    /// The id of the request, as text.
    pub request_id: String,
    /// The version of the protocol.
    pub version: String,
    /// The session, by the name that the gateway has for it.
    pub session: Option<Uuid>,
}

/// A call that is over.
pub(crate) struct EndedSpan {
    pub(crate) span: Arc<CallSpan>,
    pub(crate) item: Arc<Item>,
    pub(crate) method: CallMethod,
    pub(crate) transport: CallTransport,
    pub(crate) outcome: CallOutcome,
    pub(crate) at: Timestamp,
    pub(crate) latency_us: u64,
}

impl Spans {
    /// Spans for a collector, sent once [`Spans::run`] runs.
    pub fn new(options: SpanOptions) -> Self {
        let (queue, ended) = mpsc::channel(QUEUE_MAX);
        let counts = Arc::<export::Counts>::default();
        let keep_below = part_of_u64(options.ratio);
        let exporter = Mutex::new(Exporter::new(options, ended, Arc::clone(&counts)));
        Self(Arc::new(Inner { queue, exporter, counts, ids: Ids::new(), keep_below }))
    }

    /// Has them sent until the tasks stop.
    pub(crate) fn run(&self, tasks: &Tasks) {
        let (inner, stopping) = (Arc::clone(&self.0), tasks.stopping().clone());
        tasks.spawn("spans", async move {
            let mut due = export::ticks();
            loop {
                let round = async {
                    due.tick().await;
                    inner.exporter.lock().await.send_due().await;
                };
                tokio::select! {
                    () = round => {}
                    () = stopping.cancelled() => return,
                }
            }
        });
    }

    /// Sends what is there, for as long as the end of the process may wait.
    pub(crate) async fn flush(&self) {
        export::flush(&self.0.exporter).await;
    }

    /// What became of spans.
    pub fn counts(&self) -> SpanCounts {
        self.0.counts.read()
    }

    /// Begins the spans of a call. None where whoever began its trace doesn't want it recorded.
    pub fn begin(&self, said: Option<&Traced>, asked: AskedAs) -> Option<Arc<CallSpan>> {
        let ids = &self.0.ids;
        let (trace_id, parent, state) = if let Some(context) = said.map(Traced::context) {
            if !context.is_sampled() {
                return None;
            }
            (context.trace_bytes(), Some(context.span_bytes()), context.state().map(str::to_owned))
        } else {
            let trace_id = ids.trace();
            if Uuid::from_bytes(trace_id).as_u64_pair().1 > self.0.keep_below {
                return None;
            }
            (trace_id, None, None)
        };
        let (server_id, client_id) = (ids.span(), ids.span());
        let (began, sent, answered) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
        Some(Arc::new(CallSpan {
            trace_id,
            parent,
            state,
            server_id,
            client_id,
            asked,
            began,
            sent,
            answered,
        }))
    }

    /// Takes a call that is over. Never waits: a queue that is full loses it, and counts that.
    pub(crate) fn push(&self, ended: EndedSpan) {
        if self.0.queue.try_send(ended).is_err() {
            self.0.counts.lose(1);
        }
    }
}

impl CallSpan {
    /// What the upstream is told of the trace, in place of what the client `said`.
    pub fn passed_on(&self, said: Option<Traced>) -> Traced {
        let parent = format!("00-{}-{}-01", hex(&self.trace_id), hex(&self.client_id));
        Traced::below(said, parent)
    }

    /// The upstream gets it now; the first of several rounds counts.
    pub fn sent(&self) {
        let _ = self.sent.compare_exchange(0, self.now(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The upstream has answered; the last of several rounds counts.
    pub fn answered(&self) {
        self.answered.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX - 1) + 1
    }

    /// From when to when the upstream had the call, in microseconds after its beginning; one that was dropped had
    /// it to the end.
    fn at_upstream(&self, latency_us: u64) -> Option<(u64, u64)> {
        let sent = self.sent.load(Ordering::Relaxed).checked_sub(1)?;
        let answered = self.answered.load(Ordering::Relaxed).checked_sub(1).unwrap_or(latency_us);
        Some((sent.min(latency_us), answered.clamp(sent.min(latency_us), latency_us)))
    }
}

/// Makes ids: a counter through a mixing function, from a start that no other process has. Each id of a process is
/// another, and none is a secret.
struct Ids {
    seeds: (u64, u64),
    next: AtomicU64,
}

/// Odd, so that its multiples go through all numbers (Steele, Lea and Flood: "Fast splittable pseudorandom number
/// generators", OOPSLA 2014).
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Ids {
    fn new() -> Self {
        // The random part of each is its end.
        let random = || {
            let (a, b) = (Uuid::now_v7().as_u64_pair().1, Uuid::now_v7().as_u64_pair().1);
            mixed(a) ^ b.rotate_left(32)
        };
        Self { seeds: (random(), random()), next: AtomicU64::new(1) }
    }

    fn trace(&self) -> [u8; 16] {
        let step = self.step();
        let halves = (mixed(self.seeds.0.wrapping_add(step)), mixed(self.seeds.1.wrapping_add(step)));
        Uuid::from_u64_pair(halves.0, halves.1).into_bytes()
    }

    fn span(&self) -> [u8; 8] {
        // All zeros is no id, and mixed of one number only.
        mixed(self.seeds.0.wrapping_add(self.step())).max(1).to_be_bytes()
    }

    fn step(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed).wrapping_mul(STEP)
    }
}

/// Spreads a number over all 64 bits; no two numbers come to one.
fn mixed(number: u64) -> u64 {
    let once = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let twice = (once ^ (once >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    twice ^ (twice >> 31)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a ratio between 0 and 1 of all numbers, to the nearest that a float has"
)]
fn part_of_u64(ratio: f64) -> u64 {
    (ratio.clamp(0.0, 1.0) * u64::MAX as f64) as u64
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}
