//! Calls that ended, as they are written: what many of them have in common once, and of each what is its own.

use std::collections::HashMap;

use super::call_record::{CallMethod, CallOutcome, CallRecord, CallRecordId, CallTransport};
use super::definition::Era;
use super::ids::{ApiKeyId, UpstreamId};
use super::settings::Mode;
use super::time::Timestamp;

/// What calls have in common that are alike: all of a record but when it came, how long it took and its size.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct CallKind {
    /// What was called.
    pub method: CallMethod,
    /// At which upstream.
    pub upstream_id: UpstreamId,
    /// What the upstream calls it.
    pub upstream_name: String,
    /// What the client calls it.
    pub exposed_name: String,
    /// By whose key.
    pub key_id: ApiKeyId,
    /// Over which transport of the client.
    pub transport: CallTransport,
    /// In which era the client spoke.
    pub era: Era,
    /// In which mode the client was served.
    pub mode: Mode,
    /// How it ended.
    pub outcome: CallOutcome,
}

/// What is a call's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeasuredCall {
    /// When it came.
    pub at: Timestamp,
    /// Which of that millisecond.
    pub id: CallRecordId,
    /// The place of its kind among those of the batch.
    pub kind: usize,
    /// From being routed to being answered, in microseconds.
    pub latency_us: u64,
    /// The size of what was asked, in bytes.
    pub bytes_in: u64,
    /// The size of what was answered, in bytes.
    pub bytes_out: u64,
}

/// Calls that are written together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallBatch {
    kinds: Vec<CallKind>,
    calls: Vec<MeasuredCall>,
}

impl CallBatch {
    /// A batch of these calls, the earliest first. `None`: one of them is of no kind that is here.
    pub fn new(kinds: Vec<CallKind>, mut calls: Vec<MeasuredCall>) -> Option<Self> {
        // They are stored in this order, and of one moment in that of their ids, which are given as they ended. Calls
        // end nearly as they came, which costs a stable sort little.
        calls.sort_by_key(|call| call.at);
        calls.iter().all(|call| call.kind < kinds.len()).then_some(Self { kinds, calls })
    }

    /// A batch of records.
    pub fn of(records: &[CallRecord]) -> Self {
        let (mut kinds, mut places) = (Vec::new(), HashMap::new());
        let calls = records.iter().map(|record| {
            let kind = CallKind::of(record);
            let kind = *places.entry(kind).or_insert_with_key(|kind| {
                kinds.push(kind.clone());
                kinds.len() - 1
            });
            let &CallRecord { at, id, latency_us, bytes_in, bytes_out, .. } = record;
            MeasuredCall { at, id, kind, latency_us, bytes_in, bytes_out }
        });
        let mut calls: Vec<_> = calls.collect();
        calls.sort_by_key(|call| (call.at, call.id));
        Self { kinds, calls }
    }

    /// The kinds of its calls; one may be of no call any more.
    pub fn kinds(&self) -> &[CallKind] {
        &self.kinds
    }

    /// Its calls, the earliest first.
    pub fn calls(&self) -> &[MeasuredCall] {
        &self.calls
    }

    /// Its calls by the spans of time they came in; `end_of` says when the span is over that a moment lies in.
    pub fn by_span(&self, end_of: impl Fn(Timestamp) -> Timestamp) -> impl Iterator<Item = &[MeasuredCall]> {
        let mut rest = self.calls.as_slice();
        std::iter::from_fn(move || {
            let end = end_of(rest.first()?.at);
            // One at least: time itself has an end here, where no span ends later than it begins.
            let (span, later) = rest.split_at(rest.partition_point(|call| call.at < end).max(1));
            rest = later;
            Some(span)
        })
    }

    /// How many calls it has.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Keeps the calls that `keep` says.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(&MeasuredCall) -> bool) -> Self {
        let calls = self.calls.iter().filter(|call| keep(call)).copied().collect();
        Self { kinds: self.kinds.clone(), calls }
    }

    /// Its calls, each whole.
    pub fn records(&self) -> impl Iterator<Item = CallRecord> + '_ {
        self.calls.iter().filter_map(|call| Some(call.with(self.kinds.get(call.kind)?)))
    }
}

impl CallKind {
    fn of(record: &CallRecord) -> Self {
        Self {
            method: record.method,
            upstream_id: record.upstream_id,
            upstream_name: record.upstream_name.clone(),
            exposed_name: record.exposed_name.clone(),
            key_id: record.key_id,
            transport: record.transport,
            era: record.era,
            mode: record.mode,
            outcome: record.outcome,
        }
    }
}

impl MeasuredCall {
    fn with(&self, kind: &CallKind) -> CallRecord {
        CallRecord {
            at: self.at,
            id: self.id,
            method: kind.method,
            upstream_id: kind.upstream_id,
            upstream_name: kind.upstream_name.clone(),
            exposed_name: kind.exposed_name.clone(),
            key_id: kind.key_id,
            transport: kind.transport,
            era: kind.era,
            mode: kind.mode,
            outcome: kind.outcome,
            latency_us: self.latency_us,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
        }
    }
}
