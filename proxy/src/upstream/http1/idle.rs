//! Connections that wait for their next call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::uri::Authority;
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, sleep_until};

use super::connection::Connection;
use crate::tasks::Tasks;

/// Common servers close an idle connection after 5 s. A call written into that closing is lost and must not be
/// repeated, so ours are given up first.
pub(in crate::upstream) const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// One that waits for longer is asked whether it still stands, which is a system call; before, what the runtime has
/// heard of it will do. A call that is written into one that was closed is lost.
const CERTAIN_FOR: Duration = Duration::from_millis(20);
/// Kept for one origin: as many as the calls of one busy key. With fewer, calls that come in bursts connect anew
/// again and again.
pub(in crate::upstream) const IDLE_PER_ORIGIN_MAX: usize = 256;

/// To whom a connection leads, and which runtime hears of what comes on it: a call of another one would be
/// handed from thread to thread for each of its events.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    authority: Authority,
    runtime: Id,
}

impl Origin {
    /// That of a call on the present runtime.
    pub(super) fn here(authority: Authority) -> Self {
        Self { authority, runtime: Handle::current().id() }
    }
}

/// The connections. Clones share them.
#[derive(Clone)]
pub(super) struct Idle(Arc<Inner>);

struct Inner {
    waiting: Mutex<Waiting>,
    tasks: Tasks,
}

#[derive(Default)]
struct Waiting {
    /// Of each origin, those that came last at the end.
    by_origin: HashMap<Origin, Vec<(Instant, Connection)>>,
    /// Whether somebody will close those that wait for too long.
    is_swept: bool,
}

impl Idle {
    /// None yet.
    pub(super) fn new(tasks: Tasks) -> Self {
        Self(Arc::new(Inner { waiting: Mutex::default(), tasks }))
    }

    /// The one that was used last, if it still stands: so that in quiet times the others can end. What is asked of a
    /// socket, and what closes it, happens outside of the lock, which all calls in clear share.
    pub(super) fn take(&self, origin: &Origin) -> Option<Connection> {
        let oldest = Instant::now().checked_sub(IDLE_TIMEOUT);
        loop {
            let (since, connection) = self.lock().by_origin.get_mut(origin)?.pop()?;
            if oldest.is_some_and(|oldest| since < oldest) {
                // Those below have waited for longer.
                let too_old = self.lock().by_origin.remove(origin);
                drop(too_old);
                return None;
            }
            let is_fresh = since.elapsed() < CERTAIN_FOR;
            if connection.is_quiet() && (is_fresh || connection.is_quiet_for_sure()) {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose last answer was read to its end.
    pub(super) fn put(&self, origin: Origin, mut connection: Connection) {
        if !connection.read.is_empty() {
            return; // What it says unasked for would be taken for the next call's answer.
        }
        connection.rest();
        let mut waiting = self.lock();
        let of_origin = waiting.by_origin.entry(origin).or_default();
        if of_origin.len() >= IDLE_PER_ORIGIN_MAX {
            return;
        }
        of_origin.push((Instant::now(), connection));
        if !waiting.is_swept {
            waiting.is_swept = true;
            let idle = self.clone();
            self.0.tasks.spawn("idle upstream connections", idle.sweep());
        }
    }

    /// Closes those that nobody needed, until there is none.
    async fn sweep(self) {
        let stopping = self.0.tasks.stopping().clone();
        while let Some(first) = self.close_old() {
            tokio::select! {
                () = sleep_until(first + IDLE_TIMEOUT) => {}
                () = stopping.cancelled() => {
                    let mut waiting = self.lock();
                    waiting.by_origin.clear();
                    waiting.is_swept = false;
                    return;
                }
            }
        }
    }

    /// Closes what has waited for too long; since when the oldest of the others waits.
    fn close_old(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut too_old = Vec::new();
        let mut waiting = self.lock();
        waiting.by_origin.retain(|_, of_origin| {
            // Those that came last are at the end.
            let kept_from = of_origin.partition_point(|(since, _)| *since + IDLE_TIMEOUT <= now);
            too_old.extend(of_origin.drain(..kept_from));
            !of_origin.is_empty()
        });
        let first = waiting.by_origin.values().filter_map(|of_origin| of_origin.first());
        let first = first.map(|(since, _)| *since).min();
        waiting.is_swept = first.is_some();
        drop(waiting);
        // Closed now, with nobody waiting for it.
        drop(too_old);
        first
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // It is whole between two statements, so a panic elsewhere can't have broken it.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
