//! What one request costs in process: key, address, limit, envelope, route, the call and its record.
//!
//! Promise: what needs no upstream is answered in less than 20 µs, a page of 500 tools in less than 100 µs. A call
//! of 300 bytes takes less than 150 µs with the upstream's own work on the same threads, since its socket and its
//! HTTP are part of it; what the gateway itself adds to a call is measured by `benches/load`.

use std::convert::Infallible;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proxy::access::{Keys, api_key, ip_allowlist, rate_limit};
use proxy::cache::Cache;
use proxy::context::{ClientContext, new_request_id};
use proxy::data_plane::{DataPlane, Options};
use proxy::facet::Facet;
use proxy::http_bridge::{McpRequest, McpService, ReplyBody, Via};
use proxy::tasks::Tasks;
use proxy::upstream::egress::Egress;
use proxy::upstream::stdio::{BaseEnvironment, Launcher, StdioPolicy};
use serde_json::{Value, json};
use sql::model::{
    ApiKey, ApiKeyId, ConnParams, NewUpstream, PlaintextKey, Protocol, RateLimit, Transport, Upstream,
    UpstreamId,
};
use sql::{Clock, Database, MasterKey, Store, StoreOptions, api_keys, upstreams};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// What an upstream may take to be connected and listed.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const TOOLS: usize = 1000;
const VERSION: &str = "2026-07-28";

