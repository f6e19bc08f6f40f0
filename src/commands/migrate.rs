//! `migrate`: brings the database to this version's schema and ends, for a deployment that does so first.

use std::process::ExitCode;

use sql::clock::Clock;

use super::{block_on, print};
use crate::config::Config;
use crate::failure::Failure;
use crate::{database, telemetry};

/// The same that `serve` does before it serves.
pub(crate) fn run(config: &Config) -> Result<ExitCode, Failure> {
    telemetry::init(&config.log);
    block_on(async {
        let store = database::open(config, Clock::system()).await?;
        store.close().await;
        print("the database is up to date\n")
    })
}
