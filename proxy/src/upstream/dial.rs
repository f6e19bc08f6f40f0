//! The one dialler: resolves a name, checks every address, opens TCP to one that passed, then TLS.
//!
//! It is the connector of the pooled HTTP client, so nothing reaches an upstream around it. TLS is
//! asked for the name, never for the address (T27). Each step has its own deadline and names itself
//! in the error, without the address.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, Shared};
use futures::stream::{FuturesUnordered, StreamExt};
use http::Uri;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder};
use sql::tls::{builder, machine_roots};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::egress::{Egress, EgressError};
use super::link::{OpenError, Stage};

/// A name that isn't resolved by then counts as unresolvable: a resolver that hangs must not hold calls.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer of the resolver serves; long enough for a burst of new connections.
const RESOLVED_FOR: Duration = Duration::from_secs(5);
/// Names remembered at once; beyond it the finished ones are forgotten.
const NAMES_MAX: usize = 1024;
/// A TLS peer that has not finished its handshake by then is taken for a stalled one.
const TLS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one address is waited for before the next is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// An idle peer that vanished without a word is noticed after about idle + 3 x interval.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// A stream to an upstream, with or without TLS.
pub(crate) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Turns names into addresses; the system's resolver, or a test's.
pub(crate) trait Resolve: Send + Sync {
    /// All addresses of `host`.
    fn resolve(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver, on the blocking pool because that is what it offers.
struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        async move {
            let lookup = tokio::task::spawn_blocking(move || {
                (host.as_str(), 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect())
            });
            lookup.await.map_err(io::Error::other)?
        }
        .boxed()
    }
}

type Lookup = Shared<BoxFuture<'static, Result<Arc<[IpAddr]>, Unresolved>>>;

#[derive(Debug, Clone, Copy)]
struct Unresolved;

/// The dialler. Clones share it.
#[derive(Clone)]
pub(crate) struct Dialler {
    shared: Arc<Parts>,
}

struct Parts {
    egress: Egress,
    resolver: Arc<dyn Resolve>,
    /// One lookup per name at a time, so that a resolver that hangs on one name holds one thread for it.
    lookups: Mutex<HashMap<String, (Instant, Lookup)>>,
    connect_timeout: watch::Receiver<Duration>,
    tls: Arc<ClientConfig>,
    /// The same but for HTTP/2, which it doesn't offer.
    tls_for_upgrade: Arc<ClientConfig>,
}

impl Dialler {
    /// A dialler with the system's resolver. Beside the roots that everybody trusts it trusts those of the
    /// machine, so that upstreams may have certificates of an authority of one's own.
    pub(crate) fn new(egress: Egress, connect_timeout: watch::Receiver<Duration>) -> Self {
        let mut roots = machine_roots();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let tls = with_alpn(builder().with_root_certificates(roots));
        Self::made_of(egress, connect_timeout, Arc::new(SystemResolver), tls)
    }

    /// A dialler with the system's resolver that trusts whom the machine trusts, rather than the roots
    /// that everybody does: for a person's own machine, and gateways with a certificate of one's own.
    pub(crate) fn trusting_as_the_machine(
        egress: Egress,
        connect_timeout: watch::Receiver<Duration>,
    ) -> Self {
        Self::made_of(egress, connect_timeout, Arc::new(SystemResolver), with_alpn(trusting_machine()))
    }

    /// A dialler with a resolver of one's own.
    #[cfg(test)]
    pub(crate) fn with_resolver(
        egress: Egress,
        connect_timeout: watch::Receiver<Duration>,
        resolver: Arc<dyn Resolve>,
    ) -> Self {
        Self::made_of(egress, connect_timeout, resolver, tls_config())
    }

