//! `POST /api/admin/backup/preview`: what a restore would do. Does all of it, and takes it back.

use axum::Json;
use axum::extract::State;

use super::{Asked, RestoreBody, RestoreReport};
use crate::App;
use crate::error::ApiError;
use crate::extract::{self, Admin};

/// Preview a restore
#[utoipa::path(post, path = "/api/admin/backup/preview", tag = "backup", request_body = RestoreBody,
    responses((status = 200, body = RestoreReport)))]
pub(crate) async fn preview(
    _admin: Admin,
    State(app): State<App>,
    body: extract::Json,
) -> Result<Json<RestoreReport>, ApiError> {
    let Asked { backup, mode, .. } = super::read(&app, body.value).await?;
    let mut tx = app.store.begin().await?;
    let changes = super::restore(&app, &mut tx, &backup, mode).await?;
    // Dropped, a transaction takes everything back.
    drop(tx);
    Ok(Json(RestoreReport::of(&backup, &changes)))
}
