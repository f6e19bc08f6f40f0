//! `POST /api/admin/backup/import`: makes the gateway what a backup says, or changes nothing.

use axum::Json;
use axum::extract::State;

use super::{Asked, RestoreBody, RestoreReport};
use crate::App;
use crate::audit;
use crate::backup;
use crate::error::ApiError;
use crate::extract::{self, Admin};

/// Restore a backup
///
/// In one transaction, with ids as they were; admins are left alone. Keys work as before. With `previewed`, only what a
/// preview has shown.
#[utoipa::path(post, path = "/api/admin/backup/import", tag = "backup", request_body = RestoreBody,
    responses((status = 200, body = RestoreReport)))]
pub(crate) async fn import(
    admin: Admin,
    State(app): State<App>,
    body: extract::Json,
) -> Result<Json<RestoreReport>, ApiError> {
    let Asked { backup, mode, previewed } = super::read(&app, body.value).await?;
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let changes = super::restore(&app, &mut tx, &backup, mode).await?;
    let report = RestoreReport::of(&backup, &changes);
    if previewed.is_some_and(|digest| digest != report.digest) {
        // Dropped, the transaction takes everything back.
        return Err(ApiError::conflict("something was changed since the preview; look at it again"));
    }
    for act in backup::restored(&backup, &changes) {
        audit::record(&mut tx, now, &admin, act).await?;
    }
    tx.commit().await?;
    Ok(Json(report))
}

#[cfg(test)]
mod tests;
