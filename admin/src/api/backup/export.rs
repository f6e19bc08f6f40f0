//! `POST /api/admin/backup/export`: everything that admins configured, as one document.

use axum::Json;
use axum::extract::State;
use serde_json::Value;
use sql::model::Secret;
use utoipa::ToSchema;

use crate::App;
use crate::audit;
use crate::backup::{self, Contents};
use crate::error::ApiError;
use crate::extract::{Admin, OptionalJson};
use crate::fields::{Fields, Problems};

/// How to make the backup.
#[derive(ToSchema)]
#[schema(as = BackupRequest)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct Request {
    /// Seals the secrets of upstreams into the backup, 12 to 1,024 characters; without one it has none.
    passphrase: Option<String>,
}

/// Make a backup
///
/// Upstreams, rules, keys (as hashes), names and settings. Keep it unchanged: its digest is checked.
#[utoipa::path(post, path = "/api/admin/backup/export", tag = "backup", request_body = Request,
    responses((status = 200, body = Object)))]
pub(crate) async fn export(
    admin: Admin,
    State(app): State<App>,
    OptionalJson(body): OptionalJson,
) -> Result<Json<Value>, ApiError> {
    let passphrase = passphrase(body)?;
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let contents = Contents::load(&mut tx).await?;
    audit::record(&mut tx, now, &admin, backup::exported(&contents, passphrase.is_some())).await?;
    tx.commit().await?;
    let version = app.version;
    let work = move || backup::document(&contents, version, now, passphrase.as_ref());
    let document = app.hasher.away(work).await?;
    document.map(Json).map_err(|source| ApiError::internal("sealing a backup", source))
}

fn passphrase(body: Value) -> Result<Option<Secret<String>>, ApiError> {
    let mut problems = Problems::default();
    let read = Fields::open(body, "", &mut problems).map(|mut fields| {
        let read = super::passphrase(&mut fields, &mut problems, backup::PASSPHRASE_CHARS_MIN);
        fields.close(&mut problems);
        read
    });
    problems.unless_any(read)
}
