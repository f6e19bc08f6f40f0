//! A plain Pingora proxy: passes every request to one upstream and knows nothing of what it carries.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use async_trait::async_trait;
use clap::Parser;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

// As the gateway has it: what is compared shouldn't be allocators.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Idle connections to the upstream that are kept: more than any run opens.
const KEPT_CONNECTIONS: usize = 1_024;

/// A plain proxy in front of one upstream.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// Where to pass everything.
    #[arg(long)]
    upstream: SocketAddr,
    /// Threads; by default as many as there are CPUs, as the gateway has it.
    #[arg(long)]
    threads: Option<usize>,
}

struct Plain {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Plain {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _context: &mut (),
    ) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

fn main() {
    let arguments = Arguments::parse();
    let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let conf = ServerConf {
        threads: arguments.threads.unwrap_or(cpus),
        work_stealing: true,
        upstream_keepalive_pool_size: KEPT_CONNECTIONS,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Plain { upstream: arguments.upstream });
    service.add_tcp(&arguments.listen.to_string());
    server.add_service(service);
    server.run_forever();
}
