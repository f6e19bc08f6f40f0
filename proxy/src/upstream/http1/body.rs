//! The body of an answer, read as it is asked for; its connection goes back when it is over.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::Broken;
use super::connection::Connection;
use super::framing::{Length, Taken};
use super::idle::{Idle, Origin};

/// The rest of an answer. Dropped before it is over, it closes its connection.
pub(crate) struct Body {
    length: Length,
    /// What is known of it already: of a small answer, all.
    ready: Option<Bytes>,
    source: Option<Source>,
}

/// Where it comes from, and where that goes afterwards.
struct Source {
    connection: Connection,
    origin: Origin,
    idle: Idle,
}

impl Body {
    /// The body behind a head that was read from `connection`.
    pub(super) fn of(mut length: Length, mut connection: Connection, origin: Origin, idle: Idle) -> Self {
        // Most answers are there with their heads. One that is malformed says so when it is read.
        let ready = match length.left() {
            Some(left) if left > 0 && connection.read.len() as u64 >= left => {
                length.take(&mut connection.read).ok().and_then(|taken| match taken {
                    Taken::Data(data) => Some(data),
                    Taken::Wants(_) | Taken::End => None,
                })
            }
            _ => None,
        };
        let mut body = Self { length, ready, source: Some(Source { connection, origin, idle }) };
        if body.length.is_over() {
            body.release();
        }
        body
    }

    /// Lets the connection go: to the next call, if it is fit for one.
    fn release(&mut self) {
        let Some(Source { connection, origin, idle }) = self.source.take() else { return };
        if self.length.is_reusable() {
            idle.put(origin, connection);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if let Some(ready) = this.ready.take() {
            return Poll::Ready(Some(Ok(Frame::data(ready))));
        }
        loop {
            let Some(source) = &mut this.source else { return Poll::Ready(None) };
            let wanted = match this.length.take(&mut source.connection.read) {
                Ok(Taken::Data(data)) => {
                    if this.length.is_over() {
                        this.release();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Taken::End) => {
                    this.release();
                    return Poll::Ready(None);
                }
                Ok(Taken::Wants(wanted)) => wanted,
                Err(error) => {
                    this.source = None;
                    return Poll::Ready(Some(Err(error)));
                }
            };
            let outcome = match ready!(source.connection.poll_read_on(cx, wanted)) {
                Ok(0) if this.length.ends_with_connection() => None,
                Ok(0) => Some(Err(Broken::Ended)),
                Ok(_) => continue,
                Err(error) => Some(Err(error.into())),
            };
            this.source = None;
            return Poll::Ready(outcome);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_none() && self.source.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let ready = self.ready.as_ref().map_or(0, |ready| ready.len() as u64);
        match self.length.left() {
            Some(left) => SizeHint::with_exact(ready + left),
            None => SizeHint::default(),
        }
    }
}
