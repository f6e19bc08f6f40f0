//! The chain as a whole: its two ends, whether it holds, and how it is cut at its old end.
//!
//! Both ends stand in one row under a MAC. So whoever removes the newest events can't name an older one the
//! end, and whoever removes the oldest can't name a later one the beginning. A row whose MAC doesn't hold stays
//! without one: what is appended to it must not make good what was done to it. What nobody can find inside the
//! database is that all of it was put back to what it was: for that the end is told to the log, and
//! [`verify`] is given an [`Anchor`] from there.
//!
//! The chain's key is derived from the master key once, and then stored, sealed, so that another master key
//! needn't hash the chain anew.

use ring::hmac;

use super::stored::Stored;
use super::{COLUMNS, HEAD, TABLE};
use crate::db::{Cell, Row, Transaction, cells};
use crate::error::StoreError;
use crate::model::closed_set::closed_set;
use crate::model::time::Timestamp;
use crate::seal::{Place, Sealer};
use crate::tx::Tx;

/// The migration before which chains had no seal.
pub(crate) const SEALED_SINCE: &str = "0007_audit";
/// The purposes of keys.
const CHAIN_KEY_PURPOSE: &str = "audit chain";
const SEAL_KEY_PURPOSE: &[u8] = b"audit ends";
/// What comes before the first event.
const NOTHING: [u8; 32] = [0; 32];
/// Events that are verified at a time.
const VERIFIED_AT_ONCE: i64 = 500;
/// Where the sealed key is.
pub(crate) const KEY_PLACE: Place<'static> = Place { table: HEAD, column: "chain_key", row: "1" };

/// Where a chain begins and ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The number of the last event that is no longer kept; 0 if all are.
    pub dropped: i64,
    /// The number of the last event; 0 if there never was one.
    pub head: i64,
    /// Its hash.
    pub hash: [u8; 32],
}

closed_set! {
    /// What is wrong with a chain.
    pub enum Fault {
        /// This event isn't what was written, or stands in the place of another.
        Altered = "altered",
        /// There is no such event, and there was one.
        Missing = "missing",
        /// There is such an event, and nobody wrote it.
        Inserted = "inserted",
        /// What says where the chain begins and ends was altered.
        Ends = "ends",
        /// The event isn't the one that the anchor names: the chain is another.
        Anchor = "anchor",
    }
}

/// Whether the chain holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// It does, from its beginning to its head.
    Intact(Extent),
    /// It doesn't.
    Broken {
        /// The number of the first event of which this is so.
        seq: i64,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// An event that somebody noted elsewhere, as `SEQ:HASH` in hexadecimal digits: it must be in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    seq: i64,
    hash: [u8; 32],
}

/// A text that is no [`Anchor`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an anchor is the number of an event, a colon, and 64 hexadecimal digits")]
pub struct BadAnchor;

impl std::str::FromStr for Anchor {
    type Err = BadAnchor;

    fn from_str(text: &str) -> Result<Self, BadAnchor> {
        let (seq, digits) = text.split_once(':').ok_or(BadAnchor)?;
        let seq = seq.parse().ok().filter(|seq| *seq > 0).ok_or(BadAnchor)?;
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(BadAnchor);
        }
        let mut hash = [0; 32];
        for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| BadAnchor)?;
        }
        Ok(Self { seq, hash })
    }
}

impl std::fmt::Display for Extent {
    /// The head as an anchor.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:", self.head)?;
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The ends of a chain, as they are stored.
struct Ends {
    first: (i64, [u8; 32]),
    last: (i64, [u8; 32]),
    key: hmac::Key,
    /// Whether the MAC over them holds.
    hold: bool,
}

const ENDS: &str = "seq, hash, first_seq, first_hash, seal, chain_key";

impl Ends {
    fn read(row: &Row, sealer: &Sealer) -> Result<Self, StoreError> {
        let key = match row.get::<Option<String>>("chain_key")? {
            Some(sealed) => hmac::Key::new(
                hmac::HMAC_SHA256,
                sealer.unseal(&sealed, KEY_PLACE).map_err(|_| row.corrupt("chain_key"))?.expose(),
            ),
            None => chain_key(sealer),
        };
        let first = (row.get("first_seq")?, row.get::<Option<[u8; 32]>>("first_hash")?.unwrap_or(NOTHING));
        let last = (row.get("seq")?, row.get("hash")?);
        let seal: Option<Vec<u8>> = row.get("seal")?;
        let mut ends = Self { first, last, key, hold: false };
        ends.hold =
            seal.is_some_and(|seal| hmac::verify(&ends.seal_key(), &ends.sealed_text(), &seal).is_ok());
        Ok(ends)
    }

