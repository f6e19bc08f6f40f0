//! Whose session with an upstream a call goes over: the shared one, or one of the caller's own.
//!
//! The gateway's own calls (lists, liveness) always go over the shared one, which is there for every
//! upstream. A session of one's own begins with its owner's first call and ends when it has been idle for
//! a while, with the upstream, or with the record that describes it. Of its news only those about
//! its client's tasks are told: lists and resources that change are the shared session's matter.
//!
//! The owner is what a `Conversation` says it is: per session a legacy session, or the key of a modern
//! client, which has none; per key the key of either.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sql::model::{Isolation, Upstream};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::call::{Answer, Call, CallError, GATEWAY};
use super::connection::watched::Watched;
use super::connection::{Connection, Scope, Surroundings};
use super::link::{Era, Roots};
use super::status::Status;
use crate::downstream::conversation::{Conversation, Owner};

/// A session that nobody used for so long is ended.
const IDLE_MAX: Duration = Duration::from_mins(10);
/// How often idle sessions are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// One upstream, however many sessions it is given.
pub(crate) struct Served {
    shared: Connection,
    own: Option<Arc<OwnSessions>>,
    _sweeping: Option<DropGuard>,
}

impl Served {
    /// Starts to connect, unless the upstream is switched off.
    pub(crate) fn start(spec: &Arc<Upstream>, surroundings: &Surroundings, watched: Arc<Watched>) -> Self {
        let is_shared = spec.isolation == Isolation::Shared;
        let roots = if is_shared { Roots::OfCalls } else { Roots::Undeclared };
        let shared = Connection::start(Arc::clone(spec), surroundings.clone(), roots, watched);
        if !spec.enabled || is_shared {
            return Self { shared, own: None, _sweeping: None };
        }
        let own = Arc::new(OwnSessions::of(Arc::clone(spec), surroundings.clone()));
        let stop = CancellationToken::new();
        let (swept, stopped, stopping) =
            (Arc::clone(&own), stop.clone(), surroundings.tasks.stopping().clone());
        surroundings.tasks.spawn("upstream sessions", async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = stopping.cancelled() => {}
                () = swept.sweep() => {}
            }
        });
        Self { shared, own: Some(own), _sweeping: Some(stop.drop_guard()) }
    }

    /// The shared connection: its state is the upstream's.
    pub(crate) fn shared(&self) -> &Connection {
        &self.shared
    }

    /// Sends one call over the session that it belongs to.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, CallError> {
        let owner = call.conversation.owner();
        match &self.own {
            Some(own) if owner != GATEWAY => own.session_for(&call.conversation)?.call(call).await,
            _ => self.shared.call(call).await,
        }
    }

    /// Sends one notification over the shared session.
    pub(crate) async fn notify(&self, method: &str, params: Option<Bytes>) -> Result<(), CallError> {
        self.shared.notify(method, params).await
    }

    /// Sends one notification over the session that is this client's own, if it has one that is spoken in
    /// the legacy era: in the modern one clients notify nothing.
    pub(crate) async fn notify_own(&self, owner: Owner, method: &str, params: Option<Bytes>) {
        let own = self.own.as_ref().filter(|own| own.spec.isolation == Isolation::PerSession);
        let connection = own.and_then(|own| own.lock().get(&owner).map(|held| Arc::clone(&held.connection)));
        let Some(connection) = connection.filter(|own| own.era() == Some(Era::Legacy)) else { return };
        if let Err(error) = connection.notify(method, params).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a client's notification was lost");
        }
    }

    /// How it fares.
    pub(crate) fn status(&self) -> Status {
        let mut status = self.shared.status();
        if let Some(own) = &self.own {
            let sessions = own.lock();
            status.sessions += sessions.len();
            status.calls_in_flight +=
                sessions.values().map(|held| held.connection.calls_in_flight()).sum::<usize>();
        }
        status
    }

    /// Connects anew, all sessions.
    pub(crate) fn reconnect(&self) {
        self.shared.reconnect();
        if let Some(own) = &self.own {
            own.lock().clear();
        }
    }

    /// Ends all sessions in the background.
    pub(crate) fn end(&self) {
        self.shared.end();
        if let Some(own) = &self.own {
            own.lock().clear();
        }
    }

    /// Ends all sessions and waits for that, in bounded time.
    pub(crate) async fn ended(&self) {
        let own: Vec<_> = self.own.iter().flat_map(|own| own.lock().drain().collect::<Vec<_>>()).collect();
        let own = futures::future::join_all(own.iter().map(|(_, held)| held.connection.ended()));
        futures::join!(self.shared.ended(), own);
    }
}

/// The sessions that callers of one upstream have of their own.
struct OwnSessions {
    spec: Arc<Upstream>,
    surroundings: Surroundings,
    held: Mutex<HashMap<Owner, Held>>,
}

struct Held {
    connection: Arc<Connection>,
    used_at: Instant,
}

impl OwnSessions {
    fn of(spec: Arc<Upstream>, mut surroundings: Surroundings) -> Self {
        surroundings.scope = Scope::OneClient;
        Self { spec, surroundings, held: Mutex::default() }
    }

    /// The session that calls of this client go over, begun if need be.
    fn session_for(&self, client: &Conversation) -> Result<Arc<Connection>, CallError> {
        let owner = match self.spec.isolation {
            Isolation::PerKey => client.key(),
            Isolation::PerSession | Isolation::Shared => client.owner(),
        };
        let limit = self.surroundings.settings.borrow().limits.sessions_per_upstream as usize;
        let mut sessions = self.lock();
        if let Some(held) = sessions.get_mut(&owner) {
            held.used_at = Instant::now();
            return Ok(Arc::clone(&held.connection));
        }
        if sessions.len() >= limit {
            return Err(CallError::Unavailable { reason: format!("all of its {limit} sessions are in use") });
        }
        // A legacy session is one client; a key may be several, and stands for its modern ones.
        let is_one_client = owner == client.owner() && owner != client.key();
        let roots = if is_one_client { Roots::Declared } else { Roots::OfCalls };
        // Word of resources that change comes over the shared session.
        let (spec, surroundings) = (Arc::clone(&self.spec), self.surroundings.clone());
        let connection = Arc::new(Connection::start(spec, surroundings, roots, Arc::default()));
        sessions.insert(owner, Held { connection: Arc::clone(&connection), used_at: Instant::now() });
        Ok(connection)
    }

    async fn sweep(&self) {
        let mut ticks = interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            self.lock().retain(|_, held| {
                if held.connection.calls_in_flight() > 0 {
                    held.used_at = now;
                }
                now.saturating_duration_since(held.used_at) < IDLE_MAX
            });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Owner, Held>> {
        // The map is whole between two statements, so a panic elsewhere can't have broken it.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
