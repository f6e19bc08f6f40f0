//! Handing over through Redis, where a replica has no peer listener: small requests and answers, and streams.
//!
//! Every replica listens to a channel of its own. A request goes there with its pass; what comes of it comes
//! back on the channel of who asked, in pieces. A message of more than 256 KiB isn't sent: the client is told
//! to try again, and an operator who has such sets `MPG_PEER_ADDR`. What is missed while Redis is away ends
//! the exchanges that it belonged to.
//!
//! An exchange may take as long as its call or its stream. So who serves it says every few seconds that it goes
//! on, and who began it gives it up when it hears nothing for a while, since a message was lost. Who hears this
//! of an exchange that it gave up says so, and it ends at the other side too.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use dashmap::DashMap;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Unreached;
use super::carried;
use super::directory::Directory;
use super::listener::Listener;
use super::pass::NotPassed;
use super::replica::ReplicaId;
use super::seldom::Seldom;
use crate::cache::{Cache, Heard, Lost};
use crate::http_bridge::{Reply, ReplyBody};
use crate::metrics::drops::{self, Queue};
use crate::tasks::Tasks;

/// Bytes of one message, so that none holds Redis up for others.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Exchanges at once, of each kind: what comes of them goes through one connection.
const EXCHANGES_MAX: usize = 256;
/// Pieces that wait for one client. Beyond it the client is too slow, and its exchange ends.
const PIECES_MAX: usize = 64;
/// How often who waits looks whether the other replica is still there.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How often who serves says that it still does.
const BEAT_INTERVAL: Duration = Duration::from_secs(5);
/// Looks in a row during which nothing was heard, after which an exchange is given up: three beats were lost.
const SILENT_LOOKS_MAX: u32 = 3;
/// Beats in a row that could not be said, after which who began it has given it up.
const LOST_BEATS_MAX: u32 = 3;
/// Bytes of a message's kind and of its exchange's name.
const HEAD_BYTES: usize = 17;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Head,
    Piece,
    End,
    Refused,
    Cancelled,
    /// It goes on; with the name of who says so.
    Beat,
}

const KINDS: [Kind; 7] =
    [Kind::Request, Kind::Head, Kind::Piece, Kind::End, Kind::Refused, Kind::Cancelled, Kind::Beat];

/// The head of an answer.
#[derive(Serialize, Deserialize)]
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
    is_stream: bool,
}

/// Exchanges through Redis, in both directions.
pub(super) struct Channel {
    cache: Cache,
    own: ReplicaId,
    directory: Arc<Directory>,
    /// Those that this replica began.
    begun: DashMap<Uuid, mpsc::Sender<(Kind, Bytes)>>,
    /// Those that others began.
    served: DashMap<Uuid, CancellationToken>,
    places: Arc<Semaphore>,
    /// Said of requests for which there is no room, and of those that are too large.
    refusals: Seldom,
    tasks: Tasks,
}

impl Channel {
    pub(super) fn new(cache: Cache, own: ReplicaId, directory: Arc<Directory>, tasks: Tasks) -> Self {
        let places = Arc::new(Semaphore::new(EXCHANGES_MAX));
        let (begun, served) = (DashMap::new(), DashMap::new());
        Self { cache, own, directory, begun, served, places, refusals: Seldom::default(), tasks }
    }

    /// Sends a packed request; an answer of more than `bytes_max` in one piece isn't taken.
    pub(super) async fn ask(
        self: &Arc<Self>,
        to: ReplicaId,
        pass: &str,
        packed: &[u8],
        bytes_max: usize,
    ) -> Result<Reply, Unreached> {
        let pass_length = u16::try_from(pass.len()).map_err(|_| Unreached::Unavailable)?;
        let own = self.own.to_string();
        let request = [own.as_bytes(), &pass_length.to_be_bytes(), pass.as_bytes(), packed].concat();
        let place = Arc::clone(&self.places).try_acquire_owned();
        let (Ok(place), true) = (place, request.len() + HEAD_BYTES <= MESSAGE_BYTES_MAX) else {
            if let Some(more) = self.refusals.due() {
                let bytes = request.len();
                tracing::warn!(bytes, more, "a request is too much for Redis: MPG_PEER_ADDR is needed");
            }
            return Err(Unreached::Unavailable);
        };
        let (pieces, waiting) = mpsc::channel(PIECES_MAX);
        let id = Uuid::now_v7();
        self.begun.insert(id, pieces);
        let mut exchange =
            Exchange { channel: Arc::clone(self), id, to, waiting, is_over: false, _place: place };
        if self.say(to, Kind::Request, id, &request).await.map_err(|Lost| Unreached::Unavailable)? == 0 {
            exchange.is_over = true;
            return Err(Unreached::Gone);
        }
        exchange.reply(bytes_max).await
    }

