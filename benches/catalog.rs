//! What a view of 10,000 tools costs: to find a tool in it, to write a page of it, to make it.
//!
//! Promise: a name is found in less than 1 µs, and a page of 500 is gathered in less than 50 µs, whether the
//! view has rules of its own or not. A view of a key with rules takes less than 100 ms, off the path of requests.

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use proxy::catalog::rules::SharedRules;
use proxy::catalog::{Audience, Catalog, Policy, Snapshot, Source, UpstreamLists, lists};
use ring::digest::{SHA256, digest};
use sql::model::{
    ApiKey, ApiKeyId, ConnParams, Definition, DefinitionId, FilterAction, FilterRule, Kind, MatchOn,
    NewUpstream, OwnerRules, PlaintextKey, RuleId, RuleKinds, RuleOwner, Timestamp, Transport, Upstream,
    UpstreamId,
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const UPSTREAMS: usize = 20;
const TOOLS_EACH: i64 = 500;
const RULES: usize = 20;

/// An upstream with tools as they are: some 500 bytes each.
fn upstream(number: usize) -> Arc<UpstreamLists> {
    let url = "http://peer.test/mcp".into();
    let params = ConnParams::Http { url, headers: std::iter::empty().collect() };
    let new = NewUpstream::named(format!("upstream {number}"), Transport::StreamableHttp, params);
    let upstream = Arc::new(Upstream::create(new, UpstreamId::at(NOW), NOW));
    let definition = |position| {
        let name = format!("service_{number}_tool_{position}");
        let body = format!(
            r#"{{"name":"{name}","description":"{}","inputSchema":{{"type":"object","properties":{{"path":{{"type":"string"}},"limit":{{"type":"integer"}}}},"required":["path"]}}}}"#,
            "What it does, and when to use it. ".repeat(10)
        );
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, body.as_bytes()).as_ref());
        Arc::new(Definition {
            id: DefinitionId::at(NOW),
            upstream_id: upstream.id,
            kind: Kind::Tool,
            upstream_name: name.clone(),
            exposed_name: name,
            body: Bytes::from(body),
            hash,
            position,
            enabled: true,
            sort_order: None,
            first_seen_at: NOW,
            changed_at: NOW,
        })
    };
    let definitions = (0..TOOLS_EACH).map(definition).collect();
    let source = Source {
        upstream: Arc::clone(&upstream),
        info: None,
        definitions,
        states: Vec::new(),
        claims: Vec::new(),
        held: HashSet::new(),
    };
    Arc::new(UpstreamLists::of(&source, &SharedRules::default()))
}

/// A key that is denied every tenth tool, by so many rules; or none.
fn policy(rules: usize) -> Policy {
    let key = ApiKey::create(ApiKeyId::at(NOW), "key", &PlaintextKey::generate(), NOW);
    let filter = |number| FilterRule {
        id: RuleId::at(NOW),
        owner: RuleOwner::Key(key.id),
        pattern: format!("service_{number}_tool_[0-9]*7"),
        is_regex: true,
        match_on: MatchOn::Upstream,
        action: FilterAction::Deny,
        enabled: true,
        sort_order: 0,
        kinds: RuleKinds::ALL,
        version: 1,
        created_at: NOW,
        updated_at: NOW,
    };
    Policy::of(&key, OwnerRules { aliases: Vec::new(), filters: (0..rules).map(filter).collect() })
}

fn snapshot(upstreams: &[Arc<UpstreamLists>]) -> Snapshot {
    Snapshot::new(Catalog::new(1, Arc::default(), upstreams.to_vec()), NOW)
}

fn view(criterion: &mut Criterion) {
    let upstreams: Vec<_> = (0..UPSTREAMS).map(upstream).collect();
    let whole = snapshot(&upstreams);
    let names: Vec<String> =
        whole.catalog.items(Kind::Tool).map(|item| item.exposed_name.to_string()).collect();
    let mut group = criterion.benchmark_group("view of 10,000 tools");
    for (kind, rules) in [("without rules", 0), ("with 20 rules", RULES)] {
        let policy = policy(rules);
        let view = whole.view(&policy);
        println!("{kind}: {} tools", view.count(Kind::Tool));
        group
            .bench_function(format!("get it, {kind}"), |bench| bench.iter(|| whole.view(black_box(&policy))));
        let mut name = names.iter().cycle();
        group.bench_function(format!("find a name, {kind}"), |bench| {
            bench.iter(|| view.route(Kind::Tool, name.next().expect("without end")).is_some());
        });
        let first = lists::page(&view, Kind::Tool, Audience::Plain, None).expect("a page");
        let cursor = first.next_cursor.expect("there are more");
        let cursors = [("first", None), ("second", Some(cursor.as_str()))];
        for (which, cursor) in cursors {
            group.bench_function(format!("{which} page of 500, {kind}"), |bench| {
                bench.iter(|| {
                    lists::page(&view, Kind::Tool, Audience::Plain, cursor).map(|page| page.slices.len())
                });
            });
        }
        group.sample_size(10);
        group.bench_function(format!("make it, {kind}"), |bench| {
            let fresh = || snapshot(&upstreams);
            bench.iter_batched_ref(fresh, |fresh| fresh.view(&policy), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, view);
criterion_main!(benches);
