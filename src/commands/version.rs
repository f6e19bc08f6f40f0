//! `version`: prints which one this is.

use std::process::ExitCode;

use super::print;
use crate::failure::Failure;

/// Name and number, as `--version` does.
pub(crate) fn run() -> Result<ExitCode, Failure> {
    print(concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"), "\n"))
}
