//! A server that listens, a scripted handler behind it, and a client that speaks raw bytes.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Full};
use ipnet::IpNet;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use sql::clock::Clock;
use sql::model::{ApiKey, ApiKeyId, PlaintextKey, Settings, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::access::Keys;
use crate::access::client_address::TrustedProxies;
use crate::access::keys::tests::policy_of;
use crate::audit::denied::Denials;
use crate::context::ClientContext;
use crate::gateway::{Gateway, GatewayOptions, Serving};
use crate::guard::{Deadlines, Listener};
use crate::http_bridge::{AdminBody, McpRequest, McpService, Reply, ReplyBody, admin_service};

/// Short where a test waits for its end.
pub(super) const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(20);

/// A gateway that listens, until it is dropped.
pub(super) struct Scene {
    pub(super) address: SocketAddr,
    pub(super) gateway: Gateway,
    pub(super) keys: Keys,
    pub(super) key: ApiKey,
    pub(super) secret: String,
    pub(super) handler: Arc<Handler>,
    stop: CancellationToken,
    server: Option<JoinHandle<()>>,
}

/// What a test may want otherwise.
pub(super) struct Wishes {
    pub(super) deadlines: Deadlines,
    pub(super) body_deadline: Duration,
    pub(super) trusted_proxies: Vec<IpNet>,
    pub(super) settings: Settings,
}

impl Default for Wishes {
    fn default() -> Self {
        let mut settings = Settings::default();
        settings.mcp_api.request_body_max_mib = 1;
        Self {
            deadlines: Deadlines { head: LONG, idle: LONG },
            body_deadline: LONG,
            trusted_proxies: Vec::new(),
            settings,
        }
    }
}

impl Scene {
    pub(super) fn start() -> Self {
        Self::start_with(Wishes::default())
    }

    pub(super) fn start_with(wishes: Wishes) -> Self {
        let scene = Self::start_without_serving(&wishes);
        let (_, settings) = watch::channel(Arc::new(wishes.settings));
        scene.gateway.serve_with(Serving {
            mcp: scene.handler.clone(),
            admin: admin_service(tower::service_fn(administer), |body| body),
            keys: scene.keys.clone(),
            settings,
            denials: Denials::new(Clock::system()),
        });
        scene
    }

    pub(super) fn start_without_serving(wishes: &Wishes) -> Self {
        let clock = Clock::system();
        let secret = PlaintextKey::generate();
        let key = ApiKey::create(ApiKeyId::new(&clock), "test", &secret, clock.now());
        let keys = Keys::default();
        keys.upsert(key.clone(), policy_of(&key));
        let options = GatewayOptions {
            proxies: TrustedProxies::new(wishes.trusted_proxies.clone()),
            deadlines: wishes.deadlines,
            body_deadline: wishes.body_deadline,
            ..GatewayOptions::default()
        };
        let gateway = Gateway::new(options, clock);
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = serve(gateway.clone(), address, socket, stop.clone());
        let handler = Arc::default();
        let secret = secret.expose().to_owned();
        Self { address, gateway, keys, key, secret, handler, stop, server: Some(server) }
    }

    pub(super) fn change_key(&mut self, change: impl FnOnce(&mut ApiKey)) {
        change(&mut self.key);
        self.keys.upsert(self.key.clone(), policy_of(&self.key));
    }

    /// A connection to the gateway.
    pub(super) async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// Sends bytes, and reads until the gateway closes the connection.
    pub(super) async fn until_close(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect().await;
        client.send(bytes).await;
        client.rest().await
    }

    /// One request on a connection of its own.
    pub(super) async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer().await
    }

    /// A message to the endpoint, with everything that it needs, and what a test adds.
    pub(super) fn post(&self, headers: &[&str], body: &str) -> String {
        let mut lines = vec![
            format!("Authorization: Bearer {}", self.secret),
            "Content-Type: application/json".into(),
            "Accept: application/json, text/event-stream".into(),
            format!("Content-Length: {}", body.len()),
        ];
        lines.extend(headers.iter().map(|&line| line.to_owned()));
        format!("{}{body}", request("POST /mcp", &lines))
    }

    /// How many requests reached the handler.
    pub(super) fn served(&self) -> usize {
        self.handler.served.load(Ordering::SeqCst)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(server) = self.server.take() {
            server.join().expect("the server ends without a panic");
        }
    }
}

struct UntilDropped(CancellationToken);

#[async_trait]
impl ShutdownSignalWatch for UntilDropped {
    async fn recv(&self) -> ShutdownSignal {
        self.0.cancelled().await;
        ShutdownSignal::FastShutdown
    }
}

fn serve(
    gateway: Gateway,
    address: SocketAddr,
    socket: TcpListener,
    stop: CancellationToken,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let conf = ServerConf { threads: 2, ..ServerConf::default() };
        let mut server = Server::new_with_opt_and_conf(None, conf);
        server.bootstrap();
        let guard = gateway.guarded(&server.configuration);
        server.add_service(Listener::new(guard, address, Some(socket), CancellationToken::new()));
        server.run(RunArgs { shutdown_signal: Box::new(UntilDropped(stop)) });
    })
}

