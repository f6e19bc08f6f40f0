//! What the gateway remembers: the model, the store, and both SQL dialects.
//!
//! Reading order: [`model`] has the values, [`store`] opens the database, [`tx`] is one transaction,
//! and each table family has a module of functions that take it. Below them lie the seam to the two
//! databases (`db`), the migrations, and [`seal`], which no secret leaves but to a dialler.

pub mod model;

pub mod store;
pub mod tx;

pub mod admin_users;
pub mod api_keys;
pub mod audit_log;
pub mod call_kinds;
pub mod call_records;
pub mod client_sessions;
pub mod idempotent_answers;
pub mod key_rotation;
pub mod key_usage;
pub mod lists;
pub mod login_attempts;
pub mod names;
pub mod oauth;
pub mod pins;
pub mod rollups;
pub mod rules;
pub mod sessions;
pub mod settings;
pub mod statistics;
pub mod upstreams;
pub mod xiaozhi_endpoints;

pub mod changes;
pub mod leases;

pub mod clock;
pub mod error;
pub mod seal;
pub mod tls;

mod db;
mod keyset;
mod migrate;
mod sweeping;

pub use self::changes::{Change, ChangeKind, Changes, ChangesSince, Entries};
pub use self::clock::Clock;
pub use self::db::Database;
pub use self::error::{StoreError, TlsRefusal};
pub use self::seal::{KeyError, MasterKey, Place, Sealer, Warning};
pub use self::store::{PoolState, Store, StoreOptions};
pub use self::tx::{Tx, UnreadableRow};

#[cfg(test)]
mod tests;
