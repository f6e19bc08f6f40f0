//! What the gateway remembers: the model, the store, and both SQL dialects.
//!
//! Reading order: [`model`] has the values, [`store`] opens the database, [`tx`] is one transaction,
//! and each table family has a module of functions that take it.

pub mod clock;
pub mod model;
