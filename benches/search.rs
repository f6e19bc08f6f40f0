//! What finding a tool among 5,000 costs, and what it costs to build the index for them.
//!
//! Promise: a question is answered in less than 2 ms, the slowest of a hundred too; the index, which is
//! built once for a list and off the path of requests, takes a fraction of a second.

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use proxy::catalog::search::{Document, Index};

const TOOLS: [&str; 7] = [
    include_str!("../proxy/src/catalog/search/benchmark/tools/code.tsv"),
    include_str!("../proxy/src/catalog/search/benchmark/tools/talk.tsv"),
    include_str!("../proxy/src/catalog/search/benchmark/tools/data.tsv"),
    include_str!("../proxy/src/catalog/search/benchmark/tools/ops.tsv"),
    include_str!("../proxy/src/catalog/search/benchmark/tools/business.tsv"),
    include_str!("../proxy/src/catalog/search/benchmark/tools/life.tsv"),
    include_str!("../proxy/src/catalog/search/benchmark/tools/chinese.tsv"),
];
const QUESTIONS: &str = include_str!("../proxy/src/catalog/search/benchmark/questions.tsv");

const TOOLS_MAX: usize = 5000;
const LIMIT: usize = 50;

struct Tool {
    name: String,
    description: &'static str,
    parameters: Vec<String>,
}

/// The tools of the search's own benchmark, as often as it takes, each time under other names.
fn tools() -> Vec<Tool> {
    let lines = || TOOLS.into_iter().flat_map(str::lines).filter(|line| !line.starts_with('@'));
    let tool = |round: usize, line: &'static str| {
        let mut columns = line.split('\t');
        let mut next = || columns.next().unwrap_or_default();
        let (name, description) = (format!("{}_{round}", next()), next());
        Tool { name, description, parameters: next().split(',').map(str::to_owned).collect() }
    };
    (0..).flat_map(|round| lines().map(move |line| tool(round, line))).take(TOOLS_MAX).collect()
}

fn index(tools: &[Tool]) -> Index {
    Index::of(tools.iter().map(|tool| Document {
        name: &tool.name,
        title: "",
        description: tool.description,
        parameters: &tool.parameters,
        upstream: "an upstream",
        tags: &[],
    }))
}

fn search(criterion: &mut Criterion) {
    let tools = tools();
    let index = index(&tools);
    let questions: Vec<&str> = QUESTIONS.lines().filter_map(|line| line.split('\t').next()).collect();
    let mut times: Vec<_> = questions
        .iter()
        .cycle()
        .take(10 * questions.len())
        .map(|question| {
            let started = Instant::now();
            black_box(index.search(question, LIMIT));
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100];
    println!("{} questions: p50 {:?}, p99 {:?}; {} bytes", times.len(), at(50), at(99), index.bytes());
    let mut group = criterion.benchmark_group("search");
    let mut question = questions.iter().cycle();
    group.bench_function("a question over 5,000 tools", |bench| {
        bench.iter(|| index.search(question.next().expect("without end"), LIMIT).len());
    });
    group.sample_size(10);
    group.bench_function("build 5,000 tools", |bench| bench.iter(|| self::index(&tools).bytes()));
    group.finish();
}

criterion_group!(benches, search);
criterion_main!(benches);
