//! `connect`: serves standard input and output, and speaks to a gateway elsewhere.

use std::process::ExitCode;

use proxy::connect::{self, Options};
use proxy::tasks::Tasks;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::ConnectConfig;
use crate::failure::Failure;
use crate::telemetry;

/// Until the client closes our input, or a signal comes: either is an orderly end.
pub(crate) fn run(config: ConnectConfig) -> Result<ExitCode, Failure> {
    telemetry::init(&config.log);
    telemetry::refuse_core_dumps();
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Internal(error.into()))?;
    let options = Options { url: config.url, key: config.key, headers: config.headers };
    let outcome = runtime.block_on(serve(options));
    // A read of standard input that nobody answers any more mustn't keep the process.
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn serve(options: Options) -> Result<(), Failure> {
    let signals = |kind| signal(kind).map_err(|error| Failure::Internal(error.into()));
    let (mut terminate, mut interrupt) =
        (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
    let tasks = Tasks::new(Handle::current());
    let stop = CancellationToken::new();
    let told = stop.clone();
    tasks.spawn("signals", async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    let served = connect::run(options, tokio::io::stdin(), tokio::io::stdout(), tasks, stop).await;
    served.map_err(|error| Failure::General(error.to_string()))
}
