//! Catalogs for tests.

use std::sync::Arc;

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use sql::model::{
    AliasRule, ConnParams, Definition, DefinitionId, FilterAction, FilterRule, Kind, MatchOn, NewUpstream,
    RuleId, RuleKinds, RuleOwner, Timestamp, Transport, Upstream, UpstreamId,
};

use super::{Catalog, UpstreamLists};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// An upstream that nothing is known of.
pub(crate) fn upstream() -> Upstream {
    let params =
        ConnParams::Http { url: "http://peer.test/mcp".into(), headers: std::iter::empty().collect() };
    let new = NewUpstream::named("peer", Transport::StreamableHttp, params);
    Upstream::create(new, UpstreamId::at(NOW), NOW)
}

/// An upstream with tools of these names.
pub(crate) fn upstream_with(tools: &[String]) -> Arc<UpstreamLists> {
    let upstream = Arc::new(upstream());
    let definitions = (0..).zip(tools).map(|(position, name)| tool(&upstream, name, position)).collect();
    Arc::new(UpstreamLists::new(upstream, None, definitions, Vec::new()))
}

/// The catalog of these upstreams.
pub(crate) fn catalog(upstreams: &[Arc<UpstreamLists>]) -> Catalog {
    Catalog::new(1, Arc::default(), upstreams.to_vec())
}

/// A rule that denies, or allows, the names that an expression matches.
pub(crate) fn filter(owner: RuleOwner, action: FilterAction, pattern: &str) -> FilterRule {
    FilterRule {
        id: RuleId::at(NOW),
        owner,
        pattern: pattern.to_owned(),
        is_regex: true,
        match_on: MatchOn::Upstream,
        action,
        enabled: true,
        sort_order: 0,
        kinds: RuleKinds::ALL,
        version: 1,
        created_at: NOW,
        updated_at: NOW,
    }
}

/// A rule that gives the names that an expression matches another.
pub(crate) fn alias(owner: RuleOwner, pattern: &str, target: &str) -> AliasRule {
    AliasRule {
        id: RuleId::at(NOW),
        owner,
        pattern: pattern.to_owned(),
        is_regex: true,
        match_on: MatchOn::Upstream,
        target_name: Some(target.to_owned()),
        target_description: None,
        enabled: true,
        sort_order: 0,
        kinds: RuleKinds::ALL,
        version: 1,
        created_at: NOW,
        updated_at: NOW,
    }
}

/// A tool as an upstream has it, under its own name.
pub(crate) fn tool(upstream: &Upstream, name: &str, position: i64) -> Definition {
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
