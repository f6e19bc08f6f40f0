//! One upstream: its calls, and what they share with the task that keeps it connected.
//!
//! The path of a call takes no lock that is held for long and never waits for another upstream: the
//! live link is read from an `ArcSwap`. Only a call that finds none wakes the supervisor (`supervisor`)
//! and waits for the one attempt that all such calls share.

mod bulkhead;
mod log_level;
mod shared;
mod shown;
mod subscribe;
mod subscription;
mod supervisor;
pub(crate) mod watched;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sql::clock::Clock;
use sql::model::{Settings, Upstream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use self::shared::{Live, Shared};
use self::watched::Watched;
use super::call::{Answer, Call, CallError, GATEWAY};
use super::handshake::Declared;
use super::link::{Era, Link, OpenError, Wiring};
use super::news::UpstreamEvent;
use super::oauth::Passes;
use super::status::{Check, Status};
use crate::bridge::degraded::Degradations;
use crate::tasks::Tasks;
use crate::wire::meta::LogLevel;

pub use self::shared::Peer;

/// How long a call waits for an upstream to wake.
const WAKE_TIMEOUT: Duration = Duration::from_secs(8);
/// How long the end of a connection is waited for: a child may take 5 s to be killed.
const END_TIMEOUT: Duration = Duration::from_secs(8);

/// Opens transports: the real ones, or a test's.
#[async_trait::async_trait]
pub(crate) trait Opener: Send + Sync {
    /// Opens a transport to this upstream.
    async fn open(&self, spec: &Upstream, wiring: Wiring) -> Result<Arc<dyn Link>, OpenError>;
}

/// What every connection is given.
#[derive(Clone)]
pub(crate) struct Surroundings {
    /// Opens its transport.
    pub(crate) opener: Arc<dyn Opener>,
    /// The settings, as they change.
    pub(crate) settings: watch::Receiver<Arc<Settings>>,
    /// The wall clock, for what admins are shown.
    pub(crate) clock: Clock,
    /// What authorises us at upstreams.
    pub(crate) passes: Passes,
    /// Owner of its tasks.
    pub(crate) tasks: Tasks,
    /// Takes its news.
    pub(crate) events: mpsc::Sender<UpstreamEvent>,
    /// Counts what clients can't be given.
    pub(crate) degraded: Degradations,
    /// Whose news they are.
    pub(crate) scope: Scope,
}

/// Whom a connection serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All clients: it brings the news of the upstream.
    Everyone,
    /// Those who can be asked the same. That a list changed may be told to them alone, so it is news;
    /// all else another connection tells.
    SameAbilities,
    /// One client, or those of one key: of its news nothing concerns others.
    OneClient,
}

