//! What every transport towards clients shares.
