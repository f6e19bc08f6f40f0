//! The threads that block so that the runtime doesn't.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Statement};
use tokio::sync::{mpsc, oneshot};

use super::connection::{self, Place};
use super::{WAITING_MAX, error};
use crate::db::row::Rows;
use crate::db::{Access, Cell, Outcome, Value};
use crate::error::StoreError;

/// How long a transaction may be idle before it is rolled back: it keeps all others from writing.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// A transaction that somebody wants.
pub(super) struct Session {
    pub(super) access: Access,
    pub(super) jobs: Receiver<Job>,
    pub(super) ready: oneshot::Sender<Result<(), StoreError>>,
}

/// One thing to do in a transaction, and where its answer goes.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<Done>,
}

/// What came of it.
pub(super) struct Done {
    pub(super) outcome: Result<Outcome, StoreError>,
    /// Dropped by the one who made it: what another thread frees goes back to the system late.
    #[expect(dead_code, reason = "given back, not used")]
    pub(super) work: Work,
}

pub(super) enum Work {
    Statement {
        table: &'static str,
        sql: Arc<str>,
        cells: Vec<Cell>,
    },
    /// The parameters of `sql` stand in the order of their numbers.
    Each {
        sql: Arc<str>,
        count: usize,
        cells: Vec<Cell>,
    },
    Script(&'static str),
    Commit,
}

type Inbox = Arc<Mutex<mpsc::Receiver<Session>>>;

/// Starts `count` threads with a connection each, all fed by one queue. They end when it does.
pub(super) async fn start(
    name: &str,
    count: usize,
    place: &Place,
    access: Access,
    alive: &mpsc::Sender<()>,
) -> Result<mpsc::Sender<Session>, StoreError> {
    let (queue, inbox) = mpsc::channel(WAITING_MAX);
    let inbox: Inbox = Arc::new(Mutex::new(inbox));
    for _ in 0..count {
        let (opened, outcome) = oneshot::channel();
        let (place, inbox, alive) = (place.clone(), Arc::clone(&inbox), alive.clone());
        let work = move || {
            match connection::open(&place, access) {
                Ok(mut connection) => {
                    // If nobody waits any more, the queue is gone as well and the loop ends at once.
                    let _ = opened.send(Ok(()));
                    serve(&mut connection, access, &inbox);
                }
                Err(error) => drop(opened.send(Err(error))),
            }
            drop(alive);
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        outcome.await.map_err(|error| StoreError::Unavailable(Box::new(error)))??;
    }
    Ok(queue)
}

fn serve(connection: &mut Connection, opened_for: Access, inbox: &Inbox) {
    let mut is_set_to = opened_for;
    loop {
        // The guard is held while waiting: the other threads wait for their turn at the queue instead.
        let session = inbox.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(session) = session else { return };
        serve_session(connection, &mut is_set_to, session);
        if !connection.is_autocommit()
            && let Err(error) = connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(error = %error, "rollback failed");
        }
    }
}

fn serve_session(connection: &mut Connection, is_set_to: &mut Access, session: Session) {
    let Session { access, jobs, ready } = session;
    let begun = begin(connection, is_set_to, access).map_err(error::from_sqlite);
    let failed = begun.is_err();
    // A caller that gave up waiting has dropped the other end; its transaction ends here.
    if ready.send(begun).is_err() || failed {
        return;
    }
    loop {
        match jobs.recv_timeout(IDLE_MAX) {
            Ok(Job { work, reply }) => {
                let committing = matches!(work, Work::Commit);
                // Nobody may be waiting for the answer any more: the transaction's end shows next.
                let _ = reply.send(Done { outcome: run(connection, &work), work });
                if committing {
                    return;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!(idle.max_s = IDLE_MAX.as_secs(), "a transaction was idle and is rolled back");
                return;
            }
        }
    }
}

fn begin(connection: &Connection, is_set_to: &mut Access, access: Access) -> rusqlite::Result<()> {
    // Only where it changes, as in memory: SQLite makes every prepared statement anew after a pragma.
    if *is_set_to != access {
        connection::set_read_only(connection, access == Access::Read)?;
        *is_set_to = access;
    }
    connection.execute_batch(match access {
        Access::Read => "BEGIN DEFERRED",
        // Takes the write lock at once, so that no later statement finds it taken.
        Access::Write => "BEGIN IMMEDIATE",
    })
}

fn run(connection: &Connection, work: &Work) -> Result<Outcome, StoreError> {
    match work {
        Work::Statement { table, sql, cells } => run_statement(connection, table, sql, cells),
        Work::Each { sql, count, cells } => run_each(connection, sql, *count, cells),
        Work::Script(script) => {
            connection.execute_batch(script).map_err(error::from_sqlite).map(|()| nothing())
        }
        Work::Commit => connection.execute_batch("COMMIT").map_err(error::from_sqlite).map(|()| nothing()),
    }
}

fn nothing() -> Outcome {
    Outcome { rows: Vec::new(), affected: 0 }
}

fn run_statement(
    connection: &Connection,
    table: &'static str,
    sql: &str,
    cells: &[Cell],
) -> Result<Outcome, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(error::from_sqlite)?;
    let places = places(&statement)?;
    bind(&mut statement, &places, cells)?;
    let mut rows = Rows::new(table, statement.column_names().map(str::to_owned).collect());
    let width = statement.column_count();
    let mut cursor = statement.raw_query();
    while let Some(row) = cursor.next().map_err(error::from_sqlite)? {
        for at in 0..width {
            rows.push(read_value(row.get_ref(at).map_err(error::from_sqlite)?)?);
        }
    }
    drop(cursor);
    // Of a statement that writes; after a read it is the number of the last write, which nobody asks for.
    Ok(Outcome { rows: rows.finish(), affected: connection.changes() })
}

fn run_each(connection: &Connection, sql: &str, count: usize, cells: &[Cell]) -> Result<Outcome, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(error::from_sqlite)?;
    if statement.parameter_count() != count {
        return Err(error::defect("a statement has another number of parameters than it is given"));
    }
    // Not by their names, which SQLite looks for one by one: there may be hundreds.
    let places: Vec<usize> = (0..count).collect();
    let mut affected = 0;
    for some in cells.chunks_exact(count.max(1)) {
        bind(&mut statement, &places, some)?;
        affected += statement.raw_execute().map_err(error::from_sqlite)? as u64;
    }
    Ok(Outcome { rows: Vec::new(), affected })
}

