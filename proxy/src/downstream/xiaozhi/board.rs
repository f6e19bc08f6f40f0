//! What the endpoints of this replica last said of themselves, until it is written where all replicas see it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sql::model::{XiaozhiEndpointId, XiaozhiReport};
use tokio::sync::Notify;

/// The reports. Clones are one board.
#[derive(Clone, Default)]
pub(super) struct Board(Arc<Inner>);

#[derive(Default)]
struct Inner {
    posted: Mutex<BTreeMap<XiaozhiEndpointId, Posted>>,
    changed: Notify,
}

struct Posted {
    report: XiaozhiReport,
    is_written: bool,
}

impl Board {
    /// Replaces what an endpoint said before.
    pub(super) fn post(&self, report: XiaozhiReport) {
        self.posted().insert(report.endpoint_id, Posted { report, is_written: false });
        self.0.changed.notify_one();
    }

    /// Forgets an endpoint, which has ended.
    pub(super) fn remove(&self, id: XiaozhiEndpointId) {
        self.posted().remove(&id);
        self.0.changed.notify_one();
    }

    /// Resolves when something was posted or removed since it last did.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// What is not written yet.
    pub(super) fn unwritten(&self) -> Vec<XiaozhiReport> {
        let posted = self.posted();
        posted.values().filter(|posted| !posted.is_written).map(|posted| posted.report.clone()).collect()
    }

    /// Notes what is written, unless something newer was posted meanwhile.
    pub(super) fn written(&self, reports: &[XiaozhiReport]) {
        let mut posted = self.posted();
        for report in reports {
            if let Some(posted) = posted.get_mut(&report.endpoint_id).filter(|now| now.report == *report) {
                posted.is_written = true;
            }
        }
    }

    fn posted(&self) -> MutexGuard<'_, BTreeMap<XiaozhiEndpointId, Posted>> {
        // Each entry is replaced as a whole.
        self.0.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
