//! `audit verify`: whether the audit log is as it was written, for an operator who trusts no process but this one.

use std::process::ExitCode;

use sql::audit_log::{self, Anchor, Verified};
use sql::clock::Clock;

use super::{block_on, print};
use crate::config::Config;
use crate::database;
use crate::failure::Failure;

/// Says what was found; exit code 1 if it isn't as it was written.
pub(crate) fn verify(config: &Config, anchor: Option<&str>) -> Result<ExitCode, Failure> {
    let anchor = anchor.map(str::parse::<Anchor>).transpose();
    let anchor = anchor.map_err(|error| Failure::General(format!("--anchor: {error}")))?;
    block_on(async {
        let store = database::open(config, Clock::system()).await?;
        let verified = async {
            let mut tx = store.read().await?;
            audit_log::verify(&mut tx, anchor.as_ref()).await
        };
        let verified = verified.await.map_err(|error| Failure::Internal(anyhow::Error::new(error)));
        store.close().await;
        match verified? {
            Verified::Intact(extent) => {
                let (events, dropped) = (extent.head - extent.dropped, extent.dropped);
                print(&format!("intact: {events} events, {dropped} older ones dropped\nanchor: {extent}\n"))
            }
            Verified::Broken { seq, fault } => {
                Err(Failure::General(format!("broken: event {seq} is the first with a fault: {fault}")))
            }
        }
    })
}
