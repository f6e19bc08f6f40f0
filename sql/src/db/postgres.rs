//! Postgres: a pool whose every wait has an end, and one connection of its own that listens.
//!
//! A transaction holds a pooled connection. Dropping it queues a `ROLLBACK` behind whatever runs,
//! so locks go at once; a connection that failed is taken out of the pool instead.

mod dsn;
mod error;
mod hosts;
mod tls;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use futures::{FutureExt as _, TryStreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::types::Type;

use self::dsn::Dsn;
pub(super) use self::hosts::{Hosts, Wire};
use self::tls::Tls;
use super::row::Rows;
use super::{Access, Cell, Outcome, Value, listen};
use crate::error::{GaveUp, StoreError};
use crate::model::secret::Secret;
use crate::store::PoolState;

/// Connections: the admin API, the follower and the jobs; no call of a client waits for one.
const CONNECTIONS_MAX: usize = 16;
/// How long a free connection is waited for.
const FREE_WAIT: Duration = Duration::from_secs(1);
/// How long making a connection may take, with its log-in.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// How long a pooled connection has to prove that it lives.
const RECYCLE_WAIT: Duration = Duration::from_secs(2);
/// How long a connection out of the pool is waited for. Of a server that says nothing any more each idle one
/// would be asked in turn, so after this time all of them are thrown away and a new one is made.
const POOLED_WAIT: Duration = Duration::from_secs(3);
/// How long an answer may take: above the server's own limit, for a server that says nothing any more.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Idle time, distance and number of the probes that find a dead peer.
const KEEPALIVES: (Duration, Duration, u32) = (Duration::from_secs(10), Duration::from_secs(5), 3);
/// How long sent bytes may stay unacknowledged.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
/// Limits that the server keeps: a statement's time, and how long a transaction may idle on its locks.
const SESSION_LIMITS: &str = "SET statement_timeout = 5000; SET idle_in_transaction_session_timeout = 30000";

/// A pool of connections to Postgres.
pub(crate) struct Postgres {
    hosts: Hosts,
    pool: Pool,
    /// True ends the listener; so does dropping it.
    stop: watch::Sender<bool>,
    listener: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Postgres {
    pub(super) async fn open(dsn: &Secret<String>) -> Result<Self, StoreError> {
        let (config, tls) = configure(dsn)?;
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Verified };
        let hosts = Hosts::of(&config, tls);
        let manager = Manager::from_connect(config, hosts.clone(), manager_config);
        let limit_session = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
            Box::pin(async { client.batch_execute(SESSION_LIMITS).await.map_err(HookError::Backend) })
        });
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS_MAX)
            .wait_timeout(Some(FREE_WAIT))
            .create_timeout(Some(CONNECT_WAIT))
            .recycle_timeout(Some(RECYCLE_WAIT))
            .runtime(Runtime::Tokio1)
            .post_create(limit_session)
            .build()
            .map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        let postgres = Self { hosts, pool, stop: watch::Sender::new(false), listener: Mutex::new(None) };
        drop(postgres.connection().await.map_err(tls::opening_error)?);
        Ok(postgres)
    }

    async fn connection(&self) -> Result<Object, PoolError> {
        if let Ok(found) = timeout(POOLED_WAIT, self.pool.get()).await {
            return found;
        }
        self.pool.retain(|_, _| false);
        self.pool.get().await
    }

    /// How the pool fares.
    pub(super) fn pool(&self) -> PoolState {
        let status = self.pool.status();
        PoolState { open: status.size as u64, idle: status.available as u64, waiting: status.waiting as u64 }
    }

    pub(super) async fn begin(&self, access: Access) -> Result<Transaction, StoreError> {
        // Once it was opened, whatever keeps us from the server may go away, a bad certificate too.
        let connection = self.connection().await.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        let mut transaction = Transaction { connection: Some(connection), state: State::Open };
        let begin = match access {
            Access::Read => "START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            Access::Write => "START TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE",
        };
        transaction.batch(begin).await?;
        Ok(transaction)
    }

    pub(super) fn listen(&self, instance: String, hint: impl Fn() + Send + 'static) {
        let ended = listen::start(self.hosts.clone(), instance, hint, self.stop.subscribe());
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = ended;
    }

    pub(super) async fn close(&self) {
        self.pool.close();
        self.stop.send_replace(true);
        let ended = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut ended) = ended {
            ended.recv().await;
        }
    }
}

