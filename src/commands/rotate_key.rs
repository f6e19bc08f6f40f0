//! `rotate-key`: what the previous master keys sealed becomes sealed by the present one.

use std::process::ExitCode;

use sql::clock::Clock;
use sql::key_rotation::{self, NotRotated};

use super::{block_on, print};
use crate::config::Config;
use crate::failure::Failure;
use crate::{database, telemetry};

/// Beside gateways that serve, or without. Cut off, it goes on when it is run again.
pub(crate) fn run(config: &Config) -> Result<ExitCode, Failure> {
    telemetry::init(&config.log);
    block_on(async {
        let store = database::open(config, Clock::system()).await?;
        let outcome = key_rotation::rotate(&store).await;
        store.close().await;
        let rotated = outcome.map_err(failure)?;
        print(&format!(
            "{} values were sealed anew, {} needed no change; nothing is sealed with a previous key any more\n",
            rotated.resealed, rotated.current
        ))
    })
}

fn failure(error: NotRotated) -> Failure {
    match error {
        NotRotated::Unreadable { ref first, .. } => {
            let rows = first.iter().map(|bad| format!("\n  {}.{} of row {}", bad.table, bad.column, bad.row));
            Failure::General(format!(
                "{error}. Give the key that sealed them in MPG_ENCRYPTION_KEY_PREVIOUS[_FILE], or write these \
                 anew or delete them, then run rotate-key again; until then keep the previous keys:{}",
                rows.collect::<String>()
            ))
        }
        NotRotated::StillInUse => Failure::General(format!(
            "{error}. Restart every gateway with the present key in MPG_ENCRYPTION_KEY and the one before in \
             MPG_ENCRYPTION_KEY_PREVIOUS[_FILE], then run rotate-key again"
        )),
        NotRotated::Running => Failure::General(error.to_string()),
        NotRotated::Store(error) => Failure::Internal(error.into()),
    }
}
