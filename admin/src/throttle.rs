//! How often a password may be guessed.
//!
//! Counted per client network and account, and in all. An attempt counts when it starts, so that a
//! thousand at once are no way around; a right password clears its account's count. From the sixth
//! on each attempt waits, twice as long each time, never longer than a quarter of an hour: an admin
//! is never locked out for good (threat T12). While one waits, the password isn't even looked at.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use sql::clock::Clock;

/// Attempts that may fail before the first wait: room for a typo and a wrong keyboard layout.
const FREE_ATTEMPTS: u32 = 5;

/// The wait after the last free attempt; doubles with each further one.
const WAIT_MIN_MS: i64 = 5_000;

/// The longest wait.
const WAIT_MAX_MS: i64 = 15 * 60 * 1_000;

/// After so long without an attempt an account's count is forgotten.
const FORGET_AFTER_MS: i64 = 60 * 60 * 1_000;

/// Accounts and networks remembered: 10,000 entries are less than 2 MiB.
const ENTRIES_MAX: usize = 10_000;

/// Failures of all clients together in one window. Each costs a quarter of a second of one core.
const GLOBAL_FAILURES_MAX: u32 = 100;

/// The window that those are counted in.
const GLOBAL_WINDOW_MS: i64 = 60_000;

/// Whose attempts are counted together: a network and the hash of a username. The hash, because a
/// username typed by a stranger may be long, or a password in the wrong field.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Account {
    network: IpAddr,
    username: [u8; 32],
}

impl Account {
    /// The account `username` as tried from `address`.
    pub(crate) fn new(address: IpAddr, username: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, username.as_bytes()).as_ref());
        Self { network: network_of(address), username: hash }
    }
}

/// One host of IPv6 has a /64 to choose addresses from.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & (u128::MAX << 64)).into(),
    }
}

/// The counts.
pub(crate) struct Throttle {
    clock: Clock,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    accounts: HashMap<Account, Attempts>,
    window_started_ms: i64,
    window_failures: u32,
}

#[derive(Clone, Copy)]
struct Attempts {
    count: u32,
    last_ms: i64,
}

impl Attempts {
    /// When the next attempt may be made.
    fn free_at_ms(self) -> i64 {
        let Some(beyond) = self.count.checked_sub(FREE_ATTEMPTS) else { return i64::MIN };
        let wait = WAIT_MIN_MS.saturating_mul(1_i64 << beyond.min(20));
        self.last_ms.saturating_add(wait.min(WAIT_MAX_MS))
    }
}

impl Throttle {
    /// No attempts yet.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, counts: Mutex::default() }
    }

    /// Counts an attempt, or says how long to wait before the next.
    pub(crate) fn admit(&self, account: &Account) -> Result<(), Duration> {
        let now = self.clock.now().millis();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let attempts = counts.recent(account, now);
        let free_at = attempts.map_or(i64::MIN, Attempts::free_at_ms);
        if free_at > now {
            return Err(millis(free_at - now));
        }
        // The operator at the machine itself is not kept out by strangers.
        if !account.network.is_loopback() {
            counts.admit_global(now)?;
        }
        counts.count(account, attempts, now);
        Ok(())
    }

    /// The password was right: its attempts were no guesses.
    pub(crate) fn clear(&self, account: &Account) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.accounts.remove(account);
        if !account.network.is_loopback() {
            counts.window_failures = counts.window_failures.saturating_sub(1);
        }
    }
}

impl Counts {
    fn recent(&self, account: &Account, now: i64) -> Option<Attempts> {
        self.accounts.get(account).copied().filter(|attempts| now - attempts.last_ms < FORGET_AFTER_MS)
    }

    fn admit_global(&mut self, now: i64) -> Result<(), Duration> {
        // Also when the clock was set back.
        if !(0..GLOBAL_WINDOW_MS).contains(&(now - self.window_started_ms)) {
            self.window_started_ms = now;
            self.window_failures = 0;
        }
        if self.window_failures >= GLOBAL_FAILURES_MAX {
            return Err(millis(self.window_started_ms + GLOBAL_WINDOW_MS - now));
        }
        self.window_failures += 1;
        Ok(())
    }

    fn count(&mut self, account: &Account, before: Option<Attempts>, now: i64) {
        if self.accounts.len() >= ENTRIES_MAX && !self.accounts.contains_key(account) {
            self.make_room(now);
        }
        let count = before.map_or(0, |attempts| attempts.count).saturating_add(1);
        self.accounts.insert(account.clone(), Attempts { count, last_ms: now });
    }

