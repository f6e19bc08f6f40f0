//! The commands that do one thing and end. Data goes to standard output, everything else to standard error.

pub(crate) mod audit;
pub(crate) mod config;
pub(crate) mod connect;
pub(crate) mod export;
pub(crate) mod healthcheck;
pub(crate) mod import;
pub(crate) mod migrate;
pub(crate) mod openapi;
pub(crate) mod reset_password;
pub(crate) mod rotate_key;
pub(crate) mod version;

mod passphrase;

use std::io::{self, Write};
use std::process::ExitCode;

use crate::failure::Failure;

/// Runs a command that waits, on a runtime of its own.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::Internal(anyhow::Error::new(error).context("no runtime")))?;
    runtime.block_on(future)
}

/// Writes a command's result. A reader that went away early (`| head`) is no failure.
fn print(text: &str) -> Result<ExitCode, Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::General(format!("cannot write to standard output: {}", error.kind())))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
