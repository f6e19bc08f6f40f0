//! API keys: who may call, what they see, and how much.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod disable;
pub(crate) mod enable;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod rotate;
pub(crate) mod sessions;
pub(crate) mod update;
pub(crate) mod usage;

mod input;
mod wire;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header;
use sql::model::{ApiKey, ApiKeyId, Timestamp};
use sql::{StoreError, Tx, api_keys};

use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Admin};

/// The key, if there is one with this id.
async fn find(tx: &mut Tx, id: ApiKeyId) -> Result<ApiKey, ApiError> {
    api_keys::get(tx, id).await?.ok_or(ApiError::NotFound("key"))
}

/// Writes `after` in place of `before`, with its audit event; what doesn't differ isn't written.
async fn save(
    tx: &mut Tx,
    admin: &Admin,
    now: Timestamp,
    action: &'static str,
    before: &ApiKey,
    mut after: ApiKey,
) -> Result<ApiKey, ApiError> {
    if after == *before {
        return Ok(after);
    }
    after.version = before.version + 1;
    after.updated_at = now;
    if !api_keys::update(tx, &after, before.version).await.map_err(name_taken)? {
        return Err(ApiError::PreconditionFailed);
    }
    let diff = audit::diff(Some(&wire::audited(before)), Some(&wire::audited(&after)));
    audit::record(tx, now, admin, Act::on(action, after.id, after.name.as_str(), diff)).await?;
    Ok(after)
}

/// The one thing about a key that can clash is its name: its secret is 256 random bits.
fn name_taken(error: StoreError) -> ApiError {
    match error {
        StoreError::Conflict { .. } => ApiError::taken("/name", "another key has this name"),
        error => error.into(),
    }
}

/// The key as it is answered, with its ETag.
fn answer(key: &ApiKey) -> Response {
    ([(header::ETAG, extract::etag(key.version))], Json(wire::view(key))).into_response()
}

/// Reads what a file declares of `key`. An expiry may have passed: the file outlives it.
pub(crate) fn declared(body: serde_json::Value, key: ApiKey) -> Result<ApiKey, ApiError> {
    let before_all = Timestamp::from_millis(i64::MIN);
    input::parse(body, before_all, None).map(|input| input.apply(key))
}

/// What a client may set of it, as it would write it.
pub(crate) fn settable(key: &ApiKey) -> serde_json::Value {
    wire::settable(key)
}

/// The key as the audit log keeps it.
pub(crate) fn audited(key: &ApiKey) -> serde_json::Value {
    wire::audited(key)
}
