//! The task that looks after what is leased: fills up, gives back, tells Redis what was spent.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::script::Ask;
use super::{Shared, Sharing};

/// How often leases are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Looks without a change after which a lease is given back: 200 ms in which nobody used it.
const IDLE_LOOKS: u32 = 2;

/// How long Redis may not know how much of a lease is spent. Until it does, a full budget counts the
/// spent part as still to be spent.
const TOLD_INTERVAL_US: u64 = 1_000_000;

/// When a lease that Redis hasn't heard of is given up, in less time than Redis takes to ([`super::script`]).
const LAPSED_US: u64 = 3_000_000;

/// Questions to Redis at a time: they share a connection, and a call's own question must find its turn.
const ASKED_AT_ONCE: usize = 32;

/// A lease as it was when it was last looked at.
struct Looked {
    budget: Arc<Shared>,
    left: i64,
    unchanged: u32,
}

/// Looks after leases until told to stop; then gives all back.
pub(super) async fn keep(sharing: Arc<Sharing>, stopping: CancellationToken) {
    let mut leases: HashMap<usize, Looked> = HashMap::new();
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
            () = sharing.wake.notified() => fill_up(&sharing, &mut leases).await,
            _ = look.tick(), if !leases.is_empty() => look_at(&sharing, &mut leases).await,
        }
    }
    let all = leases.into_values().map(|looked| looked.budget).collect();
    each(all, |budget| async move { budget.give_back().await }).await;
}

/// Fills up what is half spent, and takes new leases in.
async fn fill_up(sharing: &Arc<Sharing>, leases: &mut HashMap<usize, Looked>) {
    let wanting = sharing.take_wanting();
    for budget in &wanting {
        budget.lease.is_kept.store(true, Ordering::Release);
        let looked = Looked { budget: Arc::clone(budget), left: 0, unchanged: 0 };
        leases.entry(Arc::as_ptr(budget) as usize).or_insert(looked);
    }
    each(wanting, |budget| async move {
        budget.lease.is_wanting.store(false, Ordering::Release);
        budget.fill_up().await;
    })
    .await;
}

/// Gives back what isn't used, and tells of what is.
async fn look_at(sharing: &Arc<Sharing>, leases: &mut HashMap<usize, Looked>) {
    let now = sharing.micros();
    let (mut idle, mut untold) = (Vec::new(), Vec::new());
    leases.retain(|_, looked| {
        let lease = &looked.budget.lease;
        let left = lease.left.load(Ordering::Relaxed);
        let untold_us = now.saturating_sub(lease.told.load(Ordering::Relaxed));
        looked.unchanged = if left == looked.left { looked.unchanged + 1 } else { 0 };
        looked.left = left;
        if !sharing.redis.is_up() || untold_us >= LAPSED_US {
            // It no longer counts there, or nobody knows.
            lease.is_kept.store(false, Ordering::Release);
            lease.take_all();
            return false;
        }
        if looked.unchanged >= IDLE_LOOKS {
            lease.is_kept.store(false, Ordering::Release);
            idle.push(Arc::clone(&looked.budget));
            return false;
        }
        if untold_us >= TOLD_INTERVAL_US {
            untold.push(Arc::clone(&looked.budget));
        }
        true
    });
    each(idle, |budget| async move { budget.give_back().await }).await;
    each(untold, |budget| async move { budget.fill_up().await }).await;
}

async fn each<F: Future<Output = ()>>(budgets: Vec<Arc<Shared>>, what: impl Fn(Arc<Shared>) -> F) {
    stream::iter(budgets).for_each_concurrent(ASKED_AT_ONCE, what).await;
}

impl Shared {
    /// Fills the lease up while it is being spent. Without a free turn somebody else is filling it.
    async fn fill_up(&self) {
        let Ok(_turn) = self.lease.turn.try_lock() else { return };
        let before = self.lease.left.load(Ordering::Acquire);
        let held = u32::try_from(before).unwrap_or(0);
        let Ok(given) = self.ask_redis(Ask { need: 0, held, target: self.lease_size() }).await else {
            return;
        };
        self.lease.put(i64::from(given.held) - i64::from(held), self.sharing.micros());
    }

    /// Gives back what is left.
    async fn give_back(&self) {
        let _turn = self.lease.turn.lock().await;
        let held = self.lease.take_all();
        // If it doesn't arrive, the lease lapses.
        let _ = self.ask_redis(Ask { need: 0, held, target: 0 }).await;
    }
}
