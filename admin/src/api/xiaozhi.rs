//! XiaoZhi endpoints: brokers of voice robots, which the gateway dials.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod reconnect;
pub(crate) mod update;

mod input;
mod wire;

pub(crate) use self::wire::STATES;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header;
use proxy::control::Control;
use sql::model::{ApiKeyId, Timestamp, XiaozhiEndpoint, XiaozhiEndpointId};
use sql::{StoreError, Tx, api_keys, xiaozhi_endpoints};

use crate::App;
use crate::audit::{self, Act, Fingerprint};
use crate::error::ApiError;
use crate::extract::{self, Admin};

/// The endpoint, if there is one with this id.
async fn find(tx: &mut Tx, id: XiaozhiEndpointId) -> Result<XiaozhiEndpoint, ApiError> {
    xiaozhi_endpoints::get(tx, id).await?.ok_or(ApiError::NotFound("XiaoZhi endpoint"))
}

/// Refuses a key that doesn't exist; the one that is stored may be gone by now.
async fn check_key(tx: &mut Tx, id: ApiKeyId, stored: Option<ApiKeyId>) -> Result<(), ApiError> {
    if stored == Some(id) || api_keys::get(tx, id).await?.is_some() {
        return Ok(());
    }
    Err(ApiError::field("/keyId", "is not the id of a key"))
}

/// Refuses an address that is never dialled.
fn check_url(control: &Control, endpoint: &XiaozhiEndpoint) -> Result<(), ApiError> {
    control.check_xiaozhi_url(endpoint.url.expose()).map_err(|message| ApiError::field("/url", message))
}

/// Writes `after` in place of `before`, with its audit event; what doesn't differ isn't written.
async fn save(
    tx: &mut Tx,
    app: &App,
    admin: &Admin,
    now: Timestamp,
    before: &XiaozhiEndpoint,
    mut after: XiaozhiEndpoint,
) -> Result<XiaozhiEndpoint, ApiError> {
    if after == *before {
        return Ok(after);
    }
    after.version = before.version + 1;
    after.updated_at = now;
    if !xiaozhi_endpoints::update(tx, &after, before.version).await.map_err(name_taken)? {
        return Err(ApiError::PreconditionFailed);
    }
    let audited = |endpoint: &XiaozhiEndpoint| wire::audited(endpoint, &app.fingerprint);
    let diff = audit::diff(Some(&audited(before)), Some(&audited(&after)));
    audit::record(tx, now, admin, Act::on("xiaozhi.update", after.id, after.name.as_str(), diff)).await?;
    Ok(after)
}

/// The one thing about an endpoint that can clash is its name.
fn name_taken(error: StoreError) -> ApiError {
    match error {
        StoreError::Conflict { .. } => ApiError::taken("/name", "another XiaoZhi endpoint has this name"),
        error => error.into(),
    }
}

/// The endpoint as it is answered, with how it fares and its ETag.
async fn answer(tx: &mut Tx, endpoint: &XiaozhiEndpoint) -> Result<Response, ApiError> {
    let reports = xiaozhi_endpoints::reports(tx).await?;
    let view = wire::view(endpoint, &reports);
    Ok(([(header::ETAG, extract::etag(endpoint.version))], Json(view)).into_response())
}

/// Reads what a file declares of `endpoint`, whose key it names otherwise.
pub(crate) fn declared(
    body: serde_json::Value,
    endpoint: &XiaozhiEndpoint,
) -> Result<XiaozhiEndpoint, ApiError> {
    input::parse(body).map(|input| input.apply(endpoint))
}

/// What a client may set of an endpoint, as it would write it: the address is in it.
pub(crate) fn settable(endpoint: &XiaozhiEndpoint) -> serde_json::Value {
    wire::settable(endpoint)
}

/// The endpoint as the audit log keeps it.
pub(crate) fn audited(endpoint: &XiaozhiEndpoint, fingerprint: &Fingerprint) -> serde_json::Value {
    wire::audited(endpoint, fingerprint)
}
