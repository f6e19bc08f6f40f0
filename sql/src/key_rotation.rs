//! `rotate-key`: everything that a previous master key sealed is sealed anew by the present one.
//!
//! It runs beside gateways that serve, and can be cut off anywhere: each row is a transaction of its own that
//! replaces a value only if it is still the one that was read, and a value of the present key is passed over, so
//! that the next run goes on where this one ended. Only when a whole pass found nothing left does the key check
//! become one of the present key; from then on no gateway starts without it.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::audit_log;
use crate::db::{Cell, Row, cells};
use crate::error::StoreError;
use crate::leases;
use crate::model::{Actor, AuditEvent, AuditEventId, Outcome};
use crate::seal::{DoesNotOpen, Place, Sealer};
use crate::store::{Store, key_check_place};
use crate::tx::{Tx, UnreadableRow};
use crate::{idempotent_answers, upstreams};

/// Rows that are read at a time.
const ROWS_AT_ONCE: usize = 50;
/// How often everything is looked through. A second time finds what was written during the first; if gateways
/// that seal with a previous key keep on writing, there is no end to it.
const PASSES_MAX: usize = 8;
/// Who rotates: one at a time.
const LEASE: &str = "rotate-key";
/// Renewed with every page; who is cut off keeps the next one waiting this long.
const LEASE_TTL: Duration = Duration::from_secs(30);
/// Rows that don't open which are named; the others are counted.
const UNREADABLE_NAMED_MAX: usize = 20;

/// A column with sealed values, and how they are bound to their rows.
struct Column {
    table: &'static str,
    name: &'static str,
    /// The columns of the primary key, in its order.
    key: &'static [&'static str],
    bound: Bound,
}

/// What a sealed value is bound to.
enum Bound {
    /// To these columns' values, with spaces between.
    Row(&'static [&'static str]),
    /// A document of `conn_params`, whose secrets are each bound to their paths.
    ConnParams,
    /// An answer to an attempt. One that doesn't open is forgotten within a day, and stands in nobody's way.
    Attempt,
}

const fn column(
    table: &'static str,
    name: &'static str,
    key: &'static [&'static str],
    bound: Bound,
) -> Column {
    Column { table, name, key, bound }
}

/// All of them but the two of which there is one each: the key check and the key of the audit chain.
static COLUMNS: [Column; 7] = [
    column("upstreams", "conn_params", &["id"], Bound::ConnParams),
    column("upstreams", "credential", &["id"], Bound::Row(&["id"])),
    column("xiaozhi_endpoints", "url", &["id"], Bound::Row(&["id"])),
    column("oauth_clients", "client", &["upstream_id", "issuer"], Bound::Row(&["upstream_id", "issuer"])),
    column("oauth_grants", "tokens", &["upstream_id"], Bound::Row(&["upstream_id", "issuer", "origin"])),
    column("oauth_authorizations", "document", &["state"], Bound::Row(&["state"])),
    column("idempotent_answers", "answer", &["attempt"], Bound::Attempt),
];

/// What a rotation did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rotated {
    /// Values that were sealed anew.
    pub resealed: u64,
    /// Values that the present key had sealed already, or that hold no secret.
    pub current: u64,
}

/// Why a rotation didn't come to its end. What it sealed anew stays so, and everything still opens as long as
/// the previous keys are given.
#[derive(Debug, thiserror::Error)]
pub enum NotRotated {
    /// Another one runs, or was cut off less than half a minute ago.
    #[error("another rotate-key runs, or was cut off less than {} s ago", LEASE_TTL.as_secs())]
    Running,
    /// Values open with none of the keys that were given.
    #[error("{total} sealed values open with none of the given keys")]
    Unreadable {
        /// How many.
        total: u64,
        /// The first of them.
        first: Vec<UnreadableRow>,
    },
    /// Gateways that run seal with a previous key: new values of it came faster than they were sealed anew.
    #[error("a gateway still seals with a previous key")]
    StillInUse,
    /// The store failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
}

