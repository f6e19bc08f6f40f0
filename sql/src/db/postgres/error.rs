//! What an error of Postgres means, by its SQLSTATE.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::error::StoreError;

/// Whether the connection is of no use after this error: the server is going away, or is a
/// replica since a failover, or there is no server any more.
pub(super) fn breaks_connection(error: &Error) -> bool {
    let Some(state) = error.code() else { return error.as_db_error().is_none() };
    // Read-only transaction (25006): we always ask for a server that takes writes.
    state.code().starts_with("08") || state.code().starts_with("57P") || state.code() == "25006"
}

pub(super) fn from_postgres(error: Error) -> StoreError {
    let Some(state) = error.code().cloned() else {
        return match error.as_db_error() {
            None if is_io(&error) => StoreError::Unavailable(Box::new(error)),
            _ => StoreError::Statement(Box::new(error)),
        };
    };
    if state == SqlState::UNIQUE_VIOLATION {
        let constraint = error.as_db_error().and_then(|error| error.constraint()).unwrap_or_default();
        return StoreError::Conflict { constraint: constraint.to_owned() };
    }
    if state == SqlState::FOREIGN_KEY_VIOLATION {
        return StoreError::Conflict { constraint: StoreError::FOREIGN_KEY.to_owned() };
    }
    if state == SqlState::DISK_FULL {
        return StoreError::StorageFull(Box::new(error));
    }
    // Connection, resources, operator intervention and time limits, system errors, and transactions
    // that another one crossed: all of them may go away by themselves.
    let transient = ["08", "40", "53", "57", "58"].iter().any(|class| state.code().starts_with(class))
        || ["25006", "25P03", "55P03"].contains(&state.code());
    if transient { StoreError::Unavailable(Box::new(error)) } else { StoreError::Statement(Box::new(error)) }
}

/// Whether the error comes from the connection and not from a value we gave or asked for.
fn is_io(error: &Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<std::io::Error>() {
            return true;
        }
        source = cause.source();
    }
    error.is_closed()
}