/// A server with the least of the protocol: many tools, each of which answers at once.
async fn serve(listener: TcpListener, tasks: Tasks) {
    while let Ok((connection, _)) = listener.accept().await {
        let _ = connection.set_nodelay(true);
        let serving = http1::Builder::new().serve_connection(TokioIo::new(connection), service_fn(answer));
        tasks.spawn("connection", async { serving.await.is_ok() });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_post = request.method() == Method::POST;
    let body =
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let result = match message["method"].as_str() {
        Some("initialize") => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "peer", "version": "1"}}),
        Some("tools/list") => {
            let tool = |number| {
                json!({"name": format!("tool_{number}"), "description": "What it does. ".repeat(10),
                    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}}})
            };
            json!({"tools": (0..TOOLS).map(tool).collect::<Vec<_>>()})
        }
        _ => json!({"content": [{"type": "text", "text": "done"}]}),
    };
    let (status, body) = match message.get("id") {
        Some(id) => (StatusCode::OK, json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()),
        None if is_post => (StatusCode::ACCEPTED, String::new()),
        None => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The data plane, and a key for it.
struct Pipeline {
    plane: DataPlane,
    service: Arc<dyn McpService>,
    keys: Keys,
    clock: Clock,
    key: PlaintextKey,
}

/// A request of the protocol, as it comes.
struct Message {
    head: Request<()>,
    body: Bytes,
}

impl Pipeline {
    async fn start() -> Self {
        let master_key = MasterKey::from_env_text(MasterKey::generate_hex().expose()).expect("a fresh key").0;
        let clock = Clock::system();
        let options = StoreOptions {
            database: Database::SqliteMemory,
            master_key,
            previous_keys: Vec::new(),
            clock: clock.clone(),
            start_timeout: PATIENCE,
        };
        let store = Store::open(options).await.expect("a store in memory");
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let listener = TcpListener::bind((ADDRESS, 0)).await.expect("a free port");
        let url = format!("http://{}/mcp", listener.local_addr().expect("bound"));
        tasks.spawn("peer", serve(listener, tasks.clone()));

        let params = ConnParams::Http { url, headers: std::iter::empty().collect() };
        let mut new = NewUpstream::named("peer", Transport::StreamableHttp, params);
        new.protocol = Protocol::Legacy;
        let key = PlaintextKey::generate();
        let mut stored = ApiKey::create(ApiKeyId::new(&clock), "key", &key, clock.now());
        // A limit that is asked each time, and never reached.
        stored.rate_limit = Some(RateLimit { limit: 10_000_000, window_s: 1 });
        stored.allowed_cidrs = vec!["127.0.0.0/8".parse().expect("a network")];
        let mut tx = store.begin().await.expect("a transaction");
        let upstream = Upstream::create(new, UpstreamId::new(&clock), clock.now());
        upstreams::insert(&mut tx, &upstream).await.expect("room for it");
        api_keys::insert(&mut tx, &stored).await.expect("room for it");
        tx.commit().await.expect("a commit");

        let policy = StdioPolicy { enabled: false, commands: None };
        let plane = DataPlane::start(Options {
            store,
            overlay: Box::new(|stored| stored),
            egress: Egress::Private,
            launcher: Launcher::new("/nonexistent".into(), policy, BaseEnvironment::from_lookup(|_| None)),
            tasks,
            stale_max: Duration::from_hours(1),
            cache: Cache::default(),
            draining: CancellationToken::new(),
            peer: None,
            spans: None,
        });
        let plane = plane.await.expect("a store that can be read");
        let (service, keys) = (plane.mcp_service(None), plane.keys());
        let pipeline = Self { plane, service, keys, clock, key };
        pipeline.wait_for_tools().await;
        pipeline
    }

    async fn wait_for_tools(&self) {
        let list = self.message("tools/list", json!({}));
        let listed = async {
            let mut ticks = tokio::time::interval(LOOK_INTERVAL);
            while !String::from_utf8_lossy(&self.ask(&list).await).contains("tool_1") {
                ticks.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, listed).await.expect("the upstream is listed");
    }

    fn message(&self, method: &str, mut params: Value) -> Message {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
        });
        let mut head = Request::post("/mcp/http")
            .header("authorization", format!("Bearer {}", self.key.expose()))
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json")
            .header("mcp-protocol-version", VERSION)
            .header("mcp-method", method);
        if let Some(name) = params["name"].as_str() {
            head = head.header("mcp-name", name);
        }
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        Message { head: head.body(()).expect("a good request"), body: Bytes::from(body.to_string()) }
    }

    /// The checks in the order of the gateway, then what answers clients. The bytes of the answer.
    async fn ask(&self, message: &Message) -> Vec<u8> {
        let (head, ()) = message.head.clone().into_parts();
        let Facet::Mcp(path) = Facet::of(head.uri.path()) else { panic!("no endpoint") };
        let now = self.clock.now();
        let caller = api_key::authenticate(&head.uri, &head.headers, &self.keys, now).expect("a key");
        ip_allowlist::check(&caller, ADDRESS).expect("an address of it");
        let admitted = rate_limit::admit_message(caller, now).await.expect("within the limit");
        self.keys.note_use(admitted.key().id, now, ADDRESS);
        let context = ClientContext { address: ADDRESS, request_id: new_request_id(&self.clock) };
        let (body, gone) = (message.body.clone(), CancellationToken::new());
        let request = McpRequest { head, body, admitted, path, context, gone, via: Via::Client };
        match self.service.serve(request).await.into_body() {
            ReplyBody::Whole(bytes) => bytes.into(),
            ReplyBody::Chain(pieces) => pieces.concat(),
            other => panic!("{other:?}"),
        }
    }
}

fn pipeline(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let pipeline = runtime.block_on(Pipeline::start());
    let text = "x".repeat(64);
    let cases = [
        ("server/discover", pipeline.message("server/discover", json!({}))),
        ("tools/list, a page of 500", pipeline.message("tools/list", json!({}))),
        (
            "tools/call of 300 B",
            pipeline.message("tools/call", json!({"name": "tool_7", "arguments": {"text": text}})),
        ),
    ];
    let mut group = criterion.benchmark_group("pipeline");
    for (name, message) in cases {
        let answer = runtime.block_on(pipeline.ask(&message));
        let shown = String::from_utf8_lossy(&answer);
        assert!(shown.contains(r#""result""#), "{name}: {shown}");
        println!("{name}: {} bytes, answered with {}", message.body.len(), answer.len());
        group.bench_function(name, |bench| {
            bench.iter_custom(|times| {
                runtime.block_on(async {
                    let began = Instant::now();
                    for _ in 0..times {
                        black_box(pipeline.ask(&message).await);
                    }
                    began.elapsed()
                })
            });
        });
    }
    group.finish();
    runtime.block_on(pipeline.plane.shutdown());
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
