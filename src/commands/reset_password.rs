//! `reset-password`: a new password for an admin who lost the old one.

use std::process::ExitCode;

use admin::reset_password::{self, NotReset};
use sql::clock::Clock;

use super::{block_on, print};
use crate::config::Config;
use crate::failure::Failure;
use crate::{database, telemetry};

/// Takes name and password from where an unattended first start has them: a password is no argument, which every
/// user of the machine could read.
pub(crate) fn run(config: &Config) -> Result<ExitCode, Failure> {
    telemetry::init(&config.log);
    let Some(admin) = &config.first_admin else {
        let missing =
            "MPG_ADMIN_USERNAME and MPG_ADMIN_PASSWORD: required, to say whose password becomes what";
        return Err(Failure::Configuration(vec![missing.to_owned()]));
    };
    block_on(async {
        let store = database::open(config, Clock::system()).await?;
        let reset = reset_password::reset(&store, &admin.username, &admin.password).await;
        store.close().await;
        reset.map_err(|error| match error {
            NotReset::Unknown => {
                Failure::General("MPG_ADMIN_USERNAME: there is no admin of this name".to_owned())
            }
            NotReset::Password(why) => Failure::Configuration(vec![format!("MPG_ADMIN_PASSWORD: {why}")]),
            error => Failure::Internal(error.into()),
        })?;
        print("the password is another one now, and every session of this admin has ended\n")
    })
}
