//! Migrations: forward only, embedded, each with its checksum, all pending ones in one transaction.

use ring::digest::{SHA256, digest};

use crate::audit_log;
use crate::clock::Clock;
use crate::db::{Access, Db, Dialect, Transaction, cells};
use crate::error::StoreError;
use crate::seal::Sealer;

/// One step of the schema, in both dialects. Never edited once released.
struct Migration {
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

/// All of them; a migration's version is its place here, from 1 on.
const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0001_initial",
        sqlite: include_str!("../migrations/sqlite/0001_initial.sql"),
        postgres: include_str!("../migrations/postgres/0001_initial.sql"),
    },
    Migration {
        name: "0002_oauth",
        sqlite: include_str!("../migrations/sqlite/0002_oauth.sql"),
        postgres: include_str!("../migrations/postgres/0002_oauth.sql"),
    },
    Migration {
        name: "0003_rules",
        sqlite: include_str!("../migrations/sqlite/0003_rules.sql"),
        postgres: include_str!("../migrations/postgres/0003_rules.sql"),
    },
    Migration {
        name: "0004_calls",
        sqlite: include_str!("../migrations/sqlite/0004_calls.sql"),
        postgres: include_str!("../migrations/postgres/0004_calls.sql"),
    },
    Migration {
        name: "0005_quotas",
        sqlite: include_str!("../migrations/sqlite/0005_quotas.sql"),
        postgres: include_str!("../migrations/postgres/0005_quotas.sql"),
    },
    Migration {
        name: "0006_statistics",
        sqlite: include_str!("../migrations/sqlite/0006_statistics.sql"),
        postgres: include_str!("../migrations/postgres/0006_statistics.sql"),
    },
    Migration {
        name: "0007_audit",
        sqlite: include_str!("../migrations/sqlite/0007_audit.sql"),
        postgres: include_str!("../migrations/postgres/0007_audit.sql"),
    },
    Migration {
        name: "0008_xiaozhi",
        sqlite: include_str!("../migrations/sqlite/0008_xiaozhi.sql"),
        postgres: include_str!("../migrations/postgres/0008_xiaozhi.sql"),
    },
    Migration {
        name: "0009_shared_admin_state",
        sqlite: include_str!("../migrations/sqlite/0009_shared_admin_state.sql"),
        postgres: include_str!("../migrations/postgres/0009_shared_admin_state.sql"),
    },
    Migration {
        name: "0010_call_kinds",
        sqlite: include_str!("../migrations/sqlite/0010_call_kinds.sql"),
        postgres: include_str!("../migrations/postgres/0010_call_kinds.sql"),
    },
];

impl Migration {
    fn script(&self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Sqlite => self.sqlite,
            Dialect::Postgres => self.postgres,
        }
    }
}

const CREATE_TABLE_SQLITE: &str = "CREATE TABLE IF NOT EXISTS migrations (
    version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum BLOB NOT NULL, applied_at INTEGER NOT NULL
) STRICT";
/// Two replicas that start at once migrate one after the other: the lock goes with the transaction.
const CREATE_TABLE_POSTGRES: &str =
    "SELECT pg_advisory_xact_lock(hashtext('mcp-proxy-gateway migrations'), hashtext(current_schema()));
CREATE TABLE IF NOT EXISTS migrations (
    version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum BYTEA NOT NULL, applied_at BIGINT NOT NULL
)";

/// Applies what is pending and says what that was. All of it or nothing, and with it the seal of a chain of audit
/// events that is older than seals: left without one, it would look tampered with for good.
pub(crate) async fn run(db: &Db, sealer: &Sealer, clock: &Clock) -> Result<Vec<&'static str>, StoreError> {
    let mut transaction = db.begin(Access::Write).await?;
    lock_and_create_table(&mut transaction).await?;
    let applied = check_applied(&mut transaction, MIGRATIONS).await?;
    let mut names = Vec::new();
    for (at, migration) in MIGRATIONS.iter().enumerate().skip(applied) {
        apply(&mut transaction, version(at), migration, clock).await?;
        if migration.name == audit_log::SEALED_SINCE {
            audit_log::seal_unsealed(&mut transaction, sealer).await?;
        }
        names.push(migration.name);
    }
    transaction.commit().await?;
    for name in &names {
        tracing::info!(migration.name = name, "migration applied");
    }
    Ok(names)
}

/// What [`run`] would apply. Changes nothing.
pub(crate) async fn pending(db: &Db) -> Result<Vec<&'static str>, StoreError> {
    // Begun as a writer and rolled back: a database without the table gets it for the moment of asking.
    let mut transaction = db.begin(Access::Write).await?;
    lock_and_create_table(&mut transaction).await?;
    let applied = check_applied(&mut transaction, MIGRATIONS).await?;
    Ok(MIGRATIONS.iter().skip(applied).map(|migration| migration.name).collect())
}

/// The lock: SQLite's writer has it already.
async fn lock_and_create_table(transaction: &mut Transaction) -> Result<(), StoreError> {
    match transaction.dialect() {
        Dialect::Sqlite => transaction.run_script(CREATE_TABLE_SQLITE).await,
        Dialect::Postgres => transaction.run_script(CREATE_TABLE_POSTGRES).await,
    }
}

