//! The settings that take effect while the gateway runs.

pub(crate) mod get;
pub(crate) mod update;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header;
use sql::model::Settings;
use sql::{StoreError, Tx, settings};

use crate::error::ApiError;
use crate::extract;

/// What is stored, and its version; the defaults have version 0. In the place of what can't be read stand the
/// defaults, so that saving is the way to mend it.
async fn load(tx: &mut Tx) -> Result<(Settings, i64), ApiError> {
    match settings::load(tx).await {
        Err(StoreError::Corrupt { .. }) => Ok((Settings::default(), settings::version(tx).await?)),
        loaded => Ok(loaded?.unwrap_or_default()),
    }
}

fn answer(settings: &Settings, version: i64) -> Response {
    ([(header::ETAG, extract::etag(version))], Json(settings.document())).into_response()
}
