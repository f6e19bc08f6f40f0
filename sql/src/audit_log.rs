//! The audit log: a chain of events, each bound to the one before by a keyed hash.
//!
//! Event n has `HMAC-SHA256(key, hash of n-1 | event n)`, so an event that was altered, left out or
//! put in breaks the chain from there on, for everyone without the master key. The head of the chain
//! is one row that every append locks: events are numbered in the order of their commits. It says where the
//! chain begins and ends under a MAC of its own, so that a chain cut short doesn't look like a short one
//! (`chain`). Whoever writes an event does so last in its transaction, so that the row is locked for a moment.

mod chain;
mod stored;

pub use self::chain::{Anchor, BadAnchor, Cut, Extent, Fault, Verified, cut_before, extent, verify};
pub(crate) use self::chain::{KEY_PLACE, SEALED_SINCE, begin_chain, seal_unsealed};
use self::stored::Stored;
use crate::db::Row;
use crate::error::StoreError;
use crate::keyset::{self, Filter, Listing, Sort};
use crate::model::audit_event::{Actor, AuditEvent, Outcome};
use crate::model::ids::{AdminUserId, ApiKeyId};
use crate::model::page::{Page, PageRequest};
use crate::model::time::Timestamp;
use crate::tx::Tx;

const TABLE: &str = "audit_events";
const HEAD: &str = "audit_head";
/// Bytes of one text of an event; strangers choose some of them (a user agent, a name at a failed login).
const TEXT_BYTES_MAX: usize = 1_024;

const COLUMNS: &str = "seq, id, at, actor_kind, actor_id, actor_name, address, user_agent, action, \
    target_kind, target_id, target_name, diff, request_id, outcome, hash";

/// What a search looks at.
const SEARCHED: [&str; 6] = ["actor_name", "action", "target_name", "target_id", "address", "request_id"];

const LISTING: Listing = Listing {
    table: TABLE,
    columns: COLUMNS,
    key: "seq",
    key_is_number: true,
    sorts: &[Sort { name: "at", expression: "seq", is_number: true }],
    descending_by_default: true,
    searched: &SEARCHED,
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
    /// Only acts of an `admin`, a `key` or the `system`.
    pub actor_kind: Option<String>,
    /// Only acts of the admin or key with this id.
    pub actor_id: Option<String>,
    /// Only acts from this address.
    pub address: Option<String>,
    /// Only with this outcome.
    pub outcome: Option<Outcome>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
}

/// An event and its place in the chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbered {
    /// Its number.
    pub seq: i64,
    /// Its hash, which binds it to all before it.
    pub hash: [u8; 32],
    /// What it says.
    pub event: AuditEvent,
}

/// Appends an event; it is there when the act that it tells of is committed, and not otherwise.
pub async fn append(tx: &mut Tx, event: &AuditEvent) -> Result<(), StoreError> {
    let appended = append_uncounted(tx, event).await;
    if appended.is_err() {
        tx.count_audit_failure();
    }
    appended
}

async fn append_uncounted(tx: &mut Tx, event: &AuditEvent) -> Result<(), StoreError> {
    let mut end = chain::lock(tx).await?;
    let stored = Stored::of(event, end.next_seq());
    let hash = end.bind(&stored);
    let sql = format!(
        "INSERT INTO audit_events ({COLUMNS})
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
    );
    tx.execute(TABLE, &sql, stored.cells(&hash)).await?;
    end.unlock(tx).await
}

/// One page, the newest first unless the request says `at`.
pub async fn page(
    tx: &mut Tx,
    request: &PageRequest,
    filter: &AuditFilter,
) -> Result<Page<AuditEvent>, StoreError> {
    keyset::page(tx, &LISTING, request, filter.conditions(), read).await
}

/// The events after number `after` up to number `last`, the oldest first, at most `limit`: for whoever reads the log
/// from one end to the other, or follows it. `search` is that of a page.
pub async fn after(
    tx: &mut Tx,
    filter: &AuditFilter,
    search: Option<&str>,
    (after, last): (i64, i64),
    limit: u32,
) -> Result<Vec<Numbered>, StoreError> {
    let conditions = filter.conditions().and("seq > ?", Some(after)).and("seq <= ?", Some(last));
    let (conditions, mut cells) = conditions.searching(&SEARCHED, search).into_parts();
    cells.push(limit.into());
    let sql =
        format!("SELECT {COLUMNS} FROM audit_events WHERE {conditions} ORDER BY seq LIMIT ${}", cells.len());
    let rows = tx.query(TABLE, &sql, cells).await?;
    tx.readable(&rows, |row| Ok(Numbered { seq: row.get("seq")?, hash: row.get("hash")?, event: read(row)? }))
}

impl AuditFilter {
    fn conditions(&self) -> Filter {
        let text = |text: &Option<String>| text.as_deref().map(stored::tidy);
        Filter::default()
            .and("action = ?", text(&self.action))
            .and("target_kind = ?", text(&self.target_kind))
            .and("target_id = ?", text(&self.target_id))
            .and("actor_kind = ?", text(&self.actor_kind))
            .and("actor_id = ?", text(&self.actor_id))
            .and("address = ?", text(&self.address))
            .and("outcome = ?", self.outcome.map(Outcome::as_str))
            .and("at >= ?", self.from)
            .and("at < ?", self.to)
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
