//! How often a password may be guessed, at all replicas together.
//!
//! Counted in the store, per client network and account, and in all. An attempt counts when it starts, so that a
//! thousand at once are no way around; a right password clears its account's count. From the sixth on each attempt
//! waits, twice as long each time, never longer than a quarter of an hour: an admin is never locked out for good
//! (threat T12). While one waits, the password isn't even looked at; who asks again within a second is told so
//! from memory, so that a flood of guesses is none of transactions.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::digest::{Context, SHA256};
use sql::login_attempts::{self, Attempts};
use sql::model::Timestamp;
use sql::{Store, StoreError, Tx};

use crate::error::ApiError;

/// Attempts that may fail before the first wait: room for a typo and a wrong keyboard layout.
const FREE_ATTEMPTS: u32 = 5;

/// The wait after the last free attempt; doubles with each further one.
const WAIT_MIN_MS: i64 = 5_000;

/// The longest wait.
const WAIT_MAX_MS: i64 = 15 * 60 * 1_000;

/// After so long without an attempt an account's count is forgotten. Rows that are older are swept by a job
/// ([`proxy::jobs::Job::Sessions`]): there are no more than attempts in an hour, each of which costs a hash.
const FORGET_AFTER_MS: i64 = 60 * 60 * 1_000;

/// Failures of all clients together in one window. Each costs a quarter of a second of one core.
const GLOBAL_FAILURES_MAX: u32 = 100;

/// The window that those are counted in.
const GLOBAL_WINDOW_MS: i64 = 60_000;

/// The row that counts those: no hash is all zeros.
const EVERYBODY: login_attempts::Account = [0; 32];

/// For how long a refusal is repeated from memory. An admin who waited elsewhere waits no longer than that more.
const REMEMBERED_MS: i64 = 1_000;

/// Refusals remembered: 64 bytes each. When there are more, the store is asked again.
const REMEMBERED_MAX: usize = 10_000;

/// Whose attempts are counted together: the hash of a network and a username. The hash, because a username typed
/// by a stranger may be long, or a password in the wrong field.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Account {
    hash: login_attempts::Account,
    /// At the machine itself.
    is_local: bool,
}

impl Account {
    /// The account `username` as tried from `address`.
    pub(crate) fn new(address: IpAddr, username: &str) -> Self {
        let network = network_of(address);
        let mut context = Context::new(&SHA256);
        context.update(network.to_string().as_bytes());
        context.update(&[0]);
        context.update(username.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self { hash, is_local: network.is_loopback() }
    }
}

/// One host of IPv6 has a /64 to choose addresses from.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        // The whole of it, so that the machine itself is told apart.
        IpAddr::V6(v6) if v6.is_loopback() => address,
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & (u128::MAX << 64)).into(),
    }
}

/// The counts.
pub(crate) struct Throttle {
    store: Store,
    refused: Mutex<HashMap<login_attempts::Account, Refused>>,
}

/// What an account was told.
#[derive(Clone, Copy)]
struct Refused {
    at_ms: i64,
    free_at_ms: i64,
}

/// When the next attempt may be made.
fn free_at_ms(attempts: Attempts) -> i64 {
    let Some(beyond) = attempts.count.checked_sub(FREE_ATTEMPTS) else { return i64::MIN };
    let wait = WAIT_MIN_MS.saturating_mul(1_i64 << beyond.min(20));
    attempts.last_at.millis().saturating_add(wait.min(WAIT_MAX_MS))
}

impl Throttle {
    /// Counts in that store.
    pub(crate) fn new(store: Store) -> Self {
        Self { store, refused: Mutex::default() }
    }

    /// Counts an attempt, or says how long to wait before the next.
    pub(crate) async fn admit(&self, account: &Account) -> Result<(), ApiError> {
        let now = self.store.clock().now().millis();
        if let Some(refused) = self.remembered(account, now) {
            return Err(wait(refused.free_at_ms - now));
        }
        let mut tx = self.store.begin().await?;
        match count(&mut tx, account).await? {
            Ok(()) => {
                tx.commit().await?;
                Ok(())
            }
            // Nothing is committed: waiting in vain makes no wait longer.
            Err(left_ms) => {
                self.remember(account, Refused { at_ms: now, free_at_ms: now.saturating_add(left_ms) });
                Err(wait(left_ms))
            }
        }
    }

