//! Copies of call records in Redis, until they are written: what a replica leaves that is killed, another writes.
//!
//! Each replica has a hash of its own, a batch a field, and stands in the set of those that have one. A copy is taken
//! away when its batch is written. Where its replica is gone it is written by whoever finds it, and since the database
//! knows each record by its id, it counts once, whoever writes it and however often. Nothing here is the only copy
//! of a batch that is still in memory; without Redis, records are kept in memory as they are where there is none.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sql::model::{CallBatch, CallKind, CallRecordId, MeasuredCall, Timestamp};

use crate::cache::redis::{Redis, Script};
use crate::cache::{Cache, Lost};

/// The replicas that have copies.
const OWNERS: &str = "calls";
/// Before the name of a replica: the key of its copies.
const COPIES: &str = "calls:";
/// Held by the replica that looks for what others left.
const LOOKING: &str = "calls-looking";

/// Records of one replica that may lie in Redis: some 30 MB, and at 100 calls a second more than an hour.
pub(super) const COPIED_MAX: u64 = 500_000;

/// How long copies are kept that nobody takes: less than records are kept at least, so that none is written anew
/// that was dropped for its age.
const KEPT: Duration = Duration::from_hours(12);

/// How long one replica looks for what others left, before another may.
const LOOKING_TTL: Duration = Duration::from_secs(10);

/// Copies that are read at once: each has some ten KiB, and a large one a hundred.
const READ_AT_ONCE: u32 = 10;

static PUT: Script = Script::new(
    "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    redis.call('SADD', KEYS[2], ARGV[4])
    redis.call('PEXPIRE', KEYS[2], ARGV[3])
    return 1",
);

/// A replica's copies are done with: it has none and is gone.
static FORGET: Script = Script::new(
    "if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
    return redis.call('SREM', KEYS[2], ARGV[1])",
);

/// The copies of one replica, and of those that are gone.
pub(super) struct Copies {
    cache: Cache,
    redis: Redis,
    next: u64,
    /// Of batches that are written, but whose copies Redis wasn't there to take away.
    written: Vec<u64>,
}

/// A copy that was found.
pub(super) struct Found {
    owner: String,
    field: String,
    /// None: it isn't what this release writes.
    pub(super) batch: Option<CallBatch>,
}

/// A batch as it lies in Redis.
#[derive(Serialize, Deserialize)]
struct Copy {
    kinds: Vec<CallKind>,
    /// When, its id, its kind, microseconds, bytes in and out.
    calls: Vec<(i64, i64, usize, u64, u64, u64)>,
}

impl Copies {
    /// None where replicas share nothing but the database.
    pub(super) fn new(cache: &Cache) -> Option<Self> {
        let redis = cache.redis()?.clone();
        Some(Self { cache: cache.clone(), redis, next: 0, written: Vec::new() })
    }

    /// Puts a copy of a batch there. `None`: Redis isn't there.
    pub(super) async fn put(&mut self, batch: &CallBatch) -> Option<u64> {
        self.next += 1;
        let (field, ttl) = (self.next.to_string(), KEPT.as_millis().to_string());
        let own = self.redis.replica();
        let arguments = [field.as_bytes(), &encoded(batch)?, ttl.as_bytes(), own.as_bytes()];
        let put = self.redis.eval::<u32>(&PUT, &[&key_of(own), OWNERS], &arguments).await;
        put.ok().map(|_| self.next)
    }

    /// Takes away the copy of a batch that is written; later, if Redis isn't there now.
    pub(super) async fn remove(&mut self, number: u64) {
        self.written.push(number);
        let mut command = redis::cmd("HDEL");
        command.arg(self.redis.full_name(&key_of(self.redis.replica()))).arg(&self.written);
        if self.redis.command::<u64>(&command).await.is_ok() {
            self.written.clear();
        }
    }

    /// Whether it is this replica's turn to look for what others left.
    pub(super) async fn is_to_look(&self) -> bool {
        let own = self.redis.replica().as_bytes();
        self.cache.compare_and_set(LOOKING, None, own, LOOKING_TTL).await.unwrap_or(false)
    }

