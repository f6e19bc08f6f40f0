//! What an error of SQLite means.

use rusqlite::ErrorCode;
use rusqlite::ffi::{SQLITE_CONSTRAINT_FOREIGNKEY, SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};

use crate::error::StoreError;

/// A statement that can't work: a defect of this program.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Defect(&'static str);

pub(super) fn defect(what: &'static str) -> StoreError {
    StoreError::Statement(Box::new(Defect(what)))
}

pub(super) fn from_sqlite(error: rusqlite::Error) -> StoreError {
    let rusqlite::Error::SqliteFailure(failure, message) = &error else {
        return StoreError::Statement(Box::new(error));
    };
    match failure.extended_code {
        SQLITE_CONSTRAINT_UNIQUE | SQLITE_CONSTRAINT_PRIMARYKEY => {
            let constraint = constraint_name(message.as_deref().unwrap_or_default());
            return StoreError::Conflict { constraint };
        }
        SQLITE_CONSTRAINT_FOREIGNKEY => {
            return StoreError::Conflict { constraint: StoreError::FOREIGN_KEY.to_owned() };
        }
        _ => {}
    }
    match failure.code {
        ErrorCode::DiskFull => StoreError::StorageFull(Box::new(error)),
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::SystemIoFailure
        | ErrorCode::CannotOpen
        | ErrorCode::DatabaseCorrupt
        | ErrorCode::NotADatabase
        | ErrorCode::OutOfMemory
        | ErrorCode::PermissionDenied => StoreError::Unavailable(Box::new(error)),
        _ => StoreError::Statement(Box::new(error)),
    }
}

/// `UNIQUE constraint failed: names.kind, names.exposed_name` as Postgres's constraint is called:
/// `names.kind,exposed_name`.
fn constraint_name(message: &str) -> String {
    let columns = message.rsplit_once(": ").map_or(message, |(_, columns)| columns);
    let mut parts = columns.split(", ");
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        name.push(',');
        name.push_str(part.rsplit_once('.').map_or(part, |(_, column)| column));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::constraint_name;

    #[test]
    fn a_constraint_has_the_name_it_has_in_postgres() {
        assert_eq!(constraint_name("UNIQUE constraint failed: upstreams.name"), "upstreams.name");
        assert_eq!(
            constraint_name("UNIQUE constraint failed: names.kind, names.exposed_name"),
            "names.kind,exposed_name"
        );
    }
}
