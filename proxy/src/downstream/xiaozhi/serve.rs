//! One live socket to a broker, from the handshake to its end.
//!
//! One task reads, answers and writes, so that nothing is queued but the calls that run, of which there are
//! few. A broker that doesn't read, or doesn't live, is left.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use sql::model::{XiaozhiEndpoint, XiaozhiFault};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::closing::Ending;
use super::endpoint::{Dialled, Shared, Stop};
use super::messages::{Messages, Step, shown};
use super::socket::Socket;
use crate::access::{Admitted, Caller, rate_limit};
use crate::downstream::connection::jittered;
use crate::refusal::Refusal;

/// Calls that one connection may have running: a household's robots together have a handful.
const CALLS_MAX: usize = 64;
/// Below what brokers wait for a sign of life, which is 20 s and as much again.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Pings without any sign of life after which nobody is there.
const PINGS_MISSED_MAX: u32 = 2;
/// How long one message may take to leave.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the other side is given to take our close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long changes of what is shown are gathered before the connection is made anew for them.
const GATHER: Duration = Duration::from_secs(1);

type Sink = SplitSink<Socket, Message>;
type Frame = Result<Message, tungstenite::Error>;

/// Why a socket is left.
#[derive(Debug)]
pub(super) enum End {
    /// It failed, or the other side left.
    Failed(Ending),
    /// Its key may no longer be used.
    KeyInvalid(Refusal),
    /// What it is shown changed, which it only learns anew.
    Changed,
    /// Whoever runs it said so.
    Stopped(Stop),
}

/// Serves a socket until it ends. `may_change_at` is when it may be made anew for a changed list.
pub(super) async fn serve(
    dialled: &mut Dialled,
    mut caller: Caller,
    socket: Socket,
    peer: Option<IpAddr>,
    may_change_at: Instant,
) -> End {
    let (mut sink, mut stream) = socket.split();
    let opened_at = Instant::now();
    let shared = Arc::clone(&dialled.shared);
    let mut changes = shared.dispatch.published.changes();
    let endpoint = Arc::clone(&dialled.endpoint);
    let view = shared.dispatch.view(&caller).await;
    let mut messages = Messages::new(&shared.dispatch, &shared.clock, &caller, &view, &endpoint);
    dialled.connected(messages.shown());
    let mut calls = FuturesUnordered::new();
    let (mut next_ping, mut missed) = (Instant::now() + jittered(PING_EVERY), 0);
    let mut look_at: Option<Instant> = None;
    let mut leaving: Option<End> = None;
    let end = loop {
        if calls.is_empty()
            && let Some(end) = leaving.take()
        {
            break end;
        }
        let at = look_at;
        let looking = async move {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            stop = dialled.stop() => match stop {
                // What runs ends with its deadline at the latest; nothing new begins.
                Stop::Draining => leaving = Some(End::Stopped(Stop::Draining)),
                stop => break End::Stopped(stop),
            },
            () = caller.revoked().cancelled() => match shared.keys.acting(endpoint.key_id, shared.clock.now()) {
                Ok(now) if !now.revoked().is_cancelled() => caller = now,
                Ok(_) => break End::KeyInvalid(Refusal::KeyDisabled),
                Err(refusal) => break End::KeyInvalid(refusal),
            },
            () = sleep_until(next_ping) => {
                if missed >= PINGS_MISSED_MAX {
                    break End::Failed(Ending::new(XiaozhiFault::Silent, "the broker gives no sign of life"));
                }
                missed += 1;
                next_ping = Instant::now() + jittered(PING_EVERY);
                if let Err(ending) = put(&mut sink, Message::Ping(Bytes::new())).await {
                    break End::Failed(ending);
                }
            }
            Some(answer) = calls.next(), if !calls.is_empty() => {
                let Some(answer): Option<Bytes> = answer else { continue };
                if let Err(ending) = say(&mut sink, answer).await {
                    break End::Failed(ending);
                }
            }
            changed = changes.changed(), if leaving.is_none() => match changed {
                Ok(()) => look_at = Some((Instant::now() + GATHER).max(may_change_at)),
                // The catalog goes with the process.
                Err(_) => break End::Stopped(Stop::Over),
            },
            () = looking => {
                look_at = None;
                let now = shared.keys.acting(endpoint.key_id, shared.clock.now());
                let Ok(now) = now else { continue };
                let view = shared.dispatch.view(&now).await;
                caller = now;
                if shown(&endpoint, &caller, &view).list != messages.shown().list {
                    leaving = Some(End::Changed);
                }
            }
            frame = stream.next() => {
                missed = 0;
                let text = match text_of(frame, opened_at) {
                    Ok(Some(text)) => text,
                    Ok(None) => continue,
                    Err(ending) => break End::Failed(ending),
                };
                let admitted = match admit(&shared, &endpoint, peer).await {
                    // For a changed list a moment is awaited in which nothing runs.
                    _ if matches!(leaving, Some(End::Stopped(_))) => Err(Refusal::Stopping),
                    Admission::Message(admitted) => admitted,
                    Admission::KeyInvalid(refusal) => break End::KeyInvalid(refusal),
                };
                let view = shared.dispatch.view(admitted.as_ref().map_or(&caller, |admitted| admitted.caller())).await;
                match messages.take(text, admitted.as_ref(), &view, || calls.len() < CALLS_MAX) {
                    Step::Silent => {}
                    Step::Call(call) => calls.push(call),
                    Step::Say(answer) => {
                        if let Err(ending) = say(&mut sink, answer).await {
                            break End::Failed(ending);
                        }
                    }
                }
            }
        }
    };
    drop(calls);
    drop(messages);
    close(sink, stream, &end).await;
    end
}

