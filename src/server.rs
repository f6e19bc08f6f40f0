//! The Pingora server: one listener, one data plane, and the order in which they stop.
//!
//! Pingora runs each service on a runtime of its own and would stop them all at once, after a sleep
//! that is as long for an idle process as for a busy one. So stopping is ours until everything has
//! ended, and Pingora hears of it last:
//!
//! 1. `/readyz` says 503, and requests are served on for the drain delay;
//! 2. the socket closes, idle connections close, streams are told to end (`draining`);
//! 3. what is in flight finishes, up to the drain timeout;
//! 4. the data plane is told to stop (`stopping`): upstreams, records, children;
//! 5. calls that were cut off by that write their answers, and the process ends.
//!
//! A second signal, or SIGINT, ends it at any step. SIGQUIT is Pingora's own: it hands the socket to a
//! new process first, then the steps from 2 on follow.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server as Pingora, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::background::{BackgroundService, background_service};
use proxy::gateway::{Gateway, Phase};
use proxy::guard::Listener;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::notify;

/// How long the data plane may take to stop: a child gets 2 s to end by itself and 3 s after SIGTERM.
const DATA_PLANE_STOP_DEADLINE: Duration = Duration::from_secs(8);
/// How long the answers to calls that were cut off may take to be written.
const LAST_ANSWERS_DEADLINE: Duration = Duration::from_secs(1);
/// Threads of the data plane at least: one that is held up must not hold up the others.
const DATA_PLANE_THREADS_MIN: usize = 2;

/// What the server needs to know of the environment.
#[derive(Debug, Clone)]
pub(crate) struct ServerOptions {
    /// Where to listen; port 0 is any free port.
    pub(crate) listen: SocketAddr,
    /// Take the socket over from the process that runs now, instead of binding it.
    pub(crate) take_over: bool,
    /// Where two processes meet for that.
    pub(crate) take_over_socket: PathBuf,
    /// How long requests are served on after `/readyz` began to say 503.
    pub(crate) drain_delay: Duration,
    /// How long requests in flight may take to finish.
    pub(crate) drain_timeout: Duration,
}

/// A server that has its socket and doesn't run yet.
pub(crate) struct Server {
    options: ServerOptions,
    socket: Option<TcpListener>,
    address: SocketAddr,
}

/// What the data plane is given: where it runs, and when it is to stop.
#[derive(Debug, Clone)]
pub(crate) struct DataPlane {
    /// The runtime that lives as long as the data plane; tasks that outlive a request belong here.
    pub(crate) runtime: Handle,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// Cancelled when no more requests are accepted: streams end in the way their protocol asks.
    pub(crate) draining: CancellationToken,
    /// Cancelled when nothing is in flight any more, or the time for that is over: everything ends.
    pub(crate) stopping: CancellationToken,
}

