//! Catalogs for tests.

use std::sync::Arc;

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use sql::model::{
    ConnParams, Definition, DefinitionId, Kind, NewUpstream, Timestamp, Transport, Upstream, UpstreamId,
};

use super::{Catalog, UpstreamLists};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// An upstream with tools of these names.
pub(crate) fn upstream_with(tools: &[String]) -> Arc<UpstreamLists> {
    let params =
        ConnParams::Http { url: "http://peer.test/mcp".into(), headers: std::iter::empty().collect() };
    let new = NewUpstream::named("peer", Transport::StreamableHttp, params);
    let upstream = Arc::new(Upstream::create(new, UpstreamId::at(NOW), NOW));
    let definitions = (0..).zip(tools).map(|(position, name)| tool(&upstream, name, position)).collect();
    Arc::new(UpstreamLists::new(upstream, None, definitions, Vec::new()))
}

/// The catalog of these upstreams.
pub(crate) fn catalog(upstreams: &[Arc<UpstreamLists>]) -> Catalog {
    Catalog::new(1, Arc::default(), upstreams.to_vec())
}

fn tool(upstream: &Upstream, name: &str, position: i64) -> Definition {
    let body = serde_json::json!({"name": name, "inputSchema": {"type": "object", "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"}
    }}});
    let body = Bytes::from(body.to_string());
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &body).as_ref());
    Definition {
        id: DefinitionId::at(NOW),
        upstream_id: upstream.id,
        kind: Kind::Tool,
        upstream_name: name.to_owned(),
        exposed_name: name.to_owned(),
        body,
        hash,
        position,
        enabled: true,
        sort_order: None,
        first_seen_at: NOW,
        changed_at: NOW,
    }
}
