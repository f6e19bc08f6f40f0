//! A database for one test, gone when the test is.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures::FutureExt as _;
use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::model::secret::Secret;
use crate::model::time::Timestamp;
use crate::{Clock, Database, MasterKey, Store, StoreError, StoreOptions};

/// The Postgres that the suite runs on.
pub(super) const DSN_VARIABLE: &str = "MPG_TEST_PG_DSN";
/// Every migration.
pub(super) const MIGRATIONS: [&str; 10] = [
    "0001_initial",
    "0002_oauth",
    "0003_rules",
    "0004_calls",
    "0005_quotas",
    "0006_statistics",
    "0007_audit",
    "0008_xiaozhi",
    "0009_shared_admin_state",
    "0010_call_kinds",
];
pub(super) const KEY: &str = "hex:8f1d0c5ba4e79632d85e1f7a0b3c6d9e24a5b8c7f0e1d2c3b4a5968778695a4b";
pub(super) const OTHER_KEY: &str = "hex:0b3c6d9e24a5b8c7f0e1d2c3b4a5968778695a4b8f1d0c5ba4e79632d85e1f7a";

/// An open store on a database of its own, with a clock that stands still.
pub(super) struct TestDatabase {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) database: Database,
}

impl TestDatabase {
    pub(super) async fn open(database: Database) -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_767_323_045_678));
        let store = open(&database, KEY, &clock).await.expect("opens");
        Self { store, clock, database }
    }

    /// Another process's store on the same database.
    pub(super) async fn open_another(&self, key: &str) -> Result<Store, StoreError> {
        open(&self.database, key, &self.clock).await
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

pub(super) fn options(database: &Database, key: &str, clock: &Clock) -> StoreOptions {
    StoreOptions {
        database: database.clone(),
        master_key: MasterKey::from_env_text(key).expect("a good key").0,
        previous_keys: Vec::new(),
        clock: clock.clone(),
        start_timeout: Duration::ZERO,
    }
}

async fn open(database: &Database, key: &str, clock: &Clock) -> Result<Store, StoreError> {
    Store::open(options(database, key, clock)).await
}

/// Runs a test on SQLite in memory.
pub(super) async fn on_memory(test: impl AsyncFnOnce(&TestDatabase)) {
    run(Database::SqliteMemory, test).await;
}

/// Runs a test on SQLite in a file, where readers stand beside the writer.
pub(super) async fn on_file(test: impl AsyncFnOnce(&TestDatabase)) {
    let folder = tempfile::tempdir().expect("a folder");
    run(Database::Sqlite { path: folder.path().join("gateway.db") }, test).await;
}

/// Runs a test on Postgres in a schema of its own, if there is a Postgres.
pub(super) async fn on_postgres(test: impl AsyncFnOnce(&TestDatabase)) {
    let Ok(dsn) = std::env::var(DSN_VARIABLE) else { return };
    let schema = format!("test_{}", Uuid::now_v7().simple());
    run_sql(&dsn, &format!("CREATE SCHEMA {schema}")).await;
    let database = Database::Postgres { dsn: Secret::new(with_search_path(&dsn, &schema)) };
    let outcome = AssertUnwindSafe(run(database, test)).catch_unwind().await;
    run_sql(&dsn, &format!("DROP SCHEMA {schema} CASCADE")).await;
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

async fn run(database: Database, test: impl AsyncFnOnce(&TestDatabase)) {
    let database = TestDatabase::open(database).await;
    test(&database).await;
    database.store.close().await;
}

/// The DSN with a schema of its own, and a name to find its connections by.
fn with_search_path(dsn: &str, schema: &str) -> String {
    if dsn.contains("://") {
        let separator = if dsn.contains('?') { '&' } else { '?' };
        format!("{dsn}{separator}options=-c%20search_path%3D{schema}&application_name={schema}")
    } else {
        format!("{dsn} options='-c search_path={schema}' application_name={schema}")
    }
}

/// Runs statements outside of any store.
pub(super) async fn run_sql(dsn: &str, sql: &str) {
    let (client, connection) = dsn
        .parse::<tokio_postgres::Config>()
        .expect("a DSN")
        .connect(NoTls)
        .await
        .expect("the Postgres of the tests answers");
    tokio::select! {
        done = client.batch_execute(sql) => done.expect("the statements work"),
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}

/// Turns each `async fn name(db: &TestDatabase)` into a module with one test per database.
macro_rules! on_each_database {
    ($($(#[$meta:meta])* async fn $name:ident($db:ident) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn check($db: &crate::tests::harness::TestDatabase) $body

            /// A handler's future moves between threads: those of the store must be able to.
            const _: fn(&crate::tests::harness::TestDatabase) = |db| {
                fn is_send(_: impl Send) {}
                is_send(check(db));
            };

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite_in_memory() {
                crate::tests::harness::on_memory(check).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                crate::tests::harness::on_postgres(check).await;
            }
        }
    )+};
}
pub(super) use on_each_database;

/// The same for tests that hold several transactions at once, which SQLite in memory can't.
macro_rules! on_each_shared_database {
    ($($(#[$meta:meta])* async fn $name:ident($db:ident) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn check($db: &crate::tests::harness::TestDatabase) $body

            /// A handler's future moves between threads: those of the store must be able to.
            const _: fn(&crate::tests::harness::TestDatabase) = |db| {
                fn is_send(_: impl Send) {}
                is_send(check(db));
            };

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_a_sqlite_file() {
                crate::tests::harness::on_file(check).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                crate::tests::harness::on_postgres(check).await;
            }
        }
    )+};
}
pub(super) use on_each_shared_database;