/// Which cell each of a statement's parameters takes, by its name: `$2` is the second, wherever it stands.
fn places(statement: &Statement<'_>) -> Result<Vec<usize>, StoreError> {
    let place = |parameter| {
        let name = statement.parameter_name(parameter).and_then(|name| name.strip_prefix('$'));
        let place = name.and_then(|number| number.parse::<usize>().ok()?.checked_sub(1));
        place.ok_or_else(|| error::defect("a statement has a parameter that isn't $ and a number"))
    };
    (1..=statement.parameter_count()).map(place).collect()
}

fn bind(statement: &mut Statement<'_>, places: &[usize], cells: &[Cell]) -> Result<(), StoreError> {
    if places.len() != cells.len() {
        return Err(error::defect("a statement has another number of parameters than it was given"));
    }
    for (at, &place) in places.iter().enumerate() {
        let cell =
            cells.get(place).ok_or_else(|| error::defect("a statement lacks one of its parameters"))?;
        statement.raw_bind_parameter(at + 1, cell).map_err(error::from_sqlite)?;
    }
    Ok(())
}

fn read_value(value: ValueRef<'_>) -> Result<Value<'_>, StoreError> {
    match value {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(number) => Ok(Value::Integer(number)),
        // What is no text reads as a value of another type, and so as corrupt, with the column's name.
        ValueRef::Text(text) => Ok(std::str::from_utf8(text).map_or(Value::Bytes(text), Value::Text)),
        ValueRef::Blob(bytes) => Ok(Value::Bytes(bytes)),
        ValueRef::Real(_) => Err(error::defect("a statement returned a fraction")),
    }
}
