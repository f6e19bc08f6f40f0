//! The states of a connection and what leads from one to the next: pure, no clock and no socket.
//!
//! ```text
//! disabled --enable--> connecting --connected--> available
//!                          ^  |failed               |lost, expired
//!                          |  v                     v
//!                          +-- unavailable / suspended (waiting; due, a call or an admin wakes it)
//! ```
//! An upstream that refuses us (`denied`) waits for an admin, not for calls: nothing that they wake helps.
//! It is looked at now and then all the same, since its mind may change without ours.
//!
//! Suspended is what unavailable is called from `failure_threshold` failures on; it waits the longest
//! wait each time. A connection that is lost soon after it stood continues the count that its success
//! had reset, so that a crash loop backs off as a dead upstream does.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::breaker::{Breaker, Failure};

/// How long a connection must have stood for its loss to be a first failure.
pub(crate) const STABLE_AFTER: Duration = Duration::from_secs(30);

/// How often an upstream that wants to be authorised is looked at.
pub(crate) const DENIED_FOR: Duration = Duration::from_mins(10);

/// How an upstream fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionState {
    /// An attempt runs.
    Connecting,
    /// It answers.
    Available,
    /// It failed and is tried again after a while, or at once when a call needs it.
    Unavailable,
    /// It failed so often that it's tried only at the longest interval, or when something needs it.
    Suspended,
    /// An admin switched it off.
    Disabled,
}

impl ConnectionState {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Available => "available",
            Self::Unavailable => "unavailable",
            Self::Suspended => "suspended",
            Self::Disabled => "disabled",
        }
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The upstream is switched on.
    Enable,
    /// It is switched off, removed, or the gateway stops.
    Disable,
    /// A call needs it.
    Wake,
    /// An admin asks for a new connection.
    Reconnect,
    /// The wait may be over.
    Due,
    /// The attempt succeeded.
    Connected,
    /// The attempt failed.
    Failed,
    /// The connection that stood is gone.
    Lost,
    /// The upstream has forgotten our session.
    Expired,
    /// The upstream wants an admin to authorise us, whether we tried to connect or stood connected.
    Denied,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing.
    Nothing,
    /// Start an attempt.
    Connect,
    /// End what stands or is under way.
    Disconnect,
    /// End what stands, then start an attempt.
    Replace,
}

/// What the settings say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Policy {
    /// How long to wait between attempts.
    pub(crate) backoff: Backoff,
    /// From how many failures on an upstream is suspended and the breaker opens.
    pub(crate) threshold: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Disabled,
    Connecting,
    Available { since: Instant, failures_before: u32 },
    Waiting { until: Instant },
    Denied { until: Instant },
}

/// The machine.
#[derive(Debug)]
pub(crate) struct States {
    state: State,
    failures: u32,
    breaker: Breaker,
}

impl States {
    /// Switched off.
    pub(crate) fn new() -> Self {
        Self { state: State::Disabled, failures: 0, breaker: Breaker::default() }
    }

    /// Takes one step. `jitter` is in 0..1.
    pub(crate) fn on(&mut self, event: Event, now: Instant, policy: &Policy, jitter: f64) -> Action {
        match (self.state, event) {
            (State::Disabled, Event::Enable)
            | (State::Waiting { .. } | State::Denied { .. }, Event::Reconnect) => self.connect(),
            (State::Connecting | State::Available { .. }, Event::Disable) => {
                self.disable();
                Action::Disconnect
            }
            (State::Waiting { .. } | State::Denied { .. }, Event::Disable) => {
                self.disable();
                Action::Nothing
            }
            (State::Waiting { .. }, Event::Wake) if !self.is_open(now, policy) => self.connect(),
            (State::Waiting { until } | State::Denied { until }, Event::Due) if until <= now => {
                self.connect()
            }
            (State::Connecting, Event::Denied) => {
                self.state = State::Denied { until: now + DENIED_FOR };
                Action::Nothing
            }
            (State::Available { .. }, Event::Denied) => {
                self.state = State::Denied { until: now + DENIED_FOR };
                Action::Disconnect
            }
            (State::Available { .. }, Event::Reconnect) => {
                self.connect();
                Action::Replace
            }
            (State::Connecting, Event::Connected) => {
                self.state = State::Available { since: now, failures_before: self.failures };
                self.failures = 0;
                self.breaker.connected();
                Action::Nothing
            }
            (State::Connecting, Event::Failed) => {
                self.breaker.failed(Failure::Attempt, now, policy.threshold as usize);
                self.wait(self.failures.saturating_add(1), now, policy, jitter);
                Action::Nothing
            }
            // Forgetting an old session is an upstream's right and no failure: a new one is made at once.
            (State::Available { since, .. }, Event::Expired)
                if now.saturating_duration_since(since) >= STABLE_AFTER =>
            {
                self.connect();
                Action::Replace
            }
            (State::Available { since, failures_before }, Event::Lost | Event::Expired) => {
                let stood = now.saturating_duration_since(since) >= STABLE_AFTER;
                let failures = if stood { 1 } else { failures_before.saturating_add(1) };
                self.breaker.failed(Failure::Lost, now, policy.threshold as usize);
                self.wait(failures, now, policy, jitter);
                Action::Disconnect
            }
            _ => Action::Nothing,
        }
    }

