//! The pipeline of a request, as a few lines.
//!
//! Everything is answered in process, in the phases that Pingora gives a request: nothing is proxied by
//! Pingora itself. [`Gateway`] exists before there is anything to serve, so that the listener can
//! answer `/healthz` while the store is opened; [`Gateway::serve_with`] puts the rest in place.

mod readiness;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use http::{Method, StatusCode};
use pingora::apps::HttpServerOptions;
use pingora::modules::http::HttpModules;
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::proxy::{ProxyHttp, Session, http_proxy};
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use sql::clock::Clock;
use sql::model::{ApiKeyId, Settings};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::readiness::{Phase, Readiness};
use crate::access::client_address::TrustedProxies;
use crate::access::origin::OriginRules;
use crate::access::{Keys, api_key, ip_allowlist, rate_limit};
use crate::audit::denied::Denials;
use crate::context::{self, ClientContext, ReachedByTls};
use crate::facet::{Facet, McpPath, McpTransport};
use crate::guard::{Connections, Deadlines, Guard, HEAD_BYTES_MAX, Tls};
use crate::http_bridge::{self, AdminService, McpRequest, McpService, Reply, ReplyBody, Via};
use crate::metrics::page::{Kind, Page};
use crate::metrics::process;
use crate::metrics::requests::RequestMeters;
use crate::refusal::Refusal;
use crate::trace;

/// Bytes of a request to the control plane: a backup is the largest thing that is sent there.
const ADMIN_BODY_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Connections that may be open before the settings are read.
const CONNECTIONS_BEFORE_SETTINGS_MAX: usize = 1_000;
/// Requests of one HTTP/2 connection at once: a key's streams and calls, and as many again.
const H2_STREAMS_MAX: u32 = 512;
const BYTES_PER_MIB: usize = 1024 * 1024;

/// What is known of the edge from the environment.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// Which hosts and origins are allowed.
    pub origins: OriginRules,
    /// Whose word on client addresses is taken.
    pub proxies: TrustedProxies,
    /// For connections and their headers.
    pub deadlines: Deadlines,
    /// For a request's body, from its header to its last byte.
    pub body_deadline: Duration,
    /// For the listener, which speaks in clear without.
    pub tls: Option<Tls>,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            origins: OriginRules::default(),
            proxies: TrustedProxies::default(),
            deadlines: Deadlines::default(),
            body_deadline: Duration::from_secs(30),
            tls: None,
        }
    }
}

/// What requests are answered with, once it is there.
pub struct Serving {
    /// Answers clients of the protocol.
    pub mcp: Arc<dyn McpService>,
    /// Answers everything else.
    pub admin: AdminService,
    /// The keys that callers may show.
    pub keys: Keys,
    /// The settings, as they change.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Takes note of whom it turns away.
    pub denials: Denials,
}

/// The edge: what Pingora calls for every request. Clones are one gateway.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    options: GatewayOptions,
    clock: Clock,
    readiness: Readiness,
    connections: Connections,
    serving: Arc<OnceLock<Serving>>,
    panics: AtomicU64,
    requests: RequestMeters,
}

/// One request and its answer, as far as the log is concerned.
pub struct Exchange {
    started: Instant,
    request_id: Arc<str>,
    client: Result<IpAddr, Refusal>,
    reached_by_tls: bool,
    status: Option<StatusCode>,
    refusal: Option<&'static str>,
    /// Whose request it is, once that is known.
    key: OnceLock<ApiKeyId>,
    /// Method and path of a request whose connection was handed over, and whose session is gone with it.
    handed_over: Option<(Method, String)>,
}

impl Gateway {
    /// A gateway that serves nothing yet but its health.
    pub fn new(options: GatewayOptions, clock: Clock) -> Self {
        let serving: Arc<OnceLock<Serving>> = Arc::default();
        let settings = Arc::clone(&serving);
        let connections_max = move || settings.get().map_or(CONNECTIONS_BEFORE_SETTINGS_MAX, connections_max);
        Self(Arc::new(Inner {
            connections: Connections::new(connections_max, options.proxies.clone()),
            options,
            clock,
            readiness: Readiness::default(),
            serving,
            panics: AtomicU64::new(0),
            requests: RequestMeters::default(),
        }))
    }

    /// Puts in place what requests are answered with. Done once; a second time changes nothing.
    pub fn serve_with(&self, serving: Serving) {
        if self.0.serving.set(serving).is_err() {
            tracing::error!("the gateway was told twice what to serve with");
        }
    }

    /// Says how far along the process is.
    pub fn readiness(&self) -> &Readiness {
        &self.0.readiness
    }

    /// The connections that are open.
    pub fn connections(&self) -> &Connections {
        &self.0.connections
    }

