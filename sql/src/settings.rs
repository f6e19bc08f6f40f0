//! The one row of settings.

use uuid::Uuid;

use crate::changes::ChangeKind;
use crate::db::cells;
use crate::error::StoreError;
use crate::model::settings::Settings;
use crate::tx::Tx;

const TABLE: &str = "settings";

/// The version that [`save`] expects while nothing is stored.
pub const VERSION_NONE: i64 = 0;

/// The stored settings and their version; none if nobody changed any yet.
pub async fn load(tx: &mut Tx) -> Result<Option<(Settings, i64)>, StoreError> {
    let sql = "SELECT id, document, version FROM settings WHERE id = 1";
    let Some(row) = tx.query_opt(TABLE, sql, cells![]).await? else { return Ok(None) };
    Ok(Some((row.json("document")?, row.get("version")?)))
}

/// The version of what is stored, also where that can't be read.
pub async fn version(tx: &mut Tx) -> Result<i64, StoreError> {
    let row = tx.query_opt(TABLE, "SELECT version FROM settings WHERE id = 1", cells![]).await?;
    row.map_or(Ok(VERSION_NONE), |row| row.get("version"))
}

/// Saves settings over their `expected_version` ([`VERSION_NONE`] if none are stored); the stored one
/// is then one higher. False: they were changed meanwhile.
pub async fn save(tx: &mut Tx, settings: &Settings, expected_version: i64) -> Result<bool, StoreError> {
    let document = settings.document().to_string();
    let now = tx.clock().now();
    let written = if expected_version == VERSION_NONE {
        let sql = "INSERT INTO settings (id, document, version, updated_at) VALUES (1, $1, 1, $2)
            ON CONFLICT (id) DO NOTHING";
        tx.execute(TABLE, sql, cells![document, now]).await?
    } else {
        let sql = "UPDATE settings SET document = $1, version = version + 1, updated_at = $2
            WHERE id = 1 AND version = $3";
        tx.execute(TABLE, sql, cells![document, now, expected_version]).await?
    } == 1;
    if written {
        tx.changed(ChangeKind::Settings, Uuid::nil());
    }
    Ok(written)
}
