//! The data plane on a store in memory, with a server behind it that speaks the least of the protocol.

use std::sync::Mutex;

use serde_json::{Value, json};
use sql::clock::Clock;
use sql::model::{ApiKey, ApiKeyId, ConnParams, Kind, NewUpstream, PlaintextKey, Protocol, Transport};
use sql::seal::MasterKey;
use sql::{Database, StoreOptions, api_keys, leases};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::upstream::stdio::{BaseEnvironment, StdioPolicy};

/// How long a test waits for what must happen; most of it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

struct Scene {
    plane: DataPlane,
    store: Store,
    /// What the server says it has.
    tools: Arc<Mutex<Vec<String>>>,
    address: std::net::SocketAddr,
}

async fn scene() -> Scene {
    let (master_key, _) = MasterKey::from_env_text(MasterKey::generate_hex().expose()).unwrap();
    let options = StoreOptions {
        database: Database::SqliteMemory,
        master_key,
        previous_keys: Vec::new(),
        clock: Clock::system(),
        start_timeout: PATIENCE,
    };
    let store = Store::open(options).await.unwrap();
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tools = Arc::new(Mutex::new(vec!["a".to_owned(), "pa".to_owned()]));
    tasks.spawn("peer", accept(listener, Arc::clone(&tools), tasks.clone()));
    let policy = StdioPolicy { enabled: false, commands: None };
    let plane = DataPlane::start(Options {
        store: store.clone(),
        overlay: Box::new(|stored| stored),
        egress: Egress::Private,
        launcher: Launcher::new("/nonexistent".into(), policy, BaseEnvironment::from_lookup(|_| None)),
        tasks,
        stale_max: Duration::from_hours(1),
        cache: Cache::default(),
        peer: None,
        spans: None,
        draining: CancellationToken::new(),
    });
    Scene { plane: plane.await.unwrap(), store, tools, address }
}

async fn accept(listener: TcpListener, tools: Arc<Mutex<Vec<String>>>, tasks: Tasks) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tasks.spawn("peer connection", serve(stream, Arc::clone(&tools)));
    }
}

/// One request a connection.
async fn serve(mut stream: TcpStream, tools: Arc<Mutex<Vec<String>>>) {
    let mut read = Vec::new();
    let message: Value = loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(count) => read.extend_from_slice(&piece[..count]),
        }
        let text = String::from_utf8_lossy(&read);
        if !text.starts_with("POST") {
            let _ =
                stream.write_all(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            return;
        }
        let body = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
        if let Some(message) = body {
            break message;
        }
    };
    let result = match message["method"].as_str() {
        Some("initialize") => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "peer", "version": "1"}}),
        Some("tools/list") => {
            let tools = tools.lock().unwrap().clone();
            let tools = tools.iter().map(|name| json!({"name": name, "inputSchema": {"type": "object"}}));
            json!({"tools": tools.collect::<Vec<_>>()})
        }
        _ => json!({}),
    };
    let answer = if message.get("id").is_some() {
        let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
        format!("{head}content-length: {}\r\n\r\n{body}", body.len())
    } else {
        "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
    };
    let _ = stream.write_all(answer.as_bytes()).await;
}

impl Scene {
    fn upstream(&self, name: &str) -> Upstream {
        let url = format!("http://{}/mcp", self.address);
        let params = ConnParams::Http { url, headers: std::iter::empty().collect() };
        let mut new = NewUpstream::named(name, Transport::StreamableHttp, params);
        new.protocol = Protocol::Legacy;
        Upstream::create(new, UpstreamId::new(self.store.clock()), self.store.clock().now())
    }

    async fn insert(&self, upstream: &Upstream) {
        let mut tx = self.store.begin().await.unwrap();
        upstreams::insert(&mut tx, upstream).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// The exposed names, in order of their upstreams.
    fn names(&self) -> Vec<String> {
        let catalog = Arc::clone(&self.plane.0.published.current().catalog);
        catalog.items(Kind::Tool).map(|item| item.exposed_name.to_string()).collect()
    }

    async fn names_become(&self, expected: &[&str]) {
        eventually(|| self.names() == expected, || format!("{:?}", self.names())).await;
    }
}

async fn eventually(reached: impl Fn() -> bool, shown: impl Fn() -> String) {
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    let waited = async {
        while !reached() {
            looks.tick().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waited).await.is_ok(), "still {}", shown());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_prefix_renames_without_being_asked() {
    let scene = scene().await;
    let mut upstream = scene.upstream("one");
    scene.insert(&upstream).await;
    scene.names_become(&["a", "pa"]).await;
    upstream.name_prefix = "p".into();
    let mut tx = scene.store.begin().await.unwrap();
    assert!(upstreams::update(&mut tx, &upstream, upstream.version).await.unwrap());
    tx.commit().await.unwrap();
    // One takes the name that the other gives up.
    scene.names_become(&["pa", "ppa"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_another_replica_prevents_is_made_up_for() {
    let scene = scene().await;
    let upstream = scene.upstream("one");
    let (lease, dead) = (format!("sync:{}", upstream.id), uuid::Uuid::from_u128(7));
    let mut tx = scene.store.begin().await.unwrap();
    assert!(leases::acquire(&mut tx, &lease, dead, Duration::from_secs(1)).await.unwrap());
    upstreams::insert(&mut tx, &upstream).await.unwrap();
    tx.commit().await.unwrap();
    scene.names_become(&["a", "pa"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_list_is_taken_in_and_a_contested_name_stays_with_its_first_holder() {
    let scene = scene().await;
    let first = scene.upstream("one");
    scene.insert(&first).await;
    scene.names_become(&["a", "pa"]).await;
    scene.tools.lock().unwrap().retain(|name| name == "a");
    assert_eq!(scene.plane.control().sync(first.id).await.unwrap().removed, ["pa"]);
    scene.names_become(&["a"]).await;
    scene.insert(&scene.upstream("two")).await;
    eventually(|| scene.names().len() == 2, || format!("{:?}", scene.names())).await;
    let names = scene.names();
    assert!(names[0] == "a" && names[1].starts_with("a__"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_followed_within_a_second() {
    let scene = scene().await;
    let (keys, secret) = (scene.plane.keys(), PlaintextKey::generate());
    let now = scene.store.clock().now();
    let key = ApiKey::create(ApiKeyId::new(scene.store.clock()), "one", &secret, now);
    let mut tx = scene.store.begin().await.unwrap();
    api_keys::insert(&mut tx, &key).await.unwrap();
    tx.commit().await.unwrap();
    eventually(|| keys.get(key.id).is_some(), || "unknown".into()).await;
    let mut tx = scene.store.begin().await.unwrap();
    assert!(api_keys::delete(&mut tx, key.id).await.unwrap());
    tx.commit().await.unwrap();
    let gone = eventually(|| keys.is_empty(), || "known".into());
    assert!(tokio::time::timeout(Duration::from_secs(1), gone).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replicas_word_on_a_session_is_taken() {
    let scene = scene().await;
    let (session, now) = (uuid::Uuid::from_u128(9), scene.store.clock().now());
    let mut tx = scene.store.begin().await.unwrap();
    sql::sessions::end(&mut tx, session, now.plus(PATIENCE)).await.unwrap();
    tx.commit().await.unwrap();
    let live = scene.plane.0.live.clone();
    eventually(|| live.is_ended(session), || "alive".into()).await;
}