    fn seal_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&self.key, SEAL_KEY_PURPOSE).as_ref())
    }

    fn sealed_text(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(80);
        for (seq, hash) in [&self.first, &self.last] {
            text.extend(seq.to_be_bytes());
            text.extend(hash);
        }
        text
    }

    fn seal(&self) -> Vec<u8> {
        hmac::sign(&self.seal_key(), &self.sealed_text()).as_ref().to_vec()
    }

    fn extent(&self) -> Extent {
        Extent { dropped: self.first.0, head: self.last.0, hash: self.last.1 }
    }
}

fn chain_key(sealer: &Sealer) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &sealer.derive_key(CHAIN_KEY_PURPOSE))
}

/// Inserts the row of the ends of a chain without events, unless there is one.
pub(crate) async fn begin_chain(transaction: &mut Transaction, sealer: &Sealer) -> Result<(), StoreError> {
    let ends = Ends { first: (0, NOTHING), last: (0, NOTHING), key: chain_key(sealer), hold: true };
    let insert = "INSERT INTO audit_head (id, seq, hash, first_seq, first_hash, seal, chain_key)
        VALUES (1, 0, $1, 0, $1, $2, $3) ON CONFLICT (id) DO NOTHING";
    let key = sealer.seal(&sealer.derive_key(CHAIN_KEY_PURPOSE), KEY_PLACE);
    transaction.run(HEAD, insert, cells![&NOTHING, ends.seal(), key]).await.map(drop)
}

/// Seals the ends of a chain that is older than seals: what it is now counts as its beginning.
pub(crate) async fn seal_unsealed(transaction: &mut Transaction, sealer: &Sealer) -> Result<(), StoreError> {
    let lock = format!("UPDATE audit_head SET id = id WHERE id = 1 AND chain_key IS NULL RETURNING {ENDS}");
    let Some(row) = transaction.run(HEAD, &lock, cells![]).await?.rows.into_iter().next() else {
        return Ok(());
    };
    let ends = Ends::read(&row, sealer)?;
    let key = sealer.seal(&sealer.derive_key(CHAIN_KEY_PURPOSE), KEY_PLACE);
    let update = "UPDATE audit_head SET seal = $1, chain_key = $2 WHERE id = 1";
    transaction.run(HEAD, update, cells![ends.seal(), key]).await.map(drop)
}

/// The end of the chain, locked until the transaction ends.
pub(super) struct End(Ends);

/// Locks the end of the chain until the end of the transaction: the chain has one order.
pub(super) async fn lock(tx: &mut Tx) -> Result<End, StoreError> {
    let sql = format!("UPDATE audit_head SET id = id WHERE id = 1 RETURNING {ENDS}");
    let row = tx.query_one(HEAD, &sql, cells![]).await?;
    Ends::read(&row, &tx.sealer()).map(End)
}

impl End {
    /// The number of the next event.
    pub(super) fn next_seq(&self) -> i64 {
        self.0.last.0 + 1
    }

    /// Makes `stored` the last event, and gives its hash.
    pub(super) fn bind(&mut self, stored: &Stored) -> [u8; 32] {
        let hash = stored.hash(&self.0.key, &self.0.last.1);
        self.0.last = (stored.seq, hash);
        hash
    }

    /// Writes the ends. Whether they held before, they do after.
    pub(super) async fn unlock(self, tx: &mut Tx) -> Result<(), StoreError> {
        let ends = self.0;
        let seal: Option<Vec<u8>> = if ends.hold {
            Some(ends.seal())
        } else {
            tracing::error!(
                audit.head = ends.last.0,
                "the audit log was tampered with: its ends aren't what was written"
            );
            None
        };
        let sql = "UPDATE audit_head SET seq = $1, hash = $2, first_seq = $3, first_hash = $4, seal = $5 WHERE id = 1";
        let cells: Vec<Cell> = cells![ends.last.0, &ends.last.1, ends.first.0, &ends.first.1, seal];
        tx.execute(HEAD, sql, cells).await.map(drop)
    }
}

async fn ends(tx: &mut Tx) -> Result<Ends, StoreError> {
    let row = tx.query_one(HEAD, &format!("SELECT {ENDS} FROM audit_head WHERE id = 1"), cells![]).await?;
    Ends::read(&row, &tx.sealer())
}

