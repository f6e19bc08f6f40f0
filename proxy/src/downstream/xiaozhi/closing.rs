//! Why a connection to a broker ended, and how soon to try again.
//!
//! What the broker writes beside its code is not repeated: it may hold the token, and is a stranger's text.

use std::time::Duration;

use sql::model::XiaozhiFault as Fault;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::{self, http::StatusCode};

use crate::upstream::backoff::Backoff;

/// As the reference client does it: 1 s, doubling up to 10 minutes, forever.
const USUAL: Backoff =
    Backoff { initial: Duration::from_secs(1), multiplier: 2.0, max: Duration::from_mins(10) };
/// Where trying soon does harm: two gateways of one agent replace each other in turn, and a token that was
/// refused will be again.
const HARD: Backoff =
    Backoff { initial: Duration::from_mins(2), multiplier: 2.0, max: Duration::from_mins(10) };
/// A connection that lasted so long was a good one: what failed before it counts no more.
const STABLE_AFTER: Duration = Duration::from_mins(1);

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    /// The kind of it.
    pub(super) fault: Fault,
    /// The code that the broker closed with.
    pub(super) code: Option<u16>,
    /// In plain words.
    pub(super) words: String,
}

impl Ending {
    pub(super) fn new(fault: Fault, words: impl Into<String>) -> Self {
        Self { fault, code: None, words: words.into() }
    }

    /// The broker closed the connection, which had lasted so long.
    pub(super) fn of_close(code: Option<u16>, lived: Duration) -> Self {
        let Some(code) = code else {
            return Self::new(Fault::Closed, "the broker closed the connection");
        };
        let (fault, words) = match code {
            1000 if lived < STABLE_AFTER => (
                Fault::Replaced,
                "another connection of the same agent took its place: is another gateway or client running \
                 with this address?",
            ),
            1001 => (Fault::GoingAway, "the broker is going away"),
            1002 | 1003 | 1007 | 1010 => (Fault::Protocol, "the broker found the protocol broken"),
            1008 => (Fault::Refused, "the broker does not take the token: copy the address anew"),
            1009 => (
                Fault::TooLarge,
                "a message was too large for the broker: fewer tools or shorter descriptions may help",
            ),
            1011 => (Fault::BrokerFailed, "the broker failed"),
            1012 => (Fault::GoingAway, "the broker restarts"),
            1013 => (Fault::BrokerFailed, "the broker is overloaded"),
            4001 | 4003 | 4401 | 4403 => {
                (Fault::Refused, "the broker does not allow the connection: copy the address anew")
            }
            4000..=4999 => (Fault::BrokerFailed, "the broker closed the connection for a reason of its own"),
            _ => (Fault::Closed, "the broker closed the connection"),
        };
        Self { fault, code: Some(code), words: format!("{words} (code {code})") }
    }

    /// The handshake or the connection failed.
    pub(super) fn of_error(error: &tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Http(response) => Self::of_status(response.status()),
            tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => {
                Self::new(Fault::TooLarge, "the broker sent a message that is too large")
            }
            tungstenite::Error::Protocol(
                ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing,
            ) => Self::lost(),
            tungstenite::Error::Protocol(ProtocolError::HandshakeIncomplete) => {
                Self::new(Fault::Unreachable, "the connection broke off before it became a WebSocket")
            }
            tungstenite::Error::Protocol(_)
            | tungstenite::Error::Capacity(_)
            | tungstenite::Error::Utf8(_)
            | tungstenite::Error::AttackAttempt => {
                Self::new(Fault::Protocol, "what answers does not speak WebSocket as it should")
            }
            _ => Self::lost(),
        }
    }

    fn of_status(status: StatusCode) -> Self {
        let (fault, words) = match status.as_u16() {
            401 | 403 => (Fault::Refused, "the broker does not take the token: copy the address anew"),
            404 => (Fault::Refused, "the broker knows no such address: copy it anew"),
            429 => (Fault::BrokerFailed, "the broker is asked too often"),
            500..=599 => (Fault::BrokerFailed, "the broker failed"),
            _ => (Fault::Protocol, "what answers does not speak WebSocket as it should"),
        };
        Self::new(fault, format!("{words} (status {})", status.as_u16()))
    }

    pub(super) fn lost() -> Self {
        Self::new(Fault::Lost, "the connection broke off")
    }

    /// Whether somebody should look.
    pub(super) fn is_alarming(&self) -> bool {
        matches!(self.fault, Fault::Replaced | Fault::Refused)
    }
}

