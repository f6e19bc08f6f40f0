//! Who did what, and whether the log that says so is as it was written.

pub(crate) mod export;
pub(crate) mod list;
pub(crate) mod verify;

pub(crate) mod wire;

mod filter;