/// Where the chain begins and ends, as it says; [`verify`] says whether that is so.
pub async fn extent(tx: &mut Tx) -> Result<Extent, StoreError> {
    Ok(ends(tx).await?.extent())
}

/// Checks every event against the one before it, and both ends, and that it has the event which `anchor` names,
/// unless that is no longer kept. Reads the whole log.
pub async fn verify(tx: &mut Tx, anchor: Option<&Anchor>) -> Result<Verified, StoreError> {
    let ends = ends(tx).await?;
    let broken = |seq, fault| Ok(Verified::Broken { seq, fault });
    let mut walk = Walk { last: ends.first, key: ends.key.clone() };
    loop {
        let rows = walk.rows(tx, VERIFIED_AT_ONCE).await?;
        for row in &rows {
            if let Err((seq, fault)) = walk.step(row, ends.last.0) {
                return broken(seq, fault);
            }
            if anchor.is_some_and(|anchor| anchor.seq == walk.last.0 && anchor.hash != walk.last.1) {
                return broken(walk.last.0, Fault::Anchor);
            }
        }
        if rows.is_empty() {
            break;
        }
    }
    // Beyond the first that is kept there is one before it, whose row is gone.
    let stray = "SELECT seq FROM audit_events WHERE seq <= $1 ORDER BY seq LIMIT 1";
    if let Some(row) = tx.query_opt(TABLE, stray, cells![ends.first.0]).await? {
        return broken(row.get("seq")?, Fault::Inserted);
    }
    if walk.last.0 < ends.last.0 {
        return broken(walk.last.0 + 1, Fault::Missing);
    }
    if walk.last != ends.last || !ends.hold {
        return broken(ends.last.0, Fault::Ends);
    }
    match anchor {
        Some(anchor) if anchor.seq > ends.last.0 => broken(ends.last.0 + 1, Fault::Missing),
        _ => Ok(Verified::Intact(ends.extent())),
    }
}

/// The way along a chain.
struct Walk {
    /// The last event that was found right.
    last: (i64, [u8; 32]),
    key: hmac::Key,
}

impl Walk {
    async fn rows(&self, tx: &mut Tx, limit: i64) -> Result<Vec<Row>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM audit_events WHERE seq > $1 ORDER BY seq LIMIT $2");
        tx.query(TABLE, &sql, cells![self.last.0, limit]).await
    }

    /// Goes on to the next event, unless something is wrong with it.
    fn step(&mut self, row: &Row, head: i64) -> Result<Timestamp, (i64, Fault)> {
        let expected = self.last.0 + 1;
        let seq: i64 = row.get("seq").map_err(|_| (expected, Fault::Altered))?;
        if expected > head {
            return Err((seq, Fault::Inserted));
        }
        if seq != expected {
            return Err((expected, Fault::Missing));
        }
        let stored = Stored::read(row).map_err(|_| (seq, Fault::Altered))?;
        let hash = stored.hash(&self.key, &self.last.1);
        if row.get::<[u8; 32]>("hash").ok() != Some(hash) {
            return Err((seq, Fault::Altered));
        }
        self.last = (seq, hash);
        Ok(Timestamp::from_millis(stored.at))
    }
}

/// What was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// How many events.
    pub events: i64,
    /// The number of the last of them.
    pub last: i64,
}

/// Drops the oldest events that are from before `time`, at most `limit`, never the last one. The chain then begins
/// after them. None are dropped where the chain doesn't hold: they are evidence.
pub async fn cut_before(tx: &mut Tx, time: Timestamp, limit: u32) -> Result<Option<Cut>, StoreError> {
    let mut end = lock(tx).await?;
    if !end.0.hold {
        return Ok(None);
    }
    let mut walk = Walk { last: end.0.first, key: end.0.key.clone() };
    for row in walk.rows(tx, limit.into()).await? {
        let before = walk.last;
        match walk.step(&row, end.0.last.0) {
            Ok(at) if at < time && walk.last.0 < end.0.last.0 => {}
            Ok(_) => {
                walk.last = before;
                break;
            }
            Err((seq, fault)) => {
                tracing::error!(audit.seq = seq, audit.fault = %fault, "the audit log was tampered with, old events are kept");
                return Ok(None);
            }
        }
    }
    let cut = Cut { events: walk.last.0 - end.0.first.0, last: walk.last.0 };
    if cut.events == 0 {
        return Ok(None);
    }
    tx.execute(TABLE, "DELETE FROM audit_events WHERE seq <= $1", cells![cut.last]).await?;
    end.0.first = walk.last;
    end.unlock(tx).await?;
    Ok(Some(cut))
}
