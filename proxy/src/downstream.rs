//! What every transport towards clients shares.

pub mod conversation;
