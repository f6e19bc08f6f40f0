//! A TCP proxy before the gateway, or before a server of its, as there are many: it cuts connections that are
//! idle for too long, and all of them when the test says so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::gateway::TestGateway;

/// Bytes that are passed on at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// The proxy. Dropped, it is gone with its connections.
pub(crate) struct Intermediary {
    port: u16,
    connections: Arc<Mutex<JoinSet<()>>>,
    is_away: Arc<AtomicBool>,
    _accepting: JoinSet<()>,
}

impl Intermediary {
    /// One that cuts nothing by itself.
    pub(crate) async fn before(gateway: &TestGateway) -> Self {
        Self::cutting_idle(gateway, Duration::from_hours(1)).await
    }

    /// One that cuts connections on which nothing passes in either direction for so long.
    pub(crate) async fn cutting_idle(gateway: &TestGateway, idle_max: Duration) -> Self {
        Self::start(gateway.address(), idle_max).await
    }

    /// One before whatever listens at `target`; it cuts nothing by itself.
    pub(crate) async fn to(target: String) -> Self {
        Self::start(target, Duration::from_hours(1)).await
    }

    async fn start(target: String, idle_max: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let connections = Arc::<Mutex<JoinSet<()>>>::default();
        let mut accepting = JoinSet::new();
        let served = Arc::clone(&connections);
        let is_away = Arc::<AtomicBool>::default();
        let away = Arc::clone(&is_away);
        accepting.spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("the listener lives");
                if away.load(Ordering::SeqCst) {
                    continue;
                }
                let target = target.clone();
                served.lock().expect("nobody panics with it").spawn(async move {
                    // A gateway that is down refuses, and so does this.
                    let Ok(server) = TcpStream::connect(target).await else { return };
                    pass(client, server, idle_max).await;
                });
            }
        });
        Self { port, connections, is_away, _accepting: accepting }
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Cuts every connection, and closes each new one at once, until [`Self::come_back`].
    pub(crate) async fn go_away(&self) {
        self.is_away.store(true, Ordering::SeqCst);
        self.cut_all().await;
    }

    /// Lets connections pass again.
    pub(crate) fn come_back(&self) {
        self.is_away.store(false, Ordering::SeqCst);
    }

    /// Cuts every connection in the middle of what it carries; on return none is open.
    pub(crate) async fn cut_all(&self) {
        let mut connections = std::mem::take(&mut *self.connections.lock().expect("nobody panics with it"));
        connections.shutdown().await;
    }
}

/// Passes bytes on until either side closes, or none come for too long.
async fn pass(mut client: TcpStream, mut server: TcpStream, idle_max: Duration) {
    let (mut up, mut down) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    loop {
        let passed = async {
            tokio::select! {
                read = client.read(&mut up) => match read {
                    Ok(bytes @ 1..) => server.write_all(&up[..bytes]).await.is_ok(),
                    _ => false,
                },
                read = server.read(&mut down) => match read {
                    Ok(bytes @ 1..) => client.write_all(&down[..bytes]).await.is_ok(),
                    _ => false,
                },
            }
        };
        if !tokio::time::timeout(idle_max, passed).await.unwrap_or_default() {
            return;
        }
    }
}
