//! The task that keeps one upstream connected: thin around the pure states.
//!
//! It waits for the first of everything that can happen, tells the states, and does what they say. It
//! holds at most one attempt or one link, and one ping. A link that ends is closed before the next is
//! opened, since a child may hold what its successor needs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sql::model::ConnParams;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::log_level::LinkLevel;
use super::shared::{Live, Peer, Shared};
use super::{Surroundings, subscribe, subscription};
use crate::tasks::Tasks;
use crate::upstream::backoff;
use crate::upstream::call::{Answer, Call, CallError};
use crate::upstream::handshake::{self, Declared, Greeting};
use crate::upstream::link::{Era, Link, Listener, OpenError, Wiring, next_id};
use crate::upstream::news::UpstreamEvent;
use crate::upstream::oauth::Denial;
use crate::upstream::offers::Offers;
use crate::upstream::states::{Action, Event};
use crate::upstream::status::CheckKind;

/// An idle connection is pinged after so long.
const PING_AFTER: Duration = Duration::from_secs(30);
/// A ping that isn't answered by then isn't answered.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// What a ping may answer, `server/discover` included.
const PING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a link may take to close before its successor is opened regardless.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(7);

type Job<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Opened = Result<(Arc<dyn Link>, Greeting), OpenError>;

/// Runs until it is stopped.
pub(super) async fn run(
    shared: Arc<Shared>,
    surroundings: Surroundings,
    declared: Declared,
    stop: CancellationToken,
) {
    let mut supervisor = Supervisor {
        shared: Arc::clone(&shared),
        events: surroundings.events.clone(),
        stopping: surroundings.tasks.stopping().clone(),
        surroundings,
        declared,
        attempt: None,
        attempt_began: Instant::now(),
        attempt_stamp: 0,
        ping: None,
        ping_began: Instant::now(),
        subscription: None,
        closing: None,
        known: None,
        has_begun: false,
    };
    supervisor.tell(Event::Enable);
    while supervisor.turn(&stop).await {}
    supervisor.tell(Event::Disable);
    if let Some(closing) = supervisor.closing.take() {
        let _ = timeout(CLOSE_TIMEOUT, closing).await;
    }
    shared.end();
}

struct Supervisor {
    shared: Arc<Shared>,
    surroundings: Surroundings,
    declared: Declared,
    events: mpsc::Sender<UpstreamEvent>,
    stopping: CancellationToken,
    attempt: Option<Job<Opened>>,
    attempt_began: Instant,
    /// Which token the attempt began with.
    attempt_stamp: u64,
    ping: Option<Job<Result<(), CallError>>>,
    ping_began: Instant,
    subscription: Option<Job<()>>,
    closing: Option<JoinHandle<()>>,
    /// The era it was found in last.
    known: Option<Era>,
    /// Whether there was an attempt before.
    has_begun: bool,
}

/// What happened in one turn.
enum Turn {
    Stop,
    Wish,
    Opened(Opened),
    Due,
    Closed,
    Pinged(Result<(), CallError>),
    PingDue,
    SubscriptionOver,
    Told,
}

impl Supervisor {
    async fn turn(&mut self, stop: &CancellationToken) -> bool {
        let due = self.shared.step(|states, _| states.due());
        let live = self.shared.published();
        let idle = live.is_some() && self.ping.is_none() && self.shared.calls_in_flight() == 0;
        let (ping_at, news) = (self.shared.active_at() + PING_AFTER, !self.shared.news().is_empty());
        let turn = tokio::select! {
            biased;
            () = stop.cancelled() => Turn::Stop,
            () = self.stopping.cancelled() => Turn::Stop,
            permit = self.events.reserve(), if news => {
                // If nobody listens any longer, the news are as good as told.
                if let (Some(event), Ok(permit)) = (self.shared.news().next(), permit) {
                    permit.send(event);
                }
                Turn::Told
            }
            () = self.shared.wishes.rung() => Turn::Wish,
            opened = poll(&mut self.attempt) => Turn::Opened(opened),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Turn::Due,
            () = closed(live.as_ref()) => Turn::Closed,
            outcome = poll(&mut self.ping) => Turn::Pinged(outcome),
            () = sleep_until(ping_at), if idle => Turn::PingDue,
            () = poll(&mut self.subscription) => Turn::SubscriptionOver,
        };
        match turn {
            Turn::Stop => return false,
            Turn::Wish => self.wish(),
            Turn::Opened(opened) => self.opened(opened),
            Turn::Due => self.tell(Event::Due),
            Turn::Closed => self.ended(live.as_deref()),
            Turn::Pinged(outcome) => self.pinged(outcome),
            // A call may have come in between.
            Turn::PingDue if self.shared.active_at() + PING_AFTER <= Instant::now() => self.ping(),
            Turn::PingDue | Turn::SubscriptionOver | Turn::Told => {}
        }
        true
    }