/// A request's header section: the line, a Host, and these lines.
pub(super) fn request(line: &str, lines: &[impl AsRef<str>]) -> String {
    let mut text = format!("{line} HTTP/1.1\r\nHost: localhost\r\n");
    for line in lines {
        text.push_str(line.as_ref());
        text.push_str("\r\n");
    }
    text + "\r\n"
}

/// Answers what the header `x-script` says.
#[derive(Default)]
pub(super) struct Handler {
    served: AtomicUsize,
    /// What the test is told by, and tells by, where the script has it wait.
    wires: Mutex<Option<Wires>>,
}

/// The handler's ends of the wires between a test and its handler.
pub(super) struct Wires {
    pub(super) began: mpsc::Sender<McpRequest>,
    pub(super) reply: mpsc::Receiver<Reply>,
}

impl Handler {
    /// Lets the next request with `x-script: wait` be answered by the test.
    pub(super) fn wire(&self) -> (mpsc::Receiver<McpRequest>, mpsc::Sender<Reply>) {
        let (began, begins) = mpsc::channel(1);
        let (replies, reply) = mpsc::channel(1);
        *self.wires.lock().unwrap() = Some(Wires { began, reply });
        (begins, replies)
    }
}

#[async_trait]
impl McpService for Handler {
    async fn serve(&self, request: McpRequest) -> Reply {
        self.served.fetch_add(1, Ordering::SeqCst);
        match request.head.headers.get("x-script").map(|script| script.to_str().unwrap()) {
            Some("panic") => panic!("scripted"),
            Some("wait") => {
                let wires = self.wires.lock().unwrap().take();
                let mut wires = wires.expect("the test laid wires");
                wires.began.send(request).await.unwrap();
                wires.reply.recv().await.expect("the test replies")
            }
            Some("empty") => {
                let mut reply = Reply::new(ReplyBody::Empty);
                *reply.status_mut() = StatusCode::ACCEPTED;
                reply
            }
            Some("large") => json(ReplyBody::Whole(Bytes::from(vec![b'x'; 3 * 1024 * 1024]))),
            // Echoes, so that a test sees what arrived.
            _ => json(ReplyBody::Chain(vec![Bytes::from_static(b"echo:"), request.body])),
        }
    }
}

pub(super) fn json(body: ReplyBody) -> Reply {
    let mut reply = Reply::new(body);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// The control plane: says who asks, and how much was sent.
async fn administer(
    request: http::Request<AdminBody>,
) -> Result<http::Response<Full<Bytes>>, std::convert::Infallible> {
    let context = request.extensions().get::<ClientContext>().expect("the gateway sets it").clone();
    let line = format!("{} {}", request.method(), request.uri());
    assert_ne!(request.uri().path(), "/panic", "scripted");
    if request.uri().path() == "/unread" {
        return Ok(http::Response::new(Full::from(line)));
    }
    let body = request.into_body().collect().await.map(|body| body.to_bytes().len());
    let text = match body {
        Ok(length) => format!("{line} from {} with {length} bytes", context.address),
        Err(error) => format!("{error}"),
    };
    Ok(http::Response::new(Full::from(text)))
}

/// One end of a connection.
pub(super) struct Client(pub(super) TcpStream);

/// An answer, taken apart.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Client {
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The gateway may have answered and closed already.
        let _ = self.0.write_all(bytes.as_ref()).await;
    }

    /// Everything until the gateway closes.
    pub(super) async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.0.read_to_end(&mut bytes).await;
        String::from_utf8(bytes).unwrap()
    }

    /// Exactly the bytes up to and with `mark`.
    pub(super) async fn until(&mut self, mark: &str) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(mark.as_bytes()) {
            let byte = self.0.read_u8().await;
            let read = String::from_utf8_lossy(&bytes);
            bytes.push(byte.unwrap_or_else(|error| panic!("no {mark:?} after {read:?}: {error}")));
        }
        String::from_utf8(bytes).unwrap()
    }

    /// One answer whose length is said.
    pub(super) async fn answer(&mut self) -> Answer {
        let head = self.until("\r\n\r\n").await;
        let status = head[9..12].parse().unwrap();
        let mut body = vec![0; Answer::length(&head)];
        self.0.read_exact(&mut body).await.unwrap();
        Answer { status, head, body: String::from_utf8(body).unwrap() }
    }
}

impl Answer {
    fn length(head: &str) -> usize {
        header(head, "content-length").map_or(0, |length| length.parse().unwrap())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The problem's stable code.
    pub(super) fn code(&self) -> String {
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem["status"], self.status);
        assert_eq!(problem["requestId"], self.header("x-request-id").unwrap());
        problem["code"].as_str().unwrap().to_owned()
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

pub(super) fn expired() -> Timestamp {
    Timestamp::from_millis(1_000)
}
