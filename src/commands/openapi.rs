//! `openapi`: prints the document that describes the REST API.

use std::process::ExitCode;

use super::print;
use crate::failure::Failure;

/// The same text that `admin/openapi.json` holds.
pub(crate) fn run() -> Result<ExitCode, Failure> {
    print(&admin::openapi())
}