    async fn say(&self, to: ReplicaId, kind: Kind, id: Uuid, rest: &[u8]) -> Result<u64, Lost> {
        let message = [&[kind as u8], id.as_bytes().as_slice(), rest].concat();
        self.cache.publish(&channel_of(to), &message).await
    }

    /// Says something of an exchange to who began it; where nobody hears it, it is lost.
    async fn tell(&self, to: ReplicaId, kind: Kind, id: Uuid, rest: &[u8]) -> Result<(), Lost> {
        if self.say(to, kind, id, rest).await? == 0 { Err(Lost) } else { Ok(()) }
    }

    /// Takes what is said to this replica, until it ends.
    pub(super) async fn listen(self: Arc<Self>, listener: Arc<Listener>) {
        let mut messages = self.cache.subscribe(&channel_of(self.own));
        let stopping = self.tasks.stopping().clone();
        loop {
            let heard = tokio::select! {
                heard = messages.next() => heard,
                () = stopping.cancelled() => return,
            };
            match heard {
                None => return,
                // Answers may have been missed: who waits for one is told that it broke off.
                Some(Heard::Gap) => self.begun.clear(),
                Some(Heard::Message(message)) => self.take(message, &listener),
            }
        }
    }

    fn take(self: &Arc<Self>, mut message: Bytes, listener: &Arc<Listener>) {
        let head = message.first_chunk::<HEAD_BYTES>().copied();
        let Some((kind, id)) =
            head.and_then(|[kind, id @ ..]| Some((*KINDS.get(usize::from(kind))?, Uuid::from_bytes(id))))
        else {
            return tracing::warn!("a message of another replica can't be read");
        };
        message.advance(HEAD_BYTES);
        match kind {
            Kind::Request => {
                if self.served.len() >= EXCHANGES_MAX {
                    if let Some(more) = self.refusals.due() {
                        let max = EXCHANGES_MAX;
                        tracing::warn!(exchanges.max = max, more, "a replica asks too much through Redis");
                    }
                    return self.turn_away(id, message);
                }
                // Noted before the next message is read, which may cancel it.
                let gone = CancellationToken::new();
                self.served.insert(id, gone.clone());
                let served = Served { channel: Arc::clone(self), id };
                let listener = Arc::clone(listener);
                self.tasks.spawn_here("relayed through redis", async move {
                    served.channel.serve(id, message, gone, &listener).await;
                });
            }
            Kind::Cancelled => {
                if let Some((_, gone)) = self.served.remove(&id) {
                    gone.cancel();
                }
            }
            Kind::Beat => match self.begun.get(&id) {
                // Where there is no room for it, enough has been heard.
                Some(pieces) => drop(pieces.try_send((kind, message))),
                None => self.give_up(id, message),
            },
            Kind::Head | Kind::Piece | Kind::End | Kind::Refused => {
                // Without room its client is too slow, and the exchange ends with its sender.
                let gone =
                    self.begun.remove_if(&id, |_, pieces| pieces.try_send((kind, message.clone())).is_err());
                if gone.is_some() {
                    drops::count(Queue::Relay, 1);
                }
            }
        }
    }

    /// Says that there is no room: who asks would wait for an answer for as long as this replica is there.
    fn turn_away(self: &Arc<Self>, id: Uuid, mut request: Bytes) {
        let Some(from) = take_name(&mut request) else { return };
        let channel = Arc::clone(self);
        self.tasks.spawn_here("relay turned away", async move {
            let status = StatusCode::SERVICE_UNAVAILABLE.as_u16().to_be_bytes();
            // Lost with the cache, its exchange ends with the gap.
            let _ = channel.say(from, Kind::Refused, id, &status).await;
        });
    }

