//! Which log messages legacy upstreams are asked for.
//!
//! `logging/setLevel` is a wish of one session, and a shared upstream has one level for all. So an
//! upstream is asked for the least severe level that any session wants, and each session is given
//! what it asked for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use sql::model::{Era, UpstreamId};

use super::live::LiveSessions;
use crate::tasks::Tasks;
use crate::upstream::call::Call;
use crate::upstream::status::Status;
use crate::upstream::{ConnectionState, Upstreams};
use crate::wire::meta::LogLevel;

/// How long an upstream may take to note a level; it isn't waited for by anybody.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The answer is an empty object.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// Tells upstreams the level.
#[derive(Clone)]
pub struct LogLevels {
    upstreams: Upstreams,
    live: LiveSessions,
    tasks: Tasks,
    /// What each upstream was told last, so that a client that says its level again and again costs the
    /// upstreams nothing.
    told: Arc<DashMap<UpstreamId, LogLevel>>,
}

impl LogLevels {
    /// `live` knows what sessions want.
    pub fn new(upstreams: Upstreams, live: LiveSessions, tasks: Tasks) -> Self {
        Self { upstreams, live, tasks, told: Arc::default() }
    }

    /// Tells every legacy upstream that logs and was told another level, without waiting for it.
    pub fn tell_all(&self) {
        let Some(level) = self.live.least_level() else { return };
        let statuses = self.upstreams.statuses();
        self.told.retain(|id, _| statuses.contains_key(id));
        for (id, status) in statuses {
            if is_legacy_and_logs(&status) && self.told.get(&id).is_none_or(|told| *told != level) {
                self.send(id, level);
            }
        }
    }

    /// Tells one upstream that has just connected, if it is a legacy one that logs and any session named
    /// a level.
    pub fn tell(&self, id: UpstreamId) {
        let Some(level) = self.live.least_level() else { return };
        if self.upstreams.status(id).is_some_and(|status| is_legacy_and_logs(&status)) {
            self.send(id, level);
        }
    }

    fn send(&self, id: UpstreamId, level: LogLevel) {
        self.told.insert(id, level);
        let params = Bytes::from(format!(r#"{{"level":"{level}"}}"#));
        let (upstreams, told) = (self.upstreams.clone(), Arc::clone(&self.told));
        self.tasks.spawn("log level", async move {
            let call = Call::own("logging/setLevel", params, TIMEOUT, RESPONSE_BYTES_MAX);
            if let Err(error) = upstreams.call(id, call).await {
                told.remove(&id);
                tracing::debug!(upstream.id = %id, error = &error as &dyn std::error::Error, "log level not taken");
            }
        });
    }
}

fn is_legacy_and_logs(status: &Status) -> bool {
    #[derive(serde::Deserialize)]
    struct Capabilities {
        logging: Option<serde::de::IgnoredAny>,
    }
    let capabilities = status.capabilities.as_ref();
    let logs = capabilities.and_then(|raw| serde_json::from_str::<Capabilities>(raw.get()).ok());
    status.state == ConnectionState::Available
        && status.era == Some(Era::Legacy)
        && logs.is_some_and(|capabilities| capabilities.logging.is_some())
}
