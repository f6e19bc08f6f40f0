//! What reading and answering one message costs, apart from any socket.
//!
//! Promise: a message of 300 B is read in about half a microsecond, an answer is put around a result
//! in less than a tenth of one, and neither depends on the size of what only passes through but for
//! the one scan that validates it.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use proxy::wire::compose;
use proxy::wire::envelope::{self, Field, Message};
use proxy::wire::ids::Id;

/// A call whose argument is a text of `size` bytes.
fn call(size: usize) -> Bytes {
    let text = "x".repeat(size);
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"files_read","arguments":{{"path":"{text}"}},"_meta":{{"progressToken":7}}}}}}"#
    ))
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope");
    for (name, size) in [("300 B", 180), ("10 kB", 10_000), ("1 MB", 1_000_000)] {
        let body = call(size);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("parse {name}"), |bench| {
            bench.iter(|| envelope::parse(black_box(body.clone())));
        });
    }
    group.finish();
}

fn splice(criterion: &mut Criterion) {
    let Ok(Message::Request(request)) = envelope::parse(call(180)) else { panic!("a request") };
    let params = request.params.expect("it has params");
    let result = Bytes::from_static(br#"{"content":[{"type":"text","text":"done"}]}"#);
    let id = Id::number(7);
    let mut group = criterion.benchmark_group("splice");
    group.bench_function("name", |bench| {
        bench.iter(|| black_box(&params).with(&[(Field::Name, br#""read""#)]));
    });
    group.bench_function("result", |bench| {
        bench.iter(|| compose::result_chain(black_box(&id), result.clone()));
    });
    group.finish();
}

criterion_group!(benches, parse, splice);
criterion_main!(benches);
