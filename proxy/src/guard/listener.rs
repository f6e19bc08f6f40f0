//! The one listening socket: bound before Pingora runs, closed before Pingora stops.
//!
//! Pingora binds when its services start, where an address in use is a panic and port 0 can't be asked
//! what it became; and it stops listening only when everything stops. So the socket is bound by
//! whoever makes this, given to Pingora the way it takes sockets over from an older process, and given
//! up when told to, while answers that are on their way go on.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;

use async_trait::async_trait;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::proxy::ProxyHttp;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::listening::Service as ListeningService;
use pingora::services::{Service, ServiceReadyNotifier, ServiceWithDependents};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Guard;

/// Held by every open connection, so 10,000 idle streams cost 120 MB; larger reads go past the buffer.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Likewise; the header and body of a usual answer leave in one packet.
const WRITE_BUFFER_BYTES: usize = 8 * 1024;

/// A Pingora service that accepts connections for a [`Guard`].
pub struct Listener<P> {
    service: ListeningService<Guard<P>>,
    key: String,
    socket: Option<TcpListener>,
    stop: CancellationToken,
}

impl<P> Listener<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    /// Accepts at `address`, by `socket`, or by one taken over from an older process if there is none.
    /// The two processes know the socket by `address`, so it has to be the same in both. When `stop` is
    /// cancelled the socket is closed, and every connection after its present request.
    pub fn new(
        guard: Guard<P>,
        address: SocketAddr,
        socket: Option<TcpListener>,
        stop: CancellationToken,
    ) -> Self {
        let key = address.to_string();
        let mut service = ListeningService::new("listener".into(), guard);
        let buffers = L4BufferSettings::new(READ_BUFFER_BYTES, WRITE_BUFFER_BYTES);
        service.add_listener(ListenerConfig::tcp(key.as_str()).l4_buffer(buffers));
        Self { service, key, socket, stop }
    }

    fn hand_over_socket(&mut self, fds: Option<&ListenFds>) {
        let (Some(fds), Some(socket)) = (fds, self.socket.take()) else { return };
        // Pingora's runtime drives it from here on.
        if let Err(error) = socket.set_nonblocking(true) {
            tracing::error!(error = %error, "the listening socket can't be made non-blocking");
        }
        fds.lock().add(self.key.clone(), socket.into_raw_fd());
    }
}

#[async_trait]
impl<P> ServiceWithDependents for Listener<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        listeners_per_fd: usize,
        ready: ServiceReadyNotifier,
    ) {
        self.hand_over_socket(fds.as_ref());
        ready.notify_ready();
        let (stopping, stop_watch) = watch::channel(false);
        let stop = self.stop.clone();
        let told_to_stop = async {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = shutdown.wait_for(|stopping| *stopping) => {}
            }
            stopping.send_replace(true);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = Service::start_service(&mut self.service, fds, stop_watch, listeners_per_fd) => {}
            () = told_to_stop => {}
        }
    }

    fn name(&self) -> &'static str {
        "listener"
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Some(vec![self.key.clone()])
    }
}
