//! Tests of the whole: the real binary, real sockets, real processes; and the tidy rules.
//!
//! One binary, so that it links once. [`harness`] holds what builds a scene; every other file is
//! about one side of the gateway and reads as a list of sentences about it.

mod backup_commands;
mod cli;
mod crashes;
mod documents;
mod harness;
mod lifecycle;
mod mcp;
mod packaging;
mod settings_used;
mod tidy;
