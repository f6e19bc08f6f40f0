//! What the calls of one upstream and its supervisor share: the live link, the states, the counters.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use sql::clock::Clock;
use sql::model::{Settings, Upstream, UpstreamId};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Surroundings;
use super::bulkhead::Bulkhead;
use super::log_level::LinkLevel;
use super::shown::Shown;
use super::subscription::honoured;
use super::watched::{Standing, Watched};
use crate::bridge::degraded::{Degradations, Reason};
use crate::upstream::backoff::Backoff;
use crate::upstream::call::{Answer, Call, CallError};
use crate::upstream::handshake::Greeting;
use crate::upstream::link::{Dropped, Era, Link, Listener, Stage};
use crate::upstream::news::News;
use crate::upstream::oauth::{Denial, Pass};
use crate::upstream::offers::Offers;
use crate::upstream::states::{ConnectionState, Policy, States};
use crate::upstream::status::{Check, CheckKind, Status};
use crate::upstream::topic::Topic;
use crate::wire::compose::Quoted;

/// What an update of a resource says beyond its URI is kept up to here.
const UPDATE_BYTES_MAX: usize = 4096;

/// The longest word of a task that is kept: it may hold the task's result, and thousands of them may
/// wait. A client that hears nothing of a larger one asks for it.
const TASK_BYTES_MAX: usize = 256 * 1024;

/// What is spoken with an upstream that is available.
#[derive(Debug, Clone)]
pub struct Peer {
    /// In which era calls are to be written.
    pub era: Era,
    /// The protocol version.
    pub protocol_version: &'static str,
    /// Its capabilities, a raw JSON object.
    pub capabilities: Bytes,
    /// What of them is acted on.
    pub offers: Offers,
}

/// A link that stands.
pub(super) struct Live {
    pub(super) link: Arc<dyn Link>,
    pub(super) peer: Peer,
    /// What it is asked to log.
    pub(super) level: LinkLevel,
    /// Tells one link of this upstream from the next.
    pub(super) generation: u64,
}

/// What calls wait for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pulse {
    /// The generation of the live link.
    pub(super) live: Option<u64>,
    /// Grows when an attempt ends, and when a wish to wake isn't granted.
    pub(super) answers: u64,
    /// The supervisor is gone.
    pub(super) ended: bool,
}

/// What the supervisor is asked for; wishes of one kind are folded.
#[derive(Default)]
pub(super) struct Wishes {
    bell: Notify,
    pub(super) wake: AtomicBool,
    pub(super) reconnect: AtomicBool,
    pub(super) suspect: AtomicBool,
    /// The generation whose session is gone.
    pub(super) expired: AtomicU64,
    /// The generation that the upstream refused.
    pub(super) denied: AtomicU64,
}

impl Wishes {
    /// Waits until something is asked for.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }
}

#[derive(Default)]
struct Counters {
    in_flight: AtomicUsize,
    unattributed: AtomicU64,
    answers: AtomicU64,
    progress: AtomicU64,
    garbage: AtomicU64,
    restarts: AtomicU64,
}

pub(super) struct Shared {
    pub(super) id: UpstreamId,
    pub(super) spec: ArcSwap<Upstream>,
    pub(super) pulse: watch::Sender<Pulse>,
    pub(super) bulkhead: Bulkhead,
    pub(super) wishes: Wishes,
    /// What the upstream is to tell of.
    pub(super) watched: Arc<Watched>,
    /// What authorises us there.
    pub(super) pass: Arc<Pass>,
    /// What the last acknowledgement of a subscription said it will tell of; `None`: it said nothing.
    pub(super) acknowledged: watch::Sender<Option<BTreeSet<Topic>>>,
    live: ArcSwapOption<Live>,
    /// The link that stood last, for what its child wrote.
    last: ArcSwapOption<Live>,
    states: Mutex<States>,
    /// Whether the breaker counts anything: spares calls the lock.
    troubled: AtomicBool,
    settings: watch::Receiver<Arc<Settings>>,
    clock: Clock,
    news: Mutex<News>,
    shown: Mutex<Shown>,
    counters: Counters,
    degraded: Degradations,
    started: Instant,
    /// Milliseconds after `started`.
    active_at: AtomicU64,
}

