//! Writes records in batches, and keeps them while the store is away.
//!
//! Where there is Redis, a batch has a copy there from when its calls ended until it is written (`copies`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sql::model::{CallBatch, CallRecordId};
use sql::{Store, StoreError, call_records};
use tokio::sync::mpsc;
use tokio::time::interval;
use uuid::Uuid;

use super::batching::batch_of;
use super::copies::{COPIED_MAX, Copies};
use super::recording::Ended;
use super::{Counts, WRITE_INTERVAL};
use crate::cache::Cache;
use crate::feed::Feed;
use crate::metrics::calls::CallMeters;
use crate::spans::Spans;

/// Records in one transaction. One of this size takes SQLite some milliseconds, in which nobody else writes.
const BATCH_MAX: usize = 1_000;

/// Records kept while the store is away: at 100 calls a second for some eight minutes, in some 10 MiB.
pub(super) const BUFFER_MAX: usize = 50_000;

/// The one that writes.
pub(super) struct Writer {
    pub(super) store: Store,
    ended: mpsc::Receiver<Ended>,
    buffer: VecDeque<Ended>,
    /// Batches that were made before the store took the one in hand, so that each has its copy in Redis.
    waiting: VecDeque<Waiting>,
    /// How many records those have.
    records_waiting: usize,
    /// What is being written. It stays until the store has said that it took it: a write whose outcome
    /// isn't known is repeated, and the same ids make it count once.
    in_hand: Waiting,
    /// Whether what is in hand may have been written already.
    is_repeated: bool,
    next_id: i64,
    pub(super) counts: Arc<Counts>,
    /// Told of each batch, before it is written.
    feed: Feed,
    meters: CallMeters,
    /// Takes the spans of calls, where a collector wants them.
    spans: Option<Spans>,
    /// Where batches have copies.
    pub(super) copies: Option<Copies>,
    /// Records that are in Redis alone, since there were too many for memory.
    pub(super) in_redis: u64,
    /// Whether this replica found what others left, and looks on.
    pub(super) is_looking: bool,
    /// Whether the last write failed; it is said once.
    is_away: bool,
}

/// A batch that isn't written.
#[derive(Default)]
struct Waiting {
    batch: CallBatch,
    /// The number of its copy in Redis.
    copy: Option<u64>,
}

impl Writer {
    pub(super) fn new(
        store: Store,
        ended: mpsc::Receiver<Ended>,
        counts: Arc<Counts>,
        meters: CallMeters,
        (feed, spans): (Feed, Option<Spans>),
        cache: &Cache,
    ) -> Self {
        // A random start, so that two processes don't give one id to two calls of one millisecond.
        let (_, start) = Uuid::now_v7().as_u64_pair();
        Self {
            store,
            ended,
            buffer: VecDeque::new(),
            waiting: VecDeque::new(),
            records_waiting: 0,
            in_hand: Waiting::default(),
            is_repeated: false,
            next_id: i64::try_from(start >> 1).unwrap_or_default(),
            counts,
            feed,
            meters,
            spans,
            copies: Copies::new(cache),
            in_redis: 0,
            is_looking: false,
            is_away: false,
        }
    }

    /// Writes what has come, batch by batch. False: the store doesn't take it, and something is left.
    pub(super) async fn write_all(&mut self) -> bool {
        while !self.is_idle() || !self.ended.is_empty() {
            if !self.write_due().await {
                return false;
            }
        }
        true
    }

    /// Whether nothing that was taken from the queue is in memory.
    pub(super) fn is_idle(&self) -> bool {
        self.in_hand.batch.is_empty() && self.waiting.is_empty() && self.buffer.is_empty()
    }

    /// The same, but for what comes while it writes: that makes a batch of its own when the next is due, rather
    /// than a transaction for every few calls.
    pub(super) async fn write_due(&mut self) -> bool {
        loop {
            self.take_queued();
            self.copy_taken().await;
            if self.in_hand.batch.is_empty() {
                let next = self.pop_waiting();
                self.in_hand = next.unwrap_or_else(|| Waiting { batch: self.next_batch(), copy: None });
                self.is_repeated = false;
            }
            self.show_buffered();
            if self.in_hand.batch.is_empty() {
                return true;
            }
            if !self.write_in_hand().await {
                return false;
            }
            if self.waiting.is_empty() && self.buffer.len() < BATCH_MAX {
                return true;
            }
        }
    }

    /// Makes a batch of the calls that wait the longest, and tells of it.
    fn next_batch(&mut self) -> CallBatch {
        let calls = self.buffer.len().min(BATCH_MAX);
        let ids = &mut self.next_id;
        let next_id = || {
            *ids = ids.wrapping_add(1);
            CallRecordId::from_i64(*ids)
        };
        let batch = batch_of(self.buffer.drain(..calls), next_id);
        self.feed.calls(&batch);
        batch
    }

    /// Has the calls that were taken copied to Redis, if it is there and has not too many.
    async fn copy_taken(&mut self) {
        while !self.buffer.is_empty() && self.copied() < COPIED_MAX {
            if self.copies.is_none() {
                return;
            }
            // In its place before anything is waited for: this may be dropped halfway.
            let batch = self.next_batch();
            self.records_waiting += batch.len();
            self.waiting.push_back(Waiting { batch, copy: None });
            let (Some(copies), Some(last)) = (&mut self.copies, self.waiting.back_mut()) else { return };
            last.copy = copies.put(&last.batch).await;
            if last.copy.is_none() {
                return;
            }
        }
    }

