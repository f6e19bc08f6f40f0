//! Drops records that are old or too many, and has their partitions made: one replica for all.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sql::call_records::{self, Keep};
use sql::model::{Settings, Timestamp};
use sql::{Store, StoreError, leases};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Counts;

const LEASE_NAME: &str = "call records";
/// Several rounds: whoever has it keeps it, and another takes over soon after it is gone.
const LEASE: Duration = Duration::from_mins(1);
/// How often partitions are looked after. They are made a month ahead.
const TEND_INTERVAL: Duration = Duration::from_hours(24);
/// Steps of one round, in each of which some thousand records go: after that others have their turn.
const STEPS_MAX: u32 = 50;
const DAY: Duration = Duration::from_hours(24);

pub(super) struct Retention {
    store: Store,
    settings: watch::Receiver<Arc<Settings>>,
    counts: Arc<Counts>,
    /// This replica, to the leases.
    holder: Uuid,
    /// When partitions were looked after last, by the wall clock: it decides on the month.
    tended_at: Option<Timestamp>,
}

impl Retention {
    pub(super) fn new(store: Store, settings: watch::Receiver<Arc<Settings>>, counts: Arc<Counts>) -> Self {
        Self { store, settings, counts, holder: Uuid::now_v7(), tended_at: None }
    }

    pub(super) async fn run(mut self, every: Duration, stopping: CancellationToken) {
        let mut due = interval(every);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let round = async {
                due.tick().await;
                self.round().await
            };
            let done = tokio::select! {
                done = round => done,
                () = stopping.cancelled() => return,
            };
            if let Err(error) = done {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "old call records could not be dropped or partitions not be made, trying again"
                );
            }
        }
    }

    pub(super) async fn round(&mut self) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        let is_ours = leases::acquire(&mut tx, LEASE_NAME, self.holder, LEASE).await?;
        tx.commit().await?;
        if !is_ours {
            return Ok(());
        }
        let now = self.store.clock().now();
        let keep = keep(&self.settings.borrow(), now);
        let is_recent =
            |at: &Timestamp| at.month_start() == now.month_start() && now.since(*at) < TEND_INTERVAL;
        if !self.tended_at.as_ref().is_some_and(is_recent) {
            let mut tx = self.store.begin().await?;
            call_records::tend(&mut tx, now, keep.from).await?;
            tx.commit().await?;
            self.tended_at = Some(now);
        }
        for _ in 0..STEPS_MAX {
            let mut tx = self.store.begin().await?;
            let dropped = call_records::drop_oldest(&mut tx, keep).await?;
            tx.commit().await?;
            if dropped.surplus > 0 {
                self.counts.surplus.fetch_add(dropped.surplus, Ordering::Relaxed);
            }
            if !dropped.more {
                break;
            }
        }
        Ok(())
    }
}

fn keep(settings: &Settings, now: Timestamp) -> Keep {
    let statistics = &settings.statistics;
    Keep { from: now.minus(DAY * statistics.retention_days), records_max: statistics.records_max }
}
