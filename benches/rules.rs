//! What 200 rules cost over 10,000 tools: half of them aliases, half filters, half of each regular expressions.
//!
//! Promise: compiling them takes less than 5 ms, and to decide over all 10,000 names less than 50 ms, 5 µs each.
//! Both happen once for a change of the rules or of the lists, off the path of requests.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use proxy::catalog::rules::{CompiledRules, Subject, Verdict};
use sql::model::{
    AliasRule, FilterAction, FilterRule, Kind, MatchOn, OwnerRules, RuleId, RuleKinds, RuleOwner, Timestamp,
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const TOOLS: usize = 10_000;
const RULES: usize = 200;

const NOUNS: [&str; 10] =
    ["file", "issue", "branch", "invoice", "customer", "table", "message", "calendar", "page", "job"];
const VERBS: [&str; 8] = ["get", "list", "create", "update", "delete", "search", "export", "watch"];

fn names() -> Vec<String> {
    let name = |at: usize| format!("{}_{}_{at}", VERBS[at % VERBS.len()], NOUNS[at % NOUNS.len()]);
    (0..TOOLS).map(name).collect()
}

/// An exact name, or an expression that matches some of them.
fn pattern(at: usize) -> (String, bool) {
    if at.is_multiple_of(2) {
        (format!("{}_{}_{}", VERBS[at % VERBS.len()], NOUNS[at % NOUNS.len()], at * 7), false)
    } else {
        (format!("({}|{})_[a-z]+_{}[0-9]*", VERBS[at % VERBS.len()], VERBS[(at + 3) % VERBS.len()], at), true)
    }
}

/// As an admin has them who denies some and renames some; none allows, which would spare the others.
fn rules() -> OwnerRules {
    let aliases = (0..RULES / 2).map(|at| {
        let (pattern, is_regex) = pattern(at);
        AliasRule {
            id: RuleId::at(NOW),
            owner: RuleOwner::All,
            pattern,
            is_regex,
            match_on: MatchOn::Upstream,
            target_name: Some(if is_regex {
                format!("${{1}}_renamed_{at}")
            } else {
                format!("renamed_{at}")
            }),
            target_description: None,
            enabled: true,
            sort_order: 0,
            kinds: RuleKinds::ALL,
            version: 1,
            created_at: NOW,
            updated_at: NOW,
        }
    });
    let filters = (RULES / 2..RULES).map(|at| {
        let (pattern, is_regex) = pattern(at);
        FilterRule {
            id: RuleId::at(NOW),
            owner: RuleOwner::All,
            pattern,
            is_regex,
            match_on: MatchOn::Upstream,
            action: FilterAction::Deny,
            enabled: true,
            sort_order: 0,
            kinds: RuleKinds::ALL,
            version: 1,
            created_at: NOW,
            updated_at: NOW,
        }
    });
    OwnerRules { aliases: aliases.collect(), filters: filters.collect() }
}

/// How many are shown, and how many of those have another name.
fn decide(rules: &CompiledRules, names: &[String]) -> (usize, usize) {
    let subjects = names.iter().map(|name| Subject::upstream(Kind::Tool, name));
    subjects
        .filter(|subject| rules.verdict(subject) == Verdict::Shown)
        .fold((0, 0), |(shown, renamed), subject| {
            (shown + 1, renamed + usize::from(rules.alias(&subject).is_some()))
        })
}

fn apply(criterion: &mut Criterion) {
    let (names, rules) = (names(), rules());
    let compiled = CompiledRules::of(&rules);
    assert!(compiled.bad().is_empty(), "{:?}", compiled.bad());
    let (shown, renamed) = decide(&compiled, &names);
    println!("{shown} of {TOOLS} are shown, {renamed} of them under another name");
    let mut group = criterion.benchmark_group("rules");
    group.sample_size(20);
    group.bench_function("compile 200", |bench| bench.iter(|| CompiledRules::of(black_box(&rules))));
    group
        .bench_function("200 over 10,000 tools", |bench| bench.iter(|| decide(black_box(&compiled), &names)));
    group.finish();
}

criterion_group!(benches, apply);
criterion_main!(benches);
