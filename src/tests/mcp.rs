//! The MCP endpoint of a real gateway, between real clients and real servers.

mod asking;
mod cancellation;
mod connections;
mod changes;
mod during_calls;
mod envelope;
mod eras;
mod keys;
mod headers;
mod isolation;
mod lists;
mod modern_checks;
mod sessions;