/// The failures in a row.
#[derive(Debug, Default)]
pub(super) struct Failures(u32);

impl Failures {
    /// How long to wait after one more, whose connection had lasted so long. `jitter` in 0..1.
    pub(super) fn another(&mut self, ending: &Ending, lived: Duration, jitter: f64) -> Duration {
        if lived >= STABLE_AFTER {
            self.forget();
        }
        self.0 = self.0.saturating_add(1);
        let backoff = if ending.is_alarming() { HARD } else { USUAL };
        backoff.after(self.0, jitter)
    }

    /// What failed before counts no more.
    pub(super) fn forget(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(3);
    const LONG: Duration = Duration::from_mins(2);

    #[test]
    fn every_code_has_its_meaning_and_is_told() {
        for (code, fault) in [
            (1000, Fault::Replaced),
            (1001, Fault::GoingAway),
            (1002, Fault::Protocol),
            (1003, Fault::Protocol),
            (1007, Fault::Protocol),
            (1008, Fault::Refused),
            (1009, Fault::TooLarge),
            (1011, Fault::BrokerFailed),
            (1012, Fault::GoingAway),
            (1013, Fault::BrokerFailed),
            (3000, Fault::Closed),
            (4000, Fault::BrokerFailed),
            (4004, Fault::BrokerFailed),
            (4401, Fault::Refused),
        ] {
            let ending = Ending::of_close(Some(code), SHORT);
            assert_eq!((ending.fault, ending.code), (fault, Some(code)));
            assert!(ending.words.ends_with(&format!("(code {code})")), "{}", ending.words);
        }
        assert_eq!(Ending::of_close(Some(1000), LONG).fault, Fault::Closed);
        assert_eq!(Ending::of_close(None, SHORT).fault, Fault::Closed);
    }

    #[test]
    fn the_wait_doubles_and_begins_anew_after_a_stable_minute() {
        let mut failures = Failures::default();
        let lost = Ending::lost();
        let waits: Vec<u64> = (0..12).map(|_| failures.another(&lost, SHORT, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert_eq!(failures.another(&lost, STABLE_AFTER, 1.0).as_secs(), 1);
        assert_eq!(failures.another(&lost, Duration::ZERO, 1.0).as_secs(), 2);
    }

    #[test]
    fn what_trying_soon_makes_worse_waits_long() {
        let replaced = Ending::of_close(Some(1000), SHORT);
        let mut failures = Failures::default();
        for least in [60, 120, 240, 300, 300] {
            let wait = failures.another(&replaced, SHORT, 0.0);
            assert!(wait.as_secs() >= least, "{wait:?}");
            assert!(wait <= HARD.max);
        }
        let refused = Ending::of_close(Some(1008), SHORT);
        assert!(Failures::default().another(&refused, SHORT, 0.0) >= Duration::from_mins(1));
    }

    #[test]
    fn a_status_says_whether_it_is_the_token() {
        for (status, fault) in [
            (401, Fault::Refused),
            (403, Fault::Refused),
            (404, Fault::Refused),
            (429, Fault::BrokerFailed),
            (502, Fault::BrokerFailed),
            (200, Fault::Protocol),
            (302, Fault::Protocol),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Ending::of_status(status).fault, fault, "{status}");
        }
    }
}
