//! The edge, from outside: a listening server, and raw bytes over real sockets.

mod admin;
mod connection;
mod framing;
mod refusals;
mod scene;
mod streams;