    /// Says that nobody waits for an exchange any more: here it ended when messages were missed.
    fn give_up(self: &Arc<Self>, id: Uuid, mut by: Bytes) {
        let Some(by) = take_name(&mut by) else { return };
        let channel = Arc::clone(self);
        self.tasks.spawn_here("relay given up", async move {
            // Lost with the cache, it is said again after the next beat.
            let _ = channel.say(by, Kind::Cancelled, id, &[]).await;
        });
    }

    async fn serve(&self, id: Uuid, mut request: Bytes, gone: CancellationToken, listener: &Listener) {
        let Some(from) = take_name(&mut request) else { return };
        let served = async {
            match admitted(request, listener) {
                Ok(carried) => {
                    self.answer(from, id, listener.reply(carried, gone.clone()).await, &gone).await
                }
                Err(status) => self.tell(from, Kind::Refused, id, &status.as_u16().to_be_bytes()).await,
            }
        };
        let answered = tokio::select! {
            answered = served => answered,
            lost = self.beat(from, id) => Err(lost),
        };
        if answered.is_err() {
            gone.cancel();
            tracing::debug!("an answer to another replica was lost, or nobody waits for it");
        }
    }

    /// Says again and again that an exchange goes on. Ends when nobody can be waiting for it any more.
    async fn beat(&self, to: ReplicaId, id: Uuid) -> Lost {
        let own = self.own.to_string();
        let mut beats = interval_at(Instant::now() + BEAT_INTERVAL, BEAT_INTERVAL);
        let mut lost = 0;
        while lost < LOST_BEATS_MAX {
            beats.tick().await;
            match self.say(to, Kind::Beat, id, own.as_bytes()).await {
                Ok(0) => break,
                Ok(_) => lost = 0,
                Err(Lost) => lost += 1,
            }
        }
        Lost
    }

    async fn answer(
        &self,
        to: ReplicaId,
        id: Uuid,
        reply: Reply,
        gone: &CancellationToken,
    ) -> Result<(), Lost> {
        let (parts, body) = reply.into_parts();
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let head = Head {
            status: parts.status.as_u16(),
            headers: parts.headers.iter().filter_map(text).collect(),
            is_stream: matches!(body, ReplyBody::Stream(_)),
        };
        let head = serde_json::to_vec(&head).expect("numbers and strings");
        let whole = match body {
            ReplyBody::Stream(mut pieces) => {
                self.tell(to, Kind::Head, id, &head).await?;
                loop {
                    let piece = tokio::select! {
                        piece = pieces.recv() => piece,
                        () = gone.cancelled() => return Ok(()),
                    };
                    let Some(piece) = piece else { break };
                    for part in piece.chunks(MESSAGE_BYTES_MAX - HEAD_BYTES) {
                        self.tell(to, Kind::Piece, id, part).await?;
                    }
                }
                return self.tell(to, Kind::End, id, &[]).await;
            }
            ReplyBody::Whole(bytes) => bytes,
            ReplyBody::Chain(pieces) => Bytes::from(pieces.concat()),
            ReplyBody::Empty | ReplyBody::Frames(_) | ReplyBody::Upgrade(_) => Bytes::new(),
        };
        if whole.len() + HEAD_BYTES > MESSAGE_BYTES_MAX {
            if let Some(more) = self.refusals.due() {
                let bytes = whole.len();
                tracing::warn!(bytes, more, "an answer is too much for Redis: MPG_PEER_ADDR is needed");
            }
            let status = StatusCode::SERVICE_UNAVAILABLE.as_u16().to_be_bytes();
            return self.tell(to, Kind::Refused, id, &status).await;
        }
        self.tell(to, Kind::Head, id, &head).await?;
        self.tell(to, Kind::Piece, id, &whole).await?;
        self.tell(to, Kind::End, id, &[]).await
    }
}

fn channel_of(replica: ReplicaId) -> String {
    format!("relay:{replica}")
}

/// Who asks.
fn take_name(request: &mut Bytes) -> Option<ReplicaId> {
    let name = std::str::from_utf8(request.get(..6)?).ok()?.parse().ok()?;
    request.advance(6);
    Some(name)
}

