//! Sends spans to a collector in batches, and keeps them for a while where it doesn't take them.
//!
//! What a collector can't take now (it isn't there, it says 429, 502, 503 or 504) is sent again, with a growing wait
//! between; what it refuses in any other way is dropped: it would refuse it again. The oldest give way to new ones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

use super::{EndedSpan, SpanOptions, encode};
use crate::upstream::dial;

/// How often what is there is sent.
const SEND_INTERVAL: Duration = Duration::from_secs(1);
/// Calls in one request: some 300 KiB, where collectors take 4 MiB.
const BATCH_MAX: usize = 512;
/// Calls kept while the collector is away.
const KEPT_MAX: usize = 8_192;
/// The first and the longest wait before a batch is sent again.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// What is read of an answer: its status says what matters.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long the end of the process waits for a collector that doesn't take the last spans.
const FLUSH_WAIT: Duration = Duration::from_secs(2);

/// The version of the gateway, as the scope of its spans.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What became of calls' spans, since the process started.
#[derive(Default)]
pub(super) struct Counts {
    sent: AtomicU64,
    lost: AtomicU64,
}

/// What became of calls' spans, since the process started. In calls, each of which has up to two spans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// Taken by the collector.
    pub sent: u64,
    /// Lost: more came than could be kept, or the collector refused them.
    pub lost: u64,
}

impl Counts {
    pub(super) fn read(&self) -> SpanCounts {
        SpanCounts { sent: self.sent.load(Ordering::Relaxed), lost: self.lost.load(Ordering::Relaxed) }
    }

    pub(super) fn lose(&self, count: usize) {
        self.lost.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// When to send.
pub(super) fn ticks() -> Interval {
    let mut due = interval(SEND_INTERVAL);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    due
}

/// Sends what is there, at once.
pub(super) async fn flush(exporter: &Mutex<Exporter>) {
    let flush = async {
        let mut exporter = exporter.lock().await;
        exporter.retry = None;
        exporter.send_due().await;
        exporter.is_empty()
    };
    if !timeout(FLUSH_WAIT, flush).await.unwrap_or(false) {
        tracing::warn!("the last spans could not be sent");
    }
}

/// The one that sends.
pub(super) struct Exporter {
    options: SpanOptions,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    ended: mpsc::Receiver<EndedSpan>,
    kept: VecDeque<EndedSpan>,
    counts: Arc<Counts>,
    /// When to try again, and how long the wait for that was.
    retry: Option<(Instant, Duration)>,
    /// Whether the collector doesn't take spans; it is said once.
    is_away: bool,
}

/// Why a batch wasn't taken.
enum Untaken {
    /// It may be, later.
    Now(Option<Duration>),
    /// It won't be.
    Ever(StatusCode),
}

impl Exporter {
    pub(super) fn new(options: SpanOptions, ended: mpsc::Receiver<EndedSpan>, counts: Arc<Counts>) -> Self {
        let connector = HttpsConnectorBuilder::new().with_tls_config(dial::machine_tls());
        let client =
            Client::builder(TokioExecutor::new()).build(connector.https_or_http().enable_http1().build());
        Self { options, client, ended, kept: VecDeque::new(), counts, retry: None, is_away: false }
    }

    /// Sends what is there, unless it is too early to try again.
    pub(super) async fn send_due(&mut self) {
        loop {
            self.take_queued();
            if self.kept.is_empty() || self.retry.is_some_and(|(at, _)| Instant::now() < at) {
                return;
            }
            let count = self.kept.len().min(BATCH_MAX);
            // They stay until they are taken: this may be dropped halfway.
            let body =
                encode::request(&self.options.resource, VERSION, &self.kept.make_contiguous()[..count]);
            match self.post(body.into()).await {
                Ok(()) => {
                    self.counts.sent.fetch_add(count as u64, Ordering::Relaxed);
                    self.kept.drain(..count);
                    self.retry = None;
                    if std::mem::take(&mut self.is_away) {
                        tracing::info!("the collector takes spans again");
                    }
                }
                Err(Untaken::Ever(status)) => {
                    self.counts.lose(count);
                    self.kept.drain(..count);
                    self.say(&format!("it refuses them with status {}", status.as_u16()));
                }
                Err(Untaken::Now(asked)) => {
                    let longer = self.retry.map_or(WAITS.0, |(_, wait)| (wait * 2).min(WAITS.1));
                    let wait = asked.map_or(longer, |asked| asked.clamp(WAITS.0, WAITS.1));
                    self.retry = Some((Instant::now() + wait, wait));
                    self.say("they are kept meanwhile");
                    return;
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.ended.is_empty()
    }

    fn say(&mut self, what: &str) {
        if !std::mem::replace(&mut self.is_away, true) {
            tracing::warn!(what, "the collector of OTEL_EXPORTER_OTLP_ENDPOINT takes no spans");
        }
    }

    fn take_queued(&mut self) {
        while let Ok(ended) = self.ended.try_recv() {
            if self.kept.len() >= KEPT_MAX {
                self.kept.pop_front();
                self.counts.lose(1);
            }
            self.kept.push_back(ended);
        }
    }

    async fn post(&self, body: Bytes) -> Result<(), Untaken> {
        let mut request = Request::post(&self.options.endpoint)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(Full::new(body))
            .expect("the endpoint was checked");
        for (name, value) in &self.options.headers {
            request.headers_mut().insert(name, value.clone());
        }
        let sent = async {
            let answer = self.client.request(request).await.map_err(|_| Untaken::Now(None))?;
            let (head, body) = answer.into_parts();
            // Read to its end, so that the connection serves again.
            let _ = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let wait = head.headers.get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
            match head.status {
                status if status.is_success() => Ok(()),
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT => Err(Untaken::Now(wait.map(Duration::from_secs))),
                status => Err(Untaken::Ever(status)),
            }
        };
        timeout(self.options.timeout, sent).await.unwrap_or(Err(Untaken::Now(None)))
    }
}
