//! One endpoint that this replica holds: dialled, served, and dialled again, until it is to be no more.
//!
//! It lives no longer than its lease. A lease that can't be renewed ends here before it ends in the database,
//! so that whoever takes it over never finds this socket still open.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sql::clock::Clock;
use sql::model::{Settings, XiaozhiEndpoint, XiaozhiFault, XiaozhiReport, XiaozhiState};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::board::Board;
use super::closing::{Ending, Failures};
use super::serve::{self, End};
use super::shown::Shown;
use super::socket::{self, Socket};
use crate::access::{Caller, Keys};
use crate::downstream::dispatch::Dispatch;
use crate::refusal::Refusal;
use crate::tasks::Tasks;
use crate::upstream::backoff;
use crate::upstream::dial::Dialler;

/// How often a key that may not be used is looked at again, in memory.
const KEY_LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two connections that are made only because the list changed: an upstream that comes and goes must
/// not cut off a robot all the time.
const CHANGE_EVERY: Duration = Duration::from_secs(10);
const BYTES_PER_MIB: usize = 1024 * 1024;

/// What every endpoint needs.
pub(super) struct Shared {
    pub(super) dispatch: Arc<Dispatch>,
    pub(super) keys: Keys,
    pub(super) dialler: Dialler,
    pub(super) settings: watch::Receiver<Arc<Settings>>,
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
    /// Cancelled when no more requests are accepted.
    pub(super) draining: CancellationToken,
    /// This replica, as a holder of leases.
    pub(super) holder: Uuid,
    pub(super) board: Board,
}

/// What its holder is told of one endpoint.
pub(super) struct Orders {
    /// What it is to be like.
    pub(super) endpoint: watch::Receiver<Arc<XiaozhiEndpoint>>,
    /// Until when it is held.
    pub(super) until: watch::Receiver<Instant>,
    /// Cancelled when it is to be no more.
    pub(super) over: CancellationToken,
}

/// Why something is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// It is to be no more, or the process ends.
    Over,
    /// The lease couldn't be renewed.
    LeaseLost,
    /// The process is about to end: what runs may finish.
    Draining,
    /// It is to be otherwise, or an admin asks for it.
    Anew,
}

/// An endpoint on its way from one attempt to the next.
pub(super) struct Dialled {
    pub(super) shared: Arc<Shared>,
    pub(super) endpoint: Arc<XiaozhiEndpoint>,
    orders: Orders,
    failures: Failures,
    /// What went wrong last, as long as it matters.
    trouble: Option<Ending>,
    has_drained: bool,
}

/// Whether there is to be another attempt.
type GoesOn = bool;

impl Dialled {
    pub(super) fn new(shared: Arc<Shared>, mut orders: Orders) -> Self {
        let endpoint = Arc::clone(&orders.endpoint.borrow_and_update());
        let (failures, trouble) = (Failures::default(), None);
        Self { shared, endpoint, orders, failures, trouble, has_drained: false }
    }

    /// Runs until it is to be no more, or isn't held any more.
    pub(super) async fn run(mut self) {
        let mut may_change_at = Instant::now();
        while !self.shared.draining.is_cancelled() {
            let goes_on = match self.shared.keys.acting(self.endpoint.key_id, self.shared.clock.now()) {
                Err(refusal) => self.wait_for_key(&refusal).await,
                Ok(caller) => self.attempt(caller, &mut may_change_at).await,
            };
            if !goes_on {
                break;
            }
        }
        self.shared.board.remove(self.endpoint.id);
    }

    async fn attempt(&mut self, caller: Caller, may_change_at: &mut Instant) -> GoesOn {
        self.report(XiaozhiState::Connecting, None, None);
        let began = Instant::now();
        let (socket, peer) = match self.open().await {
            Ok(Ok(opened)) => opened,
            Ok(Err(ending)) => return self.wait_after(ending, Duration::ZERO).await,
            Err(stop) => return self.stopped(stop),
        };
        let id = self.endpoint.id;
        tracing::info!(xiaozhi.id = %id, "broker connected");
        let end = serve::serve(self, caller, socket, peer, *may_change_at).await;
        tracing::info!(xiaozhi.id = %id, xiaozhi.end = ?end, "broker connection closed");
        match end {
            End::Failed(ending) => self.wait_after(ending, began.elapsed()).await,
            End::KeyInvalid(refusal) => self.wait_for_key(&refusal).await,
            End::Changed => {
                *may_change_at = Instant::now() + CHANGE_EVERY;
                true
            }
            End::Stopped(stop) => self.stopped(stop),
        }
    }

    async fn open(&mut self) -> Result<Result<(Socket, Option<IpAddr>), Ending>, Stop> {
        let (shared, endpoint) = (Arc::clone(&self.shared), Arc::clone(&self.endpoint));
        let bytes_max = shared.settings.borrow().mcp_api.request_body_max_mib as usize * BYTES_PER_MIB;
        tokio::select! {
            biased;
            stop = self.stop() => Err(stop),
            opened = socket::open(&endpoint, &shared.dialler, bytes_max) => Ok(opened),
        }
    }

