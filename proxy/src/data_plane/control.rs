//! The data plane's answers to the control plane.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use sql::model::{ConnParams, Definition, FieldError, Kind, Transport, Upstream, UpstreamId};

use super::Parts;
use crate::control::{
    Check, ControlPlane, Health, SyncError, SyncReport, TestReport, ToolRow, UpstreamStatus,
};
use crate::sync;
use crate::upstream::call::CallError;

#[async_trait]
impl ControlPlane for Parts {
    fn status(&self, id: UpstreamId) -> Option<UpstreamStatus> {
        self.upstreams.status(id)
    }

    fn statuses(&self) -> Vec<UpstreamStatus> {
        self.upstreams.statuses()
    }

    async fn test(&self, upstream: Upstream) -> TestReport {
        self.upstreams.test(&upstream).await
    }

    async fn sync(&self, id: UpstreamId) -> Result<SyncReport, SyncError> {
        self.syncs.run(id).await.map_err(sync_error)
    }

    fn reconnect(&self, id: UpstreamId) {
        self.upstreams.reconnect(id);
    }

    fn stderr(&self, id: UpstreamId) -> Vec<String> {
        self.upstreams.stderr(id)
    }

    fn checks(&self, id: UpstreamId) -> Vec<Check> {
        self.upstreams.checks(id)
    }

    fn tools(&self) -> Arc<[ToolRow]> {
        let snapshot = self.published.current();
        let mut rows: Vec<ToolRow> = snapshot
            .catalog
            .items(Kind::Tool)
            .iter()
            .map(|item| self.row(&item.upstream, &item.definition))
            .collect();
        rows.sort_by(|a, b| a.exposed_name.cmp(&b.exposed_name));
        rows.into()
    }

    fn check_spec(&self, upstream: &Upstream) -> Vec<FieldError> {
        match (&upstream.conn_params, upstream.transport) {
            (ConnParams::Stdio { .. }, _) | (_, Transport::Stdio) => {
                match self.stdio.check(&upstream.conn_params) {
                    Ok(()) => Vec::new(),
                    Err(problems) => problems,
                }
            }
            (ConnParams::Http { url, .. }, _) => match self.egress.check_url(url) {
                Ok(_) => Vec::new(),
                Err(error) => vec![FieldError::new("/connParams/url", error.to_string())],
            },
        }
    }

    fn health(&self) -> Health {
        let snapshot = self.published.current();
        let statuses = self.upstreams.statuses();
        Health {
            ready: true,
            revision: snapshot.catalog.revision,
            published_at: Some(snapshot.published_at),
            problem: self.published.problem(),
            tools: snapshot.catalog.items(Kind::Tool).len() as u64,
            calls_in_flight: statuses.iter().map(|status| status.calls_in_flight).sum(),
            streams: self.streams.total(),
        }
    }
}

impl Parts {
    fn row(&self, upstream: &Upstream, definition: &Definition) -> ToolRow {
        #[derive(Default, Deserialize)]
        struct Shown {
            title: Option<String>,
            description: Option<String>,
        }
        // A definition with a title of another type is shown without it; it still goes to clients as it came.
        let shown: Shown = serde_json::from_slice(&definition.body).unwrap_or_default();
        ToolRow {
            id: definition.id,
            upstream_id: upstream.id,
            upstream_name: upstream.name.clone(),
            name: definition.upstream_name.clone(),
            exposed_name: definition.exposed_name.clone(),
            title: shown.title,
            description: shown.description,
            enabled: definition.enabled,
            stale: self.upstreams.peer_now(upstream.id).is_none(),
        }
    }
}

fn sync_error(error: sync::SyncError) -> SyncError {
    match error {
        sync::SyncError::Unknown => SyncError::Unknown,
        sync::SyncError::Upstream(error) if matches!(*error, CallError::TimedOut { .. }) => {
            SyncError::TimedOut
        }
        sync::SyncError::Store(error) => SyncError::Store(error),
        other => SyncError::Unavailable { reason: other.to_string() },
    }
}
