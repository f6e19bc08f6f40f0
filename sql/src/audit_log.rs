//! The audit log: a chain of events, each bound to the one before by a keyed hash.
//!
//! Event n has `HMAC-SHA256(key, hash of n-1 | event n)`, so an event that was altered, left out or
//! put in breaks the chain from there on, for everyone without the master key. The head of the chain
//! is one row that every append locks: events are numbered in the order of their commits.

use ring::hmac;

use crate::db::{Row, cells};
use crate::error::StoreError;
use crate::keyset::{self, Filter, Listing, Sort};
use crate::model::audit_event::{Actor, AuditEvent, Outcome};
use crate::model::ids::{AdminUserId, ApiKeyId};
use crate::model::page::{Page, PageRequest};
use crate::model::time::Timestamp;
use crate::seal::Sealer;
use crate::tx::Tx;

const TABLE: &str = "audit_events";
const HEAD: &str = "audit_head";
/// The purpose of the chain's key.
const KEY_PURPOSE: &str = "audit chain";
/// Bytes of one text of an event; strangers choose some of them (a user agent, a name at a failed login).
const TEXT_BYTES_MAX: usize = 1_024;
/// Events that are verified at a time.
const VERIFIED_AT_ONCE: i64 = 500;

const COLUMNS: &str = "seq, id, at, actor_kind, actor_id, actor_name, address, user_agent, action, \
    target_kind, target_id, target_name, diff, request_id, outcome, hash";

const LISTING: Listing = Listing {
    table: TABLE,
    columns: COLUMNS,
    key: "seq",
    key_is_number: true,
    sorts: &[Sort { name: "at", expression: "seq", is_number: true }],
    descending_by_default: true,
    searched: &["actor_name", "action", "target_name"],
};

/// Which events a page shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only this act.
    pub action: Option<String>,
    /// Only acts on this kind of thing.
    pub target_kind: Option<String>,
    /// Only acts on this thing.
    pub target_id: Option<String>,
    /// Only acts of the admin or key with this id.
    pub actor_id: Option<String>,
    /// Only with this outcome.
    pub outcome: Option<Outcome>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
}

/// Whether the chain holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// It does, up to its head.
    Intact {
        /// Events in it.
        events: u64,
        /// The number of the last one.
        head: i64,
    },
    /// This event was altered, or one before it is missing, or it should be there and isn't.
    Broken {
        /// Its number.
        seq: i64,
    },
}

/// The texts of an event as they are stored and hashed.
#[derive(serde::Serialize)]
struct Stored {
    seq: i64,
    id: String,
    at: i64,
    actor_kind: String,
    actor_id: Option<String>,
    actor_name: Option<String>,
    address: Option<String>,
    user_agent: Option<String>,
    action: String,
    target_kind: String,
    target_id: Option<String>,
    target_name: Option<String>,
    diff: String,
    request_id: Option<String>,
    outcome: String,
}

/// Appends an event; it is there when the act that it tells of is committed, and not otherwise.
pub async fn append(tx: &mut Tx, event: &AuditEvent) -> Result<(), StoreError> {
    // Locks the head until the end of the transaction: the chain has one order.
    let lock = "UPDATE audit_head SET seq = seq + 1 WHERE id = 1 RETURNING seq, hash";
    let head = tx.query_one(HEAD, lock, cells![]).await?;
    let stored = Stored::of(event, head.get("seq")?);
    let hash = stored.hash(&chain_key(&tx.sealer()), &head.get("hash")?);
    tx.execute(HEAD, "UPDATE audit_head SET hash = $1 WHERE id = 1", cells![&hash]).await?;
    let sql = format!(
        "INSERT INTO audit_events ({COLUMNS})
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
    );
    let cells = cells![
        stored.seq,
        stored.id,
        stored.at,
        stored.actor_kind,
        stored.actor_id,
        stored.actor_name,
        stored.address,
        stored.user_agent,
        stored.action,
        stored.target_kind,
        stored.target_id,
        stored.target_name,
        stored.diff,
        stored.request_id,
        stored.outcome,
        &hash,
    ];
    tx.execute(TABLE, &sql, cells).await.map(drop)
}

/// One page, the newest first unless the request says `at`.
pub async fn page(
    tx: &mut Tx,
    request: &PageRequest,
    filter: &AuditFilter,
) -> Result<Page<AuditEvent>, StoreError> {
    let text = |text: &Option<String>| text.as_deref().map(tidy);
    let conditions = Filter::default()
        .and("action = ?", text(&filter.action))
        .and("target_kind = ?", text(&filter.target_kind))
        .and("target_id = ?", text(&filter.target_id))
        .and("actor_id = ?", text(&filter.actor_id))
        .and("outcome = ?", filter.outcome.map(Outcome::as_str))
        .and("at >= ?", filter.from)
        .and("at < ?", filter.to);
    keyset::page(tx, &LISTING, request, conditions, read).await
}

