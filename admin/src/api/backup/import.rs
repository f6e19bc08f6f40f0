//! `POST /api/admin/backup/import`: makes the gateway what a backup says, or changes nothing.

use axum::Json;
use axum::extract::State;

use super::{RestoreBody, RestoreReport};
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Admin};

/// Restore a backup
///
/// In one transaction, with ids as they were; admins are left alone. Keys work as before.
#[utoipa::path(post, path = "/api/admin/backup/import", tag = "backup", request_body = RestoreBody,
    responses((status = 200, body = RestoreReport)))]
pub(crate) async fn import(
    admin: Admin,
    State(app): State<App>,
    body: extract::Json,
) -> Result<Json<RestoreReport>, ApiError> {
    let (backup, mode) = super::read(&app, body.value).await?;
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let changes = super::restore(&app, &mut tx, &backup, mode).await?;
    for change in &changes {
        let action = match change.kind {
            "upstream" => "upstream.restore",
            "key" => "key.restore",
            "settings" => "settings.restore",
            "xiaozhi" => "xiaozhi.restore",
            _ => "rule.restore",
        };
        let act = Act::on(action, &change.id, change.name.as_str(), change.diff.clone());
        audit::record(&mut tx, now, &admin, act).await?;
    }
    let diff = serde_json::json!({"changes": changes.len(), "secrets": backup.has_secrets});
    audit::record(&mut tx, now, &admin, Act::on("backup.import", "", "", diff)).await?;
    tx.commit().await?;
    Ok(Json(RestoreReport::of(&backup, &changes)))
}

#[cfg(test)]
mod tests;
