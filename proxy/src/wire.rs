//! JSON-RPC on bytes.