/// None of the locks here is held where a panic could leave its value half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(spec: Arc<Upstream>, surroundings: &Surroundings, watched: Arc<Watched>) -> Self {
        let pass = surroundings.passes.of(spec.id);
        Self {
            id: spec.id,
            news: Mutex::new(News::of(spec.id).within(surroundings.scope)),
            spec: ArcSwap::new(spec),
            pulse: watch::Sender::default(),
            bulkhead: Bulkhead::new(),
            wishes: Wishes::default(),
            watched,
            pass,
            acknowledged: watch::Sender::default(),
            live: ArcSwapOption::empty(),
            last: ArcSwapOption::empty(),
            states: Mutex::new(States::new()),
            troubled: AtomicBool::new(false),
            settings: surroundings.settings.clone(),
            clock: surroundings.clock.clone(),
            shown: Mutex::new(Shown::new(surroundings.clock.now())),
            counters: Counters::default(),
            degraded: surroundings.degraded.clone(),
            started: Instant::now(),
            active_at: AtomicU64::new(0),
        }
    }

    /// The settings, as the state machine wants them.
    pub(super) fn policy(&self) -> Policy {
        let settings = self.settings.borrow();
        let connection = &settings.connection;
        let seconds = |count: u32| Duration::from_secs(count.into());
        let backoff = Backoff {
            initial: seconds(connection.retry_initial_backoff_s),
            multiplier: connection.retry_multiplier,
            max: seconds(connection.retry_max_backoff_s),
        };
        Policy { backoff, threshold: connection.failure_threshold }
    }

    /// How long an attempt may take, handshake included.
    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.settings.borrow().connection.connect_timeout_s.into())
    }

    // ---- calls

    /// The live link, if its transport stands.
    pub(super) fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full().filter(|live| !live.link.closed().is_cancelled())
    }

    /// Whether the breaker is open.
    pub(super) fn is_open(&self) -> bool {
        self.troubled.load(Ordering::Relaxed) && lock(&self.states).is_open(Instant::now(), &self.policy())
    }

    /// Sends a call over this link and learns from how it went.
    pub(super) async fn send(&self, live: &Live, call: Call) -> Result<Answer, CallError> {
        let in_flight = InFlightCount::enter(self);
        let _needed = match call.conversation.log_level() {
            Some(level) => {
                let reached = live.level.reach(live.link.as_ref(), level);
                Some(call.cancel.run_until_cancelled(reached).await.ok_or(CallError::Cancelled)?)
            }
            None => None,
        };
        let outcome = live.link.request(call).await;
        drop(in_flight);
        match &outcome {
            Ok(_) => self.answered(),
            // Whether the upstream or only this call is in trouble, a ping will tell.
            Err(CallError::Unavailable { .. } | CallError::ClosedMidCall | CallError::TimedOut { .. }) => {
                self.suspect();
            }
            Err(CallError::Denied(denial)) => {
                self.denied(denial);
                // What lacks a scope is one call, and the next may need less.
                if *denial == Denial::Unauthorized {
                    self.wishes.denied.fetch_max(live.generation, Ordering::SeqCst);
                    self.ring();
                }
            }
            Err(_) => {}
        }
        outcome
    }

    /// The upstream refuses us.
    pub(super) fn denied(&self, denial: &Denial) {
        lock(&self.shown).denied(denial);
    }

    fn answered(&self) {
        self.active();
        if self.troubled.load(Ordering::Relaxed) {
            let mut states = lock(&self.states);
            states.answered();
            self.troubled.store(!states.is_clear(), Ordering::Relaxed);
        }
    }

    /// An error for a caller, that says why there is no live link.
    pub(super) fn unavailable(&self, otherwise: &str) -> CallError {
        lock(&self.shown).unavailable(otherwise)
    }

    // ---- wishes

    /// Has the supervisor look.
    pub(super) fn ring(&self) {
        self.wishes.bell.notify_one();
    }

    pub(super) fn wake(&self) {
        self.wishes.wake.store(true, Ordering::SeqCst);
        self.ring();
    }

    pub(super) fn reconnect(&self) {
        self.wishes.reconnect.store(true, Ordering::SeqCst);
        self.ring();
    }

    pub(super) fn expired(&self, generation: u64) {
        self.wishes.expired.fetch_max(generation, Ordering::SeqCst);
        self.wake();
    }

    // ---- the supervisor's side

    /// One step of the states; `shown` learns of it if the state is another one.
    pub(super) fn step<T>(&self, step: impl FnOnce(&mut States, &Policy) -> T) -> T {
        let policy = self.policy();
        let mut states = lock(&self.states);
        let before = states.view(&policy);
        let outcome = step(&mut states, &policy);
        let after = states.view(&policy);
        self.troubled.store(!states.is_clear(), Ordering::Relaxed);
        drop(states);
        if before != after {
            lock(&self.shown).since = self.clock.now();
            lock(&self.news).state_changed();
            tracing::info!(upstream.id = %self.id, upstream.state = ?after, "upstream changed its state");
        }
        outcome
    }

    pub(super) fn publish(&self, live: Option<Arc<Live>>) {
        let generation = live.as_ref().map(|live| live.generation);
        if live.is_some() {
            self.last.store(live.clone());
        }
        self.live.store(live);
        self.pulse.send_modify(|pulse| pulse.live = generation);
    }

    /// The link that is published, standing or not.
    pub(super) fn published(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    /// Those who wait for a wish to wake learn that it is decided.
    pub(super) fn answer(&self) {
        self.pulse.send_modify(|pulse| pulse.answers += 1);
    }

    /// Nobody keeps this connected any longer.
    pub(super) fn end(&self) {
        self.pulse.send_modify(|pulse| pulse.ended = true);
    }

    pub(super) fn greeted(&self, greeting: &Greeting) {
        lock(&self.shown).greeted(greeting);
        let info = sql::model::UpstreamInfo {
            upstream_id: self.id,
            era: greeting.spoken.era(),
            protocol_version: greeting.spoken.version.to_string(),
            server_info: greeting.server_info.clone(),
            capabilities: greeting.spoken.capabilities.clone(),
            instructions: greeting.instructions.clone(),
            seen_at: self.clock.now(),
        };
        lock(&self.news).connected(info);
    }

    pub(super) fn record(&self, kind: CheckKind, took: Duration, reason: Option<String>) {
        lock(&self.shown).record(self.clock.now(), kind, took, reason);
    }

    /// How far the last attempt came.
    pub(super) fn failed_at(&self, stage: Stage) {
        lock(&self.shown).failed_at(stage);
    }

    pub(super) fn news(&self) -> MutexGuard<'_, News> {
        lock(&self.news)
    }

    /// A topic may have changed while nobody could hear of it. Of a task nothing can be said without
    /// asking for it, which its client does.
    pub(super) fn perhaps_updated(&self, topic: &Topic) {
        if let Topic::Resource(uri) = topic {
            self.degraded(Reason::UpdateMissed);
            let params = format!(r#"{{"uri":{}}}"#, Quoted(uri));
            self.news().updated(topic, params.into());
            self.ring();
        }
    }

    /// What is wanted of these topics won't be told of.
    pub(super) fn refuse(&self, error: &Bytes, topics: impl Fn(&Topic) -> bool) {
        for topic in self.watched.wanted().iter().filter(|topic| topics(topic)) {
            self.watched.mark(topic, Standing::Refused(error.clone()));
        }
    }

    /// A topic changed, the upstream says. `false` if the word had to be dropped.
    fn updated(&self, topic: &Topic, params: &Bytes) -> bool {
        if !self.watched.covers(topic) {
            // Nobody asked.
            return true;
        }
        // A copy, so that what waits doesn't keep the whole message alive.
        let params = match topic {
            Topic::Resource(uri) if params.len() > UPDATE_BYTES_MAX => {
                format!(r#"{{"uri":{}}}"#, Quoted(uri)).into()
            }
            Topic::Task(_) if params.len() > TASK_BYTES_MAX => return false,
            Topic::Resource(_) | Topic::Task(_) => Bytes::copy_from_slice(params),
        };
        self.news().updated(topic, params)
    }

    /// Something came from the upstream.
    pub(super) fn active(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active_at.fetch_max(now, Ordering::Relaxed);
    }

    pub(super) fn active_at(&self) -> Instant {
        self.started + Duration::from_millis(self.active_at.load(Ordering::Relaxed))
    }

    pub(super) fn calls_in_flight(&self) -> usize {
        self.counters.in_flight.load(Ordering::Relaxed)
    }

    // ---- what admins are shown

    pub(super) fn status(&self) -> Status {
        let policy = self.policy();
        let states = lock(&self.states);
        let (state, failures) = (states.view(&policy), states.failures());
        let breaker_open = states.is_open(Instant::now(), &policy);
        drop(states);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Status {
            breaker_open: breaker_open && state != ConnectionState::Disabled,
            calls_in_flight: self.bulkhead.taken().max(self.calls_in_flight()),
            unattributed: count(&self.counters.unattributed),
            late_answers: count(&self.counters.answers),
            late_progress: count(&self.counters.progress),
            dropped_lines: count(&self.counters.garbage),
            child_restarts: count(&self.counters.restarts),
            ..lock(&self.shown).status(state, failures)
        }
    }

    /// Counts that its child is started again.
    pub(super) fn restarted(&self) {
        self.counters.restarts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn checks(&self) -> Vec<Check> {
        lock(&self.shown).checks()
    }

    pub(super) fn stderr(&self) -> Vec<String> {
        self.last.load().as_ref().map(|live| live.link.stderr()).unwrap_or_default()
    }
}

impl Listener for Shared {
    fn notification(&self, method: &str, params: Option<Bytes>) {
        self.active();
        let kept = match (method, params) {
            ("notifications/subscriptions/acknowledged", params) => {
                self.acknowledged.send_replace(params.as_ref().and_then(honoured));
                true
            }
            (_, Some(params)) => match Topic::of(method, &params) {
                Some(topic) => self.updated(&topic, &params),
                None => self.news().notification(method, Some(params)),
            },
            (_, None) => self.news().notification(method, None),
        };
        if !kept {
            tracing::debug!(upstream.id = %self.id, "a message outside calls was dropped, too many wait");
        }
        self.ring();
    }

    fn dropped(&self, what: Dropped) {
        let counter = match what {
            Dropped::Unattributed => &self.counters.unattributed,
            Dropped::Answer => &self.counters.answers,
            Dropped::Progress => &self.counters.progress,
            Dropped::Garbage => &self.counters.garbage,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn degraded(&self, reason: Reason) {
        self.degraded.count(self.id, reason);
    }

    fn suspect(&self) {
        self.wishes.suspect.store(true, Ordering::SeqCst);
        self.ring();
    }
}

/// Counts a call while it is in flight, however it ends.
struct InFlightCount<'a>(&'a Shared);

impl<'a> InFlightCount<'a> {
    fn enter(shared: &'a Shared) -> Self {
        shared.counters.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for InFlightCount<'_> {
    fn drop(&mut self) {
        self.0.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
