//! The task that writes: one message after the other, each within a deadline.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use super::{Broken, Receipt, Shared, Sink, Ticket};

/// How long an upstream may leave a message unread. One that reads nothing for this long hangs, and
/// everything behind the message with it.
pub(super) const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// How long, when writing failed, the reader may go on to find the last answers: under the second in which
/// a crash is reported.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// How long a transport may take to say that nothing more comes.
const FINISH_DEADLINE: Duration = Duration::from_secs(1);

/// A message in the queue.
pub(super) struct Message {
    pub(super) body: Bytes,
    /// A request has one: it isn't written if its call was given up before.
    pub(super) ticket: Option<Arc<Ticket>>,
    /// Its share of the bytes that may wait.
    pub(super) _room: OwnedSemaphorePermit,
}

/// Writes until the channel closes or breaks.
pub(super) async fn run(shared: Arc<Shared>, mut sink: impl Sink, mut queued: mpsc::Receiver<Message>) {
    let stopping = shared.wiring.tasks.stopping().clone();
    let written = async {
        while let Some(message) = queued.recv().await {
            if message.ticket.as_ref().is_none_or(|ticket| ticket.begin()) {
                let call = message.ticket.as_ref().map(|ticket| ticket.id);
                let receipt = Receipt { shared: Arc::clone(&shared), call };
                write(&mut sink, message.body, receipt).await?;
            }
        }
        Ok(())
    };
    let outcome = tokio::select! {
        outcome = written => outcome,
        () = shared.closing.cancelled() => Ok(()),
        () = stopping.cancelled() => Ok(()),
    };
    if let Err(Broken(reason)) = outcome {
        // A process that ended may have answered before: what it wrote is still in the pipe.
        let _ = timeout(LAST_ANSWERS, shared.closing.cancelled()).await;
        shared.end(&reason);
    }
    if timeout(FINISH_DEADLINE, sink.finish()).await.is_err() {
        tracing::debug!("upstream channel closed without a farewell");
    }
}

async fn write(sink: &mut impl Sink, body: Bytes, receipt: Receipt) -> Result<(), Broken> {
    timeout(WRITE_DEADLINE, sink.send(body, receipt)).await.unwrap_or_else(|_| {
        Err(Broken(format!("the upstream read nothing for {} s", WRITE_DEADLINE.as_secs())))
    })
}
