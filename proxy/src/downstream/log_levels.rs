//! Which log messages legacy upstreams are asked for.
//!
//! `logging/setLevel` is a wish of one session, and a shared upstream has one level for all. So an
//! upstream is asked for the least severe level that any session wants, those that named none
//! included, and each session is given what it asked for. What a call needs beyond that is asked for when
//! the call is made; here is what holds between calls.

use sql::model::UpstreamId;

use super::live::LiveSessions;
use super::log_feed::LEVEL_DEFAULT;
use crate::tasks::Tasks;
use crate::upstream::Upstreams;
use crate::wire::meta::LogLevel;

/// Tells upstreams the level.
#[derive(Clone)]
pub struct LogLevels {
    upstreams: Upstreams,
    live: LiveSessions,
    tasks: Tasks,
}

impl LogLevels {
    /// `live` knows what sessions want.
    pub fn new(upstreams: Upstreams, live: LiveSessions, tasks: Tasks) -> Self {
        Self { upstreams, live, tasks }
    }

    /// Tells every legacy upstream that logs and was told another level, without waiting for it.
    pub fn tell_all(&self) {
        let Some(level) = least(&self.live) else { return };
        for id in self.upstreams.ids() {
            self.tell_that(id, level);
        }
    }

    /// Tells one upstream that has just connected, if it is a legacy one that logs and any session named
    /// a level.
    pub fn tell(&self, id: UpstreamId) {
        if let Some(level) = least(&self.live) {
            self.tell_that(id, level);
        }
    }

    fn tell_that(&self, id: UpstreamId, level: LogLevel) {
        let live = self.live.clone();
        if let Some(telling) = self.upstreams.tell_level(id, level, move || least(&live)) {
            self.tasks.spawn("log level", telling);
        }
    }
}

/// The least severe level that any session wants; none if no session named one.
fn least(live: &LiveSessions) -> Option<LogLevel> {
    live.least_level().map(|level| level.min(LEVEL_DEFAULT))
}
