//! The MCP servers we call.

pub mod call;

pub mod egress;

pub(crate) mod link;

pub(crate) mod frame;

pub mod supervise;

pub mod states;

pub(crate) mod backoff;

pub(crate) mod breaker;

pub(crate) mod dial;

pub(crate) mod channel;

pub mod stdio;
