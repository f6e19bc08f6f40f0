//! Who holds which exposed name. Claims outlast the definitions that made them.

use crate::changes::ChangeKind;
use crate::db::{Dialect, Row, cells};
use crate::error::StoreError;
use crate::model::definition::{Claim, Kind, is_storable_name};
use crate::model::ids::UpstreamId;
use crate::tx::Tx;

const TABLE: &str = "names";
/// An advisory lock that the end of the transaction gives back. The number is "mpg_name" and means nothing else.
const LOCK: &str = "SELECT CAST(pg_advisory_xact_lock(7885916607097171301) AS TEXT)";

/// Every claim of a kind.
pub async fn claims(tx: &mut Tx, kind: Kind) -> Result<Vec<Claim>, StoreError> {
    let sql = "SELECT kind, exposed_name, upstream_id, upstream_name, wanted FROM names
        WHERE kind = $1 ORDER BY exposed_name";
    tx.query(TABLE, sql, cells![kind.as_str()]).await?.iter().map(read).collect()
}

/// The claims of one upstream, of every kind.
pub async fn of_upstream(tx: &mut Tx, id: UpstreamId) -> Result<Vec<Claim>, StoreError> {
    let sql = "SELECT kind, exposed_name, upstream_id, upstream_name, wanted FROM names
        WHERE upstream_id = $1 ORDER BY kind, exposed_name";
    let rows = tx.query(TABLE, sql, cells![id]).await?;
    tx.readable(&rows, read)
}

/// Has other transactions that settle names wait for the end of this one, so that each reads what the one before
/// it has claimed. To be called before claims, or what they come of, are read.
pub async fn lock(tx: &mut Tx) -> Result<(), StoreError> {
    match tx.dialect() {
        // One transaction at a time writes.
        Dialect::Sqlite => Ok(()),
        Dialect::Postgres => tx.query(TABLE, LOCK, cells![]).await.map(drop),
    }
}

/// Claims a name. True: the item holds it now, or did before. False: another item holds it, or this
/// one holds another name, which must be released first.
pub async fn claim(tx: &mut Tx, claim: &Claim) -> Result<bool, StoreError> {
    if ![&claim.exposed_name, &claim.upstream_name, &claim.wanted]
        .into_iter()
        .all(|name| is_storable_name(name))
    {
        return Err(StoreError::Unstorable { table: TABLE });
    }
    let insert = "INSERT INTO names (kind, exposed_name, upstream_id, upstream_name, wanted)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    let cells = cells![
        claim.kind.as_str(),
        &claim.exposed_name,
        claim.upstream_id,
        &claim.upstream_name,
        &claim.wanted,
    ];
    if tx.execute(TABLE, insert, cells).await? == 1 {
        tx.changed(ChangeKind::List, claim.upstream_id.uuid());
        return Ok(true);
    }
    let select = "SELECT kind, exposed_name, upstream_id, upstream_name, wanted FROM names
        WHERE kind = $1 AND exposed_name = $2";
    let holder = tx.query_opt(TABLE, select, cells![claim.kind.as_str(), &claim.exposed_name]).await?;
    let holder = holder.as_ref().map(read).transpose()?;
    Ok(holder.is_some_and(|holder| {
        holder.upstream_id == claim.upstream_id && holder.upstream_name == claim.upstream_name
    }))
}

/// Gives up the name that an item holds. False: it holds none.
pub async fn release(
    tx: &mut Tx,
    kind: Kind,
    upstream_id: UpstreamId,
    upstream_name: &str,
) -> Result<bool, StoreError> {
    let sql = "DELETE FROM names WHERE kind = $1 AND upstream_id = $2 AND upstream_name = $3";
    let released = tx.execute(TABLE, sql, cells![kind.as_str(), upstream_id, upstream_name]).await? == 1;
    if released {
        tx.changed(ChangeKind::List, upstream_id.uuid());
    }
    Ok(released)
}

fn read(row: &Row) -> Result<Claim, StoreError> {
    Ok(Claim {
        kind: row.parse("kind")?,
        exposed_name: row.get("exposed_name")?,
        upstream_id: row.get("upstream_id")?,
        upstream_name: row.get("upstream_name")?,
        wanted: row.get("wanted")?,
    })
}
