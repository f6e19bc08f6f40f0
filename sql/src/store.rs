//! Opening the database: connect, migrate, check the master key, and hand out transactions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::audit_log;
use crate::call_kinds::KnownKinds;
use crate::changes::{Changes, Hints, Ledger, Written};
use crate::clock::Clock;
use crate::db::{Access, Database, Db, Transaction, cells};
use crate::error::StoreError;
use crate::migrate;
use crate::model::ids::uuid_at;
use crate::seal::{MasterKey, Place, Sealer};
use crate::tx::{Context, Tx};

/// The first and the longest wait between two attempts to reach the database at start.
const RETRY_WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// What the key check holds when it is opened.
const KEY_CHECK: &[u8] = b"the master key of this installation";

/// How to open a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Which database.
    pub database: Database,
    /// What seals its secrets.
    pub master_key: MasterKey,
    /// Keys that were the master key before, and still open what they sealed; at most
    /// [`StoreOptions::PREVIOUS_KEYS_MAX`].
    pub previous_keys: Vec<MasterKey>,
    /// The time.
    pub clock: Clock,
    /// How long a database that doesn't answer is waited for.
    pub start_timeout: Duration,
}

impl StoreOptions {
    /// Previous keys at a time: one change of the key, and some that were begun before and not ended.
    pub const PREVIOUS_KEYS_MAX: usize = 4;

    fn sealer(&self) -> Sealer {
        Sealer::with_previous(&self.master_key, &self.previous_keys)
    }
}

/// What the gateway remembers. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    db: Db,
    context: Arc<Context>,
}

/// How a pool of connections fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolState {
    /// Connections that are open.
    pub open: u64,
    /// Those of them that nobody uses.
    pub idle: u64,
    /// Who waits for one.
    pub waiting: u64,
}

impl Store {
    /// Connects, migrates, and checks that the master key is the one of this database.
    pub async fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let db = connect(&options).await?;
        let sealer = options.sealer();
        migrate::run(&db, &sealer, &options.clock).await?;
        let instance_id = open_installation(&db, &sealer, &options.clock).await?;
        let hints = Hints::default();
        let giver = hints.clone();
        db.listen(instance_id.to_string(), move || giver.give());
        let (clock, ledger, audit_failures) = (options.clock, Ledger::default(), AtomicU64::new(0));
        let call_kinds = KnownKinds::default();
        let context =
            Arc::new(Context { sealer, clock, instance_id, hints, ledger, audit_failures, call_kinds });
        Ok(Self(Arc::new(Inner { db, context })))
    }

    /// Brings a database to this release's schema and says which migrations that took.
    pub async fn migrate(options: &StoreOptions) -> Result<Vec<&'static str>, StoreError> {
        let db = connect(options).await?;
        let applied = migrate::run(&db, &options.sealer(), &options.clock).await;
        db.close().await;
        applied
    }

    /// The migrations that [`Store::migrate`] would apply.
    pub async fn pending_migrations(options: &StoreOptions) -> Result<Vec<&'static str>, StoreError> {
        let db = connect(options).await?;
        let pending = migrate::pending(&db).await;
        db.close().await;
        pending
    }

    /// Begins to read: one consistent snapshot.
    pub async fn read(&self) -> Result<Tx, StoreError> {
        self.transaction(Access::Read).await
    }

    /// Begins to read and write.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        self.transaction(Access::Write).await
    }

    /// Hints that something changed, from now on.
    pub fn changes(&self) -> Changes {
        self.0.context.hints.subscribe()
    }

    /// The last revisions that this process committed. A commit whose outcome is unknown isn't among them.
    pub fn written(&self) -> Written {
        self.0.context.ledger.written()
    }

    /// The clock that the store was opened with.
    pub fn clock(&self) -> &Clock {
        &self.0.context.clock
    }

    /// What seals and unseals, and derives keys for other purposes.
    pub fn sealer(&self) -> &Sealer {
        &self.0.context.sealer
    }

    /// Which installation this is; all replicas of one database are the same.
    pub fn instance_id(&self) -> Uuid {
        self.0.context.instance_id
    }

    /// Events that this process could not write into the audit log, and the acts with them.
    pub fn audit_failures(&self) -> u64 {
        self.0.context.audit_failures.load(Ordering::Relaxed)
    }

    /// Whether the database answers.
    pub async fn healthy(&self) -> Result<(), StoreError> {
        let mut tx = self.read().await?;
        tx.query_one("revision", "SELECT value FROM revision WHERE id = 1", cells![]).await?;
        tx.commit().await
    }

    /// How the pool of connections fares; `None` where there is none.
    pub fn pool(&self) -> Option<PoolState> {
        self.0.db.pool()
    }

    /// Closes every connection and waits until they are closed. Transactions that are under way finish first.
    pub async fn close(&self) {
        self.0.db.close().await;
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.0.context
    }
}

/// Connects, again and again while the database can't be reached and time is left.
async fn connect(options: &StoreOptions) -> Result<Db, StoreError> {
    let deadline = Instant::now() + options.start_timeout;
    let (mut wait, longest) = RETRY_WAITS;
    loop {
        let error = match Db::open(&options.database).await {
            Ok(db) => return Ok(db),
            Err(error) => error,
        };
        if !error.is_transient() || Instant::now() + wait > deadline {
            return Err(error);
        }
        tracing::warn!(error = &error as &dyn std::error::Error, "database not reachable yet, trying again");
        sleep(wait).await;
        wait = (wait * 2).min(longest);
    }
}

/// The installation's id, after the master key opened what it once sealed. The first start makes both.
async fn open_installation(db: &Db, sealer: &Sealer, clock: &Clock) -> Result<Uuid, StoreError> {
    let mut transaction = db.begin(Access::Write).await?;
    insert_installation(&mut transaction, sealer, clock).await?;
    let select = "SELECT instance_id, key_check FROM installation WHERE id = 1";
    let outcome = transaction.run("installation", select, cells![]).await?;
    let row = outcome.rows.first().expect("the row was inserted above if there was none");
    let instance_id: Uuid = row.get("instance_id")?;
    let sealed: String = row.get("key_check")?;
    transaction.commit().await?;
    match sealer.unseal(&sealed, key_check_place(&instance_id.to_string())) {
        Ok(opened) if opened.expose() == KEY_CHECK => Ok(instance_id),
        _ => Err(StoreError::WrongKey),
    }
}

/// Inserts the rows of which there is exactly one, unless another start did.
async fn insert_installation(
    transaction: &mut Transaction,
    sealer: &Sealer,
    clock: &Clock,
) -> Result<(), StoreError> {
    let now = clock.now();
    let instance_id = uuid_at(now).to_string();
    let key_check = sealer.seal(KEY_CHECK, key_check_place(&instance_id));
    let insert = "INSERT INTO installation (id, instance_id, key_check, created_at) VALUES (1, $1, $2, $3)
                  ON CONFLICT (id) DO NOTHING";
    transaction.run("installation", insert, cells![instance_id, key_check, now]).await?;
    audit_log::begin_chain(transaction, sealer).await
}

pub(crate) fn key_check_place(instance_id: &str) -> Place<'_> {
    Place { table: "installation", column: "key_check", row: instance_id }
}
