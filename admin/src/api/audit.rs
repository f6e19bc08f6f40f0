//! What was done, by whom.

pub(crate) mod list;
