//! The MCP servers behind the gateway.

pub(crate) mod bulk;
pub(crate) mod checks;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod disable;
pub(crate) mod enable;
pub(crate) mod export;
pub(crate) mod findings;
pub(crate) mod get;
pub(crate) mod import;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod oauth_forget;
pub(crate) mod oauth_start;
pub(crate) mod reconnect;
pub(crate) mod reorder;
pub(crate) mod sync;
pub(crate) mod test;
pub(crate) mod tools;
pub(crate) mod update;

mod conn_params;
mod imported;
pub(crate) mod input;
mod matrix;
mod wire;

use std::collections::BTreeSet;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header;
use proxy::pinning;
use sql::model::{ConnParams, NewUpstream, OnToolChange, Timestamp, Upstream, UpstreamId, Value};
use sql::{StoreError, Tx, oauth, pins, upstreams};

use crate::App;
use crate::audit::{self, Act};
use crate::client_files::Given;
use crate::client_files::server::CREDENTIAL;
use crate::error::ApiError;
use crate::extract::{self, Admin};

/// The upstream, if there is one with this id.
async fn find(tx: &mut Tx, id: UpstreamId) -> Result<Upstream, ApiError> {
    upstreams::get(tx, id).await?.ok_or(ApiError::NotFound("upstream"))
}

/// Refuses an id that nothing has.
async fn exists(app: &App, id: UpstreamId) -> Result<(), ApiError> {
    let mut tx = app.store.read().await?;
    find(&mut tx, id).await.map(drop)
}

/// Writes `after` in place of `before`, with its audit event; what doesn't differ isn't written.
async fn save(
    tx: &mut Tx,
    app: &App,
    admin: &Admin,
    now: Timestamp,
    action: &'static str,
    before: &Upstream,
    mut after: Upstream,
) -> Result<Upstream, ApiError> {
    if after == *before {
        return Ok(after);
    }
    if after.enabled && !before.enabled {
        wants_nothing(&after)?;
    }
    after.version = before.version + 1;
    after.updated_at = now;
    let fresh = upstreams::update(tx, &after, before.version).await.map_err(name_taken)?;
    if !fresh {
        return Err(ApiError::PreconditionFailed);
    }
    if after.name_prefix != before.name_prefix {
        app.resettle(tx, after.id).await?;
    }
    // A token is for one place; elsewhere it would be somebody else's.
    if app.control.origin_of(before) != app.control.origin_of(&after) {
        oauth::forget(tx, after.id).await?;
    }
    // What was agreed to was agreed to of what stood there.
    if after.on_tool_change != OnToolChange::Allow {
        pins::reconfirm(tx, after.id, &pinning::identity(&after)).await?;
    }
    let (old, new) = (wire::audited(before, &app.fingerprint), wire::audited(&after, &app.fingerprint));
    let act = Act::on(action, after.id, after.name.as_str(), audit::diff(Some(&old), Some(&new)));
    audit::record(tx, now, admin, act).await?;
    Ok(after)
}

/// Refuses an upstream in which the variable of a file stands where a value must be given: its server would be
/// sent the name of the variable.
fn wants_nothing(upstream: &Upstream) -> Result<(), ApiError> {
    let values: Vec<&Value> = match &upstream.conn_params {
        ConnParams::Stdio { args, env, .. } => args.iter().chain(env.values()).collect(),
        ConnParams::Http { headers, .. } => headers.values().collect(),
    };
    let sealed = values.into_iter().filter(|value| value.is_secret()).map(Value::expose);
    let sealed = sealed.chain(upstream.credential.as_ref().map(|credential| credential.expose().as_str()));
    let variable = |text: &str| Given::read(text).whole_variable().map(str::to_owned);
    let wanted: BTreeSet<String> = sealed.filter(|text| *text != CREDENTIAL).filter_map(variable).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let wanted = wanted.into_iter().collect::<Vec<_>>().join(", ");
    Err(ApiError::conflict(format!("it has to be given {wanted} before it can be switched on")))
}

/// The one thing about an upstream that can clash is its name.
fn name_taken(error: StoreError) -> ApiError {
    match error {
        StoreError::Conflict { .. } => ApiError::taken("/name", "another upstream has this name"),
        error => error.into(),
    }
}

/// The upstream as it is answered, with its ETag.
fn answer(app: &App, upstream: &Upstream) -> Response {
    let view = wire::view(upstream, app.control.status(upstream.id));
    ([(header::ETAG, extract::etag(upstream.version))], Json(view)).into_response()
}

/// Whether `body` would be taken as a new upstream, name apart.
pub(crate) fn allowed(app: &App, body: serde_json::Value) -> Result<(), ApiError> {
    input::parse(app, body, None).map(drop)
}

/// Reads an upstream that a file declares. The data plane's policy is for whoever applies it to ask.
pub(crate) fn declared(body: serde_json::Value) -> Result<NewUpstream, ApiError> {
    input::parse_unasked(body).map(|input| input.new)
}

/// What a client may set of it, as it would write it.
pub(crate) fn settable(upstream: &Upstream) -> serde_json::Value {
    wire::settable(upstream)
}

/// Reads an upstream of a backup; `stored` has what placeholders stand for. Asks no policy.
pub(crate) fn restored(body: serde_json::Value, stored: Option<&Upstream>) -> Result<NewUpstream, ApiError> {
    input::parse_over(body, stored).map(|input| input.new)
}

/// The upstream as the audit log keeps it.
pub(crate) fn audited(upstream: &Upstream, fingerprint: &audit::Fingerprint) -> serde_json::Value {
    wire::audited(upstream, fingerprint)
}
