//! The budget that all replicas share: GCRA in Redis, by Redis's clock.
//!
//! A small limit ([`ASKED_MAX`]) asks Redis for every message. A larger one leases a twentieth of a window
//! and spends it without a word, so that a call costs one atomic and waits for nobody: the lease is filled
//! up in the background when half is spent ([`keeper`]), and given back when it isn't used. What is
//! leased counts as used in Redis, for as long as it lies here, so the replicas together never let
//! more pass than one alone would; they may let pass up to a lease each less.
//!
//! A refusal is remembered until it may end, so that a client that floods costs Redis nothing. While Redis
//! is lost, `limits.redis_lost` says what becomes of the limit.

mod keeper;
mod script;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sql::model::settings::RedisLost;
use sql::model::{ApiKeyId, RateLimit, Settings};
use tokio::sync::{Notify, watch};

use self::script::{Ask, Given};
use super::local::Local;
use crate::cache::Lost;
use crate::cache::redis::Redis;
use crate::refusal::Refusal;
use crate::tasks::Tasks;

/// The largest limit, in messages a window, for which Redis is asked every time: of so few, a lease
/// would be a noticeable part.
const ASKED_MAX: u32 = 50;

/// The part of a window that is leased at a time.
const LEASES_A_WINDOW: u32 = 20;

/// When to come back while limits can't be kept and may not be passed: Redis may be back by then.
const CLOSED_RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the shared budgets of a process have in common.
pub struct Sharing {
    redis: Redis,
    settings: watch::Receiver<Arc<Settings>>,
    /// What moments are counted from.
    started: Instant,
    /// Budgets whose lease wants looking after: new ones, and those that are half spent.
    wanting: Mutex<Vec<Arc<Shared>>>,
    wake: Notify,
}

/// The budget of one key.
pub(in crate::access) struct Shared {
    limit: RateLimit,
    sharing: Arc<Sharing>,
    /// What it is called in Redis: the limit too, so that another one begins anew.
    name: String,
    lease: Lease,
    /// Until when not one message passes, in microseconds from the start; 0 if one may.
    refused_until: AtomicU64,
    /// The budget while Redis is lost, and among how many replicas it is divided.
    alone: Mutex<Option<(u32, Arc<Local>)>>,
}

/// What may be spent without asking.
#[derive(Default)]
struct Lease {
    /// Units left. Below 0 if more was given back than was there.
    left: AtomicI64,
    /// When Redis last heard of it, in microseconds from the start.
    told: AtomicU64,
    /// Whether the keeper looks after it.
    is_kept: AtomicBool,
    /// Whether the keeper was asked to fill it up and hasn't yet.
    is_wanting: AtomicBool,
    /// One question at a time: those who wait take from what the first one gets.
    turn: tokio::sync::Mutex<()>,
}

