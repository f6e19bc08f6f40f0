//! The settings that take effect while the gateway runs.
//!
//! What the environment fixes is shown as it is in force and named among `locked`. What is stored beneath it stays,
//! and comes into force when the environment no longer says otherwise.

pub(crate) mod get;
pub(crate) mod update;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::{Value, json};
use sql::model::Settings;
use sql::{StoreError, Tx, settings};

use crate::App;
use crate::error::ApiError;
use crate::extract;

/// What names the settings that the environment fixes; beside the groups.
const LOCKED: &str = "locked";

/// What is stored, and its version; the defaults have version 0. In the place of what can't be read stand the
/// defaults, so that saving is the way to mend it.
async fn load(tx: &mut Tx) -> Result<(Settings, i64), ApiError> {
    match settings::load(tx).await {
        Err(StoreError::Corrupt { .. }) => Ok((Settings::default(), settings::version(tx).await?)),
        loaded => Ok(loaded?.unwrap_or_default()),
    }
}

/// Group and key of each setting that the environment fixes.
fn locked(app: &App) -> impl Iterator<Item = (&str, &str)> {
    app.locked.iter().filter_map(|path| path.split_once('.'))
}

/// The stored settings, as far as the environment doesn't fix others.
fn answer(app: &App, settings: &Settings, version: i64) -> Response {
    let mut document = settings.document();
    let in_force = app.settings().document();
    for (group, key) in locked(app) {
        document[group][key] = in_force[group][key].clone();
    }
    document[LOCKED] = app.locked.iter().map(|path| json!(path)).collect::<Value>();
    ([(header::ETAG, extract::etag(version))], Json(document)).into_response()
}
