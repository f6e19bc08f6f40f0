//! Starting and stopping, with a gateway that listens.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Empty;
use proxy::access::Keys;
use proxy::catalog::Policy;
use proxy::gateway::{Gateway, GatewayOptions, Phase, Serving};
use proxy::http_bridge::{McpRequest, McpService, Reply, ReplyBody, admin_service};
use sql::clock::Clock;
use sql::model::{ApiKey, ApiKeyId, OwnerRules, PlaintextKey, Settings};

use super::{DataPlane, Order, Orders, ServeError, Server, ServerOptions};

/// No step of a test takes this long; what does is a hang.
const LONG: Duration = Duration::from_mins(10);

fn options() -> ServerOptions {
    // A loopback address of this process's own, so that nobody else takes a port that was given back.
    let [.., high, low] = std::process::id().to_be_bytes();
    ServerOptions {
        listen: SocketAddr::from(([127, 77, high, low.max(1)], 0)),
        take_over: false,
        take_over_socket: "unused".into(),
        drain_delay: Duration::ZERO,
        drain_timeout: LONG,
    }
}

struct Scene {
    address: SocketAddr,
    gateway: Gateway,
    secret: PlaintextKey,
    orders: tokio::sync::mpsc::Sender<Order>,
    /// One for each request that reached the handler; sending on it lets it be answered.
    requests: mpsc::Receiver<tokio::sync::oneshot::Sender<()>>,
    server: JoinHandle<Result<(), ServeError<&'static str>>>,
}

struct Handler(Mutex<mpsc::Sender<tokio::sync::oneshot::Sender<()>>>);

#[async_trait]
impl McpService for Handler {
    async fn serve(&self, _request: McpRequest) -> Reply {
        let (go_on, told) = tokio::sync::oneshot::channel();
        self.0.lock().unwrap().send(go_on).unwrap();
        let _ = told.await;
        Reply::new(ReplyBody::Whole(Bytes::from_static(b"answered")))
    }
}

fn start<F, Fut>(options: ServerOptions, data_plane: F) -> Scene
where
    F: FnOnce(DataPlane) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), &'static str>> + Send + 'static,
{
    let clock = Clock::system();
    let secret = PlaintextKey::generate();
    let keys = Keys::default();
    let key = ApiKey::create(ApiKeyId::new(&clock), "test", &secret, clock.now());
    let policy = Policy::of(&key, OwnerRules::default());
    keys.upsert(key, policy);
    let (began, requests) = mpsc::channel();
    let admin = tower::service_fn(|_| async { Ok(http::Response::new(Empty::<Bytes>::new())) });
    let gateway = Gateway::new(GatewayOptions::default(), clock);
    gateway.serve_with(Serving {
        denials: proxy::audit::denied::Denials::new(sql::clock::Clock::system()),
        mcp: Arc::new(Handler(Mutex::new(began))),
        admin: admin_service(admin, |body| body),
        keys,
        settings: tokio::sync::watch::channel(Arc::new(Settings::default())).1,
    });
    let server = Server::bind(options).unwrap();
    let address = server.address();
    let (orders, script) = tokio::sync::mpsc::channel(4);
    let behind = gateway.clone();
    let server = std::thread::spawn(move || server.run_by(&behind, Orders::Script(script), data_plane));
    Scene { address, gateway, secret, orders, requests, server }
}

/// A data plane that does nothing until it is told to stop.
async fn idle(plane: DataPlane) -> Result<(), &'static str> {
    plane.stopping.cancelled().await;
    assert!(plane.draining.is_cancelled(), "requests end before the data plane does");
    Ok(())
}

impl Scene {
    fn send(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head =
            format!("GET /mcp HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {}\r\n\r\n", self.secret.expose());
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }

    fn order(&self, order: Order) {
        self.orders.blocking_send(order).unwrap();
    }

    fn end(self) -> Result<(), ServeError<&'static str>> {
        self.server.join().unwrap()
    }
}

fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

#[test]
fn an_idle_server_stops_at_once_f19() {
    let scene = start(options(), idle);
    let stream = scene.send();
    scene.requests.recv().unwrap().send(()).unwrap();
    let told = Instant::now();
    scene.order(Order::Stop);
    // The connection is kept, so reading to its end takes as long as stopping does.
    assert!(rest(stream).ends_with("answered"));
    let gateway = scene.gateway.clone();
    scene.end().unwrap();
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    assert_eq!(gateway.readiness().phase(), Phase::Draining);
}

#[test]
fn what_is_in_flight_gets_its_answer_and_nothing_more_is_accepted_f19() {
    let (draining, drains) = mpsc::channel();
    let scene = start(options(), move |plane| async move {
        plane.draining.cancelled().await;
        draining.send(()).unwrap();
        idle(plane).await
    });
    let stream = scene.send();
    let go_on = scene.requests.recv().unwrap();
    scene.order(Order::Stop);
    drains.recv().unwrap();
    assert!(!scene.server.is_finished());
    go_on.send(()).unwrap();
    let answer = rest(stream);
    assert!(answer.ends_with("answered"), "{answer}");
    let address = scene.address;
    scene.end().unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn what_takes_too_long_is_cut_off_by_the_data_plane_f19() {
    let scene = start(ServerOptions { drain_timeout: Duration::from_millis(50), ..options() }, idle);
    let stream = scene.send();
    let _never = scene.requests.recv().unwrap();
    scene.order(Order::Stop);
    let address = scene.address;
    // The data plane ends; the handler that never does is left behind after its last second.
    scene.end().unwrap();
    assert!(!rest(stream).contains("answered"));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn requests_are_served_during_the_delay_and_a_second_order_ends_it_f19() {
    let scene = start(ServerOptions { drain_delay: LONG, ..options() }, idle);
    scene.order(Order::Stop);
    let stream = scene.send();
    scene.requests.recv().unwrap().send(()).unwrap();
    let mut answer = [0; 15];
    (&stream).read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    scene.order(Order::Stop);
    scene.end().unwrap();
}

#[test]
fn an_interrupt_stops_at_once_whatever_is_in_flight() {
    let scene = start(options(), idle);
    let _stream = scene.send();
    let _never = scene.requests.recv().unwrap();
    scene.order(Order::StopNow);
    scene.end().unwrap();
}

#[test]
fn a_data_plane_that_fails_ends_the_server_with_its_reason() {
    let scene = start(options(), |_| async { Err("no database") });
    assert!(matches!(scene.end(), Err(ServeError::DataPlane("no database"))));
}

#[test]
fn a_data_plane_that_panics_ends_the_server() {
    let scene = start(options(), |_| async { panic!("scripted") });
    assert!(matches!(scene.end(), Err(ServeError::Panicked)));
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let first = Server::bind(options()).unwrap();
    let listen = first.address();
    let error = Server::bind(ServerOptions { listen, ..options() }).err().unwrap();
    assert_eq!(error.to_string(), format!("can't listen at {listen}"));
}
