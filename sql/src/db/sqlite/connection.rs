//! A connection with every pragma set.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error;
use crate::db::Access;
use crate::error::StoreError;

/// How long a lock of another process (a `migrate` beside a running gateway) is waited for.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Prepared statements that a connection keeps; the store has about a hundred.
const STATEMENTS_KEPT: usize = 128;

/// Where the database lies.
#[derive(Clone)]
pub(super) enum Place {
    File(PathBuf),
    Memory,
}

/// Pages that a connection keeps of the database, in KiB. Those of the file are in the system's memory anyway,
/// and each of the connections would keep the same ones.
const PAGES_KEPT_KIB: i64 = 512;

/// Opens a connection. Blocks.
pub(super) fn open(place: &Place, access: Access) -> Result<Connection, StoreError> {
    let connection = match place {
        Place::File(path) => {
            if access == Access::Write {
                make_private(path)?;
            }
            // Each connection belongs to one thread, so SQLite needs no mutex of its own.
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            Connection::open_with_flags(path, flags)
        }
        Place::Memory => Connection::open_in_memory(),
    };
    let connection = connection.map_err(error::from_sqlite)?;
    set_up(&connection, access).map_err(error::from_sqlite)?;
    Ok(connection)
}

fn set_up(connection: &Connection, access: Access) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    // A commit that was acknowledged survives the loss of power, which in WAL mode only FULL promises.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY;",
    )?;
    // SQLite takes a negative number for kibibytes.
    connection.pragma_update(None, "cache_size", -PAGES_KEPT_KIB)?;
    set_read_only(connection, access == Access::Read)
}

/// Makes a connection refuse writes, or take them.
pub(super) fn set_read_only(connection: &Connection, read_only: bool) -> rusqlite::Result<()> {
    connection.pragma_update(None, "query_only", read_only)
}

/// Makes the file if there is none, for its owner alone; SQLite gives its mode to the files beside it.
fn make_private(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map(drop).map_err(|error| StoreError::Unavailable(Box::new(error)))
}