/// The message in a frame; none in one that only says that the broker lives.
fn text_of(frame: Option<Frame>, opened_at: Instant) -> Result<Option<Bytes>, Ending> {
    match frame {
        Some(Ok(Message::Text(text))) => {
            Ok(Some(Bytes::from(text)).filter(|text| !text.trim_ascii().is_empty()))
        }
        Some(Ok(Message::Close(frame))) => {
            Err(Ending::of_close(frame.map(|frame| frame.code.into()), opened_at.elapsed()))
        }
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_) | Message::Binary(_))) => Ok(None),
        Some(Err(error)) => Err(Ending::of_error(&error)),
        None => Err(Ending::lost()),
    }
}

/// What the key's policy says of one message.
enum Admission {
    /// It is taken, or refused by itself.
    Message(Result<Admitted, Refusal>),
    /// Nothing more will be taken.
    KeyInvalid(Refusal),
}

async fn admit(shared: &Shared, endpoint: &XiaozhiEndpoint, peer: Option<IpAddr>) -> Admission {
    let now = shared.clock.now();
    let caller = match shared.keys.acting(endpoint.key_id, now) {
        Ok(caller) => caller,
        Err(refusal) => return Admission::KeyInvalid(refusal),
    };
    let admitted = rate_limit::admit_message(caller, now).await;
    if let (Ok(admitted), Some(peer)) = (&admitted, peer) {
        shared.keys.note_use(admitted.key().id, now, peer);
    }
    Admission::Message(admitted)
}

async fn say(sink: &mut Sink, answer: Bytes) -> Result<(), Ending> {
    // What we compose is JSON, and so is text.
    let text = Utf8Bytes::try_from(answer).map_err(|_| Ending::lost())?;
    put(sink, Message::Text(text)).await
}

async fn put(sink: &mut Sink, message: Message) -> Result<(), Ending> {
    match timeout(WRITE_TIMEOUT, sink.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Ending::of_error(&error)),
        Err(_) => Err(Ending::new(XiaozhiFault::Silent, "the broker does not read what it is sent")),
    }
}

/// Says why, where somebody is still there to hear it, and lets the other side end the connection: there is
/// to be no moment in which it knows of two.
async fn close(mut sink: Sink, mut stream: SplitStream<Socket>, end: &End) {
    let said = match end {
        End::Failed(ending) => match ending.fault {
            XiaozhiFault::TooLarge if ending.code.is_none() => {
                Some((CloseCode::Size, "the message is too large"))
            }
            XiaozhiFault::Protocol if ending.code.is_none() => Some((CloseCode::Protocol, "not WebSocket")),
            _ => None,
        },
        End::KeyInvalid(_) => Some((CloseCode::Policy, "not allowed any more")),
        End::Changed => Some((CloseCode::Normal, "the tools changed")),
        End::Stopped(_) => Some((CloseCode::Away, "the gateway leaves")),
    };
    let farewell = async {
        let told = match said {
            Some((code, reason)) => {
                let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
                sink.send(Message::Close(Some(frame))).await
            }
            // The echo of the other side's own close, if there was one.
            None => sink.flush().await,
        };
        while told.is_ok() && matches!(stream.next().await, Some(Ok(_))) {}
    };
    let _ = timeout(CLOSE_TIMEOUT, farewell).await;
}