    /// The password was right: its attempts were no guesses.
    pub(crate) async fn clear(&self, account: &Account) -> Result<(), ApiError> {
        let mut tx = self.store.begin().await?;
        login_attempts::forget(&mut tx, &account.hash).await?;
        if !account.is_local {
            let all = login_attempts::lock(&mut tx, &EVERYBODY).await?;
            let all = Attempts { count: all.count.saturating_sub(1), ..all };
            login_attempts::save(&mut tx, &EVERYBODY, all).await?;
        }
        tx.commit().await?;
        self.refused().remove(&account.hash);
        Ok(())
    }

    fn remembered(&self, account: &Account, now: i64) -> Option<Refused> {
        let refused = self.refused().get(&account.hash).copied()?;
        let is_fresh = (0..REMEMBERED_MS).contains(&(now - refused.at_ms));
        (is_fresh && refused.free_at_ms > now).then_some(refused)
    }

    fn remember(&self, account: &Account, refused: Refused) {
        let mut all = self.refused();
        if all.len() >= REMEMBERED_MAX {
            all.clear();
        }
        all.insert(account.hash, refused);
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<login_attempts::Account, Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts an attempt; or says for how many milliseconds there may be none, and has counted nothing that may be
/// committed. Locks the account before everybody's row, as all do.
async fn count(tx: &mut Tx, account: &Account) -> Result<Result<(), i64>, StoreError> {
    let before = login_attempts::lock(tx, &account.hash).await?;
    // After the lock: whoever had it may have been slow.
    let at = login_attempts::now(tx).await?;
    let now = at.millis();
    let is_recent = now - before.last_at.millis() < FORGET_AFTER_MS;
    let before = if is_recent { before } else { Attempts { count: 0, last_at: at } };
    let free_at = free_at_ms(before);
    if free_at > now {
        return Ok(Err(free_at - now));
    }
    // The operator at the machine itself is not kept out by strangers.
    if !account.is_local {
        let all = login_attempts::lock(tx, &EVERYBODY).await?;
        match count_among_all(all, at) {
            Ok(counted) => login_attempts::save(tx, &EVERYBODY, counted).await?,
            Err(left_ms) => return Ok(Err(left_ms)),
        }
    }
    let after = Attempts { count: before.count.saturating_add(1), last_at: at };
    login_attempts::save(tx, &account.hash, after).await?;
    Ok(Ok(()))
}

fn count_among_all(all: Attempts, now: Timestamp) -> Result<Attempts, i64> {
    let since = now.millis() - all.last_at.millis();
    // Also when the clock was set back.
    if !(0..GLOBAL_WINDOW_MS).contains(&since) {
        return Ok(Attempts { count: 1, last_at: now });
    }
    if all.count >= GLOBAL_FAILURES_MAX {
        return Err(GLOBAL_WINDOW_MS - since);
    }
    Ok(Attempts { count: all.count + 1, ..all })
}

fn wait(millis: i64) -> ApiError {
    ApiError::RateLimited { retry_after: Duration::from_millis(u64::try_from(millis).unwrap_or(0)) }
}

#[cfg(test)]
mod tests {
    use sql::clock::Clock;

    use super::*;
    use crate::testing::Scene;

    /// Two replicas, and their time.
    async fn throttles() -> (Throttle, Throttle, Clock) {
        let scene = Scene::new().await;
        (Throttle::new(scene.store.clone()), Throttle::new(scene.store.clone()), scene.clock.clone())
    }

    fn account(address: &str, username: &str) -> Account {
        Account::new(address.parse().unwrap(), username)
    }

    async fn refusal(throttle: &Throttle, account: &Account) -> Duration {
        match throttle.admit(account).await {
            Err(ApiError::RateLimited { retry_after }) => retry_after,
            other => panic!("{other:?}"),
        }
    }

    async fn guess(throttle: &Throttle, account: &Account) {
        for _ in 0..FREE_ATTEMPTS {
            throttle.admit(account).await.unwrap();
        }
    }

    #[tokio::test]
    async fn waits_double_up_to_a_quarter_of_an_hour() {
        let (throttle, _, clock) = throttles().await;
        let root = account("127.0.0.1", "root");
        guess(&throttle, &root).await;
        let mut waits = Vec::new();
        for _ in 0..10 {
            let wait = refusal(&throttle, &root).await;
            waits.push(wait.as_secs());
            clock.advance(wait);
            // After its wait an attempt is looked at.
            throttle.admit(&root).await.unwrap();
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]);
    }

    #[tokio::test]
    async fn waiting_in_vain_makes_no_wait_longer_also_after_a_second() {
        let (throttle, _, clock) = throttles().await;
        let root = account("127.0.0.1", "root");
        guess(&throttle, &root).await;
        for left in [5, 4, 3] {
            for _ in 0..3 {
                assert_eq!(refusal(&throttle, &root).await.as_secs(), left);
            }
            clock.advance(Duration::from_secs(1));
        }
    }

    #[tokio::test]
    async fn a_right_password_and_an_hour_clear_the_count() {
        let (throttle, _, clock) = throttles().await;
        let root = account("127.0.0.1", "root");
        for _ in 0..5 {
            throttle.admit(&root).await.unwrap();
            throttle.clear(&root).await.unwrap();
        }
        guess(&throttle, &root).await;
        refusal(&throttle, &root).await;
        clock.advance(Duration::from_hours(1));
        guess(&throttle, &root).await;
    }

    #[tokio::test]
    async fn what_one_replica_counts_another_knows() {
        let (one, two, clock) = throttles().await;
        let root = account("192.0.2.1", "root");
        for _ in 0..2 {
            one.admit(&root).await.unwrap();
            two.admit(&root).await.unwrap();
        }
        one.admit(&root).await.unwrap();
        assert_eq!(
            (refusal(&two, &root).await, refusal(&one, &root).await.as_secs()),
            (Duration::from_secs(5), 5)
        );
        // Who gets in at one is soon no longer kept out at the other.
        clock.advance(Duration::from_secs(5));
        two.admit(&root).await.unwrap();
        refusal(&one, &root).await;
        two.clear(&root).await.unwrap();
        clock.advance(Duration::from_secs(1));
        one.admit(&root).await.unwrap();
    }

    #[tokio::test]
    async fn one_network_does_not_slow_another() {
        let (throttle, _, _) = throttles().await;
        guess(&throttle, &account("2001:db8::1", "root")).await;
        // The same /64, another, and another name.
        refusal(&throttle, &account("2001:db8::ffff:1", "root")).await;
        throttle.admit(&account("2001:db8:0:1::1", "root")).await.unwrap();
        throttle.admit(&account("2001:db8::1", "other")).await.unwrap();
    }

    #[tokio::test]
    async fn all_strangers_together_have_a_limit_that_the_machine_itself_has_not() {
        let (one, two, clock) = throttles().await;
        let stranger = |index: u32| Account::new(std::net::Ipv4Addr::from(index + (10 << 24)).into(), "root");
        for index in 0..GLOBAL_FAILURES_MAX {
            let throttle = if index.is_multiple_of(2) { &one } else { &two };
            throttle.admit(&stranger(index)).await.unwrap();
        }
        assert_eq!(refusal(&one, &stranger(9_999)).await, Duration::from_mins(1));
        for local in ["127.0.0.1", "::1"] {
            one.admit(&account(local, "root")).await.unwrap();
        }
        clock.advance(Duration::from_mins(1));
        one.admit(&stranger(9_999)).await.unwrap();
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let (throttle, _, _) = throttles().await;
        for index in 0..REMEMBERED_MAX + 10 {
            let refused = Refused { at_ms: 0, free_at_ms: 1 };
            throttle.remember(&account("127.0.0.1", &index.to_string()), refused);
        }
        assert!(throttle.refused().len() <= REMEMBERED_MAX);
    }
}