/// A supervised connection to one upstream.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Connection {
    /// Starts to connect, unless the upstream is switched off.
    pub(crate) fn start(
        spec: Arc<Upstream>,
        surroundings: Surroundings,
        declared: Declared,
        watched: Arc<Watched>,
    ) -> Self {
        let (stop, tasks, enabled) = (CancellationToken::new(), surroundings.tasks.clone(), spec.enabled);
        let shared = Arc::new(Shared::new(spec, &surroundings, watched));
        if enabled {
            tasks.spawn(
                "upstream supervisor",
                supervisor::run(Arc::clone(&shared), surroundings, declared, stop.clone()),
            );
        } else {
            shared.end();
        }
        Self { shared, stop }
    }

    /// The record it was started with, or the newest one that means the same connection.
    pub(crate) fn spec(&self) -> Arc<Upstream> {
        self.shared.spec.load_full()
    }

    /// Takes a newer record that doesn't ask for another connection.
    pub(crate) fn update(&self, spec: Arc<Upstream>) {
        self.shared.spec.store(spec);
    }

    /// Sends one call. It is dispatched at most once; it is repeated only where nothing was carried out.
    pub(crate) async fn call(&self, mut call: Call) -> Result<Answer, CallError> {
        let began = Instant::now();
        let own = call.conversation.owner() == GATEWAY;
        if !own && self.shared.is_open() {
            return Err(self.shared.unavailable("it failed repeatedly and is left alone for a moment"));
        }
        let _permit = if own { None } else { Some(self.shared.bulkhead.enter(&call).await?) };
        let live = self.awake(None, call.total_timeout, &call.cancel).await?;
        call.total_timeout = call.total_timeout.saturating_sub(began.elapsed());
        // Sessions, and so the need to repeat, are the legacy era's.
        let again = (live.peer.era == Era::Legacy).then(|| call.clone());
        match (self.shared.send(&live, call).await, again) {
            (Err(CallError::SessionUnknown), Some(mut again)) => {
                let next = self.awake(Some(&live), again.total_timeout, &again.cancel).await?;
                if next.peer.era != live.peer.era {
                    return Err(self.shared.unavailable("it speaks another version of the protocol now"));
                }
                again.total_timeout = again.total_timeout.saturating_sub(began.elapsed());
                self.shared.send(&next, again).await
            }
            (outcome, _) => outcome,
        }
    }

    /// Sends one notification, if it is connected.
    pub(crate) async fn notify(&self, method: &str, params: Option<bytes::Bytes>) -> Result<(), CallError> {
        match self.shared.live() {
            Some(live) => live.link.notify(method, params).await,
            None => Err(self.shared.unavailable("it is not connected")),
        }
    }

    /// Has it log at the level that all callers want, if that is another one than it was told.
    pub(crate) fn tell_level(
        &self,
        now: LogLevel,
        level: impl FnOnce() -> Option<LogLevel> + Send + 'static,
    ) -> Option<BoxFuture<'static, ()>> {
        let live = self.shared.live().filter(|live| live.level.is_news(now))?;
        Some(Box::pin(async move { live.level.set(live.link.as_ref(), level).await }))
    }

    /// What it is to tell of.
    pub(crate) fn watched(&self) -> &Arc<Watched> {
        &self.shared.watched
    }

    /// What is spoken with it, if it is connected.
    pub(crate) fn era(&self) -> Option<Era> {
        self.shared.live().map(|live| live.peer.era)
    }

    /// What is spoken with it; wakes it if need be.
    pub(crate) async fn peer(&self) -> Result<Peer, CallError> {
        if let Some(live) = self.shared.live() {
            return Ok(live.peer.clone());
        }
        if self.shared.is_open() {
            return Err(self.shared.unavailable("it failed repeatedly and is left alone for a moment"));
        }
        let live = self.awake(None, WAKE_TIMEOUT, &CancellationToken::new()).await?;
        Ok(live.peer.clone())
    }

    /// The live link; if there is none, or only the `stale` one, the next attempt's.
    async fn awake(
        &self,
        stale: Option<&Live>,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<Arc<Live>, CallError> {
        let stale = stale.map(|live| live.generation);
        let fresh = |shared: &Shared| shared.live().filter(|live| Some(live.generation) != stale);
        if let Some(live) = fresh(&self.shared) {
            return Ok(live);
        }
        let mut pulse = self.shared.pulse.subscribe();
        let seen = pulse.borrow_and_update().answers;
        match stale {
            Some(generation) => self.shared.expired(generation),
            None => self.shared.wake(),
        }
        let woken = pulse.wait_for(|now| {
            now.ended || now.answers > seen || now.live.is_some_and(|live| Some(live) != stale)
        });
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(CallError::Cancelled),
            _ = timeout(limit.min(WAKE_TIMEOUT), woken) => {}
        }
        fresh(&self.shared).ok_or_else(|| self.shared.unavailable("it is not connected"))
    }

    /// Ends what stands, and connects anew at once.
    pub(crate) fn reconnect(&self) {
        self.shared.reconnect();
    }

    /// Calls that wait for an answer, or for a place.
    pub(crate) fn calls_in_flight(&self) -> usize {
        self.shared.calls_in_flight()
    }

    /// How it fares.
    pub(crate) fn status(&self) -> Status {
        self.shared.status()
    }

    /// Its health history, oldest first.
    pub(crate) fn checks(&self) -> Vec<Check> {
        self.shared.checks()
    }

    /// What its child wrote to stderr, of the last one if it has ended.
    pub(crate) fn stderr(&self) -> Vec<String> {
        self.shared.stderr()
    }

    /// Ends it in the background.
    pub(crate) fn end(&self) {
        self.stop.cancel();
    }

    /// Ends it and waits for that, in bounded time.
    pub(crate) async fn ended(&self) {
        self.stop.cancel();
        let mut pulse = self.shared.pulse.subscribe();
        let _ = timeout(END_TIMEOUT, pulse.wait_for(|now| now.ended)).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