    /// Some copies of replicas that are gone; none: nothing is left.
    pub(super) async fn left_by_others(&self) -> Result<Vec<Found>, Lost> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(self.redis.full_name(OWNERS));
        for owner in self.redis.command::<Vec<String>>(&command).await? {
            if owner == self.redis.replica() || self.redis.is_living(&owner).await? {
                continue;
            }
            let found = self.some_of(&owner).await?;
            if !found.is_empty() {
                return Ok(found);
            }
            self.redis.eval::<u32>(&FORGET, &[&key_of(&owner), OWNERS], &[owner.as_bytes()]).await?;
        }
        Ok(Vec::new())
    }

    /// Some of this replica's own copies.
    pub(super) async fn own(&self) -> Result<Vec<Found>, Lost> {
        self.some_of(self.redis.replica()).await
    }

    /// Takes away a copy that was found.
    pub(super) async fn done_with(&self, found: &Found) -> Result<(), Lost> {
        let mut command = redis::cmd("HDEL");
        command.arg(self.redis.full_name(&key_of(&found.owner))).arg(&found.field);
        self.redis.command(&command).await
    }

    async fn some_of(&self, owner: &str) -> Result<Vec<Found>, Lost> {
        let mut cursor = "0".to_owned();
        loop {
            let mut command = redis::cmd("HSCAN");
            command.arg(self.redis.full_name(&key_of(owner))).arg(&cursor).arg("COUNT").arg(READ_AT_ONCE);
            let (next, fields): (String, Vec<(String, Vec<u8>)>) = self.redis.command(&command).await?;
            let found = |(field, bytes): (String, Vec<u8>)| {
                let batch = decoded(&bytes);
                Found { owner: owner.to_owned(), field, batch }
            };
            // An empty step isn't the end; that is a cursor which begins anew.
            if !fields.is_empty() || next == "0" {
                return Ok(fields.into_iter().map(found).collect());
            }
            cursor = next;
        }
    }
}

fn key_of(replica: &str) -> String {
    [COPIES, replica].concat()
}

fn encoded(batch: &CallBatch) -> Option<Vec<u8>> {
    let call = |call: &MeasuredCall| {
        (call.at.millis(), call.id.get(), call.kind, call.latency_us, call.bytes_in, call.bytes_out)
    };
    let copy = Copy { kinds: batch.kinds().to_vec(), calls: batch.calls().iter().map(call).collect() };
    // Numbers and texts: nothing in it can't be written.
    serde_json::to_vec(&copy).ok()
}

fn decoded(bytes: &[u8]) -> Option<CallBatch> {
    let Copy { kinds, calls } = serde_json::from_slice(bytes).ok()?;
    let call = |(at, id, kind, latency_us, bytes_in, bytes_out)| {
        let (at, id) = (Timestamp::from_millis(at), CallRecordId::from_i64(id));
        MeasuredCall { at, id, kind, latency_us, bytes_in, bytes_out }
    };
    CallBatch::new(kinds, calls.into_iter().map(call).collect())
}

#[cfg(test)]
mod tests {
    use sql::model::{ApiKeyId, CallMethod, CallOutcome, CallTransport, Era, Mode, UpstreamId};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn batch() -> CallBatch {
        let kind = |name: &str| CallKind {
            method: CallMethod::CallTool,
            upstream_id: UpstreamId::at(NOW),
            upstream_name: name.to_owned(),
            exposed_name: format!("a_{name}"),
            key_id: ApiKeyId::at(NOW),
            transport: CallTransport::Sse,
            era: Era::Modern,
            mode: Mode::Smart,
            outcome: CallOutcome::Timeout,
        };
        let call = |id: i64| MeasuredCall {
            at: NOW,
            id: CallRecordId::from_i64(i64::MAX - id),
            kind: usize::from(id % 2 == 0),
            latency_us: u64::MAX,
            bytes_in: 0,
            bytes_out: 1,
        };
        CallBatch::new(vec![kind("\u{1F600}\""), kind("b")], (0..5).map(call).collect()).unwrap()
    }

    #[test]
    fn a_copy_is_read_as_it_was_written() {
        let batch = batch();
        assert_eq!(decoded(&encoded(&batch).unwrap()), Some(batch));
    }

    #[test]
    fn what_is_no_copy_is_not_read() {
        let of_no_kind = r#"{"kinds":[],"calls":[[1,1,0,1,1,1]]}"#;
        for bytes in ["", "{}", "[]", r#"{"kinds":[{}],"calls":[]}"#, of_no_kind] {
            assert_eq!(decoded(bytes.as_bytes()), None, "{bytes}");
        }
    }
}