/// The address can't be listened at.
#[derive(Debug, thiserror::Error)]
#[error("can't listen at {address}")]
pub(crate) struct BindError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Why the server ended, other than by being told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError<E> {
    /// The data plane failed; this is its reason.
    #[error("the data plane failed")]
    DataPlane(#[source] E),
    /// The data plane panicked.
    #[error("the data plane panicked")]
    Panicked,
}

impl Server {
    /// Takes the address, so that a failure is a clear error and a free port is known, before anything
    /// starts. Connections wait in the socket's queue until the server runs.
    pub(crate) fn bind(options: ServerOptions) -> Result<Self, BindError> {
        let listen = options.listen;
        if options.take_over {
            return Ok(Self { options, socket: None, address: listen });
        }
        let bind_error = |source| BindError { address: listen, source };
        let socket = TcpListener::bind(listen).map_err(bind_error)?;
        let address = socket.local_addr().map_err(bind_error)?;
        Ok(Self { options, socket: Some(socket), address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs until told to stop by a signal, or until `data_plane` ends. Called outside of any runtime.
    pub(crate) fn run<F, Fut, E>(self, gateway: &Gateway, data_plane: F) -> Result<(), ServeError<E>>
    where
        F: FnOnce(DataPlane) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Send + 'static,
    {
        self.run_by(gateway, Orders::Signals(None), data_plane)
    }

    fn run_by<F, Fut, E>(self, gateway: &Gateway, orders: Orders, data_plane: F) -> Result<(), ServeError<E>>
    where
        F: FnOnce(DataPlane) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Send + 'static,
    {
        let threads = available_parallelism().map_or(1, NonZeroUsize::get);
        let opt = Opt { upgrade: self.options.take_over, ..Opt::default() };
        let mut pingora = Pingora::new_with_opt_and_conf(opt, conf(&self.options, threads));
        pingora.bootstrap();

        let ending = Ending::new(gateway.clone(), &self.options);
        let outcome = Arc::new(Mutex::new(None));
        let plane = Plane {
            start: Mutex::new(Some(Box::new(|plane| Box::pin(data_plane(plane))))),
            address: self.address,
            ending: ending.clone(),
            outcome: Arc::clone(&outcome),
        };
        let mut plane = background_service("data plane", plane);
        plane.threads = Some(threads.max(DATA_PLANE_THREADS_MIN));
        pingora.add_service(plane);
        let guard = gateway.guarded(&pingora.configuration);
        pingora.add_service(Listener::new(guard, self.options.listen, self.socket, ending.draining.clone()));

        pingora.run(RunArgs { shutdown_signal: Box::new(Shutdown { ending, orders: orders.into() }) });

        let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        outcome.unwrap_or(Ok(())) // There is none if it was told to stop at once, and cut off.
    }
}

fn conf(options: &ServerOptions, threads: usize) -> ServerConf {
    ServerConf {
        threads,
        work_stealing: true,
        upgrade_sock: options.take_over_socket.to_string_lossy().into_owned(),
        // Only a hand-over (SIGQUIT) waits as Pingora does; there it is the time to finish in.
        grace_period_seconds: Some(options.drain_timeout.as_secs()),
        graceful_shutdown_timeout_seconds: Some(LAST_ANSWERS_DEADLINE.as_secs()),
        ..ServerConf::default()
    }
}

/// The steps of stopping, and who is told at which of them.
#[derive(Clone)]
struct Ending {
    gateway: Gateway,
    draining: CancellationToken,
    stopping: CancellationToken,
    /// Cancelled by the data plane when it has ended.
    ended: CancellationToken,
    delay: Duration,
    timeout: Duration,
}

impl Ending {
    fn new(gateway: Gateway, options: &ServerOptions) -> Self {
        Self {
            gateway,
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            ended: CancellationToken::new(),
            delay: options.drain_delay,
            timeout: options.drain_timeout,
        }
    }

    /// Every step.
    async fn all(&self) {
        notify::tell(notify::State::Stopping);
        tracing::info!(drain.delay_ms = millis(self.delay), "stopping, requests are still served");
        self.gateway.readiness().advance(Phase::Draining);
        tokio::time::sleep(self.delay).await;
        self.finish_requests().await;
        self.stop_data_plane().await;
    }

    async fn finish_requests(&self) {
        self.gateway.readiness().advance(Phase::Draining);
        self.draining.cancel();
        let connections = self.gateway.connections();
        tracing::info!(connections.open = connections.open(), "no more requests are accepted");
        if timeout(self.timeout, connections.drained()).await.is_err() {
            tracing::warn!(connections.open = connections.open(), "requests in flight are cut off");
        }
    }

    async fn stop_data_plane(&self) {
        self.stopping.cancel();
        if timeout(DATA_PLANE_STOP_DEADLINE, self.ended.cancelled()).await.is_err() {
            tracing::error!("the data plane didn't stop in time");
        }
        if timeout(LAST_ANSWERS_DEADLINE, self.gateway.connections().drained()).await.is_err() {
            tracing::warn!("clients didn't take their last answers in time");
        }
    }
}

/// What an operator can ask of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// SIGTERM.
    Stop,
    /// SIGINT.
    StopNow,
    /// SIGQUIT.
    HandOver,
}

/// Where orders come from.
enum Orders {
    /// Signals; received from the first wait on.
    Signals(Option<Signals>),
    #[cfg(test)]
    Script(tokio::sync::mpsc::Receiver<Order>),
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Orders {
    async fn next(&mut self) -> io::Result<Order> {
        match self {
            Self::Signals(Some(signals)) => Ok(signals.next().await),
            Self::Signals(none) => Ok(none.insert(Signals::open()?).next().await),
            #[cfg(test)]
            Self::Script(script) => match script.recv().await {
                Some(order) => Ok(order),
                None => std::future::pending().await,
            },
        }
    }
}

impl Signals {
    fn open() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::Stop,
            _ = self.interrupt.recv() => Order::StopNow,
            _ = self.quit.recv() => Order::HandOver,
        }
    }
}

/// Tells Pingora when to stop, which is when there is nothing left to do.
struct Shutdown {
    ending: Ending,
    orders: tokio::sync::Mutex<Orders>,
}

#[async_trait]
impl ShutdownSignalWatch for Shutdown {
    async fn recv(&self) -> ShutdownSignal {
        let mut orders = self.orders.lock().await;
        let order = tokio::select! {
            order = orders.next() => order,
            () = self.ending.ended.cancelled() => return ShutdownSignal::FastShutdown,
        };
        match order {
            Ok(Order::HandOver) => return ShutdownSignal::GracefulUpgrade,
            Ok(Order::StopNow) => {
                notify::tell(notify::State::Stopping);
                tracing::info!("stopping at once");
            }
            Ok(Order::Stop) => tokio::select! {
                () = self.ending.all() => {}
                _ = orders.next() => tracing::warn!("told a second time, stopping at once"),
            },
            Err(error) => tracing::error!(error = %error, "signals can't be received"),
        }
        ShutdownSignal::FastShutdown
    }
}

type Outcome<E> = Arc<Mutex<Option<Result<(), ServeError<E>>>>>;
type Start<E> = Box<dyn FnOnce(DataPlane) -> Pin<Box<dyn Future<Output = Result<(), E>> + Send>> + Send>;

/// The data plane as a Pingora service: one future on a runtime of its own.
struct Plane<E> {
    start: Mutex<Option<Start<E>>>,
    address: SocketAddr,
    ending: Ending,
    outcome: Outcome<E>,
}

/// Says that the data plane ended, however it did.
struct Ended<'a, E>(&'a Plane<E>);

impl<E> Drop for Ended<'_, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.note(Err(ServeError::Panicked));
        }
        self.0.ending.ended.cancel();
    }
}

#[async_trait]
impl<E: Send + 'static> BackgroundService for Plane<E> {
    async fn start(&self, shutdown: ShutdownWatch) {
        let _ended = Ended(self);
        let start = self.start.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(start) = start else { return };
        let plane = start(DataPlane {
            runtime: Handle::current(),
            address: self.address,
            draining: self.ending.draining.clone(),
            stopping: self.ending.stopping.clone(),
        });
        let outcome = tokio::select! {
            outcome = plane => outcome,
            never = self.after_hand_over(shutdown) => match never {},
        };
        self.note(outcome.map_err(ServeError::DataPlane));
    }
}

impl<E> Plane<E> {
    fn note(&self, outcome: Result<(), ServeError<E>>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }

    /// Pingora tells its services to stop only when it has handed its socket to a new process: what is
    /// in flight here finishes here.
    async fn after_hand_over(&self, mut shutdown: ShutdownWatch) -> Infallible {
        if shutdown.wait_for(|stopping| *stopping).await.is_ok() {
            self.ending.finish_requests().await;
            self.ending.stopping.cancel();
        }
        std::future::pending().await
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