    /// Waits before the next attempt, unless an admin wants it at once.
    async fn wait_after(&mut self, ending: Ending, lived: Duration) -> GoesOn {
        let wait = self.failures.another(&ending, lived, backoff::jitter());
        let id = self.endpoint.id;
        let seconds = wait.as_secs();
        if ending.is_alarming() {
            tracing::warn!(xiaozhi.id = %id, xiaozhi.wait_s = seconds, "broker unavailable: {}", ending.words);
        } else {
            tracing::info!(xiaozhi.id = %id, xiaozhi.wait_s = seconds, "broker unavailable: {}", ending.words);
        }
        self.trouble = Some(ending);
        let next = self.shared.clock.now().plus(wait);
        self.report(XiaozhiState::Unavailable, Some(next), None);
        let stop = tokio::select! {
            stop = self.stop() => stop,
            () = sleep(wait) => return true,
        };
        self.stopped(stop)
    }

    /// Waits for its key to be of use.
    async fn wait_for_key(&mut self, refusal: &Refusal) -> GoesOn {
        let words = match refusal {
            Refusal::KeyDisabled => "the key it acts as is disabled",
            Refusal::KeyExpired => "the key it acts as has expired",
            _ => "the key it acts as is gone",
        };
        self.trouble = Some(Ending::new(XiaozhiFault::KeyInvalid, words));
        self.report(XiaozhiState::Unavailable, None, None);
        loop {
            let stop = tokio::select! {
                stop = self.stop() => stop,
                () = sleep(KEY_LOOK_EVERY) => {
                    if self.shared.keys.acting(self.endpoint.key_id, self.shared.clock.now()).is_ok() {
                        self.trouble = None;
                        return true;
                    }
                    continue;
                }
            };
            return self.stopped(stop);
        }
    }

    fn stopped(&mut self, stop: Stop) -> GoesOn {
        if stop == Stop::Anew {
            self.failures.forget();
            self.trouble = None;
        }
        stop == Stop::Anew
    }

    /// Resolves when what goes on is to be stopped. That the process is about to end is told once.
    pub(super) async fn stop(&mut self) -> Stop {
        loop {
            tokio::select! {
                biased;
                () = self.orders.over.cancelled() => return Stop::Over,
                () = self.shared.tasks.stopping().cancelled() => return Stop::Over,
                () = is_over(&mut self.orders.until) => return Stop::LeaseLost,
                () = self.shared.draining.cancelled(), if !self.has_drained => {
                    self.has_drained = true;
                    return Stop::Draining;
                }
                changed = self.orders.endpoint.changed() => {
                    if changed.is_err() {
                        return Stop::Over;
                    }
                    let wanted = Arc::clone(&self.orders.endpoint.borrow_and_update());
                    let is_other = is_other(&self.endpoint, &wanted);
                    self.endpoint = wanted;
                    if is_other {
                        return Stop::Anew;
                    }
                }
            }
        }
    }

    /// There is a live socket, and this is what it is shown.
    pub(super) fn connected(&mut self, shown: &Shown) {
        self.trouble = None;
        self.report(XiaozhiState::Connected, None, Some(shown));
    }

    fn report(
        &self,
        state: XiaozhiState,
        next_attempt_at: Option<sql::model::Timestamp>,
        shown: Option<&Shown>,
    ) {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.shared.board.post(XiaozhiReport {
            endpoint_id: self.endpoint.id,
            holder: self.shared.holder,
            state,
            since: self.shared.clock.now(),
            fault: self.trouble.as_ref().map(|trouble| trouble.fault),
            close_code: self.trouble.as_ref().and_then(|trouble| trouble.code).map(u32::from),
            last_error: self.trouble.as_ref().map(|trouble| trouble.words.clone()),
            next_attempt_at,
            tools_shown: shown.map(|shown| count(shown.count())),
            tools_total: shown.map(|shown| count(shown.total)),
        });
    }
}

/// Resolves when the lease has not been renewed in time.
async fn is_over(until: &mut watch::Receiver<Instant>) {
    loop {
        let end = *until.borrow_and_update();
        tokio::select! {
            () = sleep_until(end) => return,
            renewed = until.changed() => if renewed.is_err() { return },
        }
    }
}

/// Whether a connection that was made for one does not do for the other. What it is called doesn't matter.
fn is_other(former: &XiaozhiEndpoint, now: &XiaozhiEndpoint) -> bool {
    let kept = |endpoint: &XiaozhiEndpoint| XiaozhiEndpoint {
        name: former.name.clone(),
        version: former.version,
        updated_at: former.updated_at,
        ..endpoint.clone()
    };
    kept(former) != kept(now)
}