    fn made_of(
        egress: Egress,
        connect_timeout: watch::Receiver<Duration>,
        resolver: Arc<dyn Resolve>,
        tls: ClientConfig,
    ) -> Self {
        let mut tls_for_upgrade = tls.clone();
        tls_for_upgrade.alpn_protocols = vec![b"http/1.1".to_vec()];
        let shared = Parts {
            egress,
            resolver,
            lookups: Mutex::default(),
            connect_timeout,
            tls: Arc::new(tls),
            tls_for_upgrade: Arc::new(tls_for_upgrade),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Which addresses it dials.
    pub(crate) fn egress(&self) -> Egress {
        self.shared.egress
    }

    /// All three steps.
    pub(crate) async fn open(&self, uri: &Uri) -> Result<Stream, OpenError> {
        let addresses = self.resolve(uri).await?;
        let stream = self.connect(&addresses).await?;
        self.secure(uri, stream).await
    }

    /// All three steps, for a connection that is to become something else than HTTP: with HTTP/2 it can't.
    pub(crate) async fn open_for_upgrade(&self, uri: &Uri) -> Result<Stream, OpenError> {
        let addresses = self.resolve(uri).await?;
        let stream = self.connect(&addresses).await?;
        secure(uri, stream, &self.shared.tls_for_upgrade).await
    }

    /// The addresses of the URI's host, every one of them checked.
    pub(crate) async fn resolve(&self, uri: &Uri) -> Result<Vec<SocketAddr>, OpenError> {
        let unresolved = || OpenError::new(Stage::Resolve, "the name could not be resolved");
        let host = uri.host().ok_or_else(unresolved)?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        let found: Arc<[IpAddr]> = match literal {
            Some(address) => Arc::from([address]),
            None => timeout(RESOLVE_TIMEOUT, self.lookup(host))
                .await
                .map_err(|_| OpenError::new(Stage::Resolve, "the name was not resolved in time"))?
                .map_err(|Unresolved| unresolved())?,
        };
        if found.is_empty() {
            return Err(unresolved());
        }
        // One address that isn't allowed condemns the name: it would be dialled at the next answer.
        if !found.iter().all(|address| self.shared.egress.admits(*address)) {
            return Err(OpenError::new(Stage::Resolve, EgressError::Blocked.to_string()));
        }
        Ok(found.iter().take(ADDRESSES_MAX).map(|address| SocketAddr::new(*address, port)).collect())
    }

    fn lookup(&self, host: &str) -> Lookup {
        let now = Instant::now();
        let mut lookups = self.shared.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((started, lookup)) = lookups.get(host) {
            let serves = match lookup.peek() {
                None => true,
                Some(found) => found.is_ok() && now.saturating_duration_since(*started) < RESOLVED_FOR,
            };
            if serves {
                return lookup.clone();
            }
        }
        if lookups.len() >= NAMES_MAX {
            lookups.retain(|_, (_, lookup)| lookup.peek().is_none());
        }
        let answer = self.shared.resolver.resolve(host.to_owned());
        let lookup = async move { answer.await.map(Arc::from).map_err(|_| Unresolved) }.boxed().shared();
        lookups.insert(host.to_owned(), (now, lookup.clone()));
        lookup
    }

    /// TCP to the first of the checked addresses that answers.
    pub(crate) async fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, OpenError> {
        let limit = *self.shared.connect_timeout.borrow();
        match timeout(limit, race(addresses)).await {
            Ok(Ok(stream)) => {
                tune(&stream);
                Ok(stream)
            }
            Ok(Err(error)) => {
                let reason = match error.kind() {
                    io::ErrorKind::ConnectionRefused => "the connection was refused",
                    _ => "the connection could not be opened",
                };
                Err(OpenError { stage: Stage::Connect, reason: reason.into(), source: Some(Box::new(error)) })
            }
            Err(_) => Err(OpenError::new(Stage::Connect, "the connection was not opened in time")),
        }
    }

    /// TLS over the stream, if the URI asks for it.
    pub(crate) async fn secure(&self, uri: &Uri, stream: TcpStream) -> Result<Stream, OpenError> {
        secure(uri, stream, &self.shared.tls).await
    }
}

async fn secure(uri: &Uri, stream: TcpStream, tls: &Arc<ClientConfig>) -> Result<Stream, OpenError> {
    let mut connector = HttpsConnector::from((Given(Some(stream)), Arc::clone(tls)));
    match timeout(TLS_TIMEOUT, tower::Service::call(&mut connector, uri.clone())).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => {
            let reason = tls_reason(error.as_ref());
            Err(OpenError { stage: Stage::Tls, reason, source: Some(error) })
        }
        Err(_) => Err(OpenError::new(Stage::Tls, "the TLS handshake was not finished in time")),
    }
}

/// Tries the addresses in order, each a moment after the one before, until one answers.
async fn race(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let attempts = addresses.iter().zip(0u32..).map(|(address, place)| async move {
        sleep(STAGGER * place).await;
        TcpStream::connect(address).await
    });
    let mut attempts: FuturesUnordered<_> = attempts.collect();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    while let Some(outcome) = attempts.next().await {
        match outcome {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Small messages leave at once, and a peer that vanished is noticed. Neither is worth failing for.
fn tune(stream: &TcpStream) {
    use rustix::net::sockopt;
    let tuned = stream.set_nodelay(true).is_ok()
        && sockopt::set_socket_keepalive(stream, true).is_ok()
        && sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE).is_ok()
        && sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL).is_ok()
        && sockopt::set_tcp_keepcnt(stream, 3).is_ok();
    if !tuned {
        tracing::debug!("a socket towards an upstream could not be tuned");
    }
}

/// TLS for what the operator named, and not an admin: a server that the machine trusts.
pub(crate) fn machine_tls() -> ClientConfig {
    trusting_machine().with_no_client_auth()
}

fn trusting_machine() -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let roots = machine_roots();
    if roots.is_empty() { builder().with_webpki_roots() } else { builder().with_root_certificates(roots) }
}

#[cfg(test)]
fn tls_config() -> ClientConfig {
    with_alpn(builder().with_webpki_roots())
}

fn with_alpn(builder: ConfigBuilder<ClientConfig, WantsClientCert>) -> ClientConfig {
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// What is wrong with the peer's TLS, in words an admin can act on.
fn tls_reason(error: &(dyn std::error::Error + 'static)) -> String {
    use rustls::CertificateError as Bad;
    let Some(rustls::Error::InvalidCertificate(wrong)) = sql::tls::cause(error) else {
        return "the TLS handshake failed".into();
    };
    match wrong {
        Bad::Expired | Bad::ExpiredContext { .. } => "the certificate has expired".into(),
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
            "the certificate is for another name".into()
        }
        Bad::UnknownIssuer => "the certificate's issuer is unknown".into(),
        _ => "the certificate is not valid".into(),
    }
}

/// Hands the TLS connector the stream that is open already.
struct Given(Option<TcpStream>);

impl tower::Service<Uri> for Given {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let stream = self.0.take().map(TokioIo::new);
        std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    }
}

impl tower::Service<Uri> for Dialler {
    type Response = Stream;
    type Error = OpenError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, OpenError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialler = self.clone();
        Box::pin(async move { dialler.open(&uri).await })
    }
}

#[cfg(test)]
mod tests;
