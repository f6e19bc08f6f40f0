//! Hearing of other replicas' changes: a connection of its own that does nothing but LISTEN.
//!
//! What it hears is a hint; the truth is the revision in the database. So it may miss any number of
//! them, and says "something may have changed" whenever it (re)connects. It lives on a thread of its
//! own with a small runtime, so that it depends on no runtime of its callers, which come and go.

use std::future::poll_fn;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_postgres::{AsyncMessage, Client};

use super::postgres::{Hosts, Wire};

/// The channel that commits notify; its payload is the installation's id.
pub(crate) const CHANNEL: &str = "mpg_changes";
/// How often the connection is asked whether it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long it may take to answer.
const HEARTBEAT_WAIT: Duration = Duration::from_secs(5);
/// How long making the connection may take, with its log-in.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// The first and the longest wait before the next attempt to connect.
const RETRY_WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Listens until told to stop. The receiver ends when the thread has.
pub(super) fn start(
    hosts: Hosts,
    instance: String,
    hint: impl Fn() + Send + 'static,
    stop: watch::Receiver<bool>,
) -> Option<mpsc::Receiver<()>> {
    let (alive, ended) = mpsc::channel(1);
    let work = move || {
        let _alive = alive;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(listen_until_stopped(&hosts, &instance, &hint, stop)),
            Err(error) => tracing::error!(error = %error, "no change hints: the listener has no runtime"),
        }
    };
    match std::thread::Builder::new().name("sql-listen".to_owned()).spawn(work) {
        Ok(_) => Some(ended),
        Err(error) => {
            tracing::error!(error = %error, "no change hints: the listener has no thread");
            None
        }
    }
}

async fn listen_until_stopped(
    hosts: &Hosts,
    instance: &str,
    hint: &impl Fn(),
    mut stop: watch::Receiver<bool>,
) {
    tokio::select! {
        // An error says that the store was dropped.
        _ = stop.wait_for(|stop| *stop) => {}
        () = listen_for_ever(hosts, instance, hint) => {}
    }
}

async fn listen_for_ever(hosts: &Hosts, instance: &str, hint: &impl Fn()) {
    let (first, longest) = RETRY_WAITS;
    let mut wait = first;
    loop {
        match timeout(CONNECT_WAIT, hosts.dial()).await {
            Ok(Ok((client, connection))) => {
                let error = serve(&client, connection, instance, hint, &mut wait).await;
                tracing::warn!(error = %error, "connection for change hints lost, connecting again");
            }
            Ok(Err(error)) => tracing::debug!(error = %error, "no connection for change hints yet"),
            Err(_) => tracing::debug!("no connection for change hints yet: no server answers"),
        }
        sleep(wait).await;
        wait = (wait * 2).min(longest);
    }
}

/// Why listening ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the server ended the connection")]
    Closed,
    #[error("no answer to a heartbeat")]
    Silent,
    #[error(transparent)]
    Failed(#[from] tokio_postgres::Error),
}

async fn serve(
    client: &Client,
    mut connection: Wire,
    instance: &str,
    hint: &impl Fn(),
    wait: &mut Duration,
) -> Lost {
    let receive = async {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(heard))) if heard.payload() == instance => hint(),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Lost::Failed(error),
                None => return Lost::Closed,
            }
        }
    };
    let ask = async {
        if let Err(error) = client.batch_execute(&format!("LISTEN {CHANNEL}")).await {
            return Lost::Failed(error);
        }
        *wait = RETRY_WAITS.0;
        // What happened before this moment went unheard.
        hint();
        loop {
            sleep(HEARTBEAT).await;
            match timeout(HEARTBEAT_WAIT, client.batch_execute("")).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Lost::Failed(error),
                Err(_) => return Lost::Silent,
            }
        }
    };
    tokio::select! {
        lost = receive => lost,
        lost = ask => lost,
    }
}