    fn wish(&mut self) {
        let wishes = &self.shared.wishes;
        let (reconnect, wake) =
            (wishes.reconnect.swap(false, Ordering::SeqCst), wishes.wake.swap(false, Ordering::SeqCst));
        let suspect = wishes.suspect.swap(false, Ordering::SeqCst);
        let expired = wishes.expired.swap(0, Ordering::SeqCst);
        let denied = wishes.denied.swap(0, Ordering::SeqCst);
        if let Some(live) = self.shared.published() {
            if live.link.closed().is_cancelled() {
                self.ended(Some(&live));
            } else if live.generation == denied {
                self.lost(Event::Denied, &Denial::Unauthorized.to_string());
                self.shared.pass.refused();
            } else if live.generation == expired {
                self.lost(Event::Expired, "the upstream forgot its session");
            } else if suspect {
                self.ping();
            }
        }
        if reconnect {
            self.tell(Event::Reconnect);
        }
        if wake {
            self.tell(Event::Wake);
            if self.attempt.is_none() {
                // Not granted, or not needed: nobody should wait for an attempt that doesn't come.
                self.shared.answer();
            }
        }
    }

    /// Tells the states what happened and does what they say.
    fn tell(&mut self, event: Event) {
        let now = Instant::now();
        match self.shared.step(|states, policy| states.on(event, now, policy, backoff::jitter())) {
            Action::Nothing => {}
            Action::Connect => self.connect(),
            Action::Disconnect => self.disconnect(),
            Action::Replace => {
                self.disconnect();
                self.connect();
            }
        }
    }

    fn connect(&mut self) {
        self.attempt_began = Instant::now();
        self.attempt_stamp = self.shared.pass.stamp();
        let is_again = std::mem::replace(&mut self.has_begun, true);
        if is_again && matches!(self.shared.spec.load().conn_params, ConnParams::Stdio { .. }) {
            self.shared.restarted();
        }
        let before = self.closing.take();
        let attempt = attempt(Arc::clone(&self.shared), self.surroundings.clone(), self.declared, self.known);
        self.attempt = Some(Box::pin(async move {
            if let Some(before) = before {
                let _ = timeout(CLOSE_TIMEOUT, before).await;
            }
            attempt.await
        }));
    }

    fn disconnect(&mut self) {
        (self.attempt, self.ping, self.subscription) = (None, None, None);
        if let Some(live) = self.shared.published() {
            self.shared.publish(None);
            let close = async move { live.link.close().await };
            self.closing = Some(self.surroundings.tasks.spawn("upstream close", close));
        }
    }

    fn opened(&mut self, opened: Opened) {
        let took = self.attempt_began.elapsed();
        match opened {
            Ok((link, greeting)) => {
                self.shared.record(CheckKind::Connect, took, None);
                let spoken = &greeting.spoken;
                let peer = Peer {
                    era: spoken.era(),
                    protocol_version: spoken.version.as_str(),
                    capabilities: spoken.capabilities.clone(),
                    offers: Offers::of(&spoken.capabilities).spoken_in(spoken.version.as_str()),
                };
                self.known = Some(peer.era);
                self.shared.greeted(&greeting);
                let live = Arc::new(Live { link, level: LinkLevel::of(&peer), peer, generation: next_id() });
                self.shared.active();
                self.shared.publish(Some(Arc::clone(&live)));
                let shared = Arc::clone(&self.shared);
                self.subscription = Some(match live.peer.era {
                    Era::Modern => Box::pin(subscription::keep(shared, live)),
                    Era::Legacy => Box::pin(subscribe::keep(shared, live)),
                });
                self.tell(Event::Connected);
            }
            Err(error) => {
                // It may speak another era by now.
                self.known = None;
                let source = std::error::Error::source(&error);
                let name = &self.shared.spec.load().name;
                tracing::warn!(
                    upstream.id = %self.shared.id, upstream.name = name, stage = ?error.stage, error = source,
                    "upstream could not be connected"
                );
                let denial = error.denial().cloned();
                self.shared.failed_at(error.stage);
                self.shared.record(CheckKind::Connect, took, Some(error.reason));
                match denial {
                    Some(denial) => self.denied(&denial),
                    None => self.tell(Event::Failed),
                }
            }
        }
        self.shared.answer();
    }