    fn make_room(&mut self, now: i64) {
        self.accounts.retain(|_, attempts| now - attempts.last_ms < FORGET_AFTER_MS);
        if self.accounts.len() < ENTRIES_MAX {
            return;
        }
        // What a flood of made-up names brings in goes first: its counts are low.
        let lowest = self.accounts.iter().min_by_key(|(_, attempts)| (attempts.count, attempts.last_ms));
        if let Some(account) = lowest.map(|(account, _)| account.clone()) {
            self.accounts.remove(&account);
        }
    }
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use sql::model::Timestamp;

    use super::*;

    fn throttle() -> (Throttle, Clock) {
        let clock = Clock::manual(Timestamp::from_millis(1_750_000_000_000));
        (Throttle::new(clock.clone()), clock)
    }

    fn account(address: &str, username: &str) -> Account {
        Account::new(address.parse().unwrap(), username)
    }

    fn guess(throttle: &Throttle, account: &Account) {
        for _ in 0..FREE_ATTEMPTS {
            assert!(throttle.admit(account).is_ok());
        }
    }

    #[test]
    fn waits_double_up_to_a_quarter_of_an_hour() {
        let (throttle, clock) = throttle();
        let root = account("127.0.0.1", "root");
        for _ in 0..5 {
            assert!(throttle.admit(&root).is_ok());
        }
        let mut waits = Vec::new();
        for _ in 0..10 {
            let wait = throttle.admit(&root).unwrap_err();
            waits.push(wait.as_secs());
            clock.advance(wait);
            assert!(throttle.admit(&root).is_ok(), "after its wait an attempt is looked at");
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]);
    }

    #[test]
    fn waiting_in_vain_makes_no_wait_longer() {
        let (throttle, _) = throttle();
        let root = account("127.0.0.1", "root");
        guess(&throttle, &root);
        let waits: Vec<_> = (0..3).map(|_| throttle.admit(&root).unwrap_err()).collect();
        assert!(waits.iter().all(|wait| *wait == waits[0]));
    }

    #[test]
    fn a_right_password_and_an_hour_clear_the_count() {
        let (throttle, clock) = throttle();
        let root = account("127.0.0.1", "root");
        for _ in 0..5 {
            assert!(throttle.admit(&root).is_ok());
            throttle.clear(&root);
        }
        guess(&throttle, &root);
        assert!(throttle.admit(&root).is_err());
        clock.advance(Duration::from_hours(1));
        for _ in 0..5 {
            assert!(throttle.admit(&root).is_ok());
        }
    }

    #[test]
    fn one_network_does_not_slow_another() {
        let (throttle, _) = throttle();
        let here = account("2001:db8::1", "root");
        guess(&throttle, &here);
        assert!(throttle.admit(&account("2001:db8::ffff:1", "root")).is_err(), "the same /64");
        assert!(throttle.admit(&account("2001:db8:0:1::1", "root")).is_ok());
        assert!(throttle.admit(&account("2001:db8::1", "other")).is_ok());
    }

    #[test]
    fn all_strangers_together_have_a_limit_that_the_machine_itself_has_not() {
        let (throttle, clock) = throttle();
        let stranger = |index: u32| Account::new(std::net::Ipv4Addr::from(index + (10 << 24)).into(), "root");
        for index in 0..GLOBAL_FAILURES_MAX {
            assert!(throttle.admit(&stranger(index)).is_ok());
        }
        assert_eq!(throttle.admit(&stranger(9_999)), Err(Duration::from_mins(1)));
        assert!(throttle.admit(&account("127.0.0.1", "root")).is_ok());
        clock.advance(Duration::from_mins(1));
        assert!(throttle.admit(&stranger(9_999)).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_a_flood_forgets_no_one_who_waits() {
        let (throttle, _) = throttle();
        let root = account("127.0.0.1", "root");
        guess(&throttle, &root);
        for index in 0..ENTRIES_MAX + 10 {
            assert!(throttle.admit(&account("127.0.0.1", &index.to_string())).is_ok());
        }
        assert_eq!(throttle.counts.lock().unwrap().accounts.len(), ENTRIES_MAX);
        assert!(throttle.admit(&root).is_err());
    }
}
