//! Whose session with an upstream a call goes over: the shared one, or one of the caller's own.
//!
//! The gateway's own calls (lists, liveness) always go over the shared one, which is there for every
//! upstream. A session of one's own begins with its owner's first call and ends when it has been idle for
//! a while, with the upstream, or with the record that describes it. Of its news only those about
//! its client's tasks are told: lists and resources that change are the shared session's matter.
//!
//! The owner is what a `Conversation` says it is: per session a legacy session, or the key of a modern
//! client, which has none; per key the key of either.
//!
//! A legacy upstream learns in its handshake what clients can be asked, and a modern client says it with each
//! request. One that can be asked some of it and not all is served by a session that declared just this, so
//! that the upstream leaves out, or does in another way, what this client can't answer. It is an addition:
//!
//! - Only where a session is what was asked for, or costs little. A shared child process is one for all: what
//!   one client told it the others shall find there, so it goes on believing that all can be asked, and is
//!   refused what this client can't be. With isolation, children of one's own are expected, and declare it.
//! - A client that can be asked nothing stays where all is declared. 2026-07-28 wants it told which
//!   capability it lacks (-32021), which only the question that is refused reveals.
//! - Where there is no room for one more, or the upstream doesn't take it, what declares all serves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sql::model::{Isolation, Protocol, Transport, Upstream};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::call::{Answer, Call, CallError, GATEWAY};
use super::connection::watched::Watched;
use super::connection::{Connection, Scope, Surroundings};
use super::handshake::Declared;
use super::link::{Era, Roots};
use super::status::Status;
use crate::downstream::abilities::Abilities;
use crate::downstream::conversation::{Conversation, Owner};

/// A session that nobody used for so long is ended.
const IDLE_MAX: Duration = Duration::from_mins(10);
/// How often idle sessions are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// The sessions that declare less than all, for one owner: there are few kinds of clients, and one that
/// says something else with each request shall not fill an upstream with sessions.
const REDUCED_MAX: usize = 6;
/// After an upstream didn't take such a session, the next try waits for this long: each costs a call the time
/// of an attempt.
const REFUSED_FOR: Duration = Duration::from_mins(1);
/// Whose such a session is where all clients share them.
const EVERYONE: Owner = GATEWAY;

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
        let declared = Declared::all(roots);
        let shared = Connection::start(Arc::clone(spec), surroundings.clone(), declared, watched);
        if !spec.enabled || (is_shared && !may_reduce(spec)) {
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
        let is_a_client_s = call.conversation.owner() != GATEWAY;
        match self.own.as_ref().filter(|own| is_a_client_s && own.are_for(&call.conversation)) {
            None => self.shared.call(call).await,
            // Boxed: those who share a session needn't move what it takes.
            Some(own) => Box::pin(own.call(&self.shared, call)).await,
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
        let connection = own.and_then(|own| {
            own.lock().get(&(owner, Abilities::ALL)).and_then(|held| held.connection.clone())
        });
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
            let connections = || sessions.values().filter_map(|held| held.connection.as_ref());
            status.sessions += connections().count();
            status.calls_in_flight += connections().map(|own| own.calls_in_flight()).sum::<usize>();
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
        let connections = own.iter().filter_map(|(_, held)| held.connection.as_ref());
        let own = futures::future::join_all(connections.map(|own| own.ended()));
        futures::join!(self.shared.ended(), own);
    }
}

/// Whether sessions with this upstream may declare less than all: it may be of the legacy era, and another
/// session with it is no second process of one that all were to share.
fn may_reduce(spec: &Upstream) -> bool {
    let is_one_process = spec.transport == Transport::Stdio && spec.isolation == Isolation::Shared;
    !is_one_process && spec.protocol != Protocol::Modern
}

/// The sessions with one upstream that some callers have of their own, each by what it declared.
struct OwnSessions {
    spec: Arc<Upstream>,
    surroundings: Surroundings,
    held: Mutex<HashMap<(Owner, Abilities), Held>>,
}

struct Held {
    /// None for a while where the upstream didn't take it.
    connection: Option<Arc<Connection>>,
    used_at: Instant,
}

impl Held {
    fn of(connection: &Arc<Connection>) -> Self {
        Self { connection: Some(Arc::clone(connection)), used_at: Instant::now() }
    }
}

impl OwnSessions {
    fn of(spec: Arc<Upstream>, mut surroundings: Surroundings) -> Self {
        surroundings.scope = match spec.isolation {
            Isolation::Shared => Scope::SameAbilities,
            Isolation::PerKey | Isolation::PerSession => Scope::OneClient,
        };
        Self { spec, surroundings, held: Mutex::default() }
    }

    /// Whether calls of this client go over one of these, and not over the one that all share.
    fn are_for(&self, client: &Conversation) -> bool {
        self.spec.isolation != Isolation::Shared || self.reduced_to(client).is_some()
    }

