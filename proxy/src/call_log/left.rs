//! Writes what lies in Redis alone: copies of replicas that are gone, and what there was too much of for memory.

use std::sync::atomic::Ordering;

use sql::{StoreError, call_records};

use super::copies::Found;
use super::writer::{Writer, while_queue_is_emptied};
use crate::cache::Lost;

impl Writer {
    /// Writes some copies that only Redis has. Where the store or Redis doesn't go along, they are found the next
    /// time.
    pub(super) async fn write_left(&mut self) {
        // Lost: Redis isn't there, and says so itself.
        let _ = self.write_some_own().await;
        self.is_looking = self.write_some_of_others().await.unwrap_or(false);
        self.show_buffered();
    }

    async fn write_some_own(&mut self) -> Result<(), Lost> {
        if self.in_redis == 0 || !self.is_idle() {
            return Ok(());
        }
        let Some(copies) = &self.copies else { return Ok(()) };
        let found = copies.own().await?;
        if found.is_empty() {
            // Redis was emptied, or has kept them for as long as it keeps any.
            let lost = std::mem::take(&mut self.in_redis);
            self.counts.lost.fetch_add(lost, Ordering::Relaxed);
        }
        for found in found {
            let Some(records) = self.write_found(&found).await? else { break };
            self.in_redis = self.in_redis.saturating_sub(records);
        }
        Ok(())
    }

    /// Whether there may be more.
    async fn write_some_of_others(&mut self) -> Result<bool, Lost> {
        let Some(copies) = &self.copies else { return Ok(false) };
        if !self.is_looking && !copies.is_to_look().await {
            return Ok(false);
        }
        let found = copies.left_by_others().await?;
        let is_more = !found.is_empty();
        for found in found {
            if self.write_found(&found).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(is_more)
    }

    /// Writes a copy and takes it away; answers how many records it has. `None`: the store doesn't take it now.
    async fn write_found(&mut self, found: &Found) -> Result<Option<u64>, Lost> {
        let mut records = 0;
        if let Some(batch) = &found.batch {
            records = batch.len() as u64;
            let (store, mut new) = (self.store.clone(), 0);
            let write = async |batch: &_| {
                let mut tx = store.begin().await?;
                new = call_records::insert_again(&mut tx, batch).await?;
                tx.commit().await
            };
            match while_queue_is_emptied(self, batch, write).await {
                Ok(()) => {
                    self.counts.written.fetch_add(new, Ordering::Relaxed);
                }
                Err(error) if error.is_transient() => return Ok(None),
                Err(error) => self.lose_found(records, &error),
            }
        } else {
            tracing::error!("what lies in redis as call records can't be read, it is dropped");
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(copies) = &self.copies {
            copies.done_with(found).await?;
        }
        Ok(Some(records))
    }

    fn lose_found(&self, records: u64, error: &StoreError) {
        self.counts.lost.fetch_add(records, Ordering::Relaxed);
        tracing::error!(
            error = error as &dyn std::error::Error,
            records,
            "call records that were left in redis can't be written and are lost"
        );
    }
}
