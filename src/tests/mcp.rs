//! The MCP endpoint of a real gateway, between real clients and real servers.

mod eras;
