//! Writes records in batches, and keeps them while the store is away.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sql::model::{CallBatch, CallRecordId};
use sql::{Store, StoreError, call_records};
use tokio::sync::mpsc;
use tokio::time::interval;
use uuid::Uuid;

use super::batching::batch_of;
use super::recording::Ended;
use super::{Counts, WRITE_INTERVAL};
use crate::feed::Feed;
use crate::metrics::calls::CallMeters;
use crate::spans::Spans;

/// Records in one transaction. One of this size takes SQLite some milliseconds, in which nobody else writes.
const BATCH_MAX: usize = 1_000;

/// Records kept while the store is away: at 100 calls a second for some eight minutes, in some 10 MiB.
pub(super) const BUFFER_MAX: usize = 50_000;

/// The one that writes.
pub(super) struct Writer {
    store: Store,
    ended: mpsc::Receiver<Ended>,
    buffer: VecDeque<Ended>,
    /// What is being written. It stays until the store has said that it took it: a write whose outcome
    /// isn't known is repeated, and the same ids make it count once.
    in_hand: CallBatch,
    /// Whether what is in hand may have been written already.
    is_repeated: bool,
    next_id: i64,
    counts: Arc<Counts>,
    /// Told of each batch, before it is written.
    feed: Feed,
    meters: CallMeters,
    /// Takes the spans of calls, where a collector wants them.
    spans: Option<Spans>,
    /// Whether the last write failed; it is said once.
    is_away: bool,
}

impl Writer {
    pub(super) fn new(
        store: Store,
        ended: mpsc::Receiver<Ended>,
        counts: Arc<Counts>,
        meters: CallMeters,
        (feed, spans): (Feed, Option<Spans>),
    ) -> Self {
        // A random start, so that two processes don't give one id to two calls of one millisecond.
        let (_, start) = Uuid::now_v7().as_u64_pair();
        let (buffer, in_hand) = (VecDeque::new(), CallBatch::default());
        let next_id = i64::try_from(start >> 1).unwrap_or_default();
        let (is_repeated, is_away) = (false, false);
        Self { store, ended, buffer, in_hand, is_repeated, next_id, counts, feed, meters, spans, is_away }
    }

    /// Writes what has come, batch by batch. False: the store doesn't take it, and something is left.
    pub(super) async fn write_all(&mut self) -> bool {
        while !self.is_empty() {
            if !self.write_due().await {
                return false;
            }
        }
        true
    }

    fn is_empty(&self) -> bool {
        self.in_hand.is_empty() && self.buffer.is_empty() && self.ended.is_empty()
    }

    /// The same, but for what comes while it writes: that makes a batch of its own when the next is due, rather
    /// than a transaction for every few calls.
    pub(super) async fn write_due(&mut self) -> bool {
        loop {
            self.take_queued();
            if self.in_hand.is_empty() {
                let batch = self.buffer.len().min(BATCH_MAX);
                let ids = &mut self.next_id;
                let next_id = || {
                    *ids = ids.wrapping_add(1);
                    CallRecordId::from_i64(*ids)
                };
                self.in_hand = batch_of(self.buffer.drain(..batch), next_id);
                self.feed.calls(&self.in_hand);
                self.is_repeated = false;
            }
            self.show_buffered();
            if self.in_hand.is_empty() {
                return true;
            }
            if !self.write_in_hand().await {
                return false;
            }
            if self.buffer.len() < BATCH_MAX {
                return true;
            }
        }
    }

    /// Writes the batch, and takes what comes meanwhile out of the queue. False: it is to be tried again.
    async fn write_in_hand(&mut self) -> bool {
        let in_hand = std::mem::take(&mut self.in_hand);
        // Set before the attempt: one that is dropped halfway may have taken effect.
        let is_repeated = std::mem::replace(&mut self.is_repeated, true);
        let mut guard = InHand { writer: self, batch: in_hand };
        let written = if is_repeated { guard.write_again().await } else { guard.write().await };
        let count = guard.batch.len() as u64;
        match written {
            Ok(()) => {
                guard.batch = CallBatch::default();
                let writer = &mut *guard.writer;
                writer.counts.written.fetch_add(count, Ordering::Relaxed);
                if std::mem::take(&mut writer.is_away) {
                    tracing::info!("call records are written again");
                }
                true
            }
            Err(error) if error.is_transient() => {
                if !std::mem::replace(&mut guard.writer.is_away, true) {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "call records can't be written, they are kept meanwhile"
                    );
                }
                false
            }
            Err(error) => {
                // Trying again would fail again, and keep all later records out.
                guard.batch = CallBatch::default();
                guard.writer.counts.lost.fetch_add(count, Ordering::Relaxed);
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    records = count,
                    "call records can't be written and are lost"
                );
                true
            }
        }
    }

    /// Puts in hand what may have been written.
    #[cfg(test)]
    pub(super) fn take_back(&mut self, batch: CallBatch) {
        (self.in_hand, self.is_repeated) = (batch, true);
    }

    /// Meters what came. What is beyond the bound is lost, the oldest first; where calls aren't recorded, nothing
    /// is kept.
    fn take_queued(&mut self) {
        let mut meters = self.meters.open();
        while let Ok(mut ended) = self.ended.try_recv() {
            ended.meter(&mut meters);
            if let (Some(spans), Some(span)) = (&self.spans, ended.take_span()) {
                spans.push(span);
            }
            if !ended.is_recorded {
                continue;
            }
            if self.buffer.len() >= BUFFER_MAX {
                self.buffer.pop_front();
                self.counts.lost.fetch_add(1, Ordering::Relaxed);
            }
            self.buffer.push_back(ended);
        }
    }

    fn show_buffered(&self) {
        let buffered = self.buffer.len() + self.in_hand.len();
        self.counts.buffered.store(buffered as u64, Ordering::Relaxed);
    }
}

/// Puts a batch back that wasn't written, also where the write is dropped halfway.
struct InHand<'a> {
    writer: &'a mut Writer,
    batch: CallBatch,
}

impl InHand<'_> {
    async fn write(&mut self) -> Result<(), StoreError> {
        let store = self.writer.store.clone();
        let write = async |batch: &CallBatch| {
            let mut tx = store.begin().await?;
            call_records::insert(&mut tx, batch).await?;
            tx.commit().await
        };
        while_queue_is_emptied(self.writer, &self.batch, write).await
    }

    async fn write_again(&mut self) -> Result<(), StoreError> {
        let store = self.writer.store.clone();
        let write = async |batch: &CallBatch| {
            let mut tx = store.begin().await?;
            call_records::insert_again(&mut tx, batch).await?;
            tx.commit().await
        };
        while_queue_is_emptied(self.writer, &self.batch, write).await
    }
}

/// Writes a batch. A store that hangs must not let the queue run full.
async fn while_queue_is_emptied(
    writer: &mut Writer,
    batch: &CallBatch,
    write: impl AsyncFnOnce(&CallBatch) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut due = interval(WRITE_INTERVAL);
    let write = write(batch);
    tokio::pin!(write);
    loop {
        tokio::select! {
            biased;
            written = &mut write => return written,
            _ = due.tick() => {
                writer.take_queued();
                writer.counts.buffered.store((writer.buffer.len() + batch.len()) as u64, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.writer.in_hand = std::mem::take(&mut self.batch);
        self.writer.show_buffered();
    }
}
