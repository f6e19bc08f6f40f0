//! The MCP endpoint of a real gateway, between real clients and real servers.

mod asking;
mod cancellation;
mod during_calls;
mod eras;
mod lists;
mod surface;
