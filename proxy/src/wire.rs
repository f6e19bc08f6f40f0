//! JSON-RPC and SSE on bytes: what is read is checked to the last byte, what is passed on is passed on as it came.
//!
//! Reading order: [`envelope`] turns a body into a message in one strict pass; [`ids`] and [`text`] are the
//! small pieces it hands out; [`meta`] reads `_meta` and decides the era; [`edit`] changes members of an object
//! and leaves every other byte alone; [`compose`] writes new messages around raw pieces; [`headers`] mirrors a
//! body in HTTP headers and checks the mirror; [`sse`] is the event stream. `scan` is the JSON grammar below
//! all of them.
//!
//! Nothing here builds a tree of a message, and nothing here knows a transport, an upstream or a client.

pub mod envelope;

pub mod ids;

pub mod text;

pub mod meta;

pub mod edit;

pub mod compose;

pub mod headers;

pub mod sse;

mod scan;

#[cfg(test)]
mod tests;
