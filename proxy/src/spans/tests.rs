//! Ids, which traces are kept, and from when to when an upstream has a call.

use std::collections::HashSet;

use http::HeaderMap;

use super::*;
use crate::trace::TraceContext;

fn spans(ratio: f64) -> Spans {
    let endpoint = Uri::from_static("http://127.0.0.1:9/v1/traces");
    let (headers, resource) = (Vec::new(), Vec::new());
    Spans::new(SpanOptions { endpoint, headers, timeout: Duration::from_secs(1), resource, ratio })
}

fn said(flags: &str) -> Traced {
    let parent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
    let headers = HeaderMap::from_iter([
        (HeaderName::from_static("traceparent"), HeaderValue::from_str(&parent).expect("a value")),
        (HeaderName::from_static("tracestate"), HeaderValue::from_static("vendor=1")),
    ]);
    Traced::InHeaders(TraceContext::of_headers(&headers).expect("it is one"))
}

#[tokio::test]
async fn no_id_comes_twice() {
    let (one, other) = (Ids::new(), Ids::new());
    let mut seen = HashSet::new();
    for ids in [&one, &other] {
        for _ in 0..10_000 {
            assert!(seen.insert(hex(&ids.trace())) && seen.insert(hex(&ids.span())));
        }
    }
}

#[tokio::test]
async fn a_client_decides_for_its_trace_and_the_ratio_for_others() {
    let (all, half, none) = (spans(1.0), spans(0.5), spans(0.0));
    for spans in [&all, &half, &none] {
        assert!(spans.begin(Some(&said("01")), AskedAs::default()).is_some());
        assert!(spans.begin(Some(&said("03")), AskedAs::default()).is_some(), "other flags say nothing");
        assert!(spans.begin(Some(&said("00")), AskedAs::default()).is_none());
    }
    let kept = |spans: &Spans| (0..2_000).filter(|_| spans.begin(None, AskedAs::default()).is_some()).count();
    assert_eq!((kept(&all), kept(&none)), (2_000, 0));
    let half = kept(&half);
    assert!((850..1_150).contains(&half), "{half}");
}

#[tokio::test]
async fn an_upstream_is_told_the_lower_span_and_all_else_that_was_said() {
    let span = spans(1.0).begin(Some(&said("01")), AskedAs::default()).expect("is recorded");
    let told = span.passed_on(Some(said("01")));
    let told: Vec<_> = told.headers().map(|(name, value)| format!("{name}: {value:?}")).collect();
    let id = hex(&span.client_id);
    let parent = format!("traceparent: \"00-0af7651916cd43dd8448eb211c80319c-{id}-01\"");
    assert_eq!(told, [parent, "tracestate: \"vendor=1\"".to_owned()]);
}

#[tokio::test]
async fn an_upstream_has_a_call_within_the_call() {
    let span = spans(1.0).begin(None, AskedAs::default()).expect("is recorded");
    assert_eq!(span.at_upstream(50), None, "it never got it");
    span.sent.store(11, Ordering::Relaxed);
    assert_eq!(span.at_upstream(50), Some((10, 50)), "it was given up");
    span.answered.store(41, Ordering::Relaxed);
    assert_eq!(span.at_upstream(50), Some((10, 40)));
    assert_eq!(span.at_upstream(20), Some((10, 20)));
    assert_eq!(span.at_upstream(5), Some((5, 5)));
}

#[tokio::test]
async fn a_full_queue_loses_spans_and_counts_them() {
    use crate::catalog::testing::{NOW, catalog, upstream_with};
    let spans = spans(1.0);
    let catalog = catalog(&[upstream_with(&["echo".to_owned()])]);
    let item = catalog.items(sql::model::Kind::Tool).next().expect("one tool");
    for _ in 0..QUEUE_MAX + 3 {
        spans.push(EndedSpan {
            span: spans.begin(None, AskedAs::default()).expect("is recorded"),
            item: Arc::clone(item),
            method: CallMethod::CallTool,
            transport: CallTransport::Sse,
            outcome: CallOutcome::Ok,
            at: NOW,
            latency_us: 1,
        });
    }
    assert_eq!(spans.counts(), SpanCounts { sent: 0, lost: 3 });
}
