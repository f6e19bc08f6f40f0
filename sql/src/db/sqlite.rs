//! SQLite: one thread that writes and a few that read, each with a connection of its own.
//!
//! rusqlite blocks, so it runs on threads of ours and never on the runtime's. A thread serves one
//! transaction at a time: it takes a [`Session`], begins, runs the statements that come through the
//! session's channel, and rolls back when the channel ends before a commit. So dropping a
//! transaction, even in the middle of an await, leaves nothing behind.

mod connection;
mod error;
mod worker;

use std::path::Path;
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use self::connection::Place;
use self::worker::{Done, Job, Session, Work};
use super::{Access, Cell, Outcome};
use crate::error::{GaveUp, StoreError};

/// Threads that read. Pages of the console and full loads of the catalog are few and short.
const READERS: usize = 3;
/// Transactions that may wait for a thread; more than that, and the wait would time out anyway.
const WAITING_MAX: usize = 256;
/// How long a transaction waits for its turn. Above `busy_timeout`, which another process may use up.
const TURN_WAIT: Duration = Duration::from_secs(6);
/// Statements of one transaction that may wait. It waits for each answer, so only cancelled ones pile up.
const JOBS_MAX: usize = 16;

/// An open SQLite database.
pub(crate) struct Sqlite {
    /// None once closed.
    queues: Mutex<Option<Queues>>,
    /// Ends when the last thread has closed its connection.
    closed: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

#[derive(Clone)]
struct Queues {
    write: mpsc::Sender<Session>,
    read: mpsc::Sender<Session>,
}

impl Sqlite {
    pub(super) async fn open_file(path: &Path) -> Result<Self, StoreError> {
        let place = Place::File(path.to_owned());
        let (alive, closed) = mpsc::channel(1);
        // The writer first: it makes the file and switches it to WAL before a reader looks at it.
        let write = worker::start("sql-write", 1, &place, Access::Write, &alive).await?;
        let read = worker::start("sql-read", READERS, &place, Access::Read, &alive).await?;
        Ok(Self::new(Queues { write, read }, closed))
    }

    pub(super) async fn open_memory() -> Result<Self, StoreError> {
        let (alive, closed) = mpsc::channel(1);
        let queue = worker::start("sql-memory", 1, &Place::Memory, Access::Write, &alive).await?;
        Ok(Self::new(Queues { write: queue.clone(), read: queue }, closed))
    }

    fn new(queues: Queues, closed: mpsc::Receiver<()>) -> Self {
        Self { queues: Mutex::new(Some(queues)), closed: tokio::sync::Mutex::new(closed) }
    }

    pub(super) async fn begin(&self, access: Access) -> Result<Transaction, StoreError> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let queues = queues.ok_or_else(|| StoreError::gave_up(GaveUp::Closed))?;
        let queue = match access {
            Access::Read => queues.read,
            Access::Write => queues.write,
        };
        let (jobs, inbox) = blocking::sync_channel(JOBS_MAX);
        let (ready, begun) = oneshot::channel();
        queue.try_send(Session { access, jobs: inbox, ready }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => StoreError::gave_up(GaveUp::TooManyWaiting),
            mpsc::error::TrySendError::Closed(_) => StoreError::gave_up(GaveUp::Closed),
        })?;
        match timeout(TURN_WAIT, begun).await {
            Ok(Ok(begun)) => begun.map(|()| Transaction { jobs }),
            Ok(Err(_)) => Err(StoreError::gave_up(GaveUp::Closed)),
            Err(_) => Err(StoreError::gave_up(GaveUp::NoConnection)),
        }
    }

    pub(super) async fn close(&self) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Nothing is ever sent: this ends when the last thread has dropped its sender.
        self.closed.lock().await.recv().await;
    }
}

/// A transaction that a thread holds open for us; dropping it ends its channel, and so rolls it back.
pub(crate) struct Transaction {
    jobs: blocking::SyncSender<Job>,
}

impl Transaction {
    pub(super) async fn run(
        &mut self,
        table: &'static str,
        sql: &str,
        cells: Vec<Cell>,
    ) -> Result<Outcome, StoreError> {
        let sql = Arc::from(sql);
        self.ask(|reply| Job { work: Work::Statement { table, sql, cells }, reply }).await
    }

    /// Runs one statement with every `count` cells; how many rows it wrote in all.
    pub(super) async fn run_each(
        &mut self,
        sql: &str,
        count: usize,
        cells: Vec<Cell>,
    ) -> Result<u64, StoreError> {
        let sql = Arc::from(sql);
        let done = self.ask(|reply| Job { work: Work::Each { sql, count, cells }, reply }).await?;
        Ok(done.affected)
    }

    pub(super) async fn run_script(&mut self, script: &'static str) -> Result<(), StoreError> {
        self.ask(|reply| Job { work: Work::Script(script), reply }).await.map(drop)
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        self.ask(|reply| Job { work: Work::Commit, reply }).await.map(drop)
    }

    async fn ask(&self, job: impl FnOnce(oneshot::Sender<Done>) -> Job) -> Result<Outcome, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(job(reply)).map_err(|refused| match refused {
            blocking::TrySendError::Full(_) => StoreError::gave_up(GaveUp::TooManyWaiting),
            // The thread ended the session: the transaction was idle for too long.
            blocking::TrySendError::Disconnected(_) => StoreError::gave_up(GaveUp::Idle),
        })?;
        answer.await.map_or_else(|_| Err(StoreError::gave_up(GaveUp::Idle)), |done| done.outcome)
    }
}
