//! The MCP endpoint of a real gateway, between real clients and real servers.

mod asking;
mod bad_upstreams;
mod cancellation;
mod changes;
mod connect;
mod connections;
mod during_calls;
mod envelope;
mod eras;
mod headers;
mod isolation;
mod keys;
mod lists;
mod long_calls;
mod matrix;
mod modern_checks;
mod replicas;
mod resumption;
mod sessions;
mod shutdown;
mod sse;
mod surface;
mod tls;
mod transports;
mod websocket;