/// How many were applied, after each was found to be ours.
async fn check_applied(transaction: &mut Transaction, known: &[Migration]) -> Result<usize, StoreError> {
    let select = "SELECT version, checksum FROM migrations ORDER BY version";
    let rows = transaction.run("migrations", select, cells![]).await?.rows;
    if rows.len() > known.len() {
        return Err(StoreError::NewerSchema {
            found: version(rows.len() - 1),
            known: version(known.len() - 1),
        });
    }
    for (at, row) in rows.iter().enumerate() {
        let expected = checksum(known[at].script(transaction.dialect()));
        if row.get::<i64>("version")? != version(at) || row.get::<[u8; 32]>("checksum")? != expected {
            return Err(StoreError::MigrationChanged { version: version(at) });
        }
    }
    Ok(rows.len())
}

async fn apply(
    transaction: &mut Transaction,
    version: i64,
    migration: &Migration,
    clock: &Clock,
) -> Result<(), StoreError> {
    let failed = |source: StoreError| StoreError::Migration { version, source: Box::new(source) };
    let script = migration.script(transaction.dialect());
    transaction.run_script(script).await.map_err(failed)?;
    let insert = "INSERT INTO migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)";
    let cells = cells![version, migration.name, &checksum(script), clock.now()];
    transaction.run("migrations", insert, cells).await.map_err(failed)?;
    Ok(())
}

/// The script of one migration.
#[cfg(test)]
pub(crate) fn script_of(name: &str, dialect: Dialect) -> Option<&'static str> {
    MIGRATIONS.iter().find(|migration| migration.name == name).map(|migration| migration.script(dialect))
}

fn version(at: usize) -> i64 {
    i64::try_from(at + 1).expect("there are few migrations")
}

fn checksum(script: &str) -> [u8; 32] {
    digest(&SHA256, script.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::MasterKey;

    fn sealer() -> Sealer {
        Sealer::new(&MasterKey::from_env_text(MasterKey::generate_hex().expose()).expect("a good key").0)
    }

    /// Both files say the same, but for the names of types and for how a table is laid out: what is
    /// partitioned in Postgres is kept in the order of its key in SQLite. The contract suite compares
    /// what the databases made of them.
    #[test]
    fn both_dialects_have_the_same_tables() {
        for migration in MIGRATIONS {
            let expected: Vec<String> = migration
                .postgres
                .lines()
                .filter(|line| !line.starts_with("--") && !line.ends_with(" DEFAULT;"))
                .map(|line| line.replace(" COLLATE \"C\"", "").replace("BIGINT", "INTEGER"))
                .map(|line| line.replace("BYTEA", "BLOB"))
                .map(|line| match line.as_str() {
                    ");" => ") STRICT;".to_owned(),
                    ") PARTITION BY RANGE (at);" => ") STRICT, WITHOUT ROWID;".to_owned(),
                    _ => line,
                })
                .collect();
            let found: Vec<&str> = migration.sqlite.lines().filter(|line| !line.starts_with("--")).collect();
            assert_eq!(found, expected, "{}", migration.name);
        }
    }

    #[tokio::test]
    async fn a_changed_migration_and_a_newer_schema_are_refused() {
        let db = Db::open(&crate::db::Database::SqliteMemory).await.expect("opens");
        let applied = run(&db, &sealer(), &Clock::system()).await.expect("migrates");
        assert_eq!(applied.len(), MIGRATIONS.len());
        assert!(run(&db, &sealer(), &Clock::system()).await.expect("again").is_empty());

        let edited = || Migration { name: "edited", sqlite: "edited", postgres: "edited" };
        let edited: Vec<Migration> = MIGRATIONS.iter().map(|_| edited()).collect();
        let mut transaction = db.begin(Access::Write).await.expect("begins");
        let refused = check_applied(&mut transaction, &edited).await.expect_err("edited");
        assert!(matches!(refused, StoreError::MigrationChanged { version: 1 }));
        let insert = "INSERT INTO migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)";
        let newer = cells![version(MIGRATIONS.len()), "later", &[0_u8; 32], 0_i64];
        transaction.run("migrations", insert, newer).await.expect("inserts");
        let refused = check_applied(&mut transaction, MIGRATIONS).await.expect_err("newer");
        assert!(matches!(refused, StoreError::NewerSchema { .. }));
    }

    #[tokio::test]
    async fn a_migration_that_fails_leaves_nothing() {
        let db = Db::open(&crate::db::Database::SqliteMemory).await.expect("opens");
        let broken =
            Migration { name: "broken", sqlite: "CREATE TABLE half (a INTEGER); NONSENSE", postgres: "" };
        let mut transaction = db.begin(Access::Write).await.expect("begins");
        lock_and_create_table(&mut transaction).await.expect("creates");
        let refused = apply(&mut transaction, 1, &broken, &Clock::system()).await.expect_err("broken");
        assert!(matches!(refused, StoreError::Migration { version: 1, .. }));
        drop(transaction);
        let mut transaction = db.begin(Access::Write).await.expect("begins");
        let tables = "SELECT name FROM sqlite_schema";
        assert!(transaction.run("sqlite_schema", tables, cells![]).await.expect("reads").rows.is_empty());
    }
}
