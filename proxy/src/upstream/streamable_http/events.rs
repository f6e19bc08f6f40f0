//! The body of an answer: one capped message, or a stream of them that goes on after it broke.
//!
//! 2025-11-25 lets a server close the connection of a stream at any time and have the client come back
//! with `Last-Event-ID`. [`events`] does so by itself: to its reader the stream simply goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream};
use http::header::CONTENT_TYPE;
use http::{Method, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::sleep;

use super::Parts;
use crate::upstream::call::CallError;
use crate::upstream::link::Era;
use crate::upstream::pool::Body;
use crate::wire::sse::{Event, Reader, SseError};

/// How often in a row the upstream may fail to answer a resumption. One that does answer, with nothing
/// new, is only bounded by the call's own silence.
const RESUME_FAILURES_MAX: u32 = 5;
/// The shortest wait before a resumption, whatever the server says.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// How long to wait before a resumption when the server doesn't say.
const RETRY_DEFAULT: Duration = Duration::from_secs(1);
/// The longest wait that a server may ask for.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What a body holds, by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Events,
    Other,
}

/// The media type of a response; one that is compressed although we never said we could read that is `Other`.
pub(crate) fn media(response: &Response<Body>) -> Media {
    if response.headers().contains_key(http::header::CONTENT_ENCODING) {
        return Media::Other;
    }
    let text = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/json" => Media::Json,
        "text/event-stream" => Media::Events,
        _ => Media::Other,
    }
}

/// A whole body of at most `limit` bytes.
pub(crate) async fn whole(response: Response<Body>, limit: usize) -> Result<Bytes, CallError> {
    match Limited::new(response.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(CallError::TooLarge { limit }),
        Err(_) => Err(CallError::ClosedMidCall),
    }
}

/// The data of each event of a stream, across resumptions; ends with an error when the stream is over. Once `answered`
/// is set, nothing is resumed any more.
pub(super) fn events(
    parts: Arc<Parts>,
    response: Response<Body>,
    event_bytes_max: usize,
    answered: Arc<AtomicBool>,
) -> impl Stream<Item = Result<Bytes, CallError>> {
    let tail = Tail {
        parts,
        body: Some(response.into_body()),
        reader: Reader::new(event_bytes_max),
        event_bytes_max,
        answered,
        position: Position::default(),
        failures: 0,
        is_broken: false,
    };
    stream::unfold(Some(tail), |tail| async {
        let mut tail = tail?;
        match tail.next().await {
            Ok(data) => Some((Ok(data), Some(tail))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// Where to go on after a break.
#[derive(Default, Clone)]
pub(crate) struct Position {
    /// The last event seen.
    pub(crate) last_event_id: Option<String>,
    /// How long the server wants us to wait.
    retry: Option<Duration>,
}

impl Position {
    /// Takes over what the reader has learnt.
    pub(crate) fn follow(&mut self, reader: &Reader) {
        if let Some(id) = reader.last_event_id() {
            self.last_event_id = Some(id.to_owned()).filter(|id| !id.is_empty());
        }
        self.retry = reader.retry().map(Duration::from_millis).or(self.retry);
    }

    /// How long to wait before coming back.
    pub(crate) fn wait(&self) -> Duration {
        self.retry.unwrap_or(RETRY_DEFAULT).clamp(RETRY_MIN, RETRY_MAX)
    }
}

struct Tail {
    parts: Arc<Parts>,
    body: Option<Body>,
    reader: Reader,
    event_bytes_max: usize,
    answered: Arc<AtomicBool>,
    position: Position,
    failures: u32,
    /// The connection ended in the middle, which no server does that wants us to come back later.
    is_broken: bool,
}

impl Tail {
    async fn next(&mut self) -> Result<Bytes, CallError> {
        loop {
            if let Some(body) = &mut self.body {
                let event = next_event(body, &mut self.reader).await;
                self.position.follow(&self.reader);
                match event? {
                    // The event that primes a resumption has no data.
                    Heard::Event(event) if event.data.is_empty() => {}
                    Heard::Event(event) => return Ok(event.data),
                    Heard::End => (self.body, self.is_broken) = (None, false),
                    Heard::Break => (self.body, self.is_broken) = (None, true),
                }
            } else {
                self.resume().await?;
            }
        }
    }

    async fn resume(&mut self) -> Result<(), CallError> {
        let Some(last) = self.position.last_event_id.clone() else { return Err(CallError::ClosedMidCall) };
        let is_answered = self.answered.load(Ordering::Relaxed);
        if is_answered || self.parts.era() != Era::Legacy || self.failures >= RESUME_FAILURES_MAX {
            return Err(CallError::ClosedMidCall);
        }
        // The caller of a server that crashed hears of it at once: one that lives answers at once.
        let is_last = self.is_broken;
        if !is_last {
            sleep(self.position.wait()).await;
        }
        match self.parts.get(Some(&last)).await {
            Ok(response) if response.status().is_success() && media(&response) == Media::Events => {
                self.body = Some(response.into_body());
                self.reader = Reader::new(self.event_bytes_max);
                self.failures = 0;
                Ok(())
            }
            // The upstream answers, but not with the rest of this stream.
            Ok(_) => Err(CallError::ClosedMidCall),
            Err(_) if is_last => Err(CallError::ClosedMidCall),
            // It doesn't answer at the moment: the next round tries again.
            Err(_) => {
                self.failures += 1;
                Ok(())
            }
        }
    }
}

/// What a body brought.
pub(crate) enum Heard {
    /// An event.
    Event(Event),
    /// Its end, as the server wrote it.
    End,
    /// Its end by a connection that broke.
    Break,
}

/// The next event, or the end of the body.
pub(crate) async fn next_event(body: &mut Body, reader: &mut Reader) -> Result<Heard, CallError> {
    loop {
        let next = reader.next_event().map_err(|SseError::TooLarge { limit }| CallError::TooLarge { limit });
        if let Some(event) = next? {
            return Ok(Heard::Event(event));
        }
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    reader.push(data);
                }
            }
            Some(Err(_)) => return Ok(Heard::Break),
            None => return Ok(Heard::End),
        }
    }
}

impl Parts {
    /// Opens a stream with GET, from after an event on or anew.
    pub(super) async fn get(&self, last_event_id: Option<&str>) -> Result<Response<Body>, CallError> {
        let mut builder = self.head(Method::GET);
        if let Some(id) = last_event_id {
            builder = builder.header("last-event-id", id);
        }
        let request = builder.body(Bytes::new());
        self.pool.send(request.map_err(|_| CallError::ClosedMidCall)?).await
    }
}
