//! The data plane: who may call, what they see, and where a call goes. It serves from memory.
//!
//! Reading order: [`gateway`] takes a request from the listener and names every step it passes;
//! [`access`] holds the checks; [`wire`] is JSON-RPC on bytes; [`downstream`] speaks to clients;
//! [`catalog`] says what a caller sees; [`upstream`] speaks to MCP servers; [`bridge`] joins two
//! eras of the protocol; [`sync`] keeps the lists, [`pinning`] tells what of them changed, and [`poison`] what of them deceives; [`call_log`]
//! keeps what became of calls, and [`audit`] who was turned away; [`jobs`] is done on a schedule, [`metrics`] is
//! what all of it counts, [`trace`] which trace a call belongs to, and [`spans`] what is told of it to a collector; [`cache`] is what replicas share beside
//! the database, and [`relay`] how one hands to another what is the other's; [`control`] is what the control
//! plane may ask, and [`feed`] what it is told as it happens; [`connect`] is the other end: a gateway as a
//! stdio server, for clients that
//! only start commands.

pub mod gateway;

pub mod guard;

pub mod facet;

pub mod refusal;

pub mod http_bridge;

pub mod access;

pub mod context;

pub mod wire;

pub mod downstream;

pub mod catalog;

pub mod bridge;

pub mod upstream;

pub mod sync;

pub mod cache;

pub mod relay;

pub mod call_log;

pub mod audit;

pub mod jobs;
pub mod pinning;

pub mod poison;

pub mod metrics;

pub mod trace;

pub mod spans;

pub mod connect;

pub mod data_plane;

pub mod control;

pub mod feed;

pub mod tasks;

#[cfg(test)]
mod testing;
