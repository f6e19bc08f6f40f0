//! The MCP servers we call.

pub mod call;

pub(crate) mod link;

pub(crate) mod frame;

pub mod supervise;
