//! What a test of the whole is made of: commands that end, gateways that serve, peers on both sides.

mod admin;
mod authority;
mod authorization;
mod balancer;
mod broker;
mod collector;
mod command;
mod connected;
mod exchange;
mod faulty;
mod gateway;
mod hintless;
mod hostile;
mod intermediary;
mod line;
mod mcp;
mod node;
mod peer;
mod postgres;
mod processes;
mod redis;
mod reference;
mod scene;
mod sdk;
pub(crate) mod sqlite;
mod terminal;

pub(crate) use self::redis::RedisServer;
pub(crate) use admin::Admin;
pub(crate) use authority::Authority;
pub(crate) use authorization::Authorization;
pub(crate) use broker::{Broker, TOKEN};
pub(crate) use collector::{Collector, Span};
pub(crate) use command::{CommandOutput, GatewayCommand};
pub(crate) use connected::Connected;
pub(crate) use exchange::{Event, Exchange, PATIENCE};
pub(crate) use faulty::{Fault, Faulty, Hanging, dead_url};
pub(crate) use gateway::TestGateway;
pub(crate) use hostile::{HOSTILE_TRANSPORTS, Hostile};
pub(crate) use intermediary::Intermediary;
pub(crate) use line::{Line, Sse, TRANSPORTS, Ws};
pub(crate) use mcp::{
    GATEWAY_ERROR, LEGACY, LEGACY_LATEST, META, MODERN, Mcp, Session, send, success_of, text_of,
};
pub(crate) use node::assert_private;
pub(crate) use peer::{Peer, plain, tool};
pub(crate) use postgres::Postgres;
pub(crate) use processes::Process;
pub(crate) use reference::{Reference, References, script, tests_folder};
pub(crate) use scene::Scene;
pub(crate) use sdk::Sdk;
pub(crate) use terminal::at_a_terminal;