/// Checks every event against the one before it, and the last one against the head.
pub async fn verify(tx: &mut Tx) -> Result<Verified, StoreError> {
    let key = chain_key(&tx.sealer());
    let head = tx.query_one(HEAD, "SELECT seq, hash FROM audit_head WHERE id = 1", cells![]).await?;
    let (head_seq, head_hash): (i64, [u8; 32]) = (head.get("seq")?, head.get("hash")?);
    let (mut seq, mut hash) = (0_i64, [0_u8; 32]);
    let sql = format!("SELECT {COLUMNS} FROM audit_events WHERE seq > $1 ORDER BY seq LIMIT $2");
    loop {
        let rows = tx.query(TABLE, &sql, cells![seq, VERIFIED_AT_ONCE]).await?;
        for row in &rows {
            seq += 1;
            let stored = Stored::read(row)?;
            hash = stored.hash(&key, &hash);
            if stored.seq != seq || row.get::<[u8; 32]>("hash")? != hash {
                return Ok(Verified::Broken { seq });
            }
        }
        if rows.is_empty() {
            break;
        }
    }
    if (seq, hash) == (head_seq, head_hash) {
        Ok(Verified::Intact { events: seq.unsigned_abs(), head: seq })
    } else {
        Ok(Verified::Broken { seq: seq + 1 })
    }
}

fn chain_key(sealer: &Sealer) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &sealer.derive_key(KEY_PURPOSE))
}

/// A text as it can be stored: an event must never be lost because of what a stranger wrote.
fn tidy(text: &str) -> String {
    let mut text = text.replace('\0', "\u{fffd}");
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

impl Stored {
    fn of(event: &AuditEvent, seq: i64) -> Self {
        let (actor_kind, actor_id, actor_name) = match &event.actor {
            Actor::Admin { id, name } => ("admin", Some(id.to_string()), Some(tidy(name))),
            Actor::Key { id, name } => ("key", Some(id.to_string()), Some(tidy(name))),
            Actor::System => ("system", None, None),
        };
        let tidy_opt = |text: &Option<String>| text.as_deref().map(tidy);
        Self {
            seq,
            id: event.id.to_string(),
            at: event.at.millis(),
            actor_kind: actor_kind.to_owned(),
            actor_id,
            actor_name,
            address: event.address.map(|address| address.to_string()),
            user_agent: tidy_opt(&event.user_agent),
            action: tidy(&event.action),
            target_kind: tidy(&event.target_kind),
            target_id: tidy_opt(&event.target_id),
            target_name: tidy_opt(&event.target_name),
            // JSON escapes a NUL by itself.
            diff: event.diff.to_string(),
            request_id: tidy_opt(&event.request_id),
            outcome: event.outcome.as_str().to_owned(),
        }
    }

    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            seq: row.get("seq")?,
            id: row.get("id")?,
            at: row.get("at")?,
            actor_kind: row.get("actor_kind")?,
            actor_id: row.get("actor_id")?,
            actor_name: row.get("actor_name")?,
            address: row.get("address")?,
            user_agent: row.get("user_agent")?,
            action: row.get("action")?,
            target_kind: row.get("target_kind")?,
            target_id: row.get("target_id")?,
            target_name: row.get("target_name")?,
            diff: row.get("diff")?,
            request_id: row.get("request_id")?,
            outcome: row.get("outcome")?,
        })
    }

    /// The hash that binds this event to the one before. JSON with all fields in their order, so that
    /// no two events read the same.
    fn hash(&self, key: &hmac::Key, before: &[u8; 32]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(key);
        context.update(before);
        context.update(&serde_json::to_vec(self).expect("texts and numbers are JSON"));
        context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

fn read(row: &Row) -> Result<AuditEvent, StoreError> {
    Ok(AuditEvent {
        id: row.get("id")?,
        at: row.get("at")?,
        actor: read_actor(row)?,
        address: row.get("address")?,
        user_agent: row.get("user_agent")?,
        action: row.get("action")?,
        target_kind: row.get("target_kind")?,
        target_id: row.get("target_id")?,
        target_name: row.get("target_name")?,
        diff: row.json("diff")?,
        request_id: row.get("request_id")?,
        outcome: row.parse("outcome")?,
    })
}

fn read_actor(row: &Row) -> Result<Actor, StoreError> {
    match row.get::<String>("actor_kind")?.as_str() {
        "admin" => Ok(Actor::Admin { id: row.get::<AdminUserId>("actor_id")?, name: row.get("actor_name")? }),
        "key" => Ok(Actor::Key { id: row.get::<ApiKeyId>("actor_id")?, name: row.get("actor_name")? }),
        "system" => Ok(Actor::System),
        _ => Err(row.corrupt("actor_kind")),
    }
}