/// Seals everything anew, and makes the present key the one without which nothing starts.
pub async fn rotate(store: &Store) -> Result<Rotated, NotRotated> {
    let holder = Uuid::now_v7();
    let outcome = Rotation { store, holder, rotated: Rotated::default() }.run().await;
    if !matches!(outcome, Err(NotRotated::Running)) {
        let mut tx = store.begin().await?;
        leases::release(&mut tx, LEASE, holder).await?;
        tx.commit().await?;
    }
    outcome
}

struct Rotation<'a> {
    store: &'a Store,
    holder: Uuid,
    rotated: Rotated,
}

/// What one look through everything came upon.
#[derive(Default)]
struct Pass {
    resealed: u64,
    current: u64,
    /// Values that somebody else replaced meanwhile.
    replaced: u64,
    unreadable: u64,
    first: Vec<UnreadableRow>,
}

impl Rotation<'_> {
    async fn run(mut self) -> Result<Rotated, NotRotated> {
        for _ in 0..PASSES_MAX {
            let mut pass = Pass::default();
            for column in &COLUMNS {
                self.column(column, &mut pass).await?;
            }
            self.rotated.resealed += pass.resealed;
            self.rotated.current = pass.current;
            if pass.unreadable > 0 {
                return Err(NotRotated::Unreadable { total: pass.unreadable, first: pass.first });
            }
            if pass.resealed + pass.replaced == 0 {
                return self.finish().await;
            }
        }
        Err(NotRotated::StillInUse)
    }

    async fn column(&self, column: &Column, pass: &mut Pass) -> Result<(), NotRotated> {
        let mut after = Vec::new();
        loop {
            let mut tx = self.store.begin().await?;
            if !leases::acquire(&mut tx, LEASE, self.holder, LEASE_TTL).await? {
                return Err(NotRotated::Running);
            }
            let rows = column.page(&mut tx, &after).await?;
            tx.commit().await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = column.key_of(last)?;
            for row in &rows {
                self.value(column, row, pass).await?;
            }
        }
    }

    async fn value(&self, column: &Column, row: &Row, pass: &mut Pass) -> Result<(), NotRotated> {
        let old: String = row.get(column.name)?;
        match column.reseal(self.store.sealer(), row, &old)? {
            Ok(None) => pass.current += 1,
            Ok(Some(new)) => {
                let mut tx = self.store.begin().await?;
                let is_written = column.replace(&mut tx, row, &old, new).await?;
                tx.commit().await?;
                *(if is_written { &mut pass.resealed } else { &mut pass.replaced }) += 1;
            }
            Err(DoesNotOpen) if matches!(column.bound, Bound::Attempt) => {}
            Err(DoesNotOpen) => {
                pass.unreadable += 1;
                if pass.first.len() < UNREADABLE_NAMED_MAX {
                    pass.first.push(column.named(row)?);
                }
            }
        }
        Ok(())
    }

    /// The two values of which there is one each, and the audit event, together.
    async fn finish(mut self) -> Result<Rotated, NotRotated> {
        let mut tx = self.store.begin().await?;
        // Locked by its update, so that no event is appended meanwhile.
        let lock = "UPDATE audit_head SET id = id WHERE id = 1 RETURNING chain_key";
        let head = tx.query_one("audit_head", lock, cells![]).await?;
        if let Some(key) = head.get::<Option<String>>("chain_key")? {
            let anew = tx.sealer().reseal(&key, audit_log::KEY_PLACE);
            if let Some(anew) = anew.map_err(|_| head.corrupt("chain_key"))? {
                let update = "UPDATE audit_head SET chain_key = $1 WHERE id = 1";
                self.rotated.resealed += tx.execute("audit_head", update, cells![anew]).await?;
            }
        }
        let select = "SELECT instance_id, key_check FROM installation WHERE id = 1";
        let row = tx.query_one("installation", select, cells![]).await?;
        let instance_id: String = row.get("instance_id")?;
        let check: String = row.get("key_check")?;
        let anew = tx.sealer().reseal(&check, key_check_place(&instance_id));
        if let Some(anew) = anew.map_err(|_| StoreError::WrongKey)? {
            let update = "UPDATE installation SET key_check = $1 WHERE id = 1";
            self.rotated.resealed += tx.execute("installation", update, cells![anew]).await?;
        }
        if self.rotated.resealed > 0 {
            let event = event(&tx, &self.rotated);
            audit_log::append(&mut tx, &event).await?;
        }
        tx.commit().await?;
        Ok(self.rotated)
    }
}