impl Sharing {
    /// Limits shared through `redis`, with a task of its own that looks after what is leased.
    pub fn start(redis: Redis, settings: watch::Receiver<Arc<Settings>>, tasks: &Tasks) -> Arc<Self> {
        let sharing = Arc::new(Self {
            redis,
            settings,
            started: Instant::now(),
            wanting: Mutex::default(),
            wake: Notify::new(),
        });
        tasks.spawn("leases of limits", keeper::keep(Arc::clone(&sharing), tasks.stopping().clone()));
        sharing
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Shared {
    pub(super) fn new(key: ApiKeyId, limit: RateLimit, sharing: Arc<Sharing>) -> Self {
        // As in the local budget: what must not be 0 is the strictest that there is.
        let limit = RateLimit { limit: limit.limit.max(1), window_s: limit.window_s.max(1) };
        Self {
            limit,
            sharing,
            name: format!("limit:{key}:{}:{}", limit.limit, limit.window_s),
            lease: Lease::default(),
            refused_until: AtomicU64::new(0),
            alone: Mutex::new(None),
        }
    }

    /// What it is the budget of.
    pub(super) fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Takes units if that can be decided without Redis; `None`: it must be asked.
    pub(super) fn try_take(self: &Arc<Self>, messages: NonZeroU32) -> Option<Result<(), Refusal>> {
        if !self.sharing.redis.is_up() {
            return Some(self.take_without_redis(messages));
        }
        if self.spend(i64::from(messages.get())) {
            return Some(Ok(()));
        }
        let until = self.refused_until.load(Ordering::Relaxed);
        if until > 0 {
            let now = self.sharing.micros();
            if now < until {
                return Some(Err(self.refusal(Duration::from_micros(until - now))));
            }
        }
        None
    }

    /// Asks Redis. Waits for one answer at most, and not for longer than a command may take.
    pub(super) async fn ask(self: &Arc<Self>, messages: NonZeroU32) -> Result<(), Refusal> {
        if messages.get() > self.limit.limit {
            // Not covered at any time; said in the same way.
            return Err(self.refusal(Duration::from_secs(self.limit.window_s.into())));
        }
        if self.limit.limit <= ASKED_MAX {
            let given = self.ask_redis(Ask { need: messages.get(), ..Ask::default() }).await;
            return self.settle(messages, given);
        }
        let _turn = self.lease.turn.lock().await;
        if let Some(taken) = self.try_take(messages) {
            return taken;
        }
        // Nobody else may spend what the script is told lies here.
        let held = self.lease.take_all();
        let asked = Ask { need: messages.get(), held, target: self.lease_size() };
        let given = self.ask_redis(asked).await;
        if let Ok(given) = &given {
            self.lease.put(i64::from(given.held), self.sharing.micros());
            self.want_keeping();
        }
        self.settle(messages, given)
    }

    async fn ask_redis(&self, ask: Ask) -> Result<Given, Lost> {
        script::ask(&self.sharing.redis, &self.name, self.limit, ask).await
    }

    fn settle(&self, messages: NonZeroU32, given: Result<Given, Lost>) -> Result<(), Refusal> {
        match given {
            Err(Lost) => self.take_without_redis(messages),
            Ok(Given { granted: true, .. }) => {
                self.refused_until.store(0, Ordering::Relaxed);
                Ok(())
            }
            Ok(Given { wait, .. }) => {
                // What a batch lacks, a single message may still find.
                if messages == NonZeroU32::MIN {
                    let until = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
                    let until = self.sharing.micros().saturating_add(until);
                    self.refused_until.store(until, Ordering::Relaxed);
                }
                Err(self.refusal(wait))
            }
        }
    }

    /// Takes units of the lease; says so to the keeper when that leaves it half empty.
    fn spend(self: &Arc<Self>, units: i64) -> bool {
        let left = &self.lease.left;
        let before = left
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |left| (left >= units).then(|| left - units));
        let Ok(before) = before else { return false };
        let half = i64::from(self.lease_size() / 2);
        if before > half && before - units <= half {
            self.want_filling();
        }
        true
    }

    /// Units that are leased at a time.
    fn lease_size(&self) -> u32 {
        self.limit.limit / LEASES_A_WINDOW
    }

    fn want_filling(self: &Arc<Self>) {
        if !self.lease.is_wanting.swap(true, Ordering::AcqRel) {
            self.sharing.wants(Arc::clone(self));
        }
    }

    fn want_keeping(self: &Arc<Self>) {
        if self.lease.left.load(Ordering::Relaxed) > 0 && !self.lease.is_kept.load(Ordering::Acquire) {
            self.want_filling();
        }
    }

    fn take_without_redis(&self, messages: NonZeroU32) -> Result<(), Refusal> {
        let redis_lost = self.sharing.settings.borrow().limits.redis_lost;
        match redis_lost {
            RedisLost::Open => Ok(()),
            RedisLost::Closed => Err(Refusal::LimitsLost { retry_after: CLOSED_RETRY_AFTER }),
            RedisLost::Local => self.alone().take(messages),
        }
    }

    /// The part of the budget that falls to each of the replicas last known.
    fn alone(&self) -> Arc<Local> {
        let replicas = self.sharing.redis.replicas();
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        match &*alone {
            Some((divided, budget)) if *divided == replicas => Arc::clone(budget),
            _ => {
                let limit = (self.limit.limit / replicas).max(1);
                let budget = Arc::new(Local::new(RateLimit { limit, ..self.limit }));
                *alone = Some((replicas, Arc::clone(&budget)));
                budget
            }
        }
    }

    fn refusal(&self, retry_after: Duration) -> Refusal {
        let RateLimit { limit, window_s } = self.limit;
        Refusal::RateLimited { retry_after, limit, window_s }
    }
}

impl Sharing {
    fn wants(&self, budget: Arc<Shared>) {
        self.wanting.lock().unwrap_or_else(PoisonError::into_inner).push(budget);
        self.wake.notify_one();
    }

    fn take_wanting(&self) -> Vec<Arc<Shared>> {
        std::mem::take(&mut *self.wanting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Lease {
    /// Takes what is left out of everybody's reach.
    fn take_all(&self) -> u32 {
        u32::try_from(self.left.swap(0, Ordering::AcqRel)).unwrap_or(0)
    }

    /// Adds what Redis gave.
    fn put(&self, units: i64, now: u64) {
        self.told.store(now, Ordering::Relaxed);
        self.left.fetch_add(units, Ordering::AcqRel);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Shared({})", self.name)
    }
}
