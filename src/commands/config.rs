//! `config check` and `config show`: looks at what would be served, and starts nothing.

use std::process::ExitCode;

use super::print;
use crate::bootstrap::Bootstrap;
use crate::config::Config;
use crate::failure::Failure;

/// The environment was checked when it was read; this adds the bootstrap file.
pub(crate) fn check(config: &Config) -> Result<ExitCode, Failure> {
    if let Some(path) = &config.bootstrap {
        Bootstrap::load(path).map_err(|problems| Failure::configuration(&problems))?;
    }
    print("configuration ok\n")
}

/// Every value in force.
pub(crate) fn show(config: &Config) -> Result<ExitCode, Failure> {
    print(&config.show())
}
