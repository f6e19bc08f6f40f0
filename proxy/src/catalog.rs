//! The immutable snapshot that a request meets.
