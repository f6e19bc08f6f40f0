//! What admins agreed to of the definitions of upstreams.

use crate::changes::ChangeKind;
use crate::db::{Row, cells};
use crate::error::StoreError;
use crate::model::definition::Kind;
use crate::model::ids::UpstreamId;
use crate::model::pin::{Pin, Review};
use crate::tx::Tx;

const TABLE: &str = "definition_pins";
const COLUMNS: &str = "upstream_id, kind, upstream_name, identity, pin, approved, review, found_at";
const ON_CONFLICT: &str = " ON CONFLICT (upstream_id, kind, upstream_name) DO UPDATE SET
    identity = excluded.identity, pin = excluded.pin, approved = excluded.approved, review = excluded.review,
    found_at = excluded.found_at";

/// The pins of one list.
pub async fn of_list(tx: &mut Tx, id: UpstreamId, kind: Kind) -> Result<Vec<Pin>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM definition_pins WHERE upstream_id = $1 AND kind = $2 ORDER BY upstream_name"
    );
    let rows = tx.query(TABLE, &sql, cells![id, kind.as_str()]).await?;
    tx.readable(&rows, read)
}

/// Every pin, by upstream, kind and name.
pub async fn all(tx: &mut Tx) -> Result<Vec<Pin>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM definition_pins ORDER BY upstream_id, kind, upstream_name");
    let rows = tx.query(TABLE, &sql, cells![]).await?;
    tx.readable(&rows, read)
}

/// One pin.
pub async fn get(tx: &mut Tx, id: UpstreamId, kind: Kind, name: &str) -> Result<Option<Pin>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM definition_pins WHERE upstream_id = $1 AND kind = $2 AND upstream_name = $3"
    );
    tx.query_opt(TABLE, &sql, cells![id, kind.as_str(), name]).await?.as_ref().map(read).transpose()
}

/// What is to be looked at, of one upstream or of all; also of definitions that are gone.
pub async fn under_review(tx: &mut Tx, id: Option<UpstreamId>) -> Result<Vec<Pin>, StoreError> {
    // No upstream has an empty id.
    let sql = format!(
        "SELECT {COLUMNS} FROM definition_pins WHERE review IS NOT NULL AND (upstream_id = $1 OR $1 = '')
         ORDER BY upstream_id, kind, upstream_name"
    );
    let id = id.map(|id| id.to_string()).unwrap_or_default();
    let rows = tx.query(TABLE, &sql, cells![id]).await?;
    tx.readable(&rows, read)
}

/// Writes pins in place of those of the same definitions. Followers of the lists are told.
pub async fn save(tx: &mut Tx, pins: &[Pin]) -> Result<(), StoreError> {
    if pins.is_empty() {
        return Ok(());
    }
    let row = |pin: &Pin| {
        cells![
            pin.upstream_id,
            pin.kind.as_str(),
            &pin.upstream_name,
            &pin.identity,
            &pin.pin,
            pin.approved.as_ref(),
            pin.review.map(Review::as_str),
            pin.found_at,
        ]
    };
    let head = format!("INSERT INTO definition_pins ({COLUMNS}) VALUES");
    let columns = COLUMNS.split(',').count();
    tx.insert_rows(TABLE, (&head, ON_CONFLICT), columns, pins.iter().flat_map(row).collect()).await?;
    for pin in pins {
        tx.changed(ChangeKind::List, pin.upstream_id.uuid());
    }
    Ok(())
}

/// Has an admin look at all that was agreed to of an upstream, but for what was when it was at `identity`. Says
/// how many.
pub async fn reconfirm(tx: &mut Tx, id: UpstreamId, identity: &[u8; 32]) -> Result<u64, StoreError> {
    let now = tx.clock().now();
    let sql = "UPDATE definition_pins SET review = 'moved', found_at = $3
        WHERE upstream_id = $1 AND identity <> $2 AND review IS NULL";
    let count = tx.execute(TABLE, sql, cells![id, identity, now]).await?;
    if count > 0 {
        tx.changed(ChangeKind::List, id.uuid());
    }
    Ok(count)
}

fn read(row: &Row) -> Result<Pin, StoreError> {
    Ok(Pin {
        upstream_id: row.get("upstream_id")?,
        kind: row.parse("kind")?,
        upstream_name: row.get("upstream_name")?,
        identity: row.get("identity")?,
        pin: row.get("pin")?,
        approved: row.get("approved")?,
        review: row
            .get::<Option<String>>("review")?
            .map(|word| word.parse().map_err(|_| row.corrupt("review")))
            .transpose()?,
        found_at: row.get("found_at")?,
    })
}
