//! A collector of traces: takes OTLP/HTTP as protobuf, and reads it with a reader of its own.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::exchange::PATIENCE;

/// Between two looks at what came.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// It takes what is posted to `/v1/traces`. Dropped, it ends.
pub(crate) struct Collector {
    address: String,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    spans: Mutex<Vec<Span>>,
    headers: Mutex<Option<HeaderMap>>,
    /// What it answers; 0: 200.
    status: AtomicU16,
    requests: AtomicUsize,
}

/// One span, and the resource that it came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) scope: String,
    pub(crate) trace_id: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) state: String,
    pub(crate) name: String,
    pub(crate) kind: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) status: u64,
    pub(crate) flags: u64,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("bound").to_string();
        let (shared, mut tasks) = (Arc::<Shared>::default(), JoinSet::new());
        let serving = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                connections.spawn(async move {
                    let service = service_fn(move |request| take(Arc::clone(&shared), request));
                    let http = hyper::server::conn::http1::Builder::new();
                    // The gateway may go while one is open.
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, shared, _tasks: tasks }
    }

    /// Where it is, as `OTEL_EXPORTER_OTLP_ENDPOINT` says it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers every request with this status from now on.
    pub(crate) fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    /// Requests so far, however they were answered.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// The headers of the last request.
    pub(crate) fn headers(&self) -> HeaderMap {
        let headers = self.shared.headers.lock().unwrap_or_else(PoisonError::into_inner);
        headers.clone().expect("there was a request")
    }

    /// What it took.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.shared.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same, once it is enough.
    pub(crate) async fn spans_reach(&self, count: usize) -> Vec<Span> {
        self.until(|| self.spans().len() >= count).await;
        self.spans()
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, is_so: impl Fn() -> bool) {
        let look = async {
            let mut ticks = interval(LOOK_INTERVAL);
            while !is_so() {
                ticks.tick().await;
            }
        };
        let seen = || format!("{} requests, {:?}", self.requests(), self.spans());
        timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{}", seen()));
    }
}

async fn take(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let status = match (head.uri.path(), shared.status.load(Ordering::SeqCst)) {
        ("/v1/traces", 0) => 200,
        ("/v1/traces", status) => status,
        _ => 404,
    };
    if status == 200 {
        shared.spans.lock().unwrap_or_else(PoisonError::into_inner).extend(read_request(&body));
    }
    *shared.headers.lock().unwrap_or_else(PoisonError::into_inner) = Some(head.headers);
    shared.requests.fetch_add(1, Ordering::SeqCst);
    Ok(Response::builder().status(status).body(Full::default()).expect("a status"))
}

/// One field of a message.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl Value<'_> {
    fn number(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            Self::Bytes(_) => panic!("a number was expected"),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(_) => panic!("bytes were expected"),
        }
    }

    fn text(&self) -> String {
        std::str::from_utf8(self.bytes()).expect("UTF-8").to_owned()
    }

    fn hex(&self) -> String {
        self.bytes().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
    }
}

/// The fields of a message, in their order.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)),
            1 => Value::Number(u64::from_le_bytes(taken(&mut bytes, 8).try_into().expect("8 bytes"))),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).expect("a length");
                Value::Bytes(taken(&mut bytes, length))
            }
            5 => Value::Number(u32::from_le_bytes(taken(&mut bytes, 4).try_into().expect("4 bytes")).into()),
            other => panic!("no message has the wire type {other}"),
        };
        fields.push((key >> 3, value));
    }
    fields
}

fn taken<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = taken(bytes, 1)[0];
        number |= u64::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return number;
        }
    }
}

/// `ExportTraceServiceRequest`.
fn read_request(bytes: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for (field, resource_spans) in fields(bytes) {
        assert_eq!(field, 1, "a request has resource_spans alone");
        let mut resource = BTreeMap::new();
        for (field, value) in fields(resource_spans.bytes()) {
            match field {
                1 => resource.extend(fields(value.bytes()).iter().map(|(_, pair)| attribute(pair.bytes()))),
                2 => spans.extend(scope_spans(value.bytes(), &resource)),
                _ => panic!("resource_spans has no field {field}"),
            }
        }
    }
    spans
}

fn scope_spans(bytes: &[u8], resource: &BTreeMap<String, String>) -> Vec<Span> {
    let (mut scope, mut spans) = (String::new(), Vec::new());
    for (field, value) in fields(bytes) {
        match field {
            1 => scope = fields(value.bytes())[0].1.text(),
            2 => spans.push(Span { resource: resource.clone(), scope: scope.clone(), ..span(value.bytes()) }),
            _ => panic!("scope_spans has no field {field}"),
        }
    }
    spans
}

fn span(bytes: &[u8]) -> Span {
    let mut span = Span::default();
    for (field, value) in fields(bytes) {
        match field {
            1 => span.trace_id = value.hex(),
            2 => span.id = value.hex(),
            3 => span.state = value.text(),
            4 => span.parent = value.hex(),
            5 => span.name = value.text(),
            6 => span.kind = value.number(),
            7 => span.start = value.number(),
            8 => span.end = value.number(),
            9 => span.attributes.extend([attribute(value.bytes())]),
            15 => {
                span.status =
                    fields(value.bytes()).iter().find(|(field, _)| *field == 3).expect("a code").1.number();
            }
            16 => span.flags = value.number(),
            _ => panic!("a span has no field {field}"),
        }
    }
    span
}

/// `KeyValue` with a text.
fn attribute(bytes: &[u8]) -> (String, String) {
    let fields = fields(bytes);
    let [(1, key), (2, any)] = fields.as_slice() else { panic!("a key and a value") };
    let any = self::fields(any.bytes());
    let [(1, text)] = any.as_slice() else { panic!("a text") };
    (key.text(), text.text())
}
