//! What was answered to creates that named their attempt, so that the same attempt again is answered alike.

use crate::db::cells;
use crate::error::StoreError;
use crate::model::time::Timestamp;
use crate::sweeping::delete_some;
use crate::tx::Tx;

const TABLE: &str = "idempotent_answers";

/// What answers are sealed for.
pub(crate) const PURPOSE: &str = "idempotent answer";

/// The answer to an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The hash of the body that it answered.
    pub body_hash: [u8; 32],
    /// The answer, unless it was sealed with a key that is no longer known.
    pub answer: Option<Vec<u8>>,
}

/// The answer to an attempt, if there is one that was given at that moment or later.
pub async fn get(tx: &mut Tx, attempt: &[u8; 32], since: Timestamp) -> Result<Option<Kept>, StoreError> {
    let sql = "SELECT body_hash, answer FROM idempotent_answers WHERE attempt = $1 AND answered_at >= $2";
    let Some(row) = tx.query_opt(TABLE, sql, cells![attempt, since]).await? else { return Ok(None) };
    let answer = tx.sealer().unseal_token(PURPOSE, &row.get::<String>("answer")?, attempt).ok();
    Ok(Some(Kept { body_hash: row.get("body_hash")?, answer }))
}

/// Keeps an answer; it is there when what it tells of is committed. False: the attempt has one already.
pub async fn insert(
    tx: &mut Tx,
    attempt: &[u8; 32],
    body_hash: &[u8; 32],
    answer: &[u8],
) -> Result<bool, StoreError> {
    let now = tx.clock().now();
    let answer = tx.sealer().seal_token(PURPOSE, answer, attempt);
    let sql = "INSERT INTO idempotent_answers (attempt, body_hash, answer, answered_at)
        VALUES ($1, $2, $3, $4) ON CONFLICT (attempt) DO NOTHING";
    Ok(tx.execute(TABLE, sql, cells![attempt, body_hash, answer, now]).await? == 1)
}

/// How many answers are kept.
pub async fn count(tx: &mut Tx) -> Result<u64, StoreError> {
    tx.query_one(TABLE, "SELECT COUNT(*) AS kept FROM idempotent_answers", cells![]).await?.get("kept")
}

/// Forgets some of what was answered before that moment. Says how many answers those were.
pub async fn sweep(tx: &mut Tx, before: Timestamp) -> Result<u64, StoreError> {
    delete_some(tx, (TABLE, "attempt"), "answered_at < $1", cells![before]).await
}
