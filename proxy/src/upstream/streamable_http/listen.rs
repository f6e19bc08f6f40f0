//! The stream that a legacy server sends on outside any call: GET, opened once the session stands.
//!
//! A server without one says 405 (some 404), and that is that. A stream that breaks is opened again
//! after its last event, with a wait that grows while nothing comes of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::Parts;
use super::asks::Asks;
use super::events::{Heard, Media, Position, media, next_event};
use super::exchange::notify;
use crate::bridge::degraded::Reason;
use crate::upstream::backoff::{self, Backoff};
use crate::upstream::frame::{self, Addressee, Incoming};
use crate::upstream::link::{Attribution, Dropped};
use crate::upstream::pool::Body;
use crate::wire::envelope::Params;
use crate::wire::sse::Reader;

/// What the server sends of its own accord is small; a request for sampling may hold a document.
const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Between two openings, beyond what the server asks for.
const REOPEN: Backoff =
    Backoff { initial: Duration::from_secs(1), multiplier: 2.0, max: Duration::from_mins(1) };

/// Keeps the stream open until the link ends or the server has none.
pub(super) async fn listen(parts: Arc<Parts>) {
    let ended = parts.ended.clone();
    let stopping = parts.wiring.tasks.stopping().clone();
    tokio::select! {
        () = ended.cancelled() => {}
        () = stopping.cancelled() => {}
        () = keep_open(&parts) => {}
    }
}

async fn keep_open(parts: &Arc<Parts>) {
    let (mut position, mut failures, mut offered) = (Position::default(), 0, false);
    loop {
        match parts.get(position.last_event_id.as_deref()).await {
            Ok(response) if response.status().is_success() && media(&response) == Media::Events => {
                offered = true;
                let heard = read(parts, response.into_body(), &mut position).await;
                failures = if heard { 0 } else { failures + 1 };
            }
            // It offers none; what it says to the session itself, calls will show.
            Ok(_) if !offered => return,
            Ok(_) => {
                parts.wiring.listener.suspect();
                position = Position::default();
                failures += 1;
            }
            Err(_) => {
                parts.wiring.listener.suspect();
                failures += 1;
            }
        }
        sleep(position.wait().max(REOPEN.after(failures, backoff::jitter()))).await;
    }
}

/// Reads until the stream ends; whether anything came.
async fn read(parts: &Arc<Parts>, mut body: Body, position: &mut Position) -> bool {
    let (mut reader, mut asks, mut heard) = (Reader::new(EVENT_BYTES_MAX), Asks::new(parts), false);
    loop {
        let event = tokio::select! {
            () = asks.one_done() => continue,
            event = next_event(&mut body, &mut reader) => event,
        };
        position.follow(&reader);
        match event {
            Ok(Heard::Event(event)) => {
                heard = true;
                if !event.data.is_empty() {
                    take(parts, &mut asks, event.data);
                }
            }
            Ok(Heard::End | Heard::Break) => return heard,
            Err(_) => {
                parts.wiring.listener.dropped(Dropped::Garbage);
                return heard;
            }
        }
    }
}

fn take(parts: &Arc<Parts>, asks: &mut Asks, message: Bytes) {
    match frame::read(message) {
        Ok(Incoming::Notification { method, params }) => notification(parts, asks, &method, params.as_ref()),
        Ok(Incoming::Request { id, method, params }) => {
            let client = match parts.in_flight.asker(params.as_ref()) {
                Attribution::One(client) => Some(client),
                Attribution::Nobody | Attribution::Several => None,
            };
            asks.put(client.as_ref(), id, &method, params.as_ref());
        }
        Ok(Incoming::Batch(messages)) => messages.into_iter().for_each(|message| take(parts, asks, message)),
        // Answers come on the streams of their requests.
        Ok(Incoming::Answer { .. }) => parts.wiring.listener.dropped(Dropped::Answer),
        Err(frame::NotAMessage) => parts.wiring.listener.dropped(Dropped::Garbage),
    }
}

fn notification(parts: &Parts, asks: &mut Asks, method: &str, params: Option<&Params>) {
    let listener = &parts.wiring.listener;
    match frame::addressee(method) {
        Addressee::Progress => {
            if !parts.in_flight.progress(params) {
                listener.dropped(Dropped::Progress);
            }
        }
        Addressee::Taken => {
            if let Some(id) = frame::taken_back(params) {
                asks.take_back(&id);
            }
        }
        Addressee::Everyone => listener.notification(method, params.map(|params| params.raw().clone())),
        Addressee::Call => match parts.in_flight.whose(params) {
            Attribution::One(client) => notify(&client, method, params),
            Attribution::Nobody => listener.notification(method, params.map(|params| params.raw().clone())),
            Attribution::Several => {
                listener.dropped(Dropped::Unattributed);
                if method == "notifications/message" {
                    listener.degraded(Reason::LogOfSeveral);
                    parts.in_flight.mark(Reason::LogOfSeveral);
                }
            }
        },
    }
}
