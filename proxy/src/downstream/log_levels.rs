//! Which log messages legacy upstreams are asked for.
//!
//! `logging/setLevel` is a wish of one session, and a shared upstream has one level for all. So an
//! upstream is asked for the least severe level that any session wants, and each session is given
//! what it asked for.

use std::time::Duration;

use bytes::Bytes;
use sql::model::{Era, UpstreamId};

use super::live::LiveSessions;
use crate::upstream::Upstreams;
use crate::upstream::call::Call;
use crate::wire::edit::Object;

/// How long an upstream may take to note a level; it isn't waited for by anybody.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The answer is an empty object.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// Tells upstreams the level.
#[derive(Clone)]
pub struct LogLevels {
    upstreams: Upstreams,
    live: LiveSessions,
}

impl LogLevels {
    /// `live` knows what sessions want.
    pub fn new(upstreams: Upstreams, live: LiveSessions) -> Self {
        Self { upstreams, live }
    }

    /// Tells every legacy upstream that logs, without waiting for it.
    pub fn tell_all(&self) {
        for status in self.upstreams.statuses() {
            self.tell(status.id);
        }
    }

    /// Tells one upstream, if it is a legacy one that logs and any session named a level.
    pub fn tell(&self, id: UpstreamId) {
        let Some(level) = self.live.least_level() else { return };
        let Some(peer) = self.upstreams.peer_now(id) else { return };
        let logs =
            Object::parse(&peer.capabilities).is_ok_and(|capabilities| capabilities.get("logging").is_some());
        if peer.era != Era::Legacy || !logs {
            return;
        }
        let params = Bytes::from(format!(r#"{{"level":"{level}"}}"#));
        let upstreams = self.upstreams.clone();
        self.upstreams.tasks().spawn("log level", async move {
            let call = Call::own("logging/setLevel", params, TIMEOUT, RESPONSE_BYTES_MAX);
            if let Err(error) = upstreams.call(id, call).await {
                tracing::debug!(upstream.id = %id, error = &error as &dyn std::error::Error, "log level not taken");
            }
        });
    }
}
