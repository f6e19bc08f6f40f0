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

/// Sizes of a message, each by the length of the one text in it.
const SIZES: [(&str, usize); 3] = [("300 B", 180), ("10 kB", 10_000), ("1 MB", 1_000_000)];

/// A call whose argument is a text of `size` bytes.
fn call(size: usize) -> Bytes {
    let text = "x".repeat(size);
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"files_read","arguments":{{"path":"{text}"}},"_meta":{{"progressToken":7}}}}}}"#
    ))
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope");
    for (name, size) in SIZES {
        let body = call(size);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("parse {name}"), |bench| {
            bench.iter(|| envelope::parse(black_box(body.clone())));
        });
    }
    group.finish();
}

fn splice(criterion: &mut Criterion) {
    let id = Id::number(7);
    let mut group = criterion.benchmark_group("splice");
    for (name, size) in SIZES {
        let body = call(size);
        group.throughput(Throughput::Bytes(body.len() as u64));
        let Ok(Message::Request(request)) = envelope::parse(body) else { panic!("a request") };
        let params = request.params.expect("it has params");
        group.bench_function(format!("name into {name}"), |bench| {
            bench.iter(|| black_box(&params).with(&[(Field::Name, br#""read""#)]));
        });
        let text = "x".repeat(size);
        let result = Bytes::from(format!(r#"{{"content":[{{"type":"text","text":"{text}"}}]}}"#));
        group.bench_function(format!("id around a result of {name}"), |bench| {
            bench.iter(|| compose::result_chain(black_box(&id), result.clone()));
        });
    }
    group.finish();
}

criterion_group!(benches, parse, splice);
criterion_main!(benches);
