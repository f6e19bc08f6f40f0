//! The MCP servers we call.

pub mod call;
