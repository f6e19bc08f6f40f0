//! The checks a caller passes.
