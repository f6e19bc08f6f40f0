//! The composition root.

use std::process::ExitCode;

use sql::clock::Clock;

use crate::bootstrap::{Bootstrap, BootstrapError};
use crate::config::Config;
use crate::database;
use crate::failure::Failure;

/// Opens the store and applies the bootstrap file.
pub(crate) fn serve(config: &Config) -> Result<ExitCode, Failure> {
    let bootstrap = match &config.bootstrap {
        Some(path) => Some(Bootstrap::load(path).map_err(|problems| Failure::configuration(&problems))?),
        None => None,
    };
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::Internal(error.into()))?;
    runtime.block_on(async {
        let store = database::open(config, Clock::system()).await?;
        if let Some(bootstrap) = bootstrap {
            let applied = bootstrap.apply(&store, |_| Vec::new()).await.map_err(|error| match error {
                BootstrapError::Refused(problems) => Failure::configuration(&problems),
                BootstrapError::Store(error) => Failure::Internal(error.into()),
            })?;
            tracing::info!(?applied, locked = ?config.overrides.locked(), "bootstrap file applied");
        }
        Ok(ExitCode::SUCCESS)
    })
}