    /// Sends one call over the one that it belongs to, or over the `shared` one if there can't be one.
    async fn call(&self, shared: &Connection, mut call: Call) -> Result<Answer, CallError> {
        if let Some(asks) = self.reduced_to(&call.conversation) {
            let began = Instant::now();
            let reduced = self.reduced_session(asks, &call).await;
            call.total_timeout = call.total_timeout.saturating_sub(began.elapsed());
            if let Some(reduced) = reduced {
                return reduced.call(call).await;
            }
        }
        match self.spec.isolation {
            Isolation::Shared => shared.call(call).await,
            Isolation::PerKey | Isolation::PerSession => {
                self.session_for(&call.conversation)?.call(call).await
            }
        }
    }

    /// The session that calls of this client go over, begun if need be.
    fn session_for(&self, client: &Conversation) -> Result<Arc<Connection>, CallError> {
        let owner = self.owner(client);
        let limit = self.limit();
        let mut sessions = self.lock();
        if let Some(held) = sessions.get_mut(&(owner, Abilities::ALL))
            && let Some(connection) = &held.connection
        {
            held.used_at = Instant::now();
            return Ok(Arc::clone(connection));
        }
        if sessions.len() >= limit {
            return Err(CallError::Unavailable { reason: format!("all of its {limit} sessions are in use") });
        }
        // A legacy session is one client; a key may be several, and stands for its modern ones.
        let is_one_client = owner == client.owner() && owner != client.key();
        let roots = if is_one_client { Roots::Declared } else { Roots::OfCalls };
        // Word of resources that change comes over the shared session.
        let (spec, surroundings) = (Arc::clone(&self.spec), self.surroundings.clone());
        let declared = Declared::all(roots);
        let connection = Arc::new(Connection::start(spec, surroundings, declared, Arc::default()));
        sessions.insert((owner, Abilities::ALL), Held::of(&connection));
        Ok(connection)
    }

    /// What a session for this client should declare, where that is less than all.
    fn reduced_to(&self, client: &Conversation) -> Option<Abilities> {
        let asks = client.abilities().filter(|_| may_reduce(&self.spec))?;
        (asks != Abilities::ALL && asks != Abilities::NONE).then_some(asks)
    }

    /// The session that declared just this, once it stands: nothing was sent over it before. None if
    /// there can't be one.
    async fn reduced_session(&self, asks: Abilities, call: &Call) -> Option<Arc<Connection>> {
        let owner = self.owner(&call.conversation);
        let connection = self.reduced(owner, asks)?;
        let stands = call.cancel.run_until_cancelled(timeout(call.total_timeout, connection.peer()));
        match stands.await {
            // A call that nobody wants any more ends there as anywhere.
            Some(Ok(Ok(_))) | None => return Some(connection),
            Some(Ok(Err(error))) => {
                let error = &error as &dyn std::error::Error;
                tracing::info!(upstream.id = %self.spec.id, error, "it takes no session that declares less");
            }
            // The call's time is over, of which nothing follows for others.
            Some(Err(_)) => return None,
        }
        if let Some(held) = self.lock().get_mut(&(owner, asks))
            && held.connection.as_ref().is_some_and(|held| Arc::ptr_eq(held, &connection))
        {
            *held = Held { connection: None, used_at: Instant::now() };
        }
        None
    }

    fn reduced(&self, owner: Owner, asks: Abilities) -> Option<Arc<Connection>> {
        let limit = self.limit();
        let mut sessions = self.lock();
        if let Some(held) = sessions.get_mut(&(owner, asks)) {
            let connection = held.connection.clone()?;
            held.used_at = Instant::now();
            return Some(connection);
        }
        let room = match self.spec.isolation {
            // The shared one counts.
            Isolation::Shared => limit.saturating_sub(1),
            // The rest is kept for owners that have none yet.
            Isolation::PerKey | Isolation::PerSession => limit / 2,
        };
        let of_owner =
            || sessions.keys().filter(|(whose, what)| *whose == owner && *what != Abilities::ALL).count();
        if sessions.len() >= room || of_owner() >= REDUCED_MAX {
            return None;
        }
        // It is known to be a legacy one: nothing needs probing.
        let spec = Arc::new(Upstream { protocol: Protocol::Legacy, ..(*self.spec).clone() });
        let declared = Declared::only(asks);
        let connection =
            Arc::new(Connection::start(spec, self.surroundings.clone(), declared, Arc::default()));
        sessions.insert((owner, asks), Held::of(&connection));
        Some(connection)
    }

    /// Whose sessions the calls of this client go over.
    fn owner(&self, client: &Conversation) -> Owner {
        match self.spec.isolation {
            Isolation::Shared => EVERYONE,
            Isolation::PerKey => client.key(),
            Isolation::PerSession => client.owner(),
        }
    }

    fn limit(&self) -> usize {
        self.surroundings.settings.borrow().limits.sessions_per_upstream as usize
    }

    async fn sweep(&self) {
        let mut ticks = interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            self.lock().retain(|_, held| {
                if held.connection.as_ref().is_some_and(|own| own.calls_in_flight() > 0) {
                    held.used_at = now;
                }
                let kept_for = if held.connection.is_some() { IDLE_MAX } else { REFUSED_FOR };
                now.saturating_duration_since(held.used_at) < kept_for
            });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(Owner, Abilities), Held>> {
        // The map is whole between two statements, so a panic elsewhere can't have broken it.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
