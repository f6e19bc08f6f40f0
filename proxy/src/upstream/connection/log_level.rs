//! What a legacy upstream is asked to log: a level for the whole link, so the least severe that any of its
//! callers wants.
//!
//! It is told before the call that needs it is sent, so that nothing of that call is missed, and stays at
//! least so for as long as the call runs. Levels are told one after the other, so that the last one told is
//! the one that holds. A link that is opened anew has been told nothing.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::Mutex;

use super::shared::Peer;
use crate::upstream::call::Call;
use crate::upstream::link::{Era, Link};
use crate::wire::meta::LogLevel;

/// How long an upstream may take to note a level: calls wait for it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The answer is an empty object.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// No level holds: none was told, or one is being told.
const NONE: u8 = u8::MAX;

/// How many levels there are.
const LEVELS: usize = 8;

/// The level of one link.
///
/// A raise and a call that begins could miss each other. So a raise first says that no level holds and then
/// looks which calls run, and a call is first entered and then looks which level holds: of the two,
/// one sees the other.
pub(super) struct LinkLevel {
    /// Whether there is anything to tell: a legacy upstream that logs.
    is_told: bool,
    /// The level that holds.
    told: AtomicU8,
    /// The calls that run, by the level they need.
    running: [AtomicUsize; LEVELS],
    /// One at a time.
    telling: Mutex<()>,
}

/// A call that runs, and needs its level meanwhile.
pub(super) struct Needed<'a>(&'a AtomicUsize);

impl LinkLevel {
    pub(super) fn of(peer: &Peer) -> Self {
        #[derive(Deserialize)]
        struct Capabilities {
            logging: Option<IgnoredAny>,
        }
        let capabilities = serde_json::from_slice::<Capabilities>(&peer.capabilities);
        let logs = capabilities.is_ok_and(|capabilities| capabilities.logging.is_some());
        Self {
            is_told: logs && peer.era == Era::Legacy,
            told: AtomicU8::new(NONE),
            running: Default::default(),
            telling: Mutex::default(),
        }
    }

    /// Whether this level is another one than holds.
    pub(super) fn is_news(&self, level: LogLevel) -> bool {
        self.is_told && self.told.load(Ordering::SeqCst) != level as u8
    }

    /// Sees to it that a call gets what it wants: at least this level was told when this returns, and holds
    /// until what it returns is dropped.
    pub(super) async fn reach(&self, link: &dyn Link, level: LogLevel) -> Needed<'_> {
        let running = &self.running[level as usize];
        running.fetch_add(1, Ordering::SeqCst);
        let needed = Needed(running);
        let reached = || self.told.load(Ordering::SeqCst) <= level as u8;
        if self.is_told && !reached() {
            let _alone = self.telling.lock().await;
            if !reached() {
                self.tell(link, level as u8).await;
            }
        }
        needed
    }

    /// Tells the level that all callers want, which is asked for when its turn has come.
    pub(super) async fn set(&self, link: &dyn Link, level: impl FnOnce() -> Option<LogLevel> + Send) {
        let _alone = self.telling.lock().await;
        let before = self.told.swap(NONE, Ordering::SeqCst);
        let needed = self.running.iter().position(|calls| calls.load(Ordering::SeqCst) > 0);
        let needed = needed.and_then(|level| u8::try_from(level).ok()).unwrap_or(NONE);
        match level().map(|level| needed.min(level as u8)) {
            Some(level) if level != before => self.tell(link, level).await,
            _ => self.told.store(before, Ordering::SeqCst),
        }
    }

    async fn tell(&self, link: &dyn Link, level: u8) {
        let Some(name) = LogLevel::at(level) else { return };
        // Should this be dropped half-way, nothing is known to hold.
        self.told.store(NONE, Ordering::SeqCst);
        let params = Bytes::from(format!(r#"{{"level":"{name}"}}"#));
        let call = Call::own("logging/setLevel", params, TIMEOUT, ANSWER_BYTES_MAX);
        if let Err(error) = link.request(call).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "log level not taken");
        }
        // An upstream that doesn't take it isn't asked by every call.
        self.told.store(level, Ordering::SeqCst);
    }
}

impl Drop for Needed<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
