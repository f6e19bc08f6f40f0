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
mod hostile_answers;
mod hostile_volumes;
mod isolation;
mod keys;
mod lists;
mod modern_checks;
mod multitude;
mod replicas;
mod sessions;
mod shutdown;
mod sse;
mod surface;
mod tls;
mod tls_upstreams;
mod transports;
mod websocket;
