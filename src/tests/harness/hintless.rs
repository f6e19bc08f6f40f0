//! A relay before a Postgres that keeps every notification to itself: who listens for word of changes hears
//! none, though its connection lives and is answered, and everything else passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The kind of the message by which Postgres notifies.
const NOTIFICATION: u8 = b'A';

/// The relay. Dropped, it is gone with its connections.
pub(crate) struct Hintless {
    port: u16,
    swallowed: Arc<AtomicUsize>,
    _accepting: JoinSet<()>,
}

impl Hintless {
    /// One before the server at `target`, which is asked for no TLS.
    pub(super) async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let swallowed = Arc::<AtomicUsize>::default();
        let mut accepting = JoinSet::new();
        let count = Arc::clone(&swallowed);
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("the listener lives");
                let (target, count) = (target.clone(), Arc::clone(&count));
                connections.spawn(async move {
                    let Ok(server) = TcpStream::connect(target).await else { return };
                    let nodelay = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
                    nodelay.expect("sockets take options");
                    let (mut asked, answered) = client.into_split();
                    let (answers, mut asking) = server.into_split();
                    // A connection that is cut is cut on both sides.
                    tokio::select! {
                        _ = tokio::io::copy(&mut asked, &mut asking) => {}
                        _ = pass_on(answers, answered, &count) => {}
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { port, swallowed, _accepting: accepting }
    }

    /// The port it listens on.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// How many notifications it has kept so far.
    pub(crate) fn swallowed(&self) -> usize {
        self.swallowed.load(Ordering::SeqCst)
    }
}

/// Passes on what a server says, message by message: its kind in one byte, its length in four, which counts
/// itself.
async fn pass_on(
    answers: OwnedReadHalf,
    mut answered: OwnedWriteHalf,
    swallowed: &AtomicUsize,
) -> std::io::Result<()> {
    let mut answers = BufReader::new(answers);
    let mut message = Vec::new();
    loop {
        let kind = answers.read_u8().await?;
        let length = answers.read_u32().await?;
        message.clear();
        message.push(kind);
        message.extend_from_slice(&length.to_be_bytes());
        let rest = u64::from(length) - size_of::<u32>() as u64;
        (&mut answers).take(rest).read_to_end(&mut message).await?;
        if kind == NOTIFICATION {
            swallowed.fetch_add(1, Ordering::SeqCst);
        } else {
            answered.write_all(&message).await?;
        }
    }
}
