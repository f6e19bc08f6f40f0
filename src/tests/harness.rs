//! What a test of the whole is made of: commands that end, and gateways that serve.

mod admin;
mod command;
mod gateway;
mod processes;
mod scene;

pub(crate) use command::GatewayCommand;
pub(crate) use gateway::{TestGateway, assert_private};
