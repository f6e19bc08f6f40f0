//! How the store fails, by what the receiver can do about it.

use std::error::Error;
use std::path::PathBuf;

/// What lies beneath an error; kept for the log, never shown to a client.
pub type Source = Box<dyn Error + Send + Sync>;

/// Why the store didn't do what was asked. Nothing was changed, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another row has this already, or the row it belongs to is gone. Choose another value.
    #[error("it conflicts with {constraint}")]
    Conflict {
        /// The table and columns that must be unique, such as `upstreams.name`; or
        /// [`StoreError::FOREIGN_KEY`].
        constraint: String,
    },
    /// The database can't be reached, is too slow, or is too busy. Try again later. If this comes
    /// from a commit whose connection was lost, it isn't known whether it took effect.
    #[error("the database is unavailable")]
    Unavailable(#[source] Source),
    /// There is no room left on the database's disk.
    #[error("the database's disk is full")]
    StorageFull(#[source] Source),
    /// A stored value isn't what this release writes: the row was altered, or sealed elsewhere.
    #[error("the stored value of {table}.{column} in row {row} can't be read")]
    Corrupt {
        /// Which table.
        table: &'static str,
        /// Which column.
        column: String,
        /// The value of the row's first column, or what else tells it apart.
        row: String,
    },
    /// A text that not both databases can hold: it has a NUL, or is too long for an index.
    #[error("a text for {table} can't be stored: it has a NUL or is too long")]
    Unstorable {
        /// Which table.
        table: &'static str,
    },
    /// The database was sealed with another master key.
    #[error("the master key isn't the one this database was sealed with")]
    WrongKey,
    /// A migration failed; the database is as it was before.
    #[error("migration {version} failed")]
    Migration {
        /// Which one.
        version: i64,
        /// Why.
        #[source]
        source: Source,
    },
    /// A migration that was applied isn't the one this release has.
    #[error("migration {version} was changed after it had been applied")]
    MigrationChanged {
        /// Which one.
        version: i64,
    },
    /// A newer release has migrated this database.
    #[error("the database is of a newer release (its schema is {found}, this release knows {known})")]
    NewerSchema {
        /// The database's last migration.
        found: i64,
        /// The last one of this release.
        known: i64,
    },
    /// The Postgres DSN can't be read. It isn't shown, since it may hold a password.
    #[error("the Postgres DSN isn't valid")]
    InvalidDsn,
    /// What the Postgres DSN says of TLS has no meaning; the text says what would have.
    #[error("{0}")]
    TlsOptions(&'static str),
    /// The file that the Postgres DSN names as `sslrootcert` is of no use.
    #[error("sslrootcert: {}: {reason}", path.display())]
    RootCertificates {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no TLS with Postgres such as the DSN asks for, until somebody changes something.
    #[error("no TLS with Postgres: {0}")]
    TlsRefused(TlsRefusal),
    /// The cursor isn't one that this list gave out.
    #[error("the cursor isn't valid here")]
    InvalidCursor,
    /// The list can't be sorted by that.
    #[error("the list can't be sorted by that")]
    InvalidSort,
    /// A statement of this transaction failed before: it can only be dropped.
    #[error("the transaction failed before and can't go on")]
    Aborted,
    /// The statement itself is wrong: a defect of this program.
    #[error("the database refused a statement")]
    Statement(#[source] Source),
}

impl StoreError {
    /// The constraint of a [`StoreError::Conflict`] with a row that is gone.
    pub const FOREIGN_KEY: &str = "foreign key";

    /// Whether the same may succeed later, with nothing else changed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::StorageFull(_))
    }

    /// The error of a store that gave up on something by itself.
    pub(crate) fn gave_up(reason: GaveUp) -> Self {
        Self::Unavailable(Box::new(reason))
    }
}

/// Which rule of the Postgres DSN's `sslmode` keeps us from the server, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsRefusal {
    /// The server speaks no TLS.
    #[error("the server doesn't offer it, and sslmode doesn't go without; set `ssl = on` at the server")]
    NotOffered,
    /// None of the trusted authorities issued the server's certificate.
    #[error(
        "the server's certificate was issued by none of the authorities in sslrootcert; name the file of the one that \
         issued it"
    )]
    UnknownIssuer,
    /// The server's certificate is good, and for another server.
    #[error(
        "the server's certificate is not for the DSN's host, but for {}; sslmode=verify-full needs one that stands in its \
         subjectAltName (verify-ca looks at no name)",
        names(certified)
    )]
    OtherName {
        /// Whom it is for, as the certificate says it.
        certified: Vec<String>,
    },
    /// The server's certificate was good once.
    #[error("the server's certificate has expired; renew it")]
    Expired,
    /// The server's certificate will be good, by this machine's clock.
    #[error("the server's certificate isn't valid yet; look at its dates and at both machines' clocks")]
    NotValidYet,
    /// Something else is wrong with the server's certificate.
    #[error("the server's certificate is not accepted: {0}")]
    Certificate(String),
    /// The two don't understand each other.
    #[error("the handshake failed: {0}")]
    Handshake(String),
}

fn names(certified: &[String]) -> String {
    if certified.is_empty() { "no name at all".to_owned() } else { certified.join(", ") }
}

/// Why the store gave up by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GaveUp {
    #[error("no connection was free in time")]
    NoConnection,
    #[error("too many transactions wait")]
    TooManyWaiting,
    #[error("a statement took too long")]
    Slow,
    #[error("the transaction was idle for too long and was rolled back")]
    Idle,
    #[error("the store is closed")]
    Closed,
}