    /// Requests that ended in a panic of ours.
    pub fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }

    /// Puts on the page what came in.
    pub fn show_metrics(&self, page: &mut Page) {
        self.0.requests.show(page);
        page.one("mpg_panics", Kind::Counter, "Requests that ended in a panic of ours", self.panics());
        page.one("mpg_connections", Kind::Gauge, "Connections of clients", self.0.connections.open() as u64);
        let refused = self.0.connections.refused();
        page.one(
            "mpg_connections_refused",
            Kind::Counter,
            "Connections for which there was no room",
            refused,
        );
        let is_ready = self.0.readiness.phase() == Phase::Ready;
        page.one("mpg_ready", Kind::Gauge, "Whether traffic should be sent here", is_ready.into());
        process::show(page);
    }

    /// This gateway as Pingora's HTTP application, behind its guard: what a listening service runs.
    pub fn guarded(&self, conf: &Arc<ServerConf>) -> Guard<Self> {
        let inner = &self.0;
        let deadlines = inner.options.deadlines;
        let mut http = http_proxy(conf, self.clone());
        let mut h2 = default_h2_options();
        h2.max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .max_concurrent_streams(H2_STREAMS_MAX);
        http.h2_options = Some(h2);
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(deadlines.idle);
        http.server_options = Some(options);
        let tls = inner.options.tls.clone();
        Guard::new(http, inner.connections.clone(), tls, deadlines, inner.clock.clone())
    }

    /// The pipeline.
    async fn answer(
        &self,
        session: &mut Session,
        exchange: &Exchange,
        gone: &CancellationToken,
    ) -> Result<Reply, Refusal> {
        let head = session.req_header();
        let facet = Facet::of(head.uri.path());
        // Before all checks: who asks for health knows neither our name nor a key.
        match facet {
            Facet::Health => return only_read(&head.method, readiness::health),
            Facet::Ready => return only_read(&head.method, || readiness::ready(self.0.readiness.phase())),
            Facet::Mcp(_) | Facet::McpUnknown | Facet::Admin => {}
        }
        // Before anything that a page in a browser could gain from.
        self.0.options.origins.check(&head.uri, &head.headers)?;
        // Before what depends on the address: one that can't be read is nobody's.
        let context =
            ClientContext { address: exchange.client.clone()?, request_id: Arc::clone(&exchange.request_id) };
        let serving = self.0.serving.get().ok_or(Refusal::Starting)?;
        match facet {
            Facet::Mcp(path) => self.mcp(session, serving, path, (context, &exchange.key), gone).await,
            Facet::Admin => {
                let by_tls = ReachedByTls(exchange.reached_by_tls);
                self.admin(session, serving, (context, by_tls), gone).await
            }
            Facet::McpUnknown | Facet::Health | Facet::Ready => Err(Refusal::NotFound),
        }
    }

    /// A client of the protocol.
    async fn mcp(
        &self,
        session: &mut Session,
        serving: &Serving,
        path: McpPath,
        (context, key): (ClientContext, &OnceLock<ApiKeyId>),
        gone: &CancellationToken,
    ) -> Result<Reply, Refusal> {
        let head = session.req_header().as_owned_parts();
        let now = self.0.clock.now();
        // First: all that follows is per caller.
        let caller = api_key::authenticate(&head.uri, &head.headers, &serving.keys, now)?;
        key.get_or_init(|| caller.key().id);
        // Before the limit: strangers must not use it up.
        ip_allowlist::check(&caller, context.address)?;
        // Before the body: a message that isn't admitted isn't read.
        let admitted = match (path.transport, &head.method) {
            (McpTransport::StreamableHttp, &Method::POST) => rate_limit::admit_message(caller, now).await?,
            // A limit is told on the stream, to the id of the message: it is charged when that is known.
            (McpTransport::SseMessages, &Method::POST)
            | (McpTransport::StreamableHttp, &Method::GET | &Method::DELETE)
            | (McpTransport::Sse | McpTransport::Websocket, &Method::GET) => {
                rate_limit::admit_without_message(caller)
            }
            (transport, _) => return Err(Refusal::MethodNotAllowed { allow: transport.methods() }),
        };
        serving.keys.note_use(admitted.key().id, now, context.address);
        match path.transport {
            McpTransport::StreamableHttp if head.method == Method::POST => {
                http_bridge::check_media_types(&head.headers)?;
            }
            McpTransport::SseMessages => http_bridge::check_json(&head.headers)?,
            _ => {}
        }
        let body =
            http_bridge::read_body(session, body_bytes_max(serving), self.0.options.body_deadline).await?;
        let gone = gone.clone();
        let via = Via::Client;
        let request = McpRequest { head, body, admitted, path, context, gone: gone.clone(), via };
        Ok(http_bridge::while_connected(session, serving.mcp.serve(request), &gone).await)
    }

    /// Everything else: the control plane makes its own checks.
    async fn admin(
        &self,
        session: &mut Session,
        serving: &Serving,
        (context, by_tls): (ClientContext, ReachedByTls),
        gone: &CancellationToken,
    ) -> Result<Reply, Refusal> {
        let mut head = session.req_header().as_owned_parts();
        head.extensions.insert(context);
        head.extensions.insert(by_tls);
        let service = serving.admin.clone();
        let deadline = self.0.options.body_deadline;
        let answer = http_bridge::ask(session, service, head, ADMIN_BODY_BYTES_MAX, deadline, gone).await?;
        Ok(answer.map(ReplyBody::Frames))
    }

    /// Has the audit log told of somebody who has no access to the MCP endpoints.
    fn note_denied(&self, session: &Session, exchange: &Exchange, refusal: &Refusal) {
        let head = session.req_header();
        let is_mcp = matches!(Facet::of(head.uri.path()), Facet::Mcp(_) | Facet::McpUnknown);
        let Some(serving) = self.0.serving.get().filter(|_| is_mcp && refusal.denies_access()) else {
            return;
        };
        let key = api_key::shown(&head.uri, &head.headers, &serving.keys);
        serving.denials.note(refusal.reason(), exchange.client.as_ref().ok().copied(), key);
    }

    /// The answer to a request that ended in a panic: nothing of it may reach the client.
    fn panicked(&self, exchange: &Exchange) -> Refusal {
        let total = self.0.panics.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::error!(request.id = %exchange.request_id, panics.total = total, "a handler panicked");
        Refusal::Internal
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange {
            started: Instant::now(),
            request_id: Arc::from(""),
            client: Err(Refusal::AddressUnreadable),
            reached_by_tls: false,
            status: None,
            refusal: None,
            key: OnceLock::new(),
            handed_over: None,
        }
    }

    /// None: what they do to every answer isn't wanted for any.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
    ) -> pingora::Result<()> {
        let peer = session.client_addr().and_then(|peer| peer.as_inet()).map(std::net::SocketAddr::ip);
        let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let headers = &session.req_header().headers;
        exchange.request_id = context::request_id(headers, &self.0.clock);
        let options = &self.0.options;
        exchange.client = options.proxies.client_of(peer, headers);
        exchange.reached_by_tls = options.tls.is_some() || options.proxies.is_reached_by_tls(peer, headers);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> pingora::Result<bool> {
        let gone = CancellationToken::new();
        let answer = AssertUnwindSafe(self.answer(session, exchange, &gone)).catch_unwind().await;
        let answer = answer.unwrap_or_else(|_| Err(self.panicked(exchange)));
        let reply = answer.unwrap_or_else(|refusal| {
            exchange.refusal = Some(refusal.reason());
            self.note_denied(session, exchange, &refusal);
            refusal.respond(&exchange.request_id)
        });
        exchange.status = Some(reply.status());
        if matches!(reply.body(), ReplyBody::Upgrade(_)) {
            let head = session.req_header();
            exchange.handed_over = Some((head.method.clone(), head.uri.path().to_owned()));
        }
        // A body that is made while it is written can panic too.
        let written = http_bridge::write(session, reply, &exchange.request_id, &gone);
        if AssertUnwindSafe(written).catch_unwind().await.is_err() {
            self.panicked(exchange);
            session.set_keepalive(None);
            session.shutdown().await;
        }
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _exchange: &mut Exchange,
    ) -> pingora::Result<Box<HttpPeer>> {
        pingora::Error::e_explain(pingora::ErrorType::InternalError, "every request is answered in process")
    }

    async fn logging(&self, session: &mut Session, _error: Option<&pingora::Error>, exchange: &mut Exchange) {
        let (method, path) = if let Some((method, path)) = &exchange.handed_over {
            (method, path.as_str())
        } else {
            let head = session.req_header();
            (&head.method, head.uri.path()) // Never the query: it may hold a key.
        };
        let facet = Facet::of(path);
        if matches!(facet, Facet::Health | Facet::Ready) {
            return; // Asked every few seconds, by machines.
        }
        self.0.requests.count(facet, method, exchange.status, exchange.refusal);
        let trace = exchange.handed_over.is_none().then(|| trace::trace_id_of(&session.req_header().headers));
        tracing::info!(
            request.id = %exchange.request_id,
            trace.id = trace.flatten(),
            key.id = exchange.key.get().map(tracing::field::display),
            client.address = exchange.client.as_ref().ok().map(tracing::field::display),
            http.method = %method,
            http.path = path,
            http.status = exchange.status.map(|status| status.as_u16()),
            http.bytes_received = session.body_bytes_read(),
            http.bytes_sent = session.body_bytes_sent(),
            duration_ms = u64::try_from(exchange.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            refusal.reason = exchange.refusal,
            "request"
        );
    }
}

fn only_read(method: &Method, reply: impl FnOnce() -> Reply) -> Result<Reply, Refusal> {
    match *method {
        Method::GET | Method::HEAD => Ok(reply()),
        _ => Err(Refusal::MethodNotAllowed { allow: "GET, HEAD" }),
    }
}

fn body_bytes_max(serving: &Serving) -> usize {
    let mib = serving.settings.borrow().mcp_api.request_body_max_mib;
    usize::try_from(mib).unwrap_or(usize::MAX).saturating_mul(BYTES_PER_MIB)
}

fn connections_max(serving: &Serving) -> usize {
    usize::try_from(serving.settings.borrow().limits.connections_total).unwrap_or(usize::MAX)
}
