//! What every replica is told of a session, since any of them may have something that hangs off it.
//!
//! These are few and small, they may come twice, and one that is lost costs a call that runs on, or a stream
//! that ends a second later when the database says the same.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sql::model::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::replica::ReplicaId;
use crate::cache::{Cache, Heard};
use crate::metrics::drops::{self, Queue};
use crate::wire::ids::Id;

/// Where they are told.
const CHANNEL: &str = "told";
/// What waits to be told: a client is told from each of its messages at most once. Beyond it word is dropped.
const QUEUE_MAX: usize = 1024;
/// Bytes of one: as the params of a notification are a client's own, they are bounded.
const BYTES_MAX: usize = 256 * 1024;

/// Word of a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Told {
    /// Its client withdrew a request that ran nowhere here.
    #[serde(rename = "cancelled")]
    Cancelled {
        /// The session.
        session: Uuid,
        /// The raw id of the request.
        id: Box<RawValue>,
    },
    /// Its client ended it.
    #[serde(rename = "ended")]
    Ended {
        /// The session.
        session: Uuid,
        /// When its token expires.
        until: Timestamp,
    },
    /// Its client has other roots.
    #[serde(rename = "roots")]
    RootsChanged {
        /// The session.
        session: Uuid,
        /// The raw params of the notification.
        params: Option<Box<RawValue>>,
    },
}

impl Told {
    /// A request was withdrawn.
    pub fn cancelled(session: Uuid, id: &Id) -> Option<Self> {
        Some(Self::Cancelled { session, id: raw(id.raw())? })
    }

    /// Roots changed.
    pub fn roots_changed(session: Uuid, params: Option<&Bytes>) -> Option<Self> {
        let params = match params {
            Some(params) => Some(raw(params)?),
            None => None,
        };
        Some(Self::RootsChanged { session, params })
    }
}

fn raw(json: &Bytes) -> Option<Box<RawValue>> {
    serde_json::from_slice(json).ok()
}

#[derive(Serialize, Deserialize)]
struct Word {
    from: ReplicaId,
    told: Told,
}

/// Tells the others.
pub(super) struct Teller(mpsc::Sender<Told>);

/// What waits to be told.
pub(super) struct Waiting(mpsc::Receiver<Told>);

pub(super) fn teller() -> (Teller, Waiting) {
    let (tell, waiting) = mpsc::channel(QUEUE_MAX);
    (Teller(tell), Waiting(waiting))
}

impl Teller {
    /// Tells them soon.
    pub(super) fn tell(&self, told: Told) {
        if self.0.try_send(told).is_err() {
            drops::count(Queue::Replicas, 1);
            tracing::warn!(queue.max = QUEUE_MAX, "word for the other replicas was dropped");
        }
    }
}

impl Waiting {
    /// Tells what is to be told, until nobody is left who could.
    pub(super) async fn publish(mut self, cache: Cache, own: ReplicaId, stopping: CancellationToken) {
        loop {
            let told = tokio::select! {
                told = self.0.recv() => told,
                () = stopping.cancelled() => return,
            };
            let Some(told) = told else { return };
            let Ok(word) = serde_json::to_vec(&Word { from: own, told }) else { continue };
            if word.len() > BYTES_MAX {
                tracing::warn!(
                    word.bytes = word.len(),
                    "word for the other replicas is too long, and was dropped"
                );
            } else if cache.publish(CHANNEL, &word).await.is_err() {
                tracing::debug!("word for the other replicas was lost with the cache");
            }
        }
    }
}

/// Hands on what the others tell, until the process stops.
pub(super) async fn hear(
    cache: Cache,
    own: ReplicaId,
    hearer: impl Fn(Told) + Send,
    stopping: CancellationToken,
) {
    let mut words = cache.subscribe(CHANNEL);
    loop {
        let heard = tokio::select! {
            heard = words.next() => heard,
            () = stopping.cancelled() => return,
        };
        match heard {
            None => return,
            // Nothing to read anew: who missed word of an end reads it in the database.
            Some(Heard::Gap) => {}
            Some(Heard::Message(word)) => match serde_json::from_slice::<Word>(&word) {
                Ok(word) if word.from == own => {}
                Ok(word) => hearer(word.told),
                Err(error) => tracing::warn!(error = %error, "word of another replica can't be read"),
            },
        }
    }
}
