//! Drops records and sums that are old or too many, and has their partitions made: jobs, done by one replica.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sql::call_records::{self, Keep};
use sql::model::RollupSpan;
use sql::{StoreError, call_kinds, rollups, statistics};

use super::CallLog;

/// Steps of one round, in each of which some thousand rows go: after that others have their turn.
const STEPS_MAX: u32 = 50;
const DAY: Duration = Duration::from_hours(24);

impl CallLog {
    /// Drops records that are older than is kept, or more.
    pub(crate) async fn drop_old_records(&self) -> Result<(), StoreError> {
        let keep = self.keep();
        for _ in 0..STEPS_MAX {
            let mut tx = self.0.store.begin().await?;
            let dropped = call_records::drop_oldest(&mut tx, keep).await?;
            tx.commit().await?;
            if dropped.surplus > 0 {
                self.0.counts.surplus.fetch_add(dropped.surplus, Ordering::Relaxed);
            }
            if !dropped.more {
                break;
            }
        }
        Ok(())
    }

    /// Makes the partitions of this month and the next, and drops those whose time is over, with the kinds of calls
    /// of which nothing is left.
    pub(crate) async fn tend_partitions(&self) -> Result<(), StoreError> {
        let mut tx = self.0.store.begin().await?;
        call_records::tend(&mut tx, self.now(), self.keep().from).await?;
        call_kinds::prune(&mut tx).await?;
        tx.commit().await
    }

    /// Drops sums that are older than is kept.
    pub(crate) async fn prune_rollups(&self) -> Result<(), StoreError> {
        let minutes = self.now().minus(statistics::MINUTES_KEPT);
        for (span, before) in [(RollupSpan::Minute, minutes), (RollupSpan::Quarter, self.keep().from)] {
            // The span that a moment lies in is kept whole.
            let before = span.start(before);
            for _ in 0..STEPS_MAX {
                let mut tx = self.0.store.begin().await?;
                let pruned = rollups::prune(&mut tx, span, before).await?;
                tx.commit().await?;
                if pruned == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    fn keep(&self) -> Keep {
        let settings = self.0.settings.borrow();
        let statistics = &settings.statistics;
        let from = self.now().minus(DAY * statistics.retention_days);
        Keep { from, records_max: statistics.records_max }
    }
}
