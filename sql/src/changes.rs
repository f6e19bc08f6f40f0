//! What changed since a revision, and the hints that something did.
//!
//! The revision in the database is the truth: each change has the next number, and they become
//! visible in that order, since whoever appends holds the revision until the commit. A hint (a
//! `NOTIFY` of Postgres, or in process) only says "look now".

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::db::{Cell, Dialect, Row, cells, placeholders};
use crate::error::StoreError;
use crate::model::closed_set::closed_set;
use crate::tx::Tx;

/// Changes that are kept. A follower that is further behind loads everything, which is quicker by then.
const KEPT: i64 = 10_000;
/// Changes in one INSERT: one statement for almost every commit, few different statements for large ones.
const ROWS_PER_INSERT: usize = 50;
/// The channel of Postgres's notifications.
const NOTIFY: &str = "SELECT CAST(pg_notify('mpg_changes', $1) AS TEXT)";

closed_set! {
    /// What was changed.
    pub enum ChangeKind {
        /// An upstream; the id is its own.
        Upstream = "upstream",
        /// A list, its names or its switches; the id is the upstream's.
        List = "list",
        /// An API key; the id is its own.
        ApiKey = "api_key",
        /// The settings; the id is nil.
        Settings = "settings",
        /// A legacy session's state; the id is its random id.
        Session = "session",
        /// What authorises the gateway at an upstream; the id is the upstream's.
        OAuth = "oauth",
        /// The rules of one owner; the id is the upstream's or the key's, and nil for those of all.
        Rules = "rules",
        /// A XiaoZhi endpoint; the id is its own.
        XiaozhiEndpoint = "xiaozhi_endpoint",
    }
}

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Its number.
    pub revision: i64,
    /// What was changed.
    pub kind: ChangeKind,
    /// Which.
    pub id: Uuid,
}

/// The changes after a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangesSince {
    /// The revision of this snapshot: where to go on next time.
    pub revision: i64,
    /// What lies between.
    pub entries: Entries,
}

/// What lies between two revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entries {
    /// Every change, in order.
    All(Vec<Change>),
    /// Some are no longer known: load everything.
    Gap,
}

/// The revision of this snapshot.
pub async fn revision(tx: &mut Tx) -> Result<i64, StoreError> {
    let row = tx.query_one("revision", "SELECT value FROM revision WHERE id = 1", cells![]).await?;
    row.get("value")
}

/// What changed after `revision`.
pub async fn since(tx: &mut Tx, revision: i64) -> Result<ChangesSince, StoreError> {
    let head = self::revision(tx).await?;
    let gap = ChangesSince { revision: head, entries: Entries::Gap };
    // Beyond the head: the database was put back to an older state.
    if revision > head || head - revision > KEPT {
        return Ok(gap);
    }
    let select = "SELECT revision, kind, id FROM changes WHERE revision > $1 ORDER BY revision";
    let rows = tx.query("changes", select, cells![revision]).await?;
    let read = |row: &Row| {
        Ok(Change { revision: row.get("revision")?, kind: row.parse("kind")?, id: row.get("id")? })
    };
    let entries = tx.readable(&rows, read)?;
    // The numbers have no holes, so a missing one was pruned (by a release that keeps fewer), or says what
    // this release doesn't know. It is made good by reading everything, and is nobody's problem then.
    tx.take_unreadable();
    if usize::try_from(head - revision) != Ok(entries.len()) {
        return Ok(gap);
    }
    Ok(ChangesSince { revision: head, entries: Entries::All(entries) })
}

/// Appends changes under the next revisions and forgets the oldest. Answers the last of them.
pub(crate) async fn append(tx: &mut Tx, changed: &[(ChangeKind, Uuid)]) -> Result<i64, StoreError> {
    let count = i64::try_from(changed.len()).expect("a transaction changes few things");
    let update = "UPDATE revision SET value = value + $1 WHERE id = 1 RETURNING value";
    let head: i64 = tx.query_one("revision", update, cells![count]).await?.get("value")?;
    let mut next = head - count;
    for part in changed.chunks(ROWS_PER_INSERT) {
        let mut cells = Vec::with_capacity(3 * part.len());
        for (kind, id) in part {
            next += 1;
            cells.extend([Cell::from(next), Cell::from(kind.as_str()), Cell::from(*id)]);
        }
        let insert =
            format!("INSERT INTO changes (revision, kind, id) VALUES {}", placeholders(part.len(), 3));
        tx.execute("changes", &insert, cells).await?;
    }
    tx.execute("changes", "DELETE FROM changes WHERE revision <= $1", cells![head - KEPT]).await?;
    match tx.dialect() {
        // One process has the file: the hint is given in process.
        Dialect::Sqlite => {}
        Dialect::Postgres => {
            let instance_id = tx.instance_id();
            tx.query("changes", NOTIFY, cells![instance_id]).await?;
        }
    }
    Ok(head)
}

/// The last revisions that this process committed, so that it can tell when it serves what it wrote itself.
/// 0: none yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// The last that changed a key, or rules.
    pub keys: i64,
    /// The last that changed what the catalog is made of, or what comes with it: upstreams, their lists and
    /// authorisations, rules, settings.
    pub catalog: i64,
}

/// Where [`Written`] is kept.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Written>);

impl Ledger {
    pub(crate) fn enter(&self, changed: &[(ChangeKind, Uuid)], head: i64) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, _) in changed {
            match kind {
                ChangeKind::ApiKey => written.keys = written.keys.max(head),
                ChangeKind::Upstream | ChangeKind::List | ChangeKind::Settings | ChangeKind::OAuth => {
                    written.catalog = written.catalog.max(head);
                }
                // Those of a key are followed with the keys.
                ChangeKind::Rules => {
                    written.keys = written.keys.max(head);
                    written.catalog = written.catalog.max(head);
                }
                // Who changes a session's state applies it here at once; an endpoint's state shows how far it is.
                ChangeKind::Session | ChangeKind::XiaozhiEndpoint => {}
            }
        }
    }

    pub(crate) fn written(&self) -> Written {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives hints, to all who wait for one.
#[derive(Clone, Default)]
pub(crate) struct Hints(watch::Sender<u64>);

impl Hints {
    pub(crate) fn give(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(crate) fn subscribe(&self) -> Changes {
        Changes(self.0.subscribe())
    }
}

/// Hints that something may have changed. Hints may be lost, folded, and given for nothing.
#[derive(Debug, Clone)]
pub struct Changes(watch::Receiver<u64>);

impl Changes {
    /// Waits for a hint, but no longer than `patience`. True if there was one.
    pub async fn wait(&mut self, patience: Duration) -> bool {
        match timeout(patience, self.0.changed()).await {
            Ok(Ok(())) => true,
            // The store is gone and will never hint: its followers poll on until they are dropped too.
            Ok(Err(_)) => {
                sleep(patience).await;
                false
            }
            Err(_) => false,
        }
    }
}
