//! The MCP servers we call.