fn configure(dsn: &Secret<String>) -> Result<(Config, Tls), StoreError> {
    let dsn = Dsn::split(dsn.expose()).ok_or(StoreError::InvalidDsn)?;
    // The parser's own error may quote the DSN, and with it the password.
    let mut config: Config = dsn.rest.expose().parse().map_err(|_| StoreError::InvalidDsn)?;
    let tls = tls::configure(&dsn.tls, &mut config)?;
    let (idle, interval, retries) = KEEPALIVES;
    config
        .connect_timeout(CONNECT_WAIT)
        .keepalives(true)
        .keepalives_idle(idle)
        .keepalives_interval(interval)
        .keepalives_retries(retries)
        .tcp_user_timeout(UNACKNOWLEDGED_MAX)
        .target_session_attrs(TargetSessionAttrs::ReadWrite);
    if config.get_application_name().is_none() {
        config.application_name("mcp-proxy-gateway");
    }
    Ok((config, tls))
}

/// What dropping a transaction has to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Roll back.
    Open,
    /// Nothing: it was committed.
    Ended,
    /// Throw the connection away.
    Broken,
}

/// A transaction on a pooled connection.
pub(crate) struct Transaction {
    /// There until it is dropped.
    connection: Option<Object>,
    state: State,
}

impl Transaction {
    pub(super) async fn run(
        &mut self,
        table: &'static str,
        sql: &str,
        cells: Vec<Cell>,
    ) -> Result<Outcome, StoreError> {
        let outcome = timeout(ANSWER_WAIT, run_statement(self.connection(), table, sql, cells)).await;
        self.judge(outcome)
    }

    pub(super) async fn run_script(&mut self, script: &'static str) -> Result<(), StoreError> {
        // A migration may take its time; it is another process's start that waits.
        let script = format!("SET LOCAL statement_timeout = 0;\n{script}");
        let outcome = self.connection().batch_execute(&script).await;
        self.judge(Ok(outcome))
    }

    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        let outcome = self.batch("COMMIT").await;
        if outcome.is_ok() {
            self.state = State::Ended;
        }
        outcome
    }

    async fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        let outcome = timeout(ANSWER_WAIT, self.connection().batch_execute(sql)).await;
        self.judge(outcome)
    }

    fn connection(&self) -> &Object {
        self.connection.as_ref().expect("the connection is there until the drop")
    }

    /// The error of a statement; one that the connection won't get over breaks it.
    fn judge<T>(
        &mut self,
        outcome: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, StoreError> {
        match outcome {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                if error::breaks_connection(&error) {
                    self.state = State::Broken;
                }
                Err(error::from_postgres(error))
            }
            Err(_) => {
                self.state = State::Broken;
                Err(StoreError::gave_up(GaveUp::Slow))
            }
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        match self.state {
            State::Ended => {}
            State::Broken => drop(Object::take(connection)),
            // The first poll puts the request into the connection's queue; the answer interests nobody,
            // and the pool's check before the next use waits behind it.
            State::Open => drop(connection.batch_execute("ROLLBACK").now_or_never()),
        }
    }
}

async fn run_statement(
    connection: &Object,
    table: &'static str,
    sql: &str,
    cells: Vec<Cell>,
) -> Result<Outcome, tokio_postgres::Error> {
    let statement = connection.prepare_cached(sql).await?;
    let columns = statement.columns().iter().map(|column| column.name().to_owned()).collect();
    let stream = connection.query_raw(&statement, cells).await?;
    tokio::pin!(stream);
    let mut rows = Rows::new(table, columns);
    while let Some(row) = stream.try_next().await? {
        for at in 0..row.len() {
            rows.push(read_value(&row, at)?);
        }
    }
    Ok(Outcome { rows: rows.finish(), affected: stream.rows_affected().unwrap_or_default() })
}

fn read_value(row: &tokio_postgres::Row, at: usize) -> Result<Value<'_>, tokio_postgres::Error> {
    let ty = row.columns()[at].type_();
    let value = match *ty {
        Type::INT8 => row.try_get::<_, Option<i64>>(at)?.map(Value::Integer),
        Type::INT4 => row.try_get::<_, Option<i32>>(at)?.map(i64::from).map(Value::Integer),
        Type::BYTEA => row.try_get::<_, Option<&[u8]>>(at)?.map(Value::Bytes),
        // Of any other type this is the driver's own error, which names the type.
        _ => row.try_get::<_, Option<&str>>(at)?.map(Value::Text),
    };
    Ok(value.unwrap_or(Value::Null))
}