fn event(tx: &Tx, rotated: &Rotated) -> AuditEvent {
    let now = tx.clock().now();
    AuditEvent {
        id: AuditEventId::at(now),
        at: now,
        actor: Actor::System,
        address: None,
        user_agent: None,
        action: "installation.rotate-key".into(),
        target_kind: "installation".into(),
        target_id: Some(tx.instance_id().to_string()),
        target_name: None,
        diff: json!({ "resealed": rotated.resealed }),
        request_id: None,
        outcome: Outcome::Success,
    }
}

impl Column {
    /// The next rows in which the column has a value.
    async fn page(&self, tx: &mut Tx, after: &[Cell]) -> Result<Vec<Row>, StoreError> {
        let (table, column, key) = (self.table, self.name, self.key.join(", "));
        let mut also = String::new();
        if let Bound::Row(bound) = &self.bound {
            for name in bound.iter().filter(|name| !self.key.contains(name)) {
                let _ = write!(also, ", {name}");
            }
        }
        let beyond = if after.is_empty() {
            String::new()
        } else {
            let given: Vec<String> = (1..=after.len()).map(|at| format!("${at}")).collect();
            format!(" AND ({key}) > ({})", given.join(", "))
        };
        let sql = format!(
            "SELECT {key}{also}, {column} FROM {table} WHERE {column} IS NOT NULL{beyond}
             ORDER BY {key} LIMIT {ROWS_AT_ONCE}"
        );
        tx.query(self.table, &sql, after.to_vec()).await
    }

    fn key_of(&self, row: &Row) -> Result<Vec<Cell>, StoreError> {
        let cell = |name: &&str| match self.bound {
            Bound::Attempt => row.get::<Vec<u8>>(name).map(Cell::Bytes),
            Bound::Row(_) | Bound::ConnParams => row.get::<String>(name).map(Cell::Text),
        };
        self.key.iter().map(cell).collect()
    }

    fn reseal(
        &self,
        sealer: &Sealer,
        row: &Row,
        old: &str,
    ) -> Result<Result<Option<String>, DoesNotOpen>, StoreError> {
        Ok(match &self.bound {
            Bound::Row(columns) => {
                let parts = columns.iter().map(|name| row.get::<String>(name));
                let bound = parts.collect::<Result<Vec<_>, _>>()?.join(" ");
                sealer.reseal(old, Place { table: self.table, column: self.name, row: &bound })
            }
            Bound::ConnParams => upstreams::reseal_params(sealer, old, &row.get::<String>("id")?),
            Bound::Attempt => {
                let attempt: Vec<u8> = row.get("attempt")?;
                sealer.reseal_token(idempotent_answers::PURPOSE, old, &attempt)
            }
        })
    }

    /// Puts `new` in the place of `old`. False: it isn't there any more.
    async fn replace(&self, tx: &mut Tx, row: &Row, old: &str, new: String) -> Result<bool, StoreError> {
        let mut sql =
            format!("UPDATE {} SET {column} = $1 WHERE {column} = $2", self.table, column = self.name);
        let mut cells = cells![new, old];
        for (name, cell) in self.key.iter().zip(self.key_of(row)?) {
            cells.push(cell);
            let _ = write!(sql, " AND {name} = ${}", cells.len());
        }
        Ok(tx.execute(self.table, &sql, cells).await? == 1)
    }

    fn named(&self, row: &Row) -> Result<UnreadableRow, StoreError> {
        let row = row.get::<String>(self.key[0])?;
        Ok(UnreadableRow { table: self.table, row, column: self.name.to_owned() })
    }
}