    /// A call was answered.
    pub(crate) fn answered(&mut self) {
        self.breaker.answered();
    }

    /// Whether an answer would change anything.
    pub(crate) fn is_clear(&self) -> bool {
        self.breaker.is_clear()
    }

    /// Whether calls fail at once.
    pub(crate) fn is_open(&self, now: Instant, policy: &Policy) -> bool {
        self.breaker.is_open(now, policy.threshold as usize)
    }

    /// The state by its public name.
    pub(crate) fn view(&self, policy: &Policy) -> ConnectionState {
        match self.state {
            State::Disabled => ConnectionState::Disabled,
            State::Connecting => ConnectionState::Connecting,
            State::Available { .. } => ConnectionState::Available,
            State::Waiting { .. } if self.failures >= policy.threshold => ConnectionState::Suspended,
            State::Waiting { .. } | State::Denied { .. } => ConnectionState::Unavailable,
        }
    }

    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// When [`Event::Due`] is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } | State::Denied { until } => Some(until),
            _ => None,
        }
    }

    fn connect(&mut self) -> Action {
        self.state = State::Connecting;
        Action::Connect
    }

    fn disable(&mut self) {
        *self = Self::new();
    }

    fn wait(&mut self, failures: u32, now: Instant, policy: &Policy, jitter: f64) {
        self.failures = failures;
        let wait = if failures >= policy.threshold {
            policy.backoff.longest(jitter)
        } else {
            policy.backoff.after(failures, jitter)
        };
        self.state = State::Waiting { until: now + wait };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> Policy {
        let backoff =
            Backoff { initial: Duration::from_secs(1), multiplier: 2.0, max: Duration::from_mins(1) };
        Policy { backoff, threshold: 5 }
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Enable),
            Just(Event::Disable),
            Just(Event::Wake),
            Just(Event::Reconnect),
            Just(Event::Due),
            Just(Event::Connected),
            Just(Event::Failed),
            Just(Event::Lost),
            Just(Event::Expired),
            Just(Event::Denied),
        ]
    }

    /// What the task around the machine holds: at most one attempt or one connection.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Holds {
        Nothing,
        Attempt,
        Link,
    }

    proptest! {
        #[test]
        fn holds_at_most_one_attempt_or_connection(steps in prop::collection::vec((event(), 0..40_000u64, 0.0..1.0f64), 0..200)) {
            let (policy, mut now, mut states, mut holds) = (policy(), Instant::now(), States::new(), Holds::Nothing);
            for (event, millis, jitter) in steps {
                now += Duration::from_millis(millis);
                // The task reports only what can happen to what it holds.
                match (event, holds) {
                    (Event::Connected | Event::Failed, Holds::Attempt) | (Event::Lost | Event::Expired, Holds::Link)
                    | (Event::Denied, Holds::Attempt | Holds::Link) => {}
                    (Event::Connected | Event::Failed | Event::Lost | Event::Expired | Event::Denied, _) => continue,
                    _ => {}
                }
                let before = states.view(&policy);
                let action = states.on(event, now, &policy, jitter);
                holds = match (action, event, holds) {
                    (Action::Connect, _, held) => { prop_assert_eq!(held, Holds::Nothing); Holds::Attempt }
                    (Action::Replace, _, held) => { prop_assert_eq!(held, Holds::Link); Holds::Attempt }
                    (Action::Disconnect, _, held) => { prop_assert_ne!(held, Holds::Nothing); Holds::Nothing }
                    (Action::Nothing, Event::Connected, _) => Holds::Link,
                    (Action::Nothing, Event::Failed | Event::Denied, _) => Holds::Nothing,
                    (Action::Nothing, _, held) => held,
                };
                let after = states.view(&policy);
                prop_assert_eq!(after == ConnectionState::Available, holds == Holds::Link);
                prop_assert_eq!(after == ConnectionState::Connecting, holds == Holds::Attempt);
                prop_assert_eq!(states.due().is_some(), matches!(after, ConnectionState::Unavailable | ConnectionState::Suspended));
                if before == ConnectionState::Disabled && event != Event::Enable {
                    prop_assert_eq!(after, ConnectionState::Disabled);
                }
                if let Some(due) = states.due() && matches!(event, Event::Failed | Event::Lost | Event::Expired) {
                    let wait = due - now;
                    prop_assert!(wait >= Duration::from_millis(500) && wait <= policy.backoff.max);
                    prop_assert!(after == ConnectionState::Unavailable || wait >= policy.backoff.max / 2);
                }
                if event == Event::Reconnect && before != ConnectionState::Disabled {
                    prop_assert_eq!(after, ConnectionState::Connecting);
                }
            }
        }
    }

    #[test]
    fn is_suspended_at_the_threshold_and_wakes_for_an_admin_though_the_breaker_is_open() {
        let (policy, now, mut states) = (policy(), Instant::now(), States::new());
        states.on(Event::Enable, now, &policy, 1.0);
        for _ in 0..4 {
            states.on(Event::Failed, now, &policy, 1.0);
            assert_eq!(states.view(&policy), ConnectionState::Unavailable);
            assert_eq!(states.on(Event::Wake, now, &policy, 1.0), Action::Connect);
        }
        states.on(Event::Failed, now, &policy, 1.0);
        assert_eq!(states.view(&policy), ConnectionState::Suspended);
        assert_eq!(states.due(), Some(now + Duration::from_mins(1)));
        assert_eq!(states.on(Event::Wake, now, &policy, 1.0), Action::Nothing);
        assert_eq!(states.on(Event::Reconnect, now, &policy, 1.0), Action::Connect);
    }

    #[test]
    fn a_call_wakes_a_suspended_upstream_once_the_breaker_lets_it() {
        let (policy, now, mut states) = (policy(), Instant::now(), States::new());
        states.on(Event::Enable, now, &policy, 1.0);
        for _ in 0..5 {
            states.on(Event::Failed, now, &policy, 1.0);
            states.on(Event::Reconnect, now, &policy, 1.0);
        }
        states.on(Event::Failed, now, &policy, 1.0);
        assert_eq!(states.on(Event::Wake, now + Duration::from_secs(29), &policy, 1.0), Action::Nothing);
        assert_eq!(states.on(Event::Wake, now + Duration::from_secs(31), &policy, 1.0), Action::Connect);
    }

    #[test]
    fn an_upstream_that_refuses_us_waits_for_an_admin_and_not_for_calls() {
        let (policy, now, mut states) = (policy(), Instant::now(), States::new());
        states.on(Event::Enable, now, &policy, 1.0);
        assert_eq!(states.on(Event::Denied, now, &policy, 1.0), Action::Nothing);
        assert_eq!((states.view(&policy), states.failures()), (ConnectionState::Unavailable, 0));
        assert_eq!(states.on(Event::Wake, now, &policy, 1.0), Action::Nothing);
        assert_eq!(states.due(), Some(now + DENIED_FOR));
        assert_eq!(states.on(Event::Due, now + DENIED_FOR, &policy, 1.0), Action::Connect);
        states.on(Event::Connected, now, &policy, 1.0);
        assert_eq!(states.on(Event::Denied, now, &policy, 1.0), Action::Disconnect);
        assert_eq!(states.on(Event::Reconnect, now, &policy, 1.0), Action::Connect);
    }

    #[test]
    fn a_crash_loop_backs_off_though_each_start_succeeds() {
        let (policy, now, mut states) = (policy(), Instant::now(), States::new());
        states.on(Event::Enable, now, &policy, 1.0);
        let mut waits = Vec::new();
        for _ in 0..4 {
            states.on(Event::Connected, now, &policy, 1.0);
            states.on(Event::Lost, now, &policy, 1.0);
            waits.push((states.due().expect("it waits") - now).as_secs());
            states.on(Event::Reconnect, now, &policy, 1.0);
        }
        assert_eq!(waits, [1, 2, 4, 8]);
    }

    #[test]
    fn an_old_session_that_is_forgotten_is_made_anew_at_once() {
        let (policy, now, mut states) = (policy(), Instant::now(), States::new());
        states.on(Event::Enable, now, &policy, 1.0);
        states.on(Event::Connected, now, &policy, 1.0);
        assert_eq!(states.on(Event::Expired, now + STABLE_AFTER, &policy, 1.0), Action::Replace);
    }
}
