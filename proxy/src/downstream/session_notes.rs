//! Which sessions were opened, for an admin who looks at a key: behind a bounded queue, in batches.
//!
//! Nothing hangs on it: what doesn't fit isn't shown, and a session that isn't shown is served as any other.

use std::sync::Arc;
use std::time::Duration;

use sql::model::ClientSession;
use sql::{Store, StoreError, client_sessions};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use crate::tasks::Tasks;

/// Sessions that are opened between two writes and shown.
const QUEUE_MAX: usize = 256;
/// How often they are written.
const WRITE_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes of what a client calls itself.
const CLIENT_BYTES_MAX: usize = 200;

/// Takes note of sessions. Clones share it.
#[derive(Clone)]
pub struct SessionNotes(Arc<Shared>);

struct Shared {
    queue: mpsc::Sender<ClientSession>,
    opened: Mutex<mpsc::Receiver<ClientSession>>,
}

impl Default for SessionNotes {
    fn default() -> Self {
        let (queue, opened) = mpsc::channel(QUEUE_MAX);
        Self(Arc::new(Shared { queue, opened: Mutex::new(opened) }))
    }
}

impl SessionNotes {
    /// Takes note. Never waits.
    pub(super) fn opened(&self, mut session: ClientSession) {
        if let Some(client) = &mut session.client {
            client.retain(|character| character != '\0');
            client.truncate(client.floor_char_boundary(CLIENT_BYTES_MAX));
        }
        // One that doesn't fit isn't shown.
        let _ = self.0.queue.try_send(session);
    }

    /// Has what is noted written until the tasks stop.
    pub(crate) fn run(&self, store: Store, tasks: &Tasks) {
        let (notes, stopping) = (self.clone(), tasks.stopping().clone());
        tasks.spawn("opened sessions", async move {
            let mut due = interval(WRITE_INTERVAL);
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = due.tick() => {}
                    () = stopping.cancelled() => return,
                }
                if let Err(error) = notes.write(&store).await {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "opened sessions could not be noted"
                    );
                }
            }
        });
    }

    async fn write(&self, store: &Store) -> Result<(), StoreError> {
        let mut opened = self.0.opened.lock().await;
        let mut sessions = Vec::new();
        while let Ok(session) = opened.try_recv() {
            sessions.push(session);
        }
        drop(opened);
        if sessions.is_empty() {
            return Ok(());
        }
        let mut tx = store.begin().await?;
        client_sessions::insert(&mut tx, &sessions).await?;
        tx.commit().await
    }
}