    /// The upstream refused an attempt.
    fn denied(&mut self, denial: &Denial) {
        self.shared.denied(denial);
        self.tell(Event::Denied);
        // It was authorised while the attempt ran without that.
        if self.shared.pass.stamp() != self.attempt_stamp {
            self.tell(Event::Reconnect);
        } else if *denial == Denial::Unauthorized {
            self.shared.pass.refused();
        }
    }

    fn lost(&mut self, event: Event, reason: &str) {
        tracing::warn!(upstream.id = %self.shared.id, reason, "upstream connection lost");
        self.shared.record(CheckKind::Lost, Duration::ZERO, Some(reason.to_owned()));
        self.tell(event);
    }

    /// The link ended by itself.
    fn ended(&mut self, live: Option<&Live>) {
        let reason = live.and_then(|live| live.link.farewell());
        self.lost(Event::Lost, reason.as_deref().unwrap_or("the connection ended"));
    }

    fn ping(&mut self) {
        let Some(live) = self.shared.published() else { return };
        if self.ping.is_none() {
            self.ping_began = Instant::now();
            self.ping = Some(Box::pin(ping(live)));
        }
    }

    fn pinged(&mut self, outcome: Result<(), CallError>) {
        let took = self.ping_began.elapsed();
        let Err(error) = outcome else {
            self.shared.active();
            return self.shared.record(CheckKind::Ping, took, None);
        };
        let reason = format!("it does not answer a ping: {error}");
        self.shared.record(CheckKind::Ping, took, Some(reason.clone()));
        match error {
            CallError::SessionUnknown => self.lost(Event::Expired, "the upstream forgot its session"),
            CallError::Denied(denial) => {
                self.shared.denied(&denial);
                self.lost(Event::Denied, &reason);
                if denial == Denial::Unauthorized {
                    self.shared.pass.refused();
                }
            }
            // One that works on a call may be too busy to answer, and would lose it for nothing.
            CallError::TimedOut { .. } if self.shared.calls_in_flight() > 0 => self.shared.active(),
            _ => self.lost(Event::Lost, &reason),
        }
    }
}

/// The job's outcome, and the job is over; for ever if there is none.
async fn poll<T>(job: &mut Option<Job<T>>) -> T {
    match job {
        Some(running) => {
            let outcome = running.await;
            *job = None;
            outcome
        }
        None => std::future::pending().await,
    }
}

async fn closed(live: Option<&Arc<Live>>) {
    match live {
        Some(live) => live.link.closed().cancelled().await,
        None => std::future::pending().await,
    }
}

/// Opens a transport and shakes hands. Whatever was opened is closed if it comes to nothing.
async fn attempt(
    shared: Arc<Shared>,
    surroundings: Surroundings,
    declared: Declared,
    known: Option<Era>,
) -> Opened {
    let spec = shared.spec.load_full();
    let limit = shared.connect_timeout();
    let listener = Arc::clone(&shared) as Arc<dyn Listener>;
    let pass = Arc::clone(&shared.pass);
    let wiring = Wiring { tasks: surroundings.tasks.clone(), listener, roots: declared.roots, pass };
    let link = surroundings.opener.open(&spec, wiring).await?;
    let mut opened = CloseUnlessKept { link: Some(Arc::clone(&link)), tasks: surroundings.tasks.clone() };
    let greeting = tokio::select! {
        greeting = handshake::shake(&*link, handshake::protocol_of(&spec), known, declared, limit) => greeting?,
        () = link.closed().cancelled() => return Err(handshake::ended(&*link)),
    };
    opened.link = None;
    Ok((link, greeting))
}

struct CloseUnlessKept {
    link: Option<Arc<dyn Link>>,
    tasks: Tasks,
}

impl Drop for CloseUnlessKept {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            self.tasks.spawn("upstream close", async move { link.close().await });
        }
    }
}

async fn ping(live: Arc<Live>) -> Result<(), CallError> {
    let method = match live.peer.era {
        Era::Legacy => "ping",
        Era::Modern => "server/discover",
    };
    let call = Call::own(method, handshake::own_params(live.peer.era), PING_TIMEOUT, PING_BYTES_MAX);
    match live.link.request(call).await? {
        Answer::Result(_) => Ok(()),
        // A server that doesn't know pings has answered one.
        Answer::Error(error) if handshake::code_of(&error) == Some(-32601) => Ok(()),
        Answer::Error(_) => Err(CallError::Invalid { reason: "an error" }),
    }
}