/// The request in a message, proved to be another replica's.
fn admitted(mut request: Bytes, listener: &Listener) -> Result<carried::Carried, StatusCode> {
    let length = request.first_chunk::<2>().map(|length| usize::from(u16::from_be_bytes(*length)));
    let length = length.filter(|length| request.len() >= 2 + length).ok_or(StatusCode::BAD_REQUEST)?;
    request.advance(2);
    let pass = request.split_to(length);
    let digest = listener.verified(std::str::from_utf8(&pass).unwrap_or_default())?;
    if !digest.is_of(&request) {
        return Err(NotPassed::Invalid.status());
    }
    carried::unpack(request).map_err(|_| StatusCode::BAD_REQUEST)
}

/// An exchange that this replica began. Dropped before its end, it is cancelled there.
struct Exchange {
    channel: Arc<Channel>,
    id: Uuid,
    to: ReplicaId,
    waiting: mpsc::Receiver<(Kind, Bytes)>,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

impl Exchange {
    async fn reply(mut self, bytes_max: usize) -> Result<Reply, Unreached> {
        let head = match self.next().await {
            Some((Kind::Head, head)) => serde_json::from_slice::<Head>(&head).ok(),
            Some((Kind::Refused, status)) => {
                let is_for_another = status[..] == StatusCode::MISDIRECTED_REQUEST.as_u16().to_be_bytes();
                return Err(if is_for_another { Unreached::Gone } else { Unreached::Unavailable });
            }
            _ => None,
        };
        let head = head.ok_or(Unreached::Unavailable)?;
        let mut reply = Response::builder().status(head.status);
        for (name, value) in &head.headers {
            reply = reply.header(name, value);
        }
        let body = if head.is_stream {
            let (pieces, body) = mpsc::channel(PIECES_MAX);
            self.channel.tasks.clone().spawn_here("relayed stream", self.pass_on(pieces));
            ReplyBody::Stream(body)
        } else {
            ReplyBody::Whole(self.whole(bytes_max).await?)
        };
        reply.body(body).map_err(|_| Unreached::Unavailable)
    }

    async fn whole(mut self, bytes_max: usize) -> Result<Bytes, Unreached> {
        let mut whole = Vec::new();
        loop {
            match self.next().await {
                Some((Kind::Piece, piece)) if whole.len() + piece.len() <= bytes_max => {
                    whole.extend_from_slice(&piece);
                }
                Some((Kind::End, _)) => return Ok(whole.into()),
                _ => return Err(Unreached::Unavailable),
            }
        }
    }

    async fn pass_on(mut self, pieces: mpsc::Sender<Bytes>) {
        loop {
            let next = tokio::select! {
                next = self.next() => next,
                () = pieces.closed() => return,
            };
            let Some((Kind::Piece, piece)) = next else { return };
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
    }

    /// What comes next; `None` when nothing will any more.
    async fn next(&mut self) -> Option<(Kind, Bytes)> {
        let mut silent_looks = 0;
        while silent_looks < SILENT_LOOKS_MAX {
            match tokio::time::timeout(LOOK_INTERVAL, self.waiting.recv()).await {
                Ok(Some((Kind::Beat, _))) => silent_looks = 0,
                Ok(message) => {
                    self.is_over = !matches!(message, Some((Kind::Head | Kind::Piece, _)));
                    return message;
                }
                Err(_) => silent_looks += 1,
            }
            if matches!(self.channel.directory.whereabouts(self.to).await, Ok(None)) {
                self.is_over = true;
                return None;
            }
        }
        tracing::warn!(replica.id = %self.to, "nothing is heard of an exchange with a replica, it is given up");
        None
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.channel.begun.remove(&self.id);
        if self.is_over {
            return;
        }
        let (channel, to, id) = (Arc::clone(&self.channel), self.to, self.id);
        self.channel.tasks.spawn("relay cancelled", async move {
            // Lost with the cache, its call runs to its end.
            let _ = channel.say(to, Kind::Cancelled, id, &[]).await;
        });
    }
}

/// An exchange that this replica serves, noted for as long as this is there.
struct Served {
    channel: Arc<Channel>,
    id: Uuid,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.channel.served.remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
