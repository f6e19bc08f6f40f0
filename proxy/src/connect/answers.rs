//! A response as the messages in it: one, or a stream of them.

use bytes::Bytes;
use http::Response;

use super::trouble::Trouble;
use crate::upstream::call::CallError;
use crate::upstream::pool::Body;
use crate::upstream::streamable_http::events::{Heard, Media, Position, media, next_event, whole};
use crate::wire::sse::Reader;

/// The largest message that is taken: the gateway's own limit is at most this.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What is still to come of a response.
pub(super) enum Answers {
    One(Option<Response<Body>>),
    Stream { body: Body, reader: Reader, position: Position },
}

impl Answers {
    /// `None` if the body is neither JSON nor an event stream.
    pub(super) fn of(response: Response<Body>) -> Option<Self> {
        match media(&response) {
            Media::Json => Some(Self::One(Some(response))),
            Media::Events => Some(Self::Stream {
                body: response.into_body(),
                reader: Reader::new(MESSAGE_BYTES_MAX),
                position: Position::default(),
            }),
            Media::Other => None,
        }
    }

    /// The next message; `None` at the end, in whatever way the end came.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        match self {
            Self::One(response) => match response.take() {
                Some(response) => {
                    whole(response, MESSAGE_BYTES_MAX).await.map(Some).map_err(|error| trouble(&error))
                }
                None => Ok(None),
            },
            Self::Stream { body, reader, position } => loop {
                let event = next_event(body, reader).await;
                position.follow(reader);
                match event.map_err(|error| trouble(&error))? {
                    // An event that only primes a resumption has no data.
                    Heard::Event(event) if event.data.is_empty() => {}
                    Heard::Event(event) => return Ok(Some(event.data)),
                    Heard::End | Heard::Break => return Ok(None),
                }
            },
        }
    }

    /// Where to go on, for a stream that can be resumed.
    pub(super) fn position(&self) -> Option<&Position> {
        match self {
            Self::One(_) => None,
            Self::Stream { position, .. } => Some(position).filter(|place| place.last_event_id.is_some()),
        }
    }
}

fn trouble(error: &CallError) -> Trouble {
    match error {
        CallError::TooLarge { .. } => Trouble::TooLarge,
        _ => Trouble::Broken,
    }
}
