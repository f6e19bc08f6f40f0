//! `openapi`: prints the document that describes the REST API.

use std::process::ExitCode;

use super::print;
use crate::failure::Failure;

/// As JSON, the same text that is served at `/api/openapi.json`.
pub(crate) fn run() -> Result<ExitCode, Failure> {
    let document = serde_json::to_string_pretty(&admin::openapi()).map_err(|error| {
        Failure::Internal(anyhow::Error::new(error).context("the document can't be written"))
    })?;
    print(&format!("{document}\n"))
}
