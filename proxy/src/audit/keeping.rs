//! Drops old audit events, and tells the log where the chain ends: once an hour.
//!
//! Every replica does; what one has dropped, the next finds gone. The line in the log is what shows, to whoever
//! keeps the log elsewhere, that the database was put back as a whole: `audit verify --anchor` takes it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sql::audit_log::{self, Cut};
use sql::model::{Settings, Timestamp};
use sql::{Store, StoreError};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Target, by_system};

/// How often.
const INTERVAL: Duration = Duration::from_hours(1);
/// Events that are dropped in one transaction, which holds up other writers for some ten milliseconds.
const CUT_AT_ONCE: u32 = 2_000;
/// Transactions of one round: more are dropped an hour later.
const CUTS_MAX: u32 = 500;
const DAY: Duration = Duration::from_hours(24);

/// Runs until told to stop.
pub(crate) async fn run(store: Store, settings: watch::Receiver<Arc<Settings>>, stopping: CancellationToken) {
    let mut due = interval(INTERVAL);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = due.tick() => {}
            () = stopping.cancelled() => return,
        }
        let days = settings.borrow().audit.retention_days;
        let before = store.clock().now().minus(DAY * days);
        tokio::select! {
            done = round(&store, before) => if let Err(error) = done {
                tracing::warn!(error = &error as &dyn std::error::Error, "old audit events could not be dropped, trying again");
            },
            () = stopping.cancelled() => return,
        }
    }
}

/// Drops what is from before `before`, and tells where the chain ends.
async fn round(store: &Store, before: Timestamp) -> Result<(), StoreError> {
    for _ in 0..CUTS_MAX {
        let mut tx = store.begin().await?;
        let Some(cut) = audit_log::cut_before(&mut tx, before, CUT_AT_ONCE).await? else { break };
        let diff = json!({"/events": {"before": cut.events}, "/last": {"before": cut.last}});
        let now = store.clock().now();
        audit_log::append(&mut tx, &by_system(now, "audit.retention", Target::default(), diff)).await?;
        tx.commit().await?;
        let Cut { events, last } = cut;
        tracing::info!(audit.dropped = events, audit.last_dropped = last, "old audit events dropped");
        if events < i64::from(CUT_AT_ONCE) {
            break;
        }
    }
    let mut tx = store.read().await?;
    let extent = audit_log::extent(&mut tx).await?;
    tracing::info!(audit.anchor = %extent, "the audit log ends here");
    Ok(())
}

#[cfg(test)]
mod tests {
    use sql::audit_log::{AuditFilter, Verified};
    use sql::model::PageRequest;

    use super::*;

    #[tokio::test]
    async fn old_events_go_and_it_is_told() {
        let store = crate::testing::store().await;
        let now = store.clock().now();
        for at in [now.minus(DAY * 3), now.minus(DAY * 2), now] {
            let mut tx = store.begin().await.unwrap();
            audit_log::append(&mut tx, &by_system(at, "a.b", Target::default(), json!({}))).await.unwrap();
            tx.commit().await.unwrap();
        }
        round(&store, now.minus(DAY)).await.unwrap();
        round(&store, now.minus(DAY)).await.unwrap();
        let mut tx = store.read().await.unwrap();
        let page = audit_log::page(&mut tx, &PageRequest::default(), &AuditFilter::default()).await.unwrap();
        let actions: Vec<_> = page.items.iter().map(|event| event.action.as_str()).collect();
        assert_eq!(actions, ["audit.retention", "a.b"]);
        assert_eq!(page.items[0].diff["/events"]["before"], 2);
        let verified = audit_log::verify(&mut tx, None).await.unwrap();
        assert!(matches!(verified, Verified::Intact(extent) if extent.dropped == 2));
    }
}