    /// Records that have a copy in Redis.
    fn copied(&self) -> u64 {
        let copied = |waiting: &Waiting| if waiting.copy.is_some() { waiting.batch.len() as u64 } else { 0 };
        self.in_redis + copied(&self.in_hand) + self.waiting.iter().map(copied).sum::<u64>()
    }

    /// Writes the batch, and takes what comes meanwhile out of the queue. False: it is to be tried again.
    async fn write_in_hand(&mut self) -> bool {
        let in_hand = std::mem::take(&mut self.in_hand);
        // Set before the attempt: one that is dropped halfway may have taken effect.
        let is_repeated = std::mem::replace(&mut self.is_repeated, true);
        let mut guard = InHand { writer: self, waiting: in_hand };
        let written = if is_repeated { guard.write_again().await } else { guard.write().await };
        let count = guard.waiting.batch.len() as u64;
        match written {
            Ok(()) => {
                let copy = std::mem::take(&mut guard.waiting).copy;
                let writer = &mut *guard.writer;
                writer.counts.written.fetch_add(count, Ordering::Relaxed);
                if std::mem::take(&mut writer.is_away) {
                    tracing::info!("call records are written again");
                }
                if let (Some(copies), Some(copy)) = (&mut writer.copies, copy) {
                    copies.remove(copy).await;
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
            // Somebody found the copy of a batch that waited for long.
            Err(StoreError::Conflict { .. }) if !is_repeated => true,
            Err(error) => {
                // Trying again would fail again, and keep all later records out.
                let copy = std::mem::take(&mut guard.waiting).copy;
                let writer = &mut *guard.writer;
                writer.counts.lost.fetch_add(count, Ordering::Relaxed);
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    records = count,
                    "call records can't be written and are lost"
                );
                if let (Some(copies), Some(copy)) = (&mut writer.copies, copy) {
                    copies.remove(copy).await;
                }
                true
            }
        }
    }

    /// Puts in hand what may have been written.
    #[cfg(test)]
    pub(super) fn take_back(&mut self, batch: CallBatch) {
        (self.in_hand, self.is_repeated) = (Waiting { batch, copy: None }, true);
    }

    /// Meters what came. What is beyond the bound is lost, the oldest first; where calls aren't recorded, nothing
    /// is kept.
    fn take_queued(&mut self) {
        let meters = self.meters.clone();
        let mut meters = meters.open();
        while let Ok(mut ended) = self.ended.try_recv() {
            ended.meter(&mut meters);
            if let (Some(spans), Some(span)) = (&self.spans, ended.take_span()) {
                spans.push(span);
            }
            if !ended.is_recorded {
                continue;
            }
            self.buffer.push_back(ended);
            if self.kept() > BUFFER_MAX {
                self.give_way();
            }
        }
    }

    /// Records in memory, but for those in hand.
    fn kept(&self) -> usize {
        self.buffer.len() + self.records_waiting
    }

    fn pop_waiting(&mut self) -> Option<Waiting> {
        let first = self.waiting.pop_front()?;
        self.records_waiting -= first.batch.len();
        Some(first)
    }

    /// Has the oldest give way: a batch, which may be in Redis as well, or a call.
    fn give_way(&mut self) {
        let Some(Waiting { batch, copy }) = self.pop_waiting() else {
            self.buffer.pop_front();
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let records = batch.len() as u64;
        match copy {
            Some(_) => self.in_redis += records,
            None => {
                self.counts.lost.fetch_add(records, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn show_buffered(&self) {
        self.show_buffered_with(self.in_hand.batch.len());
    }

    fn show_buffered_with(&self, in_hand: usize) {
        let buffered = self.in_redis + (self.kept() + in_hand) as u64;
        self.counts.buffered.store(buffered, Ordering::Relaxed);
    }
}

/// Puts a batch back that wasn't written, also where the write is dropped halfway.
struct InHand<'a> {
    writer: &'a mut Writer,
    waiting: Waiting,
}

impl InHand<'_> {
    async fn write(&mut self) -> Result<(), StoreError> {
        let store = self.writer.store.clone();
        let write = async |batch: &CallBatch| {
            let mut tx = store.begin().await?;
            call_records::insert(&mut tx, batch).await?;
            tx.commit().await
        };
        while_queue_is_emptied(self.writer, &self.waiting.batch, write).await
    }

    async fn write_again(&mut self) -> Result<(), StoreError> {
        let store = self.writer.store.clone();
        let write = async |batch: &CallBatch| {
            let mut tx = store.begin().await?;
            call_records::insert_again(&mut tx, batch).await.map(drop)?;
            tx.commit().await
        };
        while_queue_is_emptied(self.writer, &self.waiting.batch, write).await
    }
}

/// Writes a batch. A store that hangs must not let the queue run full.
pub(super) async fn while_queue_is_emptied(
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
                writer.copy_taken().await;
                writer.show_buffered_with(batch.len());
            }
        }
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.writer.in_hand = std::mem::take(&mut self.waiting);
        self.writer.show_buffered();
    }
}
